"""Keeping a network's accuracy on a chip: a tune of the chip, and techniques tried one by one for their gain."""
