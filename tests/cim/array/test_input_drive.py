"""Inputs of several bits a read: row drivers that err, and cells whose current is cubic in the voltage.

Each is written out once more in float64 and held against the simulator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire, conversion_cells
from cim.array.wires import gated_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import input_planes, split_planes
from cim.chip.correction import SHIFT, Correction
from cim.chip.encoding import encode_tile
from cim.chip.file import idealised, load_chip
from cim.chip.spec import CellIv, InputCoding, InputSpec, MacroSpec, SignedInput, WordLine
from cim.chip.windows import Window, unfold
from cim.record.calibration import nominal_macro
from cim.record.device import Columns
from cim.simulator.exact.numba_engine import SingleTile, kernel_tiles
from cim.simulator.layer import NoiseKey, SimulatedTile, simulated_tile
from cim.simulator.modes import SimulationMode
from cim.simulator.simulator import LayerSimulator

from ..simulator.tiles import segment_sums_us

EXACT, FAST = SimulationMode
QUIET = ReadNoise(np.array([2.0, 40.0]), np.zeros(2), np.zeros(2))
NO_WIRE = Wire(0.0, 0.0)
NIBBLES = load_chip("a111").macro
IDEAL = idealised(load_chip("a111")).macro
ROWS, OUTPUTS = 90, 12


def drive_table(size: int = 16, seed: int = 3, largest: float = 0.4) -> InputDrive:
    errors = np.random.default_rng(seed).uniform(-largest, largest, size)
    errors[[0, -1]] = 0.0
    return InputDrive(np.arange(float(size)) + errors, np.full(size, 0.01))


def amplitude(spec: MacroSpec, bits: int = 4, signed: SignedInput = SignedInput.OFFSET) -> MacroSpec:
    """The same macro with voltages for inputs and cubic cells, k falling with the level."""
    k = tuple(np.linspace(2.8, 0.4, len(spec.levels_us)))
    inputs = InputSpec(InputCoding.AMPLITUDE, 8, bits, signed)
    return replace(spec, cell_iv=CellIv.CUBIC, cell_iv_k_per_v2=k, inputs=inputs, v_read_v=0.3)


def levels_of(spec: MacroSpec, rows: int = ROWS, outputs: int = OUTPUTS) -> NDArray[np.int8]:
    rng = np.random.default_rng(5)
    return rng.integers(-spec.max_level, spec.max_level + 1, (rows, outputs)).astype(np.int8)


def tile_of(spec: MacroSpec, levels: NDArray[np.int8], inputs: range | None = None) -> SimulatedTile:
    """Nominal converters; level sums are sums of codes."""
    cells = np.zeros((spec.rows, spec.columns), np.float32)
    encoded = encode_tile(levels, spec, 0, 0)
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    part = nominal_macro(spec, 0)
    outputs = levels.shape[1]
    none = np.zeros(outputs, np.int64)
    return simulated_tile(
        spec,
        cells,
        Columns(part.gain, part.offset_codes, part.conversion_noise_codes, part.adc, part.inl_codes),
        Correction(np.full(outputs, 1 << SHIFT, np.int32), none, none.astype(np.int32), SHIFT),
        inputs=inputs or range(len(levels)),
        outputs=range(outputs),
        multiplier=1,
        row0=0,
        output0=0,
    )


def layer_of(
    mode: SimulationMode,
    spec: MacroSpec,
    drive: InputDrive | None,
    *,
    noise: ReadNoise = QUIET,
    wire: Wire = NO_WIRE,
    signed: bool = False,
    bits: int = 8,
    range_code: int = 0,
) -> LayerSimulator:
    levels = levels_of(spec)
    return LayerSimulator(
        spec, [tile_of(spec, levels)], window=None, inputs=ROWS, outputs=OUTPUTS, range_code=range_code,
        input_bits=bits, input_signed=signed, read_noise=noise, wire=wire, drive=drive, mode=mode,
    )  # fmt: skip


def random_codes(n: int = 40, low: int = 0, high: int = 256) -> NDArray[np.int16]:
    return np.random.default_rng(7).integers(low, high, (n, ROWS)).astype(np.int16)


def currents(spec: MacroSpec, driven: NDArray[np.int16], drive: InputDrive | None, signed: bool) -> NDArray[np.float64]:
    """Σ G u (1 + k V²) / (1 + k V_read²) of each plane, (planes, vectors, outputs) µS times unit."""
    units = split_planes(driven, spec.inputs, 8, signed).astype(np.float64)
    if drive is not None:
        units = drive.units[units.astype(int)]
    top = (1 << spec.inputs.bits_per_cycle) - 1
    plus, minus = encoded_halves(spec)
    total = np.zeros((*units.shape[:2], OUTPUTS))
    for sign, g in ((1.0, plus), (-1.0, minus)):
        k = np.zeros_like(g)
        if spec.cell_iv is CellIv.CUBIC:
            k = np.asarray(spec.cell_iv_k_per_v2)[np.abs(g[..., None] - np.asarray(spec.levels_us)).argmin(-1)]
        for plane, u in enumerate(units):
            factor = (1 + k * (spec.v_read_v * u[..., None] / top) ** 2) / (1 + k * spec.v_read_v**2)
            total[plane] += sign * (g * u[..., None] * factor).sum(1)
    return total


def encoded_halves(spec: MacroSpec) -> NDArray[np.float64]:
    return np.asarray(tile_of(spec, levels_of(spec)).halves_us, np.float64)


def sums_of_codes(spec: MacroSpec, us: NDArray[np.float64], signed: bool = False) -> NDArray[np.int64]:
    """Σ weight · ⌊x / lsb + ½⌋ of converters that never end."""
    weights = np.array([p.weight for p in input_planes(spec.inputs, 8, signed)])
    return np.einsum("pvo,p->vo", np.floor(us / spec.lsb_us(0) + 0.5), weights).astype(np.int64)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("cubic", [False, True])
def test_the_exact_mode_sums_what_the_row_drivers_give(signed: bool, cubic: bool) -> None:
    spec, drive = amplitude(IDEAL) if cubic else IDEAL, drive_table()
    codes = random_codes(low=-128, high=128) if signed else random_codes()
    sums, share = layer_of(EXACT, spec, drive, signed=signed).level_sums(codes, NoiseKey(1))
    driven = (codes + 128).astype(np.int16) if signed else codes
    expected = sums_of_codes(spec, currents(spec, driven, drive, False))
    assert share == 0.0
    assert (sums != expected).mean() < 0.06  # cells are on a grid: sums within 0.02 codes of a half
    assert np.abs(sums - expected).max() <= 17
    ideal, _ = layer_of(EXACT, IDEAL, None, signed=signed).level_sums(codes, NoiseKey(1))
    assert np.abs(sums - ideal).max() > 20  # the effects are no rounding


@pytest.mark.parametrize("cubic", [False, True])
def test_the_fast_mode_has_the_same_mean(cubic: bool) -> None:
    """Bounds: roundings of two planes, √(1 + 256) · 0.29 codes."""
    spec, drive = amplitude(IDEAL) if cubic else IDEAL, drive_table()
    codes = random_codes(200)
    sums, _ = layer_of(FAST, spec, drive).level_sums(codes, NoiseKey(1))
    us = np.einsum("pvo,p->vo", currents(spec, codes, drive, False), [1, 16]) / spec.lsb_us(0)
    assert np.std(sums - us) == pytest.approx(np.sqrt(257 / 12), rel=0.15)
    assert abs(np.mean(sums - us)) < 0.5
    plain, _ = layer_of(FAST, IDEAL, None).level_sums(codes, NoiseKey(1))
    assert np.std(plain - us) > 20


@pytest.mark.parametrize("cubic", [False, True])
def test_signed_planes_drive_by_the_same_table(cubic: bool) -> None:
    """Two's complement: the sign plane drives one unit, a narrow last plane few."""
    spec = replace(IDEAL, inputs=replace(IDEAL.inputs, signed=SignedInput.PLANE))
    spec = amplitude(IDEAL, signed=SignedInput.PLANE) if cubic else spec
    codes, drive = random_codes(low=-128, high=128), drive_table()
    found, _ = layer_of(EXACT, spec, drive, signed=True).level_sums(codes, NoiseKey(1))
    expected = sums_of_codes(spec, currents(spec, codes, drive, True), signed=True)
    assert (found != expected).mean() < 0.06
    sums, _ = layer_of(FAST, spec, drive, signed=True).level_sums(codes, NoiseKey(1))
    weights = np.array([p.weight for p in input_planes(spec.inputs, 8, True)], float)
    spread = np.sqrt((weights**2).sum() / 12)
    assert np.std(sums - expected) < 2.5 * spread


