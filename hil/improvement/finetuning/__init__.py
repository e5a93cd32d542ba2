"""Fine-tuning of a given network for a chip, on training images."""
