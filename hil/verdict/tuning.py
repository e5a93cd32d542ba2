"""What a tune did to a chip, and whether such a tune was to be expected: its lines beside those of virtual chips.

For every channel c of a layer, with gain a (and likewise offset b) and the virtual chips' mean ā and variance s²,

    z_c = (a_c − ā_c) / (s_c √(1 + 1/S)),    D = ln mean_c z_c²

Each virtual chip has the same number from the others (leave one out). The layer's lines are implausible where

    (D − mean D_v) / (sd D_v √(1 + 1/S))

lies above the ``LIMIT`` of Student's t with S − 1 degrees of freedom, shared among layers and both numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # reports are read without it
    from mapping.tune.channel_affine import ChannelFit

FALSE_ALARMS = 0.01  # of a whole tune
LEAST_CHIPS = 5  # virtual chips that a comparison takes
FLOOR = 1e-6  # of a standard deviation, as a share of the largest in the layer: channels without any are left out

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TunedLayer:
    """One layer of a tune.

    ``before`` and ``after``: mean square error of the level sums without and with the lines, as shares of the
    variance of the ideal sums. ``distance``: of its lines from the virtual chips', in standard deviations of theirs
    from each other (the larger of gain and offset); None with too few chips. ``plausible``: within its limit.
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


def summarise_tune(chip: Sequence[ChannelFit], virtual: Sequence[Sequence[ChannelFit]], images: int) -> TuneSummary:
    """The tune of a chip beside those of virtual chips, each a list of layers in the same order."""
    limit = t_limit(len(virtual), 2 * len(chip))
    layers = []
    for at, own in enumerate(chip):
        others = [lines[at] for lines in virtual]
        distance = None
        if len(virtual) >= LEAST_CHIPS:
            distance = max(
                distance_of(own.gain, np.stack([o.gain for o in others])),
                distance_of(own.offset, np.stack([o.offset for o in others])),
            )
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
                distance is None or distance <= limit,
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
    return TuneSummary(images, tuple(layers), tuple(warnings))


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
