"""A program adapted to one chip: around stuck cells and poor columns."""
