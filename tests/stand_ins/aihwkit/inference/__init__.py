"""Noise models."""

from typing import Any


class BaseNoiseModel:
    """Cells of weights, by the methods of a noise model for conductances."""

    def __init__(self, g_converter: Any) -> None:
        self.g_converter = g_converter

    def programmed(self: Any, weights: Any) -> Any:
        pair, scale = self.g_converter.pair(weights)
        return self.g_converter.weights([self.apply_programming_noise_to_conductance(cells) for cells in pair], scale)
