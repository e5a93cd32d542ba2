"""What moved between a chip and its virtual chips, and by how much: gains, offsets, compression, outputs that traded
places.

Of one layer, y_c the chip's level sums of channel c, ȳ_c the mean of its virtual chips' for the same inputs, z_c the
ideal sums without their mean, Z the largest of the layer. By least squares, in each channel,

    y_c − ȳ_c = o_c + g_c z_c + k z_c |z_c| / Z + rest

g is the change of the gain, o that of the offset, and k, one of the layer, what the largest sums gain (below zero:
compression). The *gain of all outputs* is the median of g over all channels of all layers, *gains of single outputs*
the root of the mean square around it, weighted by the variance v_c of z_c, *offsets* that of o_c, as a share of the
root of the mean v_c. Two outputs c and d *trade places* where y_c − ȳ_c goes with z_d − z_c and y_d − ȳ_d with
z_c − z_d. The same of every virtual chip beside the others is what is expected; only what lies ``BEYOND`` times outside
the largest of them is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BEYOND = 1.5  # times the largest of the virtual chips
LEAST = 0.01  # of a gain, of the spread of the sums: smaller ones are not named
TRADED = 0.3  # of the difference of two outputs
FIRST_OF_ALL = 0.05  # of the energy of the largest movement: what has less is not named beside it
LIKELY = 6  # channels of a layer that are tried for trading places

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Movement:
    """One difference of a chip from its record, such as a gain of all outputs, with its size."""

    what: str
    share: float  # of a gain, of the largest sums, of the spread of the sums or of the difference of two outputs
    expected: float  # the largest share that a virtual chip shows
    energy: float  # mean square, as a share of the variance of the sums

    @property
    def text(self) -> str:
        among = f" (virtual chips up to {100 * self.expected:.1f} %)"
        sign = "" if self.what.endswith("±") else "+"
        return f"{self.what} {100 * self.share:{sign}.1f} %".replace("-", "−") + among


@dataclass(frozen=True, slots=True, eq=False)
class SumsBeside:
    """Level sums of one layer for the same inputs: ``chip`` and ``ideal`` (n, outputs, places), ``virtual``
    (S, n, outputs, places)."""

    layer: str
    chip: NDArray[Any]
    ideal: NDArray[Any]
    virtual: NDArray[Any]

    @classmethod
    def of(cls, layer: str, chip: NDArray[Any], ideal: NDArray[Any], virtual: NDArray[Any]) -> SumsBeside:
        """The same with places in as many axes as the layer's map has, or none."""
        n, outputs = ideal.shape[:2]
        of_places = (n, outputs, -1)
        return cls(layer, chip.reshape(of_places), ideal.reshape(of_places), virtual.reshape(len(virtual), *of_places))


@dataclass(frozen=True, slots=True, eq=False)
class LayerDifference:
    """o, g and k of one chip beside others, with the weights and the energies that they are averaged by."""

    offset: Floats  # (outputs,), of the spread of the layer's sums
    gain: Floats  # (outputs,)
    bend: float
    weight: Floats  # (outputs,), variance of z: share of the layer's
    bend_energy: float  # of a bend of 1


def movements(layers: Sequence[SumsBeside]) -> tuple[Movement, ...]:
    """What moved, the most energetic first; empty where nothing lies outside of what virtual chips show."""
    if not layers:
        return ()
    chips = len(layers[0].virtual)
    own = _shares([difference(_flat(s.chip), _flat(s.virtual).mean(axis=0), _flat(s.ideal)) for s in layers])
    among = []
    for k in range(chips):
        rest = [i for i in range(chips) if i != k]
        among.append(
            _shares(
                [difference(_flat(s.virtual[k]), _flat(s.virtual[rest]).mean(axis=0), _flat(s.ideal)) for s in layers]
            )
        )
    found = []
    for name, (share, energy) in own.items():
        expected = max(abs(one[name][0]) for one in among)
        if abs(share) > max(LEAST, BEYOND * expected):
            found.append(Movement(name, share, expected, energy))
    for s in layers:
        found += traded(s)
    found.sort(key=lambda m: -m.energy)
    return tuple(m for m in found if m.energy >= FIRST_OF_ALL * found[0].energy)


