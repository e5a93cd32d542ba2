"""Estimated cost of one image on the chip, as a report holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerImageCost:
    layer: str
    energy_j: float
    latency_s: float  # its part of the image's latency; 0 off the critical path


@dataclass(frozen=True, slots=True)
class ImageCost:
    """Energy and latency of one image: a model's estimate, not measured. ``by_part``: energy of ADC, array, …, J."""

    energy_j: float
    latency_s: float
    by_part: Mapping[str, float]
    layers: tuple[LayerImageCost, ...]
    as_compiled: ImageCost | None = None  # of the same network without a recipe; None: the same, or not estimated
