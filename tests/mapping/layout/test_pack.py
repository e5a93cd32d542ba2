"""Rectangles on macros: nothing overlaps, nothing is lost, few macros are used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.layout.pack import Rectangle, Spot, pack

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 24), st.integers(0, 50)), min_size=1, max_size=50)


def filled(rectangles: list[Rectangle], spots: tuple[Spot, ...], rows: int, outputs: int) -> np.ndarray:
    """How many rectangles lie on each position, (macros, rows, outputs); fails when one sticks out."""
    taken = np.zeros((1 + max(s.macro for s in spots), rows, outputs), np.int64)
    for r, s in zip(rectangles, spots, strict=True):
        assert 0 <= s.row0 <= rows - r.rows
        assert 0 <= s.output0 <= outputs - r.outputs
        taken[s.macro, s.row0 : s.row0 + r.rows, s.output0 : s.output0 + r.outputs] += 1
    return taken


@settings(max_examples=80, deadline=None)
@given(sizes=SIZES, limit=st.integers(1, 200))
def test_rectangles_never_overlap_never_stick_out_and_keep_the_limit(
    sizes: list[tuple[int, int, int]], limit: int
) -> None:
    rectangles = [Rectangle(*size) for size in sizes]
    spots = pack(rectangles, 40, 24, most_reads=limit)
    taken = filled(rectangles, spots, 40, 24)
    assert taken.max() == 1
    assert (taken.sum((1, 2)) > 0).all()  # no macro in between is empty
    for macro in range(len(taken)):
        own = [r.reads for r, s in zip(rectangles, spots, strict=True) if s.macro == macro]
        assert sum(own) <= limit or len([r for r in own if r]) <= 1


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES)
def test_packing_twice_gives_the_same_places(sizes: list[tuple[int, int, int]]) -> None:
    rectangles = [Rectangle(*size) for size in sizes]
    assert pack(rectangles, 40, 24) == pack(list(rectangles), 40, 24)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_a_macro_cut_at_random_go_back_on_few_macros(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def cut(rows: int, outputs: int, times: int) -> list[Rectangle]:
        if times == 0 or min(rows, outputs) < 8:
            return [Rectangle(rows, outputs)]
        at = rng.uniform(0.3, 0.7)
        if rng.random() < 0.5:
            first = round(rows * at)
            return cut(first, outputs, times - 1) + cut(rows - first, outputs, times - 1)
        first = round(outputs * at)
        return cut(rows, first, times - 1) + cut(rows, outputs - first, times - 1)

    rectangles = [r for _ in range(4) for r in cut(128, 64, 3)]
    spots = pack(rectangles, 128, 64)
    assert filled(rectangles, spots, 128, 64).max() == 1
    assert max(s.macro for s in spots) + 1 <= 5  # four whole macros' worth


def test_a_rectangle_larger_than_a_macro_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than 40 x 24"):
        pack([Rectangle(41, 1)], 40, 24)
