"""What a search over the pruned networks of one trained network was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from hil.searching.prune_settings import FEW, pruning_limits
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, setting
from search.pruned.limits import PriceRange, PruningLimits

IMAGES = 2000  # training images, where no number is asked for
CANDIDATES = "Pruned networks of a teacher (--from)"  # group of options
BELOW = 0.6  # of the least price that is asked for: cheaper pruned networks are not looked for


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
    cell_error: float = setting(
        0.0, "standard deviation of a weight by its cells, as a share of it: keeps weights small where they err",
        low=0, high=1, group=CANDIDATES,
    )  # fmt: skip
    images: int = IMAGES
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
