"""A weight is a pair of cells: one for each sign, the other rests at the lowest conductance."""

from typing import Any


class SinglePairConductanceConverter:
    def __init__(self, g_max: float, g_min: float) -> None:
        self.g_max, self.g_min = g_max, g_min

    def pair(self, weights: Any) -> tuple[list[Any], Any]:
        scale = (self.g_max - self.g_min) / weights.abs().max()
        return [(sign * scale * weights).clamp(min=0.0) + self.g_min for sign in (1.0, -1.0)], scale

    def weights(self, pair: list[Any], scale: Any) -> Any:
        return (pair[0] - pair[1]) / scale