@pytest.mark.parametrize("mode", SimulationMode)
def test_a_table_without_errors_changes_no_bit(mode: SimulationMode) -> None:
    straight = InputDrive(np.arange(16.0), np.full(16, 0.01))
    noise = ReadNoise(np.array([2.0, 40.0]), np.ones(2), np.zeros(2))
    codes = random_codes()
    one, other = (
        layer_of(mode, NIBBLES, d, noise=noise, wire=Wire(1.0, 0.0), range_code=4).level_sums(codes, NoiseKey(1))
        for d in (None, straight)
    )
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("wire", [NO_WIRE, Wire(1.0, 0.0)])
def test_the_exact_mode_follows_the_lines(cubic: bool, wire: Wire) -> None:
    spec, drive = amplitude(NIBBLES) if cubic else NIBBLES, drive_table()
    codes = random_codes(60)
    sums, _ = layer_of(EXACT, spec, drive, wire=wire, range_code=3).level_sums(codes, NoiseKey(1))
    units = drive.units[split_planes(codes, spec.inputs, 8, False)]
    halves = encoded_halves(spec)
    exact = np.stack([gated_sums_us(spec, 0, halves, u, wire) for u in units])
    expected = np.einsum("pvo,p->vo", exact, [1, 16]) / spec.lsb_us(3)
    assert np.std(sums - expected) < 1.1 * np.sqrt(257 / 12) + 0.002 * np.abs(expected).max()
    fast, _ = layer_of(FAST, spec, drive, wire=wire, range_code=3).level_sums(codes, NoiseKey(1))
    assert np.std(fast - expected) < 1.2 * np.sqrt(257 / 12) + 0.02 * np.abs(expected).max()
    if not cubic:
        by_law = np.stack([segment_sums_us(spec, 0, halves, conversion_cells(spec, halves), u, wire) for u in units])
        np.testing.assert_allclose(by_law, exact, atol=0.006 * np.abs(exact).max())


