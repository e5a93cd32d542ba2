"""Spaces of networks: genes, operators, candidates, precision, and the chip they are meant for."""
