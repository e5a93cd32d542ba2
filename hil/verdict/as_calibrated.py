"""Is the chip as it was calibrated? What a tune takes away before the verdict of a run is reached.

A tune fits gains and offsets to the chip's own answers, so a chip whose gains moved since calibration agrees once it is
tuned. Four things tell of it, each beside the same virtual chips:

- the first images *without* the tune: *disagree*, by an interval that lies beyond the tolerance. A last look also
  disagrees where that is likely only, because a verdict must end; a witness need not, and what no simulator knows of
  a faithful chip's physics moves it by almost two points before it is tuned;
- the lines of the tune, before the first image (``hil.verdict.tuning``);
- lines fitted to the chip's level sums of each layer after the last image, for exact inputs and without the tune. They
  see what moved during the run, and no error of layers before.
- lines fitted to the network's outputs, in each pass of each look. They see what moved while the look was measured and
  was over before anything else was asked.

Lines are of a chip as calibrated where their effect, as in ``hil.verdict.tuning``, is at most ``EFFECT_LIMIT``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.verdict.movements import Movement, SumsBeside, movements
from hil.verdict.tuning import EFFECT_LIMIT, LEAST_CHIPS, TuneSummary
from hil.verdict.verdict import Judgement, Verdict

NAMED = 4  # layers, and things that moved
NOTHING_NAMED = "by nothing that gains, offsets or a compression describe"


@dataclass(frozen=True, slots=True)
class LayerLines:
    """Lines of one layer after the last image, or of the outputs in one look (``layer``: which)."""

    layer: str
    effect: float  # of the lines of its sums beside the virtual chips', over the error expected before a tune

    @property
    def plausible(self) -> bool:
        return self.effect <= EFFECT_LIMIT


@dataclass(frozen=True, slots=True)
class AsCalibrated:
    """Whether the chip is as it was calibrated, before a tune takes away what moved."""

    holds: bool
    text: str
    evidence: tuple[str, ...] = ()  # that it is not, in words
    moved: tuple[Movement, ...] = ()  # the largest first; empty where nothing did that has a name
    layers: tuple[LayerLines, ...] = ()
    looks: tuple[LayerLines, ...] = ()


def as_calibrated(
    untuned: Judgement | None,
    tune: TuneSummary | None,
    layers: Sequence[LayerLines],
    sums: Sequence[SumsBeside],
    looks: Sequence[LayerLines] = (),
) -> AsCalibrated | None:
    """The answer; None where too few virtual chips tell nothing.

    Args:
        layers: after the last image; ``sums``: what their lines were fitted to.
        looks: of the outputs, look after look.
    """
    if not sums or len(sums[0].virtual) < LEAST_CHIPS:
        return None
    evidence = []
    if untuned is not None and untuned.verdict is Verdict.DISAGREE and untuned.equivalence.beyond:
        m = untuned.metric
        evidence.append(
            f"without the tune {m.value(untuned.measured.mean)} on the chip and {m.value(untuned.simulated.mean)} "
            f"simulated on {untuned.n:,} images: disagree"
        )
    odd = [] if tune is None else [layer.layer for layer in tune.layers if not layer.plausible]
    if odd:
        evidence.append(f"the tune of {_named(odd)} is not one that virtual chips get")
    late = [layer.layer for layer in layers if not layer.plausible]
    if late:
        evidence.append(f"level sums of {_named(late)} after the last image are not those of virtual chips")
    during = [look.layer for look in looks if not look.plausible]
    if during:
        evidence.append(f"outputs {_named(during)} are not those of virtual chips")
    found = tuple(layers), tuple(looks)
    if not evidence:
        return AsCalibrated(True, "the chip is as it was calibrated", (), (), *found)
    moved = movements(sums)[:NAMED]
    still = f"it was another while it answered {_named(during).removeprefix('of ')}" if during else NOTHING_NAMED
    words = ", ".join(m.text for m in moved) or still
    return AsCalibrated(False, f"the chip is not as calibrated: {words}", tuple(evidence), moved, *found)


def _named(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    return ", ".join(layers[:NAMED]) + more
