"""Settings of a pruning for one price, and of a search over the pruned networks of one trained network."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, setting
from search.pruned.limits import PriceRange, PruningLimits

FEW = 64  # images, with which no weights can be found
LIMITS, IMAGES = "Limits", "Images"  # groups of options
CANDIDATES = "Pruned networks of a teacher (--from)"
USUAL_IMAGES = 2000  # training images, where no number is asked for
BELOW = 0.6  # of the least price that is asked for: cheaper pruned networks are not looked for


@dataclass(frozen=True, slots=True)
class PruneSettings:
    """Limits of what a pruned network may be, and what its weights are found on."""

    edp: float = setting(
        0.0,
        "most energy times latency of one image on the array, in mJ·ms; has to be given",
        low=1e-9,
        group=LIMITS,
        unset=True,
    )
    weight_bits: str = setting("3-6", "fewest and most weight bits of a network", group=LIMITS)
    activation_bits: str = setting("4-8", "fewest and most activation bits", group=LIMITS)
    chip: str = setting(
        "", "chip file whose errors of cells and converters weights are to stand and plans are chosen under; "
        "default: a perfect chip",
        group=LIMITS, unset=True,
    )  # fmt: skip
    candidates: int = setting(
        6, "plans that are made and measured, of which the best is kept", low=1, high=6, group=LIMITS
    )
    images: int = setting(
        USUAL_IMAGES, "training images that weights are found on and networks are chosen by", low=FEW, group=IMAGES
    )
    seed: int = setting(0, "which images, and all else that is random", low=0, high=(1 << 63) - 1, group=IMAGES)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        self.limits()

    def limits(self) -> PruningLimits:
        return pruning_limits(self.weight_bits, self.activation_bits)


@dataclass(frozen=True, slots=True)
class PrunedSearchSettings:
    """All that the answer depends on, besides teacher, images and array.

    ``costs``: array that prices pruned networks. ``chip``: whose virtual chips measure them, "": a perfect chip.
    ``images``: training images that weights are found on and pruned networks measured with.
    """

    data: str
    costs: str
    chip: str = ""
    macros: int = 0
    data_dir: str = ""
    candidates: int = setting(300, "pruned networks that are made and measured", low=12, group=CANDIDATES)
    edp: tuple[float, ...] = setting(
        (), "prices in mJ·ms, with commas, at which the best pruned network is written; default: three along the front",
        group=CANDIDATES, unset=True,
    )  # fmt: skip
    weight_bits: str = setting("3-5", "fewest and most weight bits of a layer", group=CANDIDATES)
    activation_bits: str = setting("4-8", "fewest and most activation bits of a layer", group=CANDIDATES)
    images: int = USUAL_IMAGES
    age_s: float = 3600.0
    seed: int = 0
    workers: int = 0
    recipe: str = str(USUAL_RECIPE)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        if self.images < FEW:
            raise UsageError(f"{self.images} training images are too few: {FEW} at least", hint="--subset N")
        if not all(0 < price < math.inf for price in self.edp):
            raise UsageError(f"prices {self.edp}: each is more than 0 mJ·ms", hint="--edp 0.065,0.125")
        pruning_limits(self.weight_bits, self.activation_bits)

    @property
    def limits(self) -> PruningLimits:
        return pruning_limits(self.weight_bits, self.activation_bits)

    @property
    def window(self) -> PriceRange:
        return PriceRange(BELOW * min(self.edp), max(self.edp)) if self.edp else PriceRange()

    @property
    def rounds(self) -> tuple[int, ...]:
        """Pruned networks of each round: a third begins, the others follow from those before them."""
        first, each = self.candidates // 3, max(self.candidates // 8, 2)
        left = self.candidates - first
        return (first, *[each] * (left // each), *([left % each] if left % each else []))

    @property
    def asked(self) -> Recipe:
        """What is done to pruned networks on chips: costs are of what is written then."""
        return Recipe.of_words(self.recipe)


def pruning_limits(weight_bits: str, activation_bits: str) -> PruningLimits:
    """Limits of weight and activation bits, each a text FEWEST-MOST. Raises ``UsageError`` for what is no such text."""
    (least_w, most_w), (least_a, most_a) = (_ends(text) for text in (weight_bits, activation_bits))
    return PruningLimits(least_w, most_w, least_a, most_a)


def _ends(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdigit() or not (high or low).isdigit() or not 2 <= int(low) <= int(high or low) <= 8:
        raise UsageError(f"{text!r:.40} are no bits", hint="FEWEST-MOST within 2-8, as 3-6; or one number")
    return int(low), int(high or low)