def difference(chip: Floats, beside: Floats, ideal: Floats) -> LayerDifference:
    """Least squares of chip − beside, each (outputs, values), by the formula of the module."""
    z = ideal - ideal.mean(axis=1, keepdims=True)
    variance = z.var(axis=1)
    power = float(variance.mean()) or 1.0
    bent = z * np.abs(z) / (float(np.abs(z).max(initial=0.0)) or 1.0)
    apart = chip - beside
    known = np.where(variance > 0, variance, 1.0)
    tilt = (bent * z).mean(axis=1) / known  # of the bend along z
    odd = bent - bent.mean(axis=1, keepdims=True) - tilt[:, None] * z
    straight = (apart * z).mean(axis=1) / known
    rest = apart - apart.mean(axis=1, keepdims=True) - straight[:, None] * z
    left = float((odd * odd).sum())
    bend = float((odd * rest).sum()) / left if left > 0 else 0.0
    gain = np.where(variance > 0, straight - bend * tilt, 0.0)
    offset = (apart.mean(axis=1) - bend * bent.mean(axis=1) - gain * ideal.mean(axis=1)) / np.sqrt(power)
    return LayerDifference(offset, gain, bend, variance / power / len(z), float((bent * bent).mean()) / power)


def _shares(layers: Sequence[LayerDifference]) -> dict[str, tuple[float, float]]:
    """Size and error energy of each kind of movement, by its name."""
    weights = np.concatenate([one.weight for one in layers]) / len(layers)
    gains, offsets = (np.concatenate([getattr(one, name) for one in layers]) for name in ("gain", "offset"))
    common = float(_median(gains, weights))
    single = float(np.sqrt((weights * (gains - common) ** 2).sum() / (weights.sum() or 1.0)))
    shift = float(np.sqrt((offsets**2).mean()))
    energies = np.array([one.bend_energy for one in layers])
    bends = np.array([one.bend for one in layers])
    bend = float((bends * energies).sum() / (energies.sum() or 1.0))
    return {
        "gain of all outputs": (common, common**2),
        "gains of single outputs, ±": (single, single**2),
        "offsets of single outputs, ±": (shift, shift**2),
        "compression, largest sums": (bend, bend**2 * float(energies.mean())),
    }


def traded(sums: SumsBeside) -> list[Movement]:
    """Pairs of outputs of a layer that answer for each other."""
    chip, ideal = _flat(sums.chip), _flat(sums.ideal)
    apart = chip - _flat(sums.virtual).mean(axis=0)
    apart = apart - apart.mean(axis=1, keepdims=True)
    z = ideal - ideal.mean(axis=1, keepdims=True)
    power = float(z.var(axis=1).sum()) or 1.0
    likely = np.argsort(-(apart**2).mean(axis=1))[:LIKELY]
    found = []
    for i, one in enumerate(likely):
        for other in likely[i + 1 :]:
            change = z[other] - z[one]
            size = float((change**2).sum())
            if size == 0.0:
                continue
            shares = [float((apart[one] * change).sum()) / size, -float((apart[other] * change).sum()) / size]
            left = ((apart[one] - shares[0] * change) ** 2).sum() + ((apart[other] + shares[1] * change) ** 2).sum()
            explained = 1.0 - float(left) / float((apart[[one, other]] ** 2).sum() or 1.0)
            if min(shares) > TRADED and explained > 0.5:
                pair = f"outputs {min(one, other)} and {max(one, other)} of {sums.layer} trade places, by"
                found.append(Movement(pair, min(shares), 0.0, 2 * size / z.shape[1] * min(shares) ** 2 / power))
    return found


def _flat(sums: NDArray[Any]) -> Floats:
    """(…, n, outputs, places) as (…, outputs, n · places)."""
    wide = np.moveaxis(np.asarray(sums, np.float64), -3, -2)
    return wide.reshape(*wide.shape[:-2], -1)


def _median(values: Floats, weights: Floats) -> float:
    """Weighted median."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
