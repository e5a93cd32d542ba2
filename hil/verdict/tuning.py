"""What a tune did to a chip, and whether such a tune was to be expected: its lines beside those of virtual chips.

Two numbers of a layer, of channels c with gain a and offset b, the virtual chips' means ā and b̄:

*Distance*: are the lines others than virtual chips get? With their variance s² (and likewise for b)

    z_c = (a_c − ā_c) / (s_c √(1 + 1/S)),    D = ln mean_c z_c²

Each virtual chip has the same number from the others (leave one out), and

    distance = (D − mean D_v) / (sd D_v √(1 + 1/S))

is compared with a limit of Student's t with S − 1 degrees of freedom, shared among layers and both numbers.

*Effect*: does that matter? With w and v the mean and variance of the ideal sums of a channel, m = (w − b) / a the mean
of the sums that the line was fitted to,

    e = Σ_c [(a_c − ā_c)² v_c + (m_c − m̄_c)²] / Σ_c v_c
    effect = max(0, e − MISFIT · mean e_v) / mean error without lines

e is what this chip's lines took away that the virtual chips' would have left, e_v the same of each virtual chip beside
the others, the error without lines the virtual chips'. Lines are implausible where both numbers are above their limits.
A faithful simulator of another physics than the chip's is never exact: where many values make lines sharp, they are
soon many of the small spreads s and many e_v away, by what nobody would find in an accuracy. ``MISFIT`` is how many
times (in the square) they may be farther than virtual chips are from each other, which tells where few values make
lines blurred, and ``EFFECT_LIMIT`` what share of the error expected before a tune may lie beyond that. Both were set on
chips of several physics and tested on others (``benchmarks/studies/verdict/not_as_calibrated.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # reports are read without it
    from mapping.tune.channel_affine import ChannelFit, TuneTargets

FALSE_ALARMS = 0.01  # of a whole tune
MISFIT = 5.0  # of lines that a faithful simulator expects, as the mean square of its virtual chips' own
EFFECT_LIMIT = 0.08  # of the mean square error that virtual chips have without lines: 0.04 of its root
LEAST_CHIPS = 5  # virtual chips that a comparison takes
LEAST_ERROR = 5e-3  # of the virtual chips' sums, taken for smaller ones: a share of nearly none would be anything
FLOOR = 1e-6  # of a standard deviation, as a share of the largest in the layer: channels without any are left out

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TunedLayer:
    """One layer of a tune.

    ``before`` and ``after``: mean square error of the level sums without and with the lines, as shares of the
    variance of the ideal sums. ``distance``: of its lines from the virtual chips', in standard deviations of theirs
    from each other (the larger of gain and offset), and ``effect``, as in this module; None with too few chips.
    ``plausible``: within the limit of one of them.
    """

    layer: str
    gain_lowest: float
    gain_median: float
    gain_highest: float
    before: float
    after: float
    limited: int
    still: int
    distance: float | None
    plausible: bool
    effect: float | None = None  # reports before 1.4 have none


@dataclass(frozen=True, slots=True)
class TuneSummary:
    """``rank`` of the layers' adapters, 0: none; ``adapter_share``: their multiplications as a share of the layers'."""

    images: int
    layers: tuple[TunedLayer, ...]
    warnings: tuple[str, ...] = ()
    rank: int = 0
    adapter_share: float = 0.0

    @property
    def channels_limited(self) -> int:
        return sum(layer.limited for layer in self.layers)


def summarise_tune(
    chip: Sequence[ChannelFit], virtual: Sequence[Sequence[ChannelFit]], targets: TuneTargets
) -> TuneSummary:
    """The tune of a chip beside those of virtual chips, each a list of layers in the same order.

    ``targets``: what all of them were tuned towards.
    """
    limit = t_limit(len(virtual), 2 * len(chip))
    layers = []
    for at, own in enumerate(chip):
        others = [lines[at] for lines in virtual]
        distance, effect = None, None
        if len(virtual) >= LEAST_CHIPS:
            distance = max(
                distance_of(own.gain, np.stack([o.gain for o in others])),
                distance_of(own.offset, np.stack([o.offset for o in others])),
            )
            effect = effect_of(own, others, targets.sums[own.layer])
        layers.append(
            TunedLayer(
                own.layer,
                float(own.gain.min()),
                float(np.median(own.gain)),
                float(own.gain.max()),
                own.before,
                own.after,
                own.limited,
                own.still,
                distance,
                distance is None or effect is None or distance <= limit or effect <= EFFECT_LIMIT,
                effect,
            )
        )
    odd = [layer.layer for layer in layers if not layer.plausible]
    warnings = []
    if odd:
        more = f" and {len(odd) - 4} more layers" if len(odd) > 4 else ""
        warnings.append(
            f"the tune of {', '.join(odd[:4])}{more} is not one that the virtual chips get: "
            "an effect that the simulator does not model may have been tuned away"
        )
    return TuneSummary(len(targets.images), tuple(layers), tuple(warnings))


def effect_of(own: ChannelFit, others: Sequence[ChannelFit], wanted: NDArray[np.integer]) -> float:
    """Effect of a chip's lines beside those of virtual chips; ``wanted`` (n, outputs, places) ideal sums."""
    chip, among = taken_away(own, others, wanted)
    return max(0.0, chip - MISFIT * among) / max(float(np.mean([o.before for o in others])), LEAST_ERROR)


def taken_away(own: ChannelFit, others: Sequence[ChannelFit], wanted: NDArray[np.integer]) -> tuple[float, float]:
    """e of a chip, and the mean of its virtual chips', each beside the rest."""
    mean, variance = wanted.mean(axis=(0, 2)), wanted.var(axis=(0, 2))
    gains = np.stack([o.gain for o in (own, *others)])
    means = (mean - np.stack([o.offset for o in (own, *others)])) / gains

    def beside(one: int, rest: list[int]) -> float:
        gain, shift = (values[one] - values[rest].mean(axis=0) for values in (gains, means))
        return float((gain**2 * variance + shift**2).sum()) / (float(variance.sum()) or 1.0)

    virtual = list(range(1, len(gains)))
    return beside(0, virtual), float(np.mean([beside(k, [i for i in virtual if i != k]) for k in virtual]))


def distance_of(own: Floats, others: Floats) -> float:
    """(D − mean D_v) / (sd D_v √(1 + 1/S)) of one number a channel, ``own`` (channels,), ``others`` (S, channels)."""
    count = len(others)
    here = log_distance(own, others)
    rest = np.array([log_distance(others[k], np.delete(others, k, 0)) for k in range(count)])
    spread = float(rest.std(ddof=1)) * math.sqrt(1.0 + 1.0 / count)
    return (here - float(rest.mean())) / max(spread, 1e-12) if math.isfinite(here) else 0.0


def log_distance(own: Floats, others: Floats) -> float:
    """D = ln mean_c z_c²; minus infinity where no channel of the others varies."""
    spread = others.std(axis=0, ddof=1)
    known = spread > FLOOR * max(float(spread.max()), 1e-12)
    if not known.any():
        return -math.inf
    z = (own - others.mean(axis=0))[known] / (spread[known] * math.sqrt(1.0 + 1.0 / len(others)))
    return math.log(max(float((z * z).mean()), 1e-12))


def t_limit(chips: int, comparisons: int) -> float:
    """Limit of a distance so that a whole tune has ``FALSE_ALARMS``."""
    from scipy.stats import t

    quantile: Any = t.ppf(1.0 - FALSE_ALARMS / max(1, comparisons), max(1, chips - 1))
    return float(quantile)
