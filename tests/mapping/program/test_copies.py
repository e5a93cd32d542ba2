"""Copies of slow layers: how many, what each answers, and what an image then asks of the chip."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim.chip.blocks import bands, blocks, grid
from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window, unfold
from mapping.compile import CannotMap, LayoutOptions, compile_network, plan
from mapping.layout.place import Placement
from mapping.layout.replicate import LayerReads, choose_copies, total_work
from mapping.operators.step import ProgramRecordError
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.copies import block_window, by_copy, copies_of, joined
from mapping.program.counts import busiest_reads, by_layer, tile_counts, total
from mapping.program.exact_product import ExactProduct
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program

from ..small_networks import every_node, network

LAB = load_chip("lab-128")


def enough(chip: str) -> ChipSpec:
    """The chip, yao-2020 with macros for the network."""
    return load_chip(chip, macros=12 if chip == "yao-2020" else None)


def compiled(
    budget: int | None = None, placement: Placement | None = None, chip: str = "lab-128"
) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    options = LayoutOptions(placement, budget)
    return compile_network(network(every_node(rng), rng, images=6), enough(chip), options=options)


# --- how many ------------------------------------------------------------------------------

STAGES = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3
)


@settings(max_examples=150, deadline=None)
@given(sizes=STAGES, spare=st.integers(0, 12))
def test_no_number_of_copies_within_the_budget_has_a_smaller_bottleneck(
    sizes: list[tuple[int, int, int, int]], spare: int
) -> None:
    stages = [LayerReads(f"s{i}", *size) for i, size in enumerate(sizes)]
    budget = sum(s.tiles for s in stages) + spare
    found = choose_copies(stages, budget)
    assert found is not None
    copies, bound = found
    slowest = max(s.time(copies[s.layer]) or 0 for s in stages)
    assert slowest == bound
    assert sum(s.tiles * copies[s.layer] for s in stages) <= budget
    possible = [[c for c in range(1, s.rows * s.width + 1) if s.time(c) is not None] for s in stages]
    best = min(
        max(s.time(c) or 0 for s, c in zip(stages, tried, strict=True))
        for tried in itertools.product(*possible)
        if sum(s.tiles * c for s, c in zip(stages, tried, strict=True)) <= budget
    )
    assert slowest == best


def test_a_budget_below_one_copy_of_each_layer_gives_none() -> None:
    assert choose_copies([LayerReads("a", 3, 8, 8, 8), LayerReads("b", 2, 1, 1, 8)], 4) is None


def test_a_fully_connected_layer_keeps_one_copy() -> None:
    found = choose_copies([LayerReads("conv", 1, 8, 8, 8), LayerReads("fc", 1, 1, 1, 8)], 9)
    assert found == ({"conv": 8, "fc": 1}, 64)  # 8 bands of a row


# --- what each answers ---------------------------------------------------------------------


@given(rows=st.integers(1, 60), copies=st.integers(1, 60))
def test_bands_cover_every_row_once_and_differ_by_one_row_at_most(rows: int, copies: int) -> None:
    found = bands(rows, min(copies, rows))
    assert [r for band in found for r in band] == list(range(rows))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    copies=st.integers(2, 5),
)
def test_windows_of_a_block_are_those_of_the_whole_map(
    height: int, width: int, kernel: int, stride: int, padding: int, dilation: int, copies: int
) -> None:
    try:
        window = Window(2, height, width, (kernel, kernel), (stride, stride), (padding, padding), (dilation, dilation))
    except ValueError:
        return
    codes = np.random.default_rng(0).integers(1, 99, (2, 2, height, width)).astype(np.int16)
    whole = unfold(codes, window).reshape(2, window.out_height, window.out_width, -1)
    padded = np.pad(codes, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    most = window.out_height * window.out_width
    try:
        found = blocks(window.out_height, window.out_width, min(copies, most))
    except ValueError:
        return
    covered = np.zeros((window.out_height, window.out_width), np.int64)
    for out_rows, out_columns in found:
        (rows, columns), part = block_window(window, (out_rows, out_columns))
        assert (part.out_height, part.out_width) == (len(out_rows), len(out_columns))
        seen = unfold(padded[:, :, rows.start : rows.stop, columns.start : columns.stop], part)
        at = slice(out_rows.start, out_rows.stop), slice(out_columns.start, out_columns.stop)
        assert np.array_equal(seen.reshape(2, len(out_rows), len(out_columns), -1), whole[:, *at])
        covered[at] += 1
    assert (covered == 1).all()


@given(rows=st.integers(1, 20), width=st.integers(1, 20), copies=st.integers(1, 40))
def test_a_grid_has_the_smallest_largest_block_there_is(rows: int, width: int, copies: int) -> None:
    possible = [
        -(-rows // a) * -(-width // b) for a in range(1, rows + 1) for b in range(1, width + 1) if a * b == copies
    ]
    if not possible:
        with pytest.raises(ValueError, match="is not cut into"):
            grid(rows, width, copies)
        return
    down, across = grid(rows, width, copies)
    assert down * across == copies
    assert max(len(r) * len(c) for r, c in blocks(rows, width, copies)) == min(possible)


def test_copies_together_give_the_layer() -> None:
    program = compiled(40)
    checked = 0

    def tap(step: MatrixStep, codes: np.ndarray, sums: np.ndarray) -> None:
        nonlocal checked
        parts = [ExactProduct(copy.group)(seen) for copy, seen in by_copy(step.group, codes)]
        assert np.array_equal(joined(step.group, parts), sums)
        checked += len(copies_of(step.group)) > 1

    images = program.calibration_images
    logits = run(program, images, IdealMultiply(program), tap=tap)
    assert checked >= 3
    assert np.array_equal(logits, run(compiled(), images, IdealMultiply(compiled())))


def test_copies_change_nothing_but_tiles() -> None:
    one, many = compiled(), compiled(40)
    for a, b in zip(one.steps, many.steps, strict=True):
        if isinstance(a, MatrixStep) and isinstance(b, MatrixStep):
            assert dataclasses.replace(a.group, tiles=()) == dataclasses.replace(b.group, tiles=())
            assert a.bias.tolist() == b.bias.tolist()
    assert plan(many).busiest_reads < plan(one).busiest_reads


@pytest.mark.parametrize(
    ("chip", "placement"),
    [(chip, p) for chip in ("lab-128", "a111") for p in (None, *Placement)] + [("yao-2020", Placement.PACKED)],
)
def test_a_budget_is_kept_and_never_makes_the_bottleneck_worse(chip: str, placement: Placement | None) -> None:
    whole = enough(chip).macros
    plain = plan(compiled(None, Placement.SPREAD, chip) if chip != "yao-2020" else compiled(None, None, chip))
    for budget in (whole, whole - 1):
        summary = plan(compiled(budget, placement, chip))
        assert summary.macros_used <= budget
        assert summary.busiest_reads <= plain.busiest_reads


def test_packed_copies_share_macros_only_up_to_the_bottleneck() -> None:
    program = compiled(6, Placement.PACKED)
    slowest = busiest_reads(tile_counts(program), program.spec)
    reads = Counter[int]()
    for tile in tile_counts(program):
        reads[tile.macro] += tile.reads
    assert slowest == max(reads.values())
    work = sum(c.reads for c in by_layer(tile_counts(compiled())).values())
    assert slowest >= work / 6


def test_a_budget_that_the_chip_does_not_have_or_that_is_too_small_is_refused() -> None:
    with pytest.raises(CannotMap, match="a budget of 65 macros, but lab-128 has 64"):
        compiled(65)
    with pytest.raises(CannotMap, match=r"needs \d+ macros at 8-bit weights, the budget is 2"):
        compiled(2, Placement.SPREAD)


# --- counts --------------------------------------------------------------------------------


def test_copies_share_the_reads_of_a_layer_and_add_none() -> None:
    one, many = (by_layer(tile_counts(p)) for p in (compiled(), compiled(40)))
    assert one == many


def test_counts_of_layers_add_up() -> None:
    counts = tile_counts(compiled(40))
    assert sum(c.conversions for c in by_layer(counts).values()) == total(counts).conversions
    assert sum(c.input_cycles for c in by_layer(counts).values()) == total(counts).input_cycles


def test_total_work_is_that_of_the_compiled_program() -> None:
    program = compiled()
    counts = tile_counts(program)
    stages = [
        LayerReads(
            m.name,
            len(m.group.tiles),
            1 if m.group.window is None else m.group.window.out_height,
            1 if m.group.window is None else m.group.window.out_width,
            m.group.input_bits,
        )
        for m in program.matrices
    ]
    assert total_work(stages) == total(counts).reads


# --- the file ------------------------------------------------------------------------------


def test_copies_come_back_from_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    program = compiled(40)
    save_program(program, tmp_path / "program.h5")
    loaded = load_program(tmp_path / "program.h5")
    assert loaded.digest == program.digest
    assert [t.copy for m in loaded.matrices for t in m.group.tiles] == [
        t.copy for m in program.matrices for t in m.group.tiles
    ]


def changed(program: ConductanceProgram, **change: object) -> ConductanceProgram:
    """The program with the last tile of its first copied layer changed."""
    steps = list(program.steps)
    at = next(i for i, s in enumerate(steps) if isinstance(s, MatrixStep) and s.group.copies > 1)
    step = steps[at]
    assert isinstance(step, MatrixStep)
    tiles = list(step.group.tiles)
    tiles[-1] = dataclasses.replace(tiles[-1], **change)  # type: ignore[arg-type]
    steps[at] = dataclasses.replace(step, group=dataclasses.replace(step.group, tiles=tuple(tiles)))
    return dataclasses.replace(program, steps=tuple(steps))


def test_copies_that_do_not_hold_together_are_no_program() -> None:
    program = compiled(40)
    check_program(program)
    step = next(m for m in program.matrices if m.group.copies > 1)
    last = step.group.tiles[-1]
    for change, words in (
        ({"levels": -last.levels}, "another matrix in copy"),
        ({"copy": 900}, "copies for an output map"),
        ({"copy": -1}, "has a copy -1"),
        ({"round": 1}, "round"),
        ({"macro": step.group.tiles[0].macro, "row0": 0, "output0": 0}, "on cells of another tile"),
    ):
        with pytest.raises(ProgramRecordError, match=words):
            check_program(changed(program, **change))
