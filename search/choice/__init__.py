"""Phase B: costs, accuracies, significances and fronts."""
