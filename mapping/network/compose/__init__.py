"""Nodes composed into every operation that a network may use; shared by all front ends."""
