"""Tune: gains and biases of layers are fitted to the chip's own answers to stored training images; adapters with them.

``mapping.tune.channel_affine`` has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mapping.program.limits import MOST_RANK
from mapping.recipe.technique import Gave, Offer, Technique, TunePlan, gave_each
from mapping.settings import setting


@dataclass(frozen=True, slots=True)
class TunedChannels(Technique):
    """Fit gains and biases to the chip's outputs for at most ``images`` stored training images."""

    name: ClassVar[str] = "tune"
    words: ClassVar[str] = "gains and biases are fitted to the chip's answers to stored training images"
    rank: ClassVar[int] = 70
    offers: ClassVar[tuple[Offer, ...]] = (Offer(effort=1, leads=True),)
    gave: ClassVar[tuple[Gave, ...]] = gave_each(
        (0.09, -0.12, 0.30), (0.22, -0.13, 0.57), (1.86, 1.28, 2.43), (2.77, 1.27, 4.26)
    )  # fmt: skip

    images: int = setting(128, "most stored training images to use", low=2, high=1e6)

    def planned(self, tune: TunePlan) -> TunePlan:
        return replace(tune, images=self.images)


@dataclass(frozen=True, slots=True)
class Adapters(Technique):
    """A digital adapter of ``rank_of_each`` for each layer, fitted by the tune and executed by the host."""

    name: ClassVar[str] = "adapters"
    words: ClassVar[str] = "a digital adapter of low rank for each layer, executed by the host"
    rank: ClassVar[int] = 80
    offers: ClassVar[tuple[Offer, ...]] = (Offer(effort=2),)
    gave: ClassVar[tuple[Gave, ...]] = (
        Gave(
            1.5, 0.9, 2.1, "ResNet-20 W4A8, 8 virtual chips",
            "python benchmarks/accuracy.py adapters (docs/benchmarks.md)",
        ),
    )  # fmt: skip
    needs: ClassVar[tuple[str, ...]] = ("tune",)

    of_rank: int = setting(4, "rank of each adapter", low=1, high=MOST_RANK)

    def planned(self, tune: TunePlan) -> TunePlan:
        return replace(tune, rank=self.of_rank)
