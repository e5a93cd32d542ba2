"""Prediction without a chip on the wire, and a verdict on answers that were measured elsewhere."""
