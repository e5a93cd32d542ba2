"""Tuning of a program's digital gains and biases to one chip, from its answers to stored training images."""
