"""Pruned networks of a teacher: fewer channels, blocks and bits, and weights in closed form, without gradients."""
