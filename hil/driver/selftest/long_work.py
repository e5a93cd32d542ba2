"""Work that lasts for seconds and harms nothing: reads of cells and of the array, many times over, some in a row."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cim.chip.spec import ChipSpec
from firmware_protocols.codec import encode
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    KernelWindow,
    Mvm,
    ReadCells,
    Returns,
    Sweep,
    TileAddress,
)
from hil.driver.selftest.line import MessageLine, ends

MOST_READS, MOST_SUMS = 0xFFFF, 0x100  # of a cell, and of a product whose sums are added
SOON_S = 1.0  # work that is answered so much later than a single read's is long
MOST_IN_A_ROW = 8  # fewer where the line takes long: what is on it is in the way of everything else
TURNS = 3  # with each kind of work
LARGEST_MAP = 64
ON_THE_LINE_S = 3.0  # that one request, or one answer, may take: a megabyte is a minute and a half at 115,200 baud


def long_works(line: MessageLine, spec: ChipSpec, ids: Iterator[int]) -> Iterator[list[int]]:
    """Begin such work again and again, each kind in some turns: the ids of its requests, which wait for each other.

    How long the same answer takes of a single read is measured first: most of it may be the line. On a machine that is
    busy, or where reads are remembered, work may be over all the same when whoever asked looks for it.
    """
    room = min(line.max_message - 128, int(ON_THE_LINE_S * pace_bytes_s(line, spec, next(ids))))
    for request in _candidates(line, spec, room):
        for _ in range(TURNS):
            began_s = time.monotonic()
            line.ask(encode(replace(request, reads=1), next(ids)))
            line_s, began_s, first = time.monotonic() - began_s, time.monotonic(), next(ids)
            line.send(encode(request, first))
            over = bool(ends(line.hear(lambda heard: bool(ends(heard)), line_s + SOON_S)))
            by_line, by_room = SOON_S / max(line_s, 1e-3), line.max_message // len(encode(request, first))
            row = max(1, min(MOST_IN_A_ROW, int(by_line), by_room))
            if over and row * (time.monotonic() - began_s - line_s) < SOON_S:
                break
            others = [next(ids) for _ in range(row if over else row - 1)]
            line.send(*(encode(request, number) for number in others))
            yield others if over else [first, *others]


def pace_bytes_s(line: MessageLine, spec: ChipSpec, request_id: int) -> float:
    """Bytes a second that the line carries, by a long answer: no more than that, most of its time is the line's."""
    rows = max(1, min(spec.macro.rows, (line.max_message - 128) // (2 * spec.macro.columns)))
    began_s = time.monotonic()
    (answer,) = line.ask(encode(ReadCells(CellBlock(0, 0, rows, 0, spec.macro.columns), 10, 1, 0), request_id))
    return len(answer) / max(time.monotonic() - began_s, 1e-6)


def _candidates(line: MessageLine, spec: ChipSpec, room: int) -> Iterator[ReadCells | Sweep | Mvm]:
    macro, can = spec.macro, line.hello.capabilities
    rows = min(macro.rows, room // (2 * macro.columns))
    if rows:
        yield ReadCells(CellBlock(0, 0, rows, 0, macro.columns), 10, MOST_READS, 0)
    reads = MOST_SUMS if Capability.REPEATED_READS in can else 1
    if Capability.SUMS not in can:
        return
    widest, tile_rows = len(macro.adc.full_scales_us) - 1, min(macro.logical_rows, 128)
    tile = TileAddress(0, 0, tile_rows, 0, 1)
    if Capability.SWEEP in can:
        side = min(LARGEST_MAP, math.isqrt(room // 4))
        kernel = (8, tile_rows // 8)
        if kernel[1] and max(kernel) <= side:
            window, block = KernelWindow(1, side, side, kernel, (1, 1), (0, 0), (1, 1)), np.ones((1, 1, side, side))
            tile = TileAddress(0, 0, kernel[0] * kernel[1], 0, 1)
            codes = block.astype(np.int16)
            yield Sweep(Returns.SUMS, tile, 0, widest, macro.inputs.bits, False, window, 0, 0, codes, reads)
    vectors = room // (2 * tile.rows)
    if vectors:
        ones = np.ones((vectors, tile.rows), np.int16)
        yield Mvm(Returns.SUMS, tile, 0, widest, macro.inputs.bits, False, 0, 1, 0, ones, reads)
