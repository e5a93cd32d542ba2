"""Wires: closed forms, an independent nodal solution, the law's errors, and what a fit finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from cim.array.wire_law import Wire, WireEnd, conversion_cells, line_bend, max_unit, wired_sums_us
from cim.array.wires import (
    converted_sums_us,
    effective_conductances,
    gated_sums_us,
    ladder_sums,
    row_driven_halves_us,
)
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import code_limits
from cim.chip.encoding import encode_tile, tile_halves_us
from cim.chip.file import load_chip, parse_chip, render_chip
from cim.chip.spec import Encoding, InputCoding, InputSpec, MacroSpec, PairSubtraction, SignedInput, WordLine
from cim.fit.columns import fit_columns, predicted_variance_us2
from cim.fit.curves import Converters
from cim.fit.wire import fit_wire
from tests.cim.array.wire_loss import wire_loss_us

LAB = load_chip("lab-128").macro
TERNARY = InputSpec(InputCoding.TERNARY, 8, 1, SignedInput.TERNARY)
PULSES = InputSpec(InputCoding.PULSE_COUNT, 8, 4, SignedInput.PLANE)
Floats = NDArray[np.float64]


class Network:
    """Nodal analysis by scipy.sparse; node −1 is ground."""

    def __init__(self, nodes: int) -> None:
        self.matrix = sparse.lil_matrix((nodes, nodes))

    def link(self, a: int, b: int, siemens: float) -> None:
        for one, other in ((a, b), (b, a)):
            if one >= 0:
                self.matrix[one, one] += siemens
                if other >= 0:
                    self.matrix[one, other] -= siemens

    def voltages(self, currents: Floats) -> Floats:
        found: Floats = np.asarray(spsolve(self.matrix.tocsc(), currents)).reshape(currents.shape)
        return found


def row_driven(g_us: Floats, row_ohm: float, column_ohm: float) -> Floats:
    """E of an array driven before column 0 and sensed beyond the last row, node by node."""
    rows, columns = g_us.shape
    net, drives = Network(2 * rows * columns), np.zeros((2 * rows * columns, rows))
    word = np.arange(rows * columns).reshape(rows, columns)
    bit = word + rows * columns
    for i in range(rows):
        for j in range(columns):
            net.link(int(word[i, j]), int(bit[i, j]), g_us[i, j] * 1e-6)
            net.link(int(word[i, j]), int(word[i, j - 1]) if j else -1, 1.0 / row_ohm)
            net.link(int(bit[i, j]), int(bit[i + 1, j]) if i + 1 < rows else -1, 1.0 / column_ohm)
        drives[word[i, 0], i] = 1.0 / row_ohm
    return np.asarray((net.voltages(drives)[bit[-1]] / column_ohm * 1e6).T)


def gated_column(load: Floats, net_us: Floats, gaps: Floats, ohm: tuple[float, float], lead: float | None) -> float:
    """Bit-line current of one column with both lines written out; the drive sits in series with each cell."""
    n = len(load)
    net, currents = Network(2 * n), np.zeros(2 * n)
    for i in range(n):
        near = i + 1 if i + 1 < n else -1
        net.link(i, near, 1.0 / (ohm[0] * gaps[i]))
        if lead is None:
            net.link(n + i, n + near if near >= 0 else -1, 1.0 / (ohm[1] * gaps[i]))
        else:
            net.link(n + i, n + i - 1 if i else -1, 1.0 / (ohm[1] * (gaps[i - 1] if i else lead)))
        net.link(i, n + i, load[i] * 1e-6)
        currents[i] += net_us[i] * 1e-6
        currents[n + i] -= net_us[i] * 1e-6
    return float(net.voltages(currents)[n - 1] / (ohm[0] * gaps[-1]) * 1e6)


def macro(rows: int, encoding: Encoding, subtraction: PairSubtraction, inputs: InputSpec) -> MacroSpec:
    lines = 2 * rows if encoding is Encoding.ROW_PAIRS else rows
    return replace(LAB, rows=lines, encoding=encoding, pair_subtraction=subtraction, inputs=inputs, rows_per_read=rows)


def tile(spec: MacroSpec, rows: int, outputs: int, seed: int) -> Floats:
    """Halves (2, rows, outputs) µS of random levels, with programming errors."""
    rng = np.random.default_rng(seed)
    top = spec.max_level
    k = rng.integers(-top, top + 1, (rows, outputs))
    table = np.array(spec.levels_us)
    if spec.paired:
        halves = np.stack([table[np.maximum(k, 0)], table[np.maximum(-k, 0)]])
    else:
        halves = np.stack([table[k + top], np.full(k.shape, table[top])])
    return np.asarray(np.clip(halves + 1.5 * rng.standard_normal(halves.shape), 0.5, None))


def reads(spec: MacroSpec, rows: int, vectors: int, seed: int, density: float | None = None) -> NDArray[np.int64]:
    """Units (vectors, rows), from sparse to nearly all driven, or of one density."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.02, 1.0, (vectors, 1)) if density is None else density
    on = rng.random((vectors, rows)) < share
    if spec.inputs.coding is InputCoding.TERNARY:
        return np.asarray(on * rng.choice([-1, 1], on.shape))
    return np.asarray(on * rng.integers(1, max_unit(spec) + 1, on.shape))


