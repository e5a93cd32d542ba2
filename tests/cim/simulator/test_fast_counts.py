"""Rows of tiles over channels, and counts of the rows that each plane drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.chip.windows import Window, unfold
from cim.simulator.fast.planes import driving_planes, place_counts
from cim.simulator.fast.row_cuts import RowCut


@pytest.mark.parametrize("window", [None, Window(19, 6, 7, (3, 2), (2, 1), (1, 0), (1, 2))])
def test_counts_of_planes_are_those_of_the_split_codes(window: Window | None) -> None:
    rng = np.random.default_rng(12)
    codes = rng.integers(0, 256, (2, 19) if window is None else (2, 8, 7, 19)).astype(np.int16)
    kernel = 1 if window is None else 6
    rows = [range(13 * kernel), range(13 * kernel, 19 * kernel), range(8 * kernel, 16 * kernel)]
    rows += [] if window is None else [range(15, 61), range(20, 23), range(10, 15)]  # cut inside a channel
    counts = place_counts(codes, [RowCut(part, kernel) for part in rows], window)
    found = counts.view(np.uint8).reshape(len(rows), -1, 8)
    np.testing.assert_array_equal(driving_planes(counts), ((found > 0) << np.arange(8)).sum(2))
    vectors = codes
    if window is not None:
        seen = replace(window, height=8, width=7, padding=(0, 0))
        vectors = unfold(codes.transpose(0, 3, 1, 2), seen).reshape(-1, seen.rows)
    bits = (vectors[..., None] >> np.arange(8)) & 1
    for t, part in enumerate(rows):
        np.testing.assert_array_equal(found[t], bits[:, part.start : part.stop].sum(1))


@pytest.mark.parametrize("rows", [range(18), range(4, 11), range(7, 8), range(3, 14), range(5, 6)])
def test_rectangles_of_a_cut_hold_each_of_its_rows_once(rows: range) -> None:
    cut = RowCut(rows, 3)
    found = [3 * c + p for channels, positions in cut.rectangles for c in channels for p in positions]
    assert sorted(found) == list(rows)
    spread = cut.spread(np.array(rows, float)[:, None] + 1.0)[:, :, 0]
    assert spread.sum() == sum(rows) + len(rows)
    assert all(spread[r // 3 - cut.channels.start, r % 3] == r + 1.0 for r in rows)
    assert set(cut.positions) == {r % 3 for r in rows}