def test_read_noise_grows_with_what_is_driven() -> None:
    drive = InputDrive(np.array([0.0, *np.arange(1.0, 15.0) + 2.0, 15.0]), np.zeros(16))
    noise = ReadNoise(np.array([2.0, 40.0]), np.full(2, 4.0), np.zeros(2))
    codes = np.full((3000, ROWS), 7, np.int16)
    layer = layer_of(EXACT, IDEAL, drive, noise=noise, bits=4)
    sums, _ = layer.level_sums(codes, NoiseKey(1))
    sigma = np.sqrt(2 * 4.0 * ROWS) * drive.units[7] / IDEAL.lsb_us(0)  # both cells of a pair
    assert sums.std(0).mean() == pytest.approx(sigma, rel=0.03)


def test_corrections_count_whole_codes_whatever_rows_get() -> None:
    """The input term of a correction is digital: it knows codes, not what was driven."""
    drive, codes = drive_table(), random_codes(8)
    for mode in SimulationMode:
        found = []
        for per_code in (0, 1 << SHIFT):
            tile = tile_of(IDEAL, levels_of(IDEAL))
            correction = replace(tile.correction, input_gain=np.full(OUTPUTS, per_code, np.int32))
            layer = LayerSimulator(
                IDEAL, [replace(tile, correction=correction)], window=None, inputs=ROWS, outputs=OUTPUTS,
                range_code=0, input_bits=8, input_signed=False, read_noise=QUIET, wire=NO_WIRE, drive=drive,
                mode=mode,
            )  # fmt: skip
            found.append(layer.level_sums(codes, NoiseKey(1))[0])
        more = found[1] - found[0]
        np.testing.assert_array_equal(more, np.repeat(codes.sum(1, dtype=np.int64)[:, None], OUTPUTS, 1))