def errors_percent(found: Floats, exact: Floats, plain: Floats) -> tuple[float, float]:
    """rms and largest error, % of the largest sum without wires."""
    scale = np.abs(plain).max() / 100.0
    return float(np.sqrt(np.mean((found - exact) ** 2)) / scale), float(np.abs(found - exact).max() / scale)


def test_one_cell_is_three_resistors_in_series() -> None:
    assert effective_conductances(np.array([[1000.0]]), 100.0, 400.0)[0, 0] == pytest.approx(1e6 / 1500.0)
    assert ladder_sums(np.array([1000.0]), np.array([1000.0]), np.array([3.0]), 100.0, 50.0) == pytest.approx(
        1e6 / (1000.0 + 3.0 * 150.0)
    )


def test_one_row_without_column_resistance_is_a_ladder_by_hand() -> None:
    # Two cells of 1 kΩ, 100 Ω before each: node 1 sees 1000 ‖ 1100 Ω.
    beyond = 1.0 / (1.0 / 1000.0 + 1.0 / 1100.0)
    first = beyond / (beyond + 100.0)
    found = effective_conductances(np.array([[1000.0, 1000.0]]), 100.0, 0.0)
    np.testing.assert_allclose(found, [[first * 1000.0, first * 1000.0 / 1.1]])


def test_two_cells_of_a_gated_column_by_hand() -> None:
    # 1000 µS, 100 Ω, 1000 µS, 100 Ω: 1000 → 1000 / 1.1 → + 1000 → / (1 + 100e-6 · that).
    middle = 1000.0 / 1.1 + 1000.0
    cells = np.array([1000.0, 1000.0])
    expected = middle / (1.0 + 1e-4 * middle)
    assert ladder_sums(cells, cells, np.ones(2), 60.0, 40.0) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (12, 12), (1, 6), (6, 1)])
@pytest.mark.parametrize(("row_ohm", "column_ohm"), [(1.0, 1.0), (30.0, 5.0), (0.02, 300.0)])
def test_row_driven_arrays_agree_with_nodal_analysis(shape: tuple[int, int], row_ohm: float, column_ohm: float) -> None:
    g = np.random.default_rng(1).uniform(0.5, 40.0, shape)
    exact = row_driven(g, row_ohm, column_ohm)
    np.testing.assert_allclose(effective_conductances(g, row_ohm, column_ohm), exact, rtol=1e-9)


def test_open_cells_and_single_resistances_of_zero_are_allowed() -> None:
    g = np.random.default_rng(2).uniform(0.5, 40.0, (9, 11))
    g[3] = 0.0
    g[:, 4] = 0.0
    for row_ohm, column_ohm in ((0.0, 3.0), (3.0, 0.0)):
        near = row_driven(g, row_ohm or 1e-7, column_ohm or 1e-7)
        found = effective_conductances(g, row_ohm, column_ohm)
        np.testing.assert_allclose(found, near, rtol=1e-6, atol=1e-12)
        assert (found[3] == 0.0).all()


def test_zero_ohm_is_the_plain_product() -> None:
    g = np.random.default_rng(3).uniform(0.5, 40.0, (9, 11))
    np.testing.assert_allclose(effective_conductances(g, 0.0, 0.0), g, rtol=1e-15)
    halves, units = tile(LAB, 40, 5, 0), reads(LAB, 40, 8, 0)
    plain = units @ conversion_cells(LAB, halves)
    np.testing.assert_array_equal(wired_sums_us(LAB, 0, halves, units, Wire(0.0, 0.0)), plain)
    np.testing.assert_allclose(gated_sums_us(LAB, 0, halves, units, Wire(0.0, 0.0)), plain)
    np.testing.assert_allclose(wired_sums_us(LAB, 0, halves, units, Wire(1e-6, 0.0)), plain, atol=1e-3)


