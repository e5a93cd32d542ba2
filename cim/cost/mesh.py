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
    """Bits from macro to macro for one image; arrays (transfers,), ``layer`` the layer that receives them.

    ``bits`` are whole, so that sums over links are exact.
    """

    layer: Ints
    source: Ints
    target: Ints
    bits: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Load of the transfers of each layer on the mesh, arrays (layers,).

    ``bit_hops``: Σ bits · hops; ``farthest``: hops of the longest way. ``loads``: bits over each
    link, (layers, links); ``total``: over all layers, (links,).
    """

    bit_hops: Floats
    farthest: Ints
    loads: Floats
    total: Floats

    def transfer_ns(self, bits_per_ns: float, interval_ns: float) -> Floats:
        """Duration of the transfers of each layer for one image, (layers,).

        A link that other layers keep busy for a share ρ of every interval has 1 − ρ of its rate left:

            t = max over links of own / (rate · (1 − ρ)),    ρ = (all − own) / (rate · interval)

        ``interval_ns``: between images, at least all / rate of the busiest link; ∞ for a layer that runs alone.
        """
        if interval_ns == np.inf:
            return np.asarray(self.loads.max(1, initial=0.0) / bits_per_ns)
        room = bits_per_ns * interval_ns
        left = np.maximum(room - self.total, 1e-6)
        slowest = np.zeros(len(self.loads))
        for i, loads in enumerate(self.loads):
            used = np.flatnonzero(loads)
            if used.size:
                own = loads[used]
                slowest[i] = (own / (own + left[used])).max()
        return np.asarray(slowest * interval_ns)


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
    loads = _loads(layer, (y0, x0), (y1, x1), bits, layers, side)
    return Traffic(
        bit_hops=np.bincount(layer, bits * hops, layers).astype(np.float64),
        farthest=farthest,
        loads=loads,
        total=loads.sum(0),
    )


def _loads(
    layer: Ints, source: tuple[Ints, Ints], target: tuple[Ints, Ints], bits: Floats, layers: int, side: int
) -> Floats:
    """Bits that the transfers of each layer put on each link, (layers, links).

    The links to the right come first, then those to the left, down and up; of each direction those of one row (column)
    after the other. ``source`` and ``target`` are (row, column) of the macros. A transfer adds its bits at the link
    where it enters a row and subtracts them behind the one where it leaves; the running sum along the row is the load.
    """
    (y0, x0), (y1, x1) = source, target
    across = ((layer * 4 + (x1 < x0)) * side + y0) * side
    along = ((layer * 4 + 2 + (y1 < y0)) * side + x1) * side
    ends = (
        (across + np.minimum(x0, x1), along + np.minimum(y0, y1)),
        (across + np.maximum(x0, x1), along + np.maximum(y0, y1)),
    )
    steps = np.bincount(
        np.concatenate(ends[0] + ends[1]), np.concatenate((bits, bits, -bits, -bits)), layers * 4 * side**2
    )
    lines: Floats = steps.astype(np.float64, copy=False).reshape(-1, side)
    return np.cumsum(lines, axis=1, out=lines).reshape(layers, -1)
