"""Operators of a network, one file a family: nodes of a graph, and the integer steps that they become."""