def test_the_array_on_its_side_is_reciprocal() -> None:
    """The current into ground j per volt on row i is that into ground i per volt on column j."""
    g = np.random.default_rng(4).uniform(0.5, 40.0, (8, 13))
    e = effective_conductances(g, 4.0, 9.0)
    other = effective_conductances(g.T, 9.0, 4.0, driven_first=False, sensed_last=False)
    np.testing.assert_allclose(other.T, e, rtol=1e-12)


def test_ends_can_change_places() -> None:
    g = np.random.default_rng(5).uniform(0.5, 40.0, (8, 13))
    flipped = effective_conductances(g[::-1, ::-1], 4.0, 9.0)[::-1, ::-1]
    np.testing.assert_allclose(effective_conductances(g, 4.0, 9.0, driven_first=False, sensed_last=False), flipped)
    assert np.abs(flipped / effective_conductances(g, 4.0, 9.0) - 1.0).max() > 1e-3


@pytest.mark.parametrize("lead", [None, 2.0])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("ohm", [(1.0, 1.0), (40.0, 7.0)])
def test_gated_columns_agree_with_nodal_analysis_of_both_lines(
    ohm: tuple[float, float], signed: bool, lead: float | None
) -> None:
    rng = np.random.default_rng(8)
    load = rng.uniform(0.5, 40.0, (3, 20)) * (rng.random((3, 20)) < 0.7)
    net = load * (rng.choice([-1.0, 1.0], load.shape) if signed else 1.0)
    gaps = rng.integers(1, 4, 20).astype(float)
    found = ladder_sums(load, net, gaps, *ohm, lead)
    exact = [gated_column(g, d, gaps, ohm, lead) for g, d in zip(load, net, strict=True)]
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_one_line_without_resistance_leaves_the_other() -> None:
    g = np.random.default_rng(9).uniform(0.5, 40.0, 12)
    gaps = np.ones(12)
    alone = ladder_sums(g, g, gaps, 20.0, 0.0)
    assert ladder_sums(g, g, gaps, 20.0, 0.0, 2.0) == pytest.approx(alone)
    tiny = ladder_sums(g, g, gaps, 1e-9, 20.0, 2.0)
    assert ladder_sums(g, g, gaps, 0.0, 20.0, 2.0) == pytest.approx(tiny, rel=1e-6)


@pytest.mark.parametrize("rows", [128, 256])
@pytest.mark.parametrize("density", [None, 0.5, 0.1])
def test_the_law_holds_its_promise_at_one_ohm(rows: int, density: float | None) -> None:
    """rms <= 0.2 %, largest <= 1 % of the largest sum, 2-40 µS, sparse and dense reads."""
    spec = macro(rows, LAB.encoding, LAB.pair_subtraction, LAB.inputs)
    halves, units, wire = tile(spec, rows, 16, 1), reads(spec, rows, 120, 2, density), Wire(1.0, 0.0)
    exact, plain = gated_sums_us(spec, 0, halves, units, wire), units @ conversion_cells(spec, halves)
    rms, largest = errors_percent(wired_sums_us(spec, 0, halves, units, wire), exact, plain)
    assert rms <= 0.2
    assert largest <= 1.0
    assert errors_percent(plain, exact, plain)[0] > 5.0 * rms  # there was something to take off
    coarse = errors_percent(wired_sums_us(spec, 0, halves, units, wire, mean_load=True), exact, plain)[0]
    assert rms < coarse < 0.35


CASES = [
    (Encoding.DIFFERENTIAL_COLUMNS, PairSubtraction.ANALOG, LAB.inputs, 0.1),
    (Encoding.DIFFERENTIAL_COLUMNS, PairSubtraction.ANALOG, PULSES, 0.1),
    (Encoding.DIFFERENTIAL_COLUMNS, PairSubtraction.ANALOG, TERNARY, 0.4),  # two lines of signed currents
    (Encoding.DIFFERENTIAL_COLUMNS, PairSubtraction.DIGITAL, LAB.inputs, 0.05),
    (Encoding.DIFFERENTIAL_COLUMNS, PairSubtraction.DIGITAL, TERNARY, 0.1),
    (Encoding.ROW_PAIRS, PairSubtraction.ANALOG, LAB.inputs, 0.15),
    (Encoding.ROW_PAIRS, PairSubtraction.ANALOG, TERNARY, 0.15),
    (Encoding.ROW_PAIRS, PairSubtraction.DIGITAL, LAB.inputs, 0.1),
    (Encoding.OFFSET_COLUMN, PairSubtraction.DIGITAL, LAB.inputs, 0.05),
    (Encoding.SINGLE_ENDED, PairSubtraction.DIGITAL, PULSES, 0.05),
]


