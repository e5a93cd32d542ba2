"""Traffic between macros on a square mesh: hops, and how busy each link is.

Macro m stands at (m // side, m % side). A message goes along its row first, then along the
column of its target (dimension order, free of deadlock); each direction of a link is a link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOST = 0
"""The macro at which images enter and logits leave."""


@dataclass(frozen=True, slots=True, eq=False)
class Transfers:
    """Bits from macro to macro for one image; arrays (transfers,), ``layer`` the layer that receives them."""

    layer: Ints
    source: Ints
    target: Ints
    bits: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What the transfers of each layer ask of the mesh, arrays (layers,).

    ``bits``: moved between macros; ``bit_hops``: Σ bits · hops; ``farthest``: hops of the longest
    way. ``loads``: bits over each link, (layers, links).
    """

    bits: Floats
    bit_hops: Floats
    farthest: Ints
    loads: Floats

    def transfer_ns(self, bits_per_ns: float, interval_ns: float) -> Floats:
        """How long the transfers of each layer last for one image, (layers,).

        A link that others keep busy for a share ρ of every interval leaves 1 − ρ of its rate:

            t = max over links of own / (rate · (1 − ρ)),    ρ = (all − own) / (rate · interval)

        ``interval_ns``: between images; ∞ when nobody else works.
        """
        others = (self.loads.sum(0) - self.loads) / (bits_per_ns * interval_ns)
        left = np.maximum(1.0 - others, 1e-12)
        return np.asarray(np.where(self.loads > 0, self.loads / left, 0.0).max(1, initial=0.0) / bits_per_ns)


def side_of(macros: int) -> int:
    """Macros along one side of the smallest square that holds them."""
    return math.isqrt(max(macros - 1, 0)) + 1


def traffic(transfers: Transfers, layers: int, macros: int) -> Traffic:
    """Load every link with every transfer.

    Example: 8 bits from macro 0 to macro 3 of a 2 x 2 mesh go right, then down: 16 bit-hops,
    two links with 8 bits each.
    """
    side = side_of(macros)
    moved = transfers.source != transfers.target
    layer, bits = transfers.layer[moved], transfers.bits[moved]
    y0, x0 = np.divmod(transfers.source[moved], side)
    y1, x1 = np.divmod(transfers.target[moved], side)
    hops = np.abs(x1 - x0) + np.abs(y1 - y0)
    farthest = np.zeros(layers, np.int64)
    np.maximum.at(farthest, layer, hops)
    loads = np.concatenate(
        [
            _loads(layer, y0, x0, x1, bits, layers, side),
            _loads(layer, y0, x1, x0, bits, layers, side),
            _loads(layer, x1, y0, y1, bits, layers, side),
            _loads(layer, x1, y1, y0, bits, layers, side),
        ],
        axis=1,
    )  # (layers, links)
    return Traffic(
        bits=np.bincount(layer, bits, layers).astype(np.float64),
        bit_hops=np.bincount(layer, bits * hops, layers).astype(np.float64),
        farthest=farthest,
        loads=loads,
    )


def _loads(layer: Ints, line: Ints, start: Ints, stop: Ints, bits: Floats, layers: int, side: int) -> Floats:
    """Loads of the links of one direction, (layers, side · side): those from ``start`` up to ``stop`` on ``line``."""
    ahead = stop > start
    base = (layer[ahead] * side + line[ahead]) * side
    size = layers * side * side
    steps = np.bincount(base + start[ahead], bits[ahead], size) - np.bincount(base + stop[ahead], bits[ahead], size)
    loads = np.cumsum(steps.reshape(layers * side, side), axis=1)
    loads[np.abs(loads) < 1e-9 * max(1.0, float(bits.max(initial=0.0)))] = 0.0  # what cancelling leaves
    return np.asarray(loads.reshape(layers, side * side))
