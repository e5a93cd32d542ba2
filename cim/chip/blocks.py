"""Cutting an output map into blocks, one for each copy of a layer."""

from __future__ import annotations

import itertools

Block = tuple[range, range]
"""Rows and columns of a map."""


def bands(rows: int, copies: int) -> tuple[range, ...]:
    """Lengths of ``copies`` bands that cut ``rows`` rows and differ by at most one row, longer bands first.

    Example: 10 rows in 4 bands are 3, 3, 2, 2.
    """
    size, longer = divmod(rows, copies)
    starts = [i * size + min(i, longer) for i in range(copies + 1)]
    return tuple(range(a, b) for a, b in itertools.pairwise(starts))


def grid(rows: int, width: int, copies: int) -> tuple[int, int]:
    """Into how many bands of rows and of columns an output map is cut for so many copies: the smallest largest block.

    Raises:
        ValueError: no grid of so many blocks fits the map.

    Example: 9 copies of 32 x 32 are 3 x 3 blocks, the largest 11 x 11; 7 are bands of 5 rows.
    """
    pairs = [(a, copies // a) for a in range(1, min(rows, copies) + 1) if copies % a == 0 and copies // a <= width]
    if not pairs:
        raise ValueError(f"an output map of {rows} x {width} is not cut into {copies} blocks")
    return min(pairs, key=lambda p: (-(-rows // p[0]) * -(-width // p[1]), p[1]))


def blocks(rows: int, width: int, copies: int) -> tuple[Block, ...]:
    """Rows and columns of the output map by copy, row-major."""
    down, across = grid(rows, width, copies)
    return tuple((r, c) for r in bands(rows, down) for c in bands(width, across))
