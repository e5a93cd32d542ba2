"""Work that lasts for many seconds and harms nothing: reads of cells and of the array, many times over."""

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
    Progress,
    ReadCells,
    Returns,
    Sweep,
    TileAddress,
)
from hil.driver.selftest.bench import NotTried
from hil.driver.selftest.line import Heard, MessageLine

MOST_READS, MOST_SUMS = 0xFFFF, 0x100  # of a cell, and of a product whose sums are added
SOON_S = 1.0  # work that is answered so much later than a single read's is long
LARGEST_MAP = 64


def long_work(line: MessageLine, spec: ChipSpec, first_id: int) -> tuple[int, list[Heard]]:
    """Begin such work: the id of its request, and what was heard of it so far.

    How long the same answer takes of a single read is measured first: most of it may be the line.

    Raises:
        NotTried: all that harms nothing is answered soon.
    """
    for number, request in enumerate(_candidates(line, spec)):
        one, many = first_id + 2 * number, first_id + 2 * number + 1
        began_s = time.monotonic()
        line.ask(encode(replace(request, reads=1), one))
        line_s = time.monotonic() - began_s
        line.send(encode(request, many))
        heard = line.hear(lambda heard: any(not isinstance(h.reply.message, Progress) for h in heard), line_s + SOON_S)
        if all(isinstance(h.reply.message, Progress) for h in heard):
            return many, heard
    raise NotTried(f"all that harms nothing is answered within {SOON_S:g} s more than a single read")


def _candidates(line: MessageLine, spec: ChipSpec) -> Iterator[ReadCells | Sweep | Mvm]:
    macro, room, can = spec.macro, line.max_message - 128, line.hello.capabilities
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
