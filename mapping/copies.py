"""Copies of a layer: each answers a band of the output map's rows.

A copy is a layer of its own: same weights on other cells, and a window that steps over the part
of the padded input map that its band needs. Whoever multiplies (exact product, simulator, chip)
sees such layers and nothing of copies.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.windows import Window
from mapping.program import MatrixStep, TileGroup


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a layer as a layer of its own.

    ``group`` holds its tiles as those of an only copy, ``tiles`` their positions in the whole group,
    ``map_rows`` the rows of the padded input map that it sees (None: the layer has one copy and
    sees its input as it is).
    """

    number: int
    group: TileGroup
    tiles: range
    map_rows: range | None

    def of(self, step: MatrixStep) -> MatrixStep:
        """The step with this copy's tiles and window."""
        return step if self.map_rows is None else dataclasses.replace(step, group=self.group)

    def seen(self, codes: NDArray[np.int16], window: Window | None) -> NDArray[np.int16]:
        """What the copy sees of a layer's input maps (n, channels, height, width); padding is code 0."""
        if self.map_rows is None or window is None:
            return codes
        pad_h, pad_w = window.padding
        padded = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        return np.ascontiguousarray(padded[:, :, self.map_rows.start : self.map_rows.stop])


def bands(rows: int, copies: int) -> tuple[range, ...]:
    """Rows of an output map by copy: runs whose lengths differ by at most one, longer first.

    Example: 10 rows in 4 bands are 3, 3, 2, 2.
    """
    size, longer = divmod(rows, copies)
    starts = [i * size + min(i, longer) for i in range(copies + 1)]
    return tuple(range(a, b) for a, b in itertools.pairwise(starts))


def copies_of(group: TileGroup) -> tuple[Copy, ...]:
    """Every copy of a layer, in order."""
    count, window = group.copies, group.window
    if count == 1 or window is None:
        return (Copy(0, group, range(len(group.tiles)), None),)
    each = len(group.tiles) // count
    found = []
    for number, band in enumerate(bands(window.out_height, count)):
        at = range(number * each, (number + 1) * each)
        rows, part = band_window(window, band)
        tiles = tuple(dataclasses.replace(t, copy=0) for t in group.tiles[at.start : at.stop])
        own = dataclasses.replace(group, window=part, tiles=tiles)
        found.append(Copy(number, own, at, rows))
    return tuple(found)


def band_window(window: Window, band: range) -> tuple[range, Window]:
    """Rows of the padded input map behind a band of output rows, and the window over them (it pads no more)."""
    (pad_h, pad_w), step, gap = window.padding, window.stride[0], window.dilation[0]
    reach = gap * (window.kernel[0] - 1) + 1
    rows = range(band.start * step, (band.stop - 1) * step + reach)
    assert rows.stop <= window.height + 2 * pad_h
    part = dataclasses.replace(window, height=len(rows), width=window.width + 2 * pad_w, padding=(0, 0))
    return rows, part


def by_copy(
    step: MatrixStep, codes: NDArray[np.int16], answer: Callable[[Copy, NDArray[np.int16]], NDArray[Any]]
) -> NDArray[Any]:
    """Let every copy answer its band, and join the bands: (n, outputs, height, width) or (n, outputs)."""
    parts = [answer(copy, copy.seen(codes, step.group.window)) for copy in copies_of(step.group)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
