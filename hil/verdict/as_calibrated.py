"""Is the chip as it was calibrated? What a tune takes away before the verdict of a run is reached.

A tune fits gains and offsets to the chip's own answers, so a chip whose gains moved since calibration agrees once it is
tuned. Three things tell of it, each beside the same virtual chips:

- the first images *without* the tune: *disagree*;
- the lines of the tune, before the first image (``hil.verdict.tuning``);
- lines fitted to the chip's level sums of each layer after the last image, for exact inputs and without the tune. They
  see what moved during the run, and no error of layers before.

Lines are of a chip as calibrated where their effect, as in ``hil.verdict.tuning``, is at most ``EFFECT_LIMIT``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.verdict.movements import Movement, SumsBeside, movements
from hil.verdict.tuning import EFFECT_LIMIT, LEAST_CHIPS, TuneSummary, effect_of
from hil.verdict.verdict import Judgement, Verdict

if TYPE_CHECKING:  # reports are read without it
    from mapping.tune.channel_affine import ChannelFit

NAMED = 4  # layers, and things that moved


@dataclass(frozen=True, slots=True)
class LayerAtEnd:
    """One layer after the last image."""

    layer: str
    effect: float  # of the lines of its level sums beside the virtual chips', over the error expected before a tune

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
    layers: tuple[LayerAtEnd, ...] = ()


def layer_at_end(own: ChannelFit, others: Sequence[ChannelFit], sums: SumsBeside) -> LayerAtEnd:
    """Lines of a layer's sums after the last image, of the chip and of its virtual chips."""
    return LayerAtEnd(sums.layer, effect_of(own, others, sums.ideal))


def as_calibrated(
    untuned: Judgement | None, tune: TuneSummary | None, layers: Sequence[LayerAtEnd], sums: Sequence[SumsBeside]
) -> AsCalibrated | None:
    """The answer; None where too few virtual chips tell nothing.

    Args:
        layers: after the last image; ``sums``: what their lines were fitted to.
    """
    if not sums or len(sums[0].virtual) < LEAST_CHIPS:
        return None
    evidence = []
    if untuned is not None and untuned.verdict is Verdict.DISAGREE:
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
    if not evidence:
        return AsCalibrated(True, "the chip is as it was calibrated", layers=tuple(layers))
    moved = movements(sums)[:NAMED]
    words = ", ".join(m.text for m in moved) or "by nothing that gains, offsets or a compression describe"
    return AsCalibrated(False, f"the chip is not as calibrated: {words}", tuple(evidence), moved, tuple(layers))


def _named(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - NAMED} more layers" if len(layers) > NAMED else ""
    return ", ".join(layers[:NAMED]) + more
