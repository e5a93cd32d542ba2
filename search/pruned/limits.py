"""Limits of what a pruned network may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

MOST_PLANS = 6  # ways to a plan that there are (``search.pruned.make.WAYS``)


@dataclass(frozen=True, slots=True)
class PruningLimits:
    """Fewest and most bits of weights and activations that a pruned network may have."""

    least_weight_bits: int = 3
    most_weight_bits: int = 6
    least_activation_bits: int = 4
    most_activation_bits: int = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a plan: most bits to begin with, and how much of what channels and blocks lose counts.

    ``even``: all groups of channels give up the same share, and no block is left out.
    """

    weight_bits: int
    activation_bits: int
    channels: float = 0.1
    blocks: float = 0.1
    even: bool = False

    def within(self, limits: PruningLimits) -> PruningLimits:
        """The limits of this way, which are no wider than those that were asked for."""
        weight = max(limits.least_weight_bits, min(limits.most_weight_bits, self.weight_bits))
        activation = max(limits.least_activation_bits, min(limits.most_activation_bits, self.activation_bits))
        return replace(limits, most_weight_bits=weight, most_activation_bits=activation)


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Prices between which pruned networks are looked for, mJ·ms."""

    least: float = 0.0
    most: float = math.inf

    def holds(self, price: float) -> bool:
        return self.least <= price <= self.most