@pytest.mark.parametrize("end", list(WireEnd))
@pytest.mark.parametrize(("encoding", "subtraction", "inputs", "most"), CASES)
def test_the_law_knows_every_encoding(
    encoding: Encoding, subtraction: PairSubtraction, inputs: InputSpec, most: float, end: WireEnd
) -> None:
    spec = macro(128, encoding, subtraction, inputs)
    halves, units, wire = tile(spec, 100, 8, 3), reads(spec, 100, 60, 4), Wire(1.0, 0.0, end)
    exact = gated_sums_us(spec, 9, halves, units, wire)
    plain = units @ conversion_cells(spec, halves)
    assert errors_percent(wired_sums_us(spec, 9, halves, units, wire), exact, plain)[0] < most
    first = plain - wire_loss_us(spec, 9, halves, units, end)
    driven = np.abs(units).sum(1)[:, None]
    bent = plain + (first - plain) / (1.0 + line_bend(spec, halves, wire, 9) * driven)
    assert errors_percent(bent, exact, plain)[0] < 0.6 * errors_percent(plain, exact, plain)[0]


def test_a_bend_takes_most_of_the_second_order() -> None:
    halves, units, wire = tile(LAB, 128, 16, 5), reads(LAB, 128, 120, 6), Wire(1.0, 0.0)
    exact, plain = gated_sums_us(LAB, 0, halves, units, wire), units @ conversion_cells(LAB, halves)
    loss, bend = wire_loss_us(LAB, 0, halves, units), line_bend(LAB, halves, wire)
    assert bend == pytest.approx(0.0018, abs=0.0003)
    straight = errors_percent(plain - loss, exact, plain)[0]
    bent = errors_percent(plain - loss / (1.0 + bend * units.sum(1)[:, None]), exact, plain)[0]
    assert bent < 0.4 < 0.8 < straight


def test_more_resistance_loses_more() -> None:
    halves = tile(LAB, 128, 16, 7)
    halves[1] = 2.0  # all weights positive, so every sum shrinks
    units = reads(LAB, 128, 20, 8)
    for sums in (wired_sums_us, gated_sums_us):
        found = [sums(LAB, 0, halves, units, Wire(ohm, 0.0)) for ohm in (0.1, 0.3, 1.0, 2.0, 5.0)]
        assert all((b < a).all() for a, b in itertools.pairwise(found))


def test_where_the_source_line_ends_matters() -> None:
    halves, units, wire = tile(LAB, 128, 8, 9), reads(LAB, 128, 30, 10), Wire(1.0, 0.0)
    same, opposite = (gated_sums_us(LAB, 0, halves, units, wire, source_opposite=o) for o in (False, True))
    plain = units @ conversion_cells(LAB, halves)
    assert errors_percent(opposite, same, plain)[1] > 1.0


def measured(seed: int, ohm: float) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Readings of a pattern (halves), units, and codes of an exact chip of that resistance, converters imperfect."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 8, (128, 64)) * np.where(np.arange(128) % 2 == 0, 1, -1)[:, None]
    flipped = levels * np.where(rng.random(levels.shape) < 0.2, -1, 1)
    cells = np.zeros((LAB.rows, LAB.columns))
    encoded = encode_tile(flipped.astype(np.int8), LAB, 0, 0)
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    cells = np.clip(cells + rng.standard_t(4, cells.shape) * 1.5, 0.0, 44.0)
    readings = cells + rng.normal(0.0, np.sqrt(1.7 / 16), cells.shape)
    true, read = (tile_halves_us(c, LAB, 0, 128, 0, 64).astype(np.float64) for c in (cells, readings))
    most = np.where(np.arange(384) % 2 == 0, 1.0, 0.2)[:, None]
    units = (rng.random((384, 128)) < (most * rng.random((384, 2)))[:, np.arange(128) % 2]).astype(np.int64)
    law = ReadNoise(np.array(LAB.levels_us), np.full(8, 1.7), np.zeros(8))
    x = gated_sums_us(LAB, 0, true, units, Wire(ohm, 0.0)) / LAB.lsb_us(5)
    spread = np.sqrt(0.09 + predicted_variance_us2(LAB, true, units, law) / LAB.lsb_us(5) ** 2)
    gain, offset = 1.0 + 0.05 * rng.standard_normal(64), np.repeat(rng.uniform(-2.0, 2.0, 8), 8)
    y = gain * x + offset + spread * rng.standard_normal(x.shape)
    y += 0.6 * np.sin(y / 25.0 + np.repeat(rng.uniform(0.0, 6.0, 8), 8))
    return read, units, np.clip(np.floor(y + 0.5), *code_limits(8, True)).astype(np.int64)


