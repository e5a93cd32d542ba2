"""Phase B: costs, accuracies, significances, fronts, and what they are compared with."""
