"""What a pruning was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import UsageError
from mapping.settings import check_limits, setting
from search.pruned.limits import PruningLimits

FEW = 64  # images, with which no weights can be found
LIMITS, IMAGES = "Limits", "Images"  # groups of options


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
    cell_error: float = setting(
        0.0, "standard deviation of a weight by its cells, as a share of it: keeps weights small where they err",
        low=0, high=1, group=LIMITS,
    )  # fmt: skip
    chip: str = setting(
        "", "chip file whose errors of cells and converters weights are to stand and plans are chosen under; "
        "default: a perfect chip",
        group=LIMITS, unset=True,
    )  # fmt: skip
    candidates: int = setting(
        6, "plans that are made and measured, of which the best is kept", low=1, high=6, group=LIMITS
    )
    images: int = setting(
        2000, "training images that weights are found on and networks are chosen by", low=FEW, group=IMAGES
    )
    seed: int = setting(0, "which images, and all else that is random", low=0, high=(1 << 63) - 1, group=IMAGES)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        self.limits()

    def limits(self) -> PruningLimits:
        return pruning_limits(self.weight_bits, self.activation_bits)


def pruning_limits(weight_bits: str, activation_bits: str) -> PruningLimits:
    """Limits of weight and activation bits, each a text FEWEST-MOST. Raises ``UsageError`` for what is no such text."""
    (least_w, most_w), (least_a, most_a) = (_ends(text) for text in (weight_bits, activation_bits))
    return PruningLimits(least_w, most_w, least_a, most_a)


def _ends(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdigit() or not (high or low).isdigit() or not 2 <= int(low) <= int(high or low) <= 8:
        raise UsageError(f"{text!r:.40} are no bits", hint="FEWEST-MOST within 2-8, as 3-6; or one number")
    return int(low), int(high or low)