@pytest.mark.parametrize("ohm", [0.0, 0.2, 1.0, 3.0])
def test_a_fit_finds_the_resistance_of_exact_ladders(ohm: float) -> None:
    law = ReadNoise(np.array(LAB.levels_us), np.full(8, 1.7), np.zeros(8))
    setup = Converters(LAB.lsb_us(5), code_limits(8, True), np.arange(64) // 8)
    read, units, codes = measured(3, ohm)
    variance = predicted_variance_us2(LAB, read, units, law)
    plain = units @ conversion_cells(LAB, read)
    columns = fit_columns(plain, codes, variance, setup)
    found, error = fit_wire(lambda r: gated_sums_us(LAB, 0, read, units, Wire(r, 0.0)), codes, variance, setup, columns)
    assert found == pytest.approx(ohm, abs=3.5 * error)
    assert error < 0.01 + 0.02 * ohm
    quick, _ = fit_wire(lambda r: wired_sums_us(LAB, 0, read, units, Wire(r, 0.0)), codes, variance, setup, columns)
    assert quick == pytest.approx(ohm, abs=0.03 + 0.1 * ohm)


def test_a_chip_file_says_how_the_input_reaches_the_cell() -> None:
    text = load_chip("lab-128").text
    assert LAB.word_line is WordLine.GATE
    changed = text.replace("[cell]", 'word_line = { value = "row", source = "assumed: passive cells" }\n[cell]')
    row = parse_chip(changed, "changed.toml")
    assert row.macro.word_line is WordLine.ROW
    assert row.digest != load_chip("lab-128").digest
    assert parse_chip(render_chip(row), "again.toml").macro == row.macro
    assert "word_line" not in render_chip(load_chip("lab-128"))


@pytest.mark.parametrize("encoding", [Encoding.DIFFERENTIAL_COLUMNS, Encoding.ROW_PAIRS, Encoding.SINGLE_ENDED])
@pytest.mark.parametrize("end", list(WireEnd))
def test_row_driven_tiles_multiply_by_effective_conductances(encoding: Encoding, end: WireEnd) -> None:
    subtraction = PairSubtraction.DIGITAL if encoding is Encoding.SINGLE_ENDED else PairSubtraction.ANALOG
    spec = replace(
        LAB, rows=24, columns=12, column_order=tuple(range(12)), encoding=encoding,
        pair_subtraction=subtraction, rows_per_read=12, word_line=WordLine.ROW,
    )  # fmt: skip
    halves, wire = tile(spec, 8, 4, 11), Wire(20.0, 0.0, end)
    effective = row_driven_halves_us(spec, 2, 1, halves, wire)
    cells = np.full((24, 12), LAB.levels_us[0])
    lines = encode_tile(np.zeros((8, 4), np.int8), spec, 2, 1)
    parts = [halves[0]] if not spec.paired else [halves[0], halves[1]]
    axis = 1 if encoding is Encoding.ROW_PAIRS else 2
    block = np.stack(parts, axis).reshape(len(lines.word_lines), len(lines.bit_lines))
    cells[np.ix_(lines.word_lines, lines.bit_lines)] = block
    exact = row_driven(cells if end is WireEnd.LAST else cells[::-1], 20.0, 20.0)
    exact = exact if end is WireEnd.LAST else exact[::-1]
    found = tile_halves_us(exact, spec, 2, 8, 1, 4)
    np.testing.assert_allclose(effective[: len(parts)], found[: len(parts)], rtol=1e-5)
    assert (effective[0] < halves[0]).all()
    units = reads(spec, 8, 5, 12)
    sums = converted_sums_us(spec, 2, halves, units, wire, 1)
    np.testing.assert_allclose(sums, units @ conversion_cells(spec, found), rtol=1e-4, atol=1e-3)
