"""Rectangles on macros: the maximal-rectangles packer.

Jylänki, A thousand ways to pack the bin (2010): every macro keeps its maximal free rectangles; a
piece goes where its shorter rest is smallest ("best short side fit"), over all macros in use. The
greedy result depends on the order of the pieces, so a few orders are tried and the best is
kept; the same pieces always give the same places. Pieces are never turned: rows are rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A piece to pack. ``reads``: what an image asks of it, for a limit on a macro's total."""

    rows: int
    outputs: int
    reads: int = 0


@dataclass(frozen=True, slots=True)
class Spot:
    """Place of a rectangle: number of the macro, first row, first output."""

    macro: int
    row0: int
    output0: int


Free = tuple[int, int, int, int]  # row0, output0, rows, outputs

ORDERS: tuple[Callable[[Rectangle], tuple[int, int]], ...] = (
    lambda r: (-r.rows * r.outputs, -r.rows),
    lambda r: (-r.rows, -r.outputs),
    lambda r: (-r.outputs, -r.rows),
    lambda r: (-max(r.rows, r.outputs), -r.rows * r.outputs),
    lambda r: (-min(r.rows, r.outputs), -r.rows * r.outputs),
    lambda r: (-r.reads, -r.rows * r.outputs),
)
MANY = 400  # pieces; beyond, the first two orders are tried only


def pack(rectangles: Sequence[Rectangle], rows: int, outputs: int, *, most_reads: float = math.inf) -> tuple[Spot, ...]:
    """Give every rectangle a spot, on as few macros of ``rows`` x ``outputs`` as is found.

    Args:
        most_reads: no macro's reads add up to more, unless one rectangle alone does.

    Raises:
        ValueError: a rectangle is larger than a macro.
    """
    if any(r.rows > rows or r.outputs > outputs for r in rectangles):
        raise ValueError(f"a rectangle is larger than {rows} x {outputs}")
    orders = ORDERS if len(rectangles) <= MANY else ORDERS[:2]
    lowest = _lower_bound(rectangles, rows, outputs, most_reads)
    best: tuple[Spot, ...] = ()
    fewest = math.inf
    for key in orders:
        order = sorted(range(len(rectangles)), key=lambda i: (*key(rectangles[i]), i))
        spots, used = _greedy(rectangles, order, rows, outputs, most_reads)
        if used < fewest:
            best, fewest = spots, used
        if fewest <= lowest:
            break
    return best


def _lower_bound(rectangles: Sequence[Rectangle], rows: int, outputs: int, most_reads: float) -> int:
    cells = sum(r.rows * r.outputs for r in rectangles)
    reads = sum(r.reads for r in rectangles)
    return max(-(-cells // (rows * outputs)), math.ceil(reads / most_reads) if most_reads else 0)


@dataclass(slots=True)
class _Macro:
    number: int
    free: list[Free]
    reads: int = 0


@dataclass(slots=True)
class _Packer:
    rows: int
    outputs: int
    most_reads: float
    smallest: tuple[int, int]  # rows and outputs of the smallest pieces still to come
    used: int = 0
    open: list[_Macro] = field(default_factory=list)

    def put(self, r: Rectangle) -> Spot:
        best: tuple[int, int, int] | None = None  # shorter rest, longer rest, position in ``open``
        spot: Free | None = None
        for at, macro in enumerate(self.open):
            if macro.reads + r.reads > self.most_reads:
                continue
            for free in macro.free:
                if free[2] >= r.rows and free[3] >= r.outputs:
                    rest = (free[2] - r.rows, free[3] - r.outputs)
                    score = (min(rest), max(rest), at)
                    if best is None or score < best:
                        best, spot = score, free
        if best is None or spot is None:
            self.open.append(_Macro(self.used, [(0, 0, self.rows, self.outputs)]))
            self.used += 1
            best, spot = (0, 0, len(self.open) - 1), self.open[-1].free[0]
        macro = self.open[best[2]]
        macro.reads += r.reads
        macro.free = _without(macro.free, (spot[0], spot[1], r.rows, r.outputs), self.smallest)
        if not macro.free:
            self.open.remove(macro)
        return Spot(macro.number, spot[0], spot[1])


def _greedy(
    rectangles: Sequence[Rectangle], order: Sequence[int], rows: int, outputs: int, most_reads: float
) -> tuple[tuple[Spot, ...], int]:
    smallest = (min((r.rows for r in rectangles), default=1), min((r.outputs for r in rectangles), default=1))
    packer = _Packer(rows, outputs, most_reads, smallest)
    spots: dict[int, Spot] = {i: packer.put(rectangles[i]) for i in order}
    return tuple(spots[i] for i in range(len(rectangles))), packer.used


def _without(free: Sequence[Free], taken: Free, smallest: tuple[int, int]) -> list[Free]:
    """Maximal free rectangles once ``taken`` is; those too small for any piece are dropped."""
    row0, output0, rows, outputs = taken
    row1, output1 = row0 + rows, output0 + outputs
    found: set[Free] = set()
    for f in free:
        r0, o0, r1, o1 = f[0], f[1], f[0] + f[2], f[1] + f[3]
        if row0 >= r1 or r0 >= row1 or output0 >= o1 or o0 >= output1:
            found.add(f)
            continue
        found |= {
            (r0, o0, row0 - r0, f[3]),
            (row1, o0, r1 - row1, f[3]),
            (r0, o0, f[2], output0 - o0),
            (r0, output1, f[2], o1 - output1),
        }
    kept = sorted(f for f in found if f[2] >= smallest[0] and f[3] >= smallest[1])
    return [f for f in kept if not any(g != f and _holds(g, f) for g in kept)]


def _holds(outer: Free, inner: Free) -> bool:
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and outer[0] + outer[2] >= inner[0] + inner[2]
        and outer[1] + outer[3] >= inner[1] + inner[3]
    )
