"""Prediction without a chip on the wire."""
