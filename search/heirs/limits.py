"""Limits of what an heir may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeirLimits:
    """Fewest and most bits, and how much channels and blocks count."""

    least_weight_bits: int = 3
    most_weight_bits: int = 6
    least_activation_bits: int = 4
    most_activation_bits: int = 8
    channel_weight: float = 0.3
    block_weight: float = 0.3
