"""Weights as conductances."""
