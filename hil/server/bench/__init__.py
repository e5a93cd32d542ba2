"""Instruments without firmware of ours as one chip: bench file, models of instruments, a chip role."""
