"""Heirs of a trained network: fewer channels, blocks and bits, and weights in closed form, without gradients."""
