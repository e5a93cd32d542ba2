"""Making a network keep its accuracy on a chip: tuning a chip that holds it, and techniques tried by what they give."""
