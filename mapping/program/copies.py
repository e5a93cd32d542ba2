"""Copies of a layer: each answers a block of the output map.

A copy is a layer of its own: same weights on other cells, and a window that steps over the part
of the padded input map that its block needs. Whoever multiplies (exact product, simulator, chip)
sees such layers and nothing of copies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.blocks import Block, blocks
from cim.chip.windows import Window
from mapping.program.conductance import MatrixStep, TileGroup

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a layer, as a separate layer.

    ``group`` holds its tiles as those of an only copy, ``tiles`` their positions in the whole group,
    ``block`` the rows and columns of the output map that it answers, ``seen`` those of the padded
    input map that it sees (None: the layer has one copy and sees its input as it is).
    """

    number: int
    group: TileGroup
    tiles: range
    block: Block | None = None
    seen: Block | None = None

    def of(self, step: MatrixStep) -> MatrixStep:
        """The step with this copy's tiles and window."""
        return step if self.seen is None else dataclasses.replace(step, group=self.group)

    def crop(self, codes: NDArray[np.int16], window: Window | None) -> NDArray[np.int16]:
        """Part of a layer's input maps that the copy reads (n, channels, height, width); padding is code 0."""
        if self.seen is None or window is None:
            return codes
        pad_h, pad_w = window.padding
        padded = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        return np.ascontiguousarray(padded[:, :, *_slices(self.seen)])


def copies_of(group: TileGroup) -> tuple[Copy, ...]:
    """Every copy of a layer, in order."""
    count, window = group.copies, group.window
    if count == 1 or window is None:
        return (Copy(0, group, range(len(group.tiles))),)
    each = len(group.tiles) // count
    found = []
    for number, block in enumerate(blocks(window.out_height, window.out_width, count)):
        at = range(number * each, (number + 1) * each)
        seen, part = block_window(window, block)
        tiles = tuple(dataclasses.replace(t, copy=0) for t in group.tiles[at.start : at.stop])
        found.append(Copy(number, dataclasses.replace(group, window=part, tiles=tiles), at, block, seen))
    return tuple(found)


def block_window(window: Window, block: Block) -> tuple[Block, Window]:
    """Rows and columns of the padded input map behind a block of outputs, and the window over them, without padding."""
    rows, columns = (_reach(window, axis, block[axis]) for axis in (0, 1))
    return (rows, columns), dataclasses.replace(window, height=len(rows), width=len(columns), padding=(0, 0))


def by_copy(group: TileGroup, codes: NDArray[np.int16]) -> list[tuple[Copy, NDArray[np.int16]]]:
    """Every copy of a layer with the input codes that it sees; ``joined`` puts the answers together again."""
    return [(copy, copy.crop(codes, group.window)) for copy in copies_of(group)]


def joined(group: TileGroup, parts: Sequence[NDArray[T]]) -> NDArray[T]:
    """The answers of all copies, in order, as one map (n, outputs, height, width) or vector (n, outputs)."""
    copies = copies_of(group)
    if group.window is None or len(parts) == 1:
        return parts[0]
    whole = np.empty((*parts[0].shape[:2], group.window.out_height, group.window.out_width), parts[0].dtype)
    for copy, part in zip(copies, parts, strict=True):
        assert copy.block is not None
        whole[:, :, *_slices(copy.block)] = part
    return whole


def _reach(window: Window, axis: int, outputs: range) -> range:
    reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1
    return range(outputs.start * window.stride[axis], (outputs.stop - 1) * window.stride[axis] + reach)


def _slices(block: Block) -> tuple[slice, slice]:
    return slice(block[0].start, block[0].stop), slice(block[1].start, block[1].stop)
