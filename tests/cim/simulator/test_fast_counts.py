"""Rows of tiles over channels, and counts of the rows that each plane drives."""

from __future__ import annotations

import numpy as np
import pytest

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.file import load_chip
from cim.chip.windows import Window, unfold
from cim.simulator.fast.numba_engine import KernelMaps
from cim.simulator.fast.row_cuts import RowCut
from cim.simulator.layer import prepare_layer


@pytest.mark.parametrize("window", [None, Window(19, 6, 7, (3, 2), (2, 1), (1, 0), (1, 2))])
def test_counts_of_planes_are_those_of_the_split_codes(window: Window | None) -> None:
    rng = np.random.default_rng(12)
    codes = rng.integers(0, 256, (2, 19) if window is None else (2, 19, 6, 7)).astype(np.int16)
    kernel = 1 if window is None else 6
    rows = [range(13 * kernel), range(13 * kernel, 19 * kernel), range(8 * kernel, 16 * kernel)]
    rows += [] if window is None else [range(15, 61), range(20, 23), range(10, 15)]  # cut inside a channel
    layer = prepare_layer(
        load_chip("lab-128").macro, [], window=window, inputs=19 * kernel, outputs=1, range_code=0, input_bits=8,
        input_signed=False, read_noise=ReadNoise(np.ones(1), np.zeros(1), np.zeros(1)), wire=Wire(0.0, 0.0),
    )  # fmt: skip
    maps = KernelMaps(layer, codes)
    vectors = codes if window is None else unfold(codes, window).reshape(-1, window.rows)
    bits = (vectors[..., None] >> np.arange(8)) & 1
    for part in rows:
        found = maps.counted(RowCut(part, kernel)).view(np.uint8).reshape(-1, 8)[: maps.places]
        np.testing.assert_array_equal(found, bits[:, part.start : part.stop].sum(1))


@pytest.mark.parametrize("rows", [range(18), range(4, 11), range(7, 8), range(3, 14), range(5, 6)])
def test_rectangles_of_a_cut_hold_each_of_its_rows_once(rows: range) -> None:
    cut = RowCut(rows, 3)
    found = [3 * c + p for channels, positions in cut.rectangles for c in channels for p in positions]
    assert sorted(found) == list(rows)
    spread = cut.spread(np.array(rows, float)[:, None] + 1.0)[:, :, 0]
    assert spread.sum() == sum(rows) + len(rows)
    assert all(spread[r // 3 - cut.channels.start, r % 3] == r + 1.0 for r in rows)
    assert set(cut.positions) == {r % 3 for r in rows}
