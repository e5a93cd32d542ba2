"""Evaluation of a trained network on chips: the interface, implemented where chips are (simulated or measured)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of a network file on ``chips`` chips; accuracies are fractions of the same ``images`` images.

    ``low`` and ``high`` are a 95 % prediction interval of the next chip's accuracy. Latency and energy
    are of one image. ``source`` says how it was found: "simulated from …" or "measured on …".
    """

    accuracy_mean: float
    accuracy_worst: float
    low: float
    high: float
    chips: int
    images: int
    latency_ns: float
    energy_pj: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy_worst <= self.accuracy_mean <= 1 or min(self.chips, self.images) < 1:
            raise ValueError(f"no evaluation: {self}")

    @property
    def edp_mj_ms(self) -> float:
        """Energy · latency."""
        return self.energy_pj * 1e-9 * self.latency_ns * 1e-6


class Evaluator(Protocol):
    """Compiles a ``net.pt``, runs it on at least 20 simulated chips (or on measured ones) and prices one image."""

    def evaluate(self, network: Path) -> Evaluation:
        """Raises what its owner's compiling and running raise."""
