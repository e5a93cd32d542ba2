"""Operators of a network, one file a family: node of a graph, its name in files, shape rule and float run."""