@pytest.mark.parametrize("mode", SimulationMode)
def test_a_convolution_is_the_product_of_its_windows(mode: SimulationMode) -> None:
    """Tiles cut inside a channel; images in any batch."""
    spec, drive, window = amplitude(IDEAL), drive_table(), Window(3, 6, 5, (3, 3), (1, 1), (1, 1))
    levels = levels_of(spec, 27)
    maps = np.random.default_rng(8).integers(0, 256, (3, 3, 6, 5)).astype(np.int16)
    vectors = unfold(maps, window).reshape(-1, 27)
    given = {
        "outputs": OUTPUTS, "range_code": 0, "input_bits": 8, "input_signed": False, "read_noise": QUIET,
        "wire": NO_WIRE, "drive": drive, "mode": mode,
    }  # fmt: skip
    tiles = [tile_of(spec, levels[a:b], range(a, b)) for a, b in ((0, 10), (10, 27))]
    over = LayerSimulator(spec, tiles, window=window, inputs=27, **given)  # type: ignore[arg-type]
    plain = LayerSimulator(spec, tiles, window=None, inputs=27, **given)  # type: ignore[arg-type]
    sums, _ = over.level_sums(maps, NoiseKey(1))
    rows, _ = plain.level_sums(vectors, NoiseKey(1))
    flat = sums.reshape(3, OUTPUTS, -1).transpose(0, 2, 1).reshape(-1, OUTPUTS)
    if mode is FAST:  # its rounding is drawn
        assert np.std(flat - rows) < 1.5 * np.sqrt(2 * 2 * 257 / 12)
        return
    np.testing.assert_array_equal(flat, rows)
    again = np.concatenate([over.level_sums(maps[i : i + 1], NoiseKey(1, first_image=i))[0] for i in range(3)])
    np.testing.assert_array_equal(sums, again)


def test_cubic_cells_of_row_driven_arrays_keep_their_share_of_the_lines() -> None:
    """At full input a cell is what it was read as: effective conductances alone."""
    spec = replace(amplitude(IDEAL), word_line=WordLine.ROW)
    codes = np.where(np.random.default_rng(1).random((20, ROWS)) < 0.5, 255, 0).astype(np.int16)
    bent = layer_of(EXACT, spec, None, wire=Wire(1.0, 0.0)).level_sums(codes, NoiseKey(1))[0]
    straight = replace(spec, cell_iv=CellIv.LINEAR)
    same = layer_of(EXACT, straight, None, wire=Wire(1.0, 0.0)).level_sums(codes, NoiseKey(1))[0]
    assert np.abs(bent - same).max() <= 17  # one code of each plane
    half = layer_of(EXACT, spec, None, wire=Wire(1.0, 0.0)).level_sums(codes // 2, NoiseKey(1))[0]
    assert np.abs(half - same * 127 / 255).max() > 60


def test_pulses_and_one_bit_reads_meet_cells_at_one_voltage() -> None:
    codes = random_codes()
    for inputs in (NIBBLES.inputs, InputSpec(InputCoding.AMPLITUDE, 8, 1, SignedInput.OFFSET)):
        straight = replace(IDEAL, inputs=inputs)
        bent = replace(amplitude(IDEAL), inputs=inputs)
        layers = [layer_of(EXACT, spec, None) for spec in (straight, bent)]
        np.testing.assert_array_equal(*(layer.level_sums(codes, NoiseKey(1))[0] for layer in layers))


def test_no_kernel_that_ignores_a_table_takes_it() -> None:
    """One-bit chips refuse one; chips of several bits never reach the look-up kernels."""
    layer = layer_of(EXACT, NIBBLES, drive_table(), range_code=3)
    assert all(isinstance(tile, SingleTile) for tile in kernel_tiles(layer.layer))
    lab = load_chip("lab-128").macro
    for mode in SimulationMode:
        with pytest.raises(ValueError, match=r"units 0 to 15.*drives 0 to 1$"):
            layer_of(mode, lab, drive_table())
        with pytest.raises(ValueError, match=r"units 0 to 7.*drives 0 to 15$"):
            layer_of(mode, NIBBLES, drive_table(8))


def test_a_table_that_does_not_end_at_full_drive_cannot_exist() -> None:
    good = drive_table().units
    for bad in (good + 0.1, np.append(good[:-1], 14.0), good[:2], np.where(np.arange(16) == 4, np.nan, good)):
        with pytest.raises(ValueError, match="input drive"):
            InputDrive(bad, np.zeros(len(bad)))
