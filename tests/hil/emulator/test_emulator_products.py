"""Matrix products of the emulated chip: exact where nothing disturbs, repeatable where something does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.array.wire_law import Wire, WireEnd
from cim.array.wires import gated_sums_us
from cim.chip.converters import code_limits, quantise_adc, shift_add, split_planes
from cim.chip.converters import input_planes as planes_of
from cim.chip.encoding import tile_halves_us
from cim.chip.file import chip_names, idealised, load_chip
from cim.chip.spec import CellIv, ChipSpec, Encoding, InputCoding, PairSubtraction, SignedInput
from cim.chip.windows import Window, unfold
from firmware_protocols import messages
from firmware_protocols.messages import MOST_READS, READ_STEP, LayerTile, LoadLayer, Mvm, Returns, Sweep, TileAddress
from hil.emulator.array import build_tile
from hil.emulator.chip import EmulatedChip
from hil.emulator.kernels import convert_vectors
from hil.emulator.sample import conversion_columns

from ..emulated_bench import QUIET, finish, multiply, wait_s, write_levels


def random_levels(chip: EmulatedChip, rows: int, outputs: int, seed: int = 0) -> NDArray[np.int8]:
    top = chip.spec.macro.max_level
    return np.random.default_rng(seed).integers(-top, top + 1, (rows, outputs)).astype(np.int8)


def variants(name: str) -> list[ChipSpec]:
    """One ideal chip per encoding and kind of pair subtraction."""
    base = load_chip(name, macros=1)
    specs = []
    for encoding in Encoding:
        for pair in PairSubtraction:
            macro = dataclasses.replace(base.macro, encoding=encoding, pair_subtraction=pair)
            specs.append(idealised(dataclasses.replace(base, macro=macro)))
    return specs


@pytest.mark.parametrize("spec", variants("lab-128"), ids=lambda s: f"{s.macro.encoding}-{s.macro.pair_subtraction}")
def test_without_non_idealities_every_encoding_gives_the_integer_product(spec: ChipSpec) -> None:
    chip = EmulatedChip(spec, seed=1)
    levels = random_levels(chip, 50, 20)
    tile = write_levels(chip, levels, row0=9, output0=13)
    codes = np.random.default_rng(1).integers(0, 256, (7, 50))
    sums = multiply(chip, tile, codes).values
    product = codes @ levels.astype(np.int64)
    if spec.macro.encoding is Encoding.SINGLE_ENDED:  # the middle is subtracted digitally, by the host
        rest = spec.macro.max_level + spec.macro.levels_us[0] / spec.macro.level_step_us
        sums = sums - np.rint(codes.sum(1, keepdims=True) * rest).astype(np.int64)
    np.testing.assert_array_equal(sums, product)


@pytest.mark.parametrize("name", chip_names())
@pytest.mark.parametrize("signed", [False, True])
def test_without_non_idealities_every_chip_file_gives_the_integer_product(name: str, signed: bool) -> None:
    chip = EmulatedChip(idealised(load_chip(name, macros=1)), seed=1)
    macro = chip.spec.macro
    if signed and macro.inputs.signed is SignedInput.NONE:
        pytest.skip("this chip takes no signed inputs")
    levels = random_levels(chip, macro.logical_rows, macro.outputs)
    tile = write_levels(chip, levels)
    bits = macro.inputs.bits
    middle = 1 << bits - 1
    low, high = (1 - middle, middle) if signed else (0, 2 * middle)
    codes = np.random.default_rng(2).integers(low, high, (5, macro.logical_rows))
    if signed and macro.inputs.signed is SignedInput.OFFSET:
        codes = codes + middle
    result = multiply(chip, tile, codes, signed=signed, bits=bits)
    np.testing.assert_array_equal(result.values, codes @ levels.astype(np.int64))
    assert result.saturated == 0


def noisy(name: str = "lab-128", seed: int = 3, **overrides: float) -> EmulatedChip:
    return EmulatedChip(load_chip(name, macros=2), seed, overrides)


def test_the_same_request_gives_the_same_bits_and_another_sample_gives_others() -> None:
    chip = noisy()
    tile = write_levels(chip, random_levels(chip, 126, 24))
    codes = np.random.default_rng(0).integers(0, 256, (6, 126))
    first = multiply(chip, tile, codes, sample=5).values
    np.testing.assert_array_equal(first, multiply(chip, tile, codes, sample=5).values)
    other = multiply(chip, tile, codes, sample=99).values
    assert (first != other).mean() > 0.9
    again = noisy()
    write_levels(again, random_levels(again, 126, 24))
    np.testing.assert_array_equal(first, multiply(again, tile, codes, sample=5).values)
    stranger = noisy(seed=4)
    write_levels(stranger, random_levels(stranger, 126, 24))
    assert (first != multiply(stranger, tile, codes, sample=5).values).mean() > 0.9


@pytest.mark.parametrize("name", ["lab-128", "a111", "neurram-256"])
def test_splitting_a_batch_changes_no_bit(name: str) -> None:
    chip = noisy(name)
    tile = write_levels(chip, random_levels(chip, 60, 16))
    codes = np.random.default_rng(0).integers(0, 256, (40, 60))
    whole = multiply(chip, tile, codes, sample=2, per_sample=10, range_code=3).values
    parts = [
        multiply(chip, tile, codes[a:b], sample=2, per_sample=10, first=a, range_code=3).values
        for a, b in ((0, 3), (3, 25), (25, 40))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    renumbered = multiply(chip, tile, codes[20:], sample=4, per_sample=10, range_code=3).values
    np.testing.assert_array_equal(whole[20:], renumbered)


@pytest.mark.parametrize("returns", [Returns.SUMS, Returns.RAW])
def test_a_sweep_equals_the_product_of_the_unfolded_vectors_bit_for_bit(returns: Returns) -> None:
    chip = noisy()
    window = Window(5, 6, 7, (3, 3), (2, 1), (1, 1))
    levels = random_levels(chip, 30, 8)
    tile = write_levels(chip, levels, row0=4, output0=3)
    maps = np.random.default_rng(3).integers(0, 256, (3, 5, 6, 7)).astype(np.int16)
    wire = messages.KernelWindow(5, 6, 7, (3, 3), (2, 1), (1, 1), (1, 1))
    swept = finish(chip.sweep(Sweep(returns, tile, 0, 2, 8, False, wire, 11, 40, maps)))
    vectors = unfold(maps, window)[:, :, 11:41].reshape(-1, 30)
    plain = multiply(chip, tile, vectors, returns=returns, range_code=2, sample=40, per_sample=window.positions)
    np.testing.assert_array_equal(swept.values, plain.values)
    assert (swept.saturated, swept.conversions) == (plain.saturated, plain.conversions)


def test_sums_are_the_shift_added_raw_codes() -> None:
    for spec in variants("lab-128"):
        chip = EmulatedChip(dataclasses.replace(spec, sample=load_chip("lab-128").sample), seed=2)
        tile = write_levels(chip, random_levels(chip, 50, 10))
        codes = np.random.default_rng(4).integers(-128, 128, (9, 50))
        raw = multiply(chip, tile, codes, signed=True, returns=Returns.RAW)
        sums = multiply(chip, tile, codes, signed=True)
        planes = planes_of(spec.macro.inputs, 8, True)
        np.testing.assert_array_equal(shift_add(raw.values, spec.macro, planes), sums.values)
        assert raw.values[0].size * 9 == raw.conversions == sums.conversions


def reference_codes(
    chip: EmulatedChip, tile: TileAddress, codes: NDArray[np.integer], range_code: int
) -> NDArray[np.float64]:
    """Positions on the ADC scale before rounding, float64, noise off: the physics written out once more."""
    macro, truth, p = chip.spec.macro, chip._sample.macros[tile.macro], chip._sample.parameters
    cells = chip._cells[tile.macro].conductance_us(chip._settled_ns)
    halves = tile_halves_us(cells, macro, tile.row0, tile.rows, tile.output0, tile.outputs).astype(np.float64)
    u = chip._sample.drive[split_planes(codes, macro.inputs, 8, False)]
    top = (1 << macro.inputs.bits_per_cycle) - 1
    if macro.cell_iv is CellIv.CUBIC:
        k = np.interp(halves, macro.levels_us, macro.cell_iv_k_per_v2)
        volts2 = (macro.v_read_v * u / top) ** 2
        read = 1 + k * macro.v_read_v**2
        cell = [u[..., None] * h * (1 + kk * volts2[..., None]) / r for h, kk, r in zip(halves, k, read, strict=True)]
    else:
        cell = [u[..., None] * h for h in halves]  # (planes, vectors, rows, outputs)
    piece = np.array([w[0] * 8 // macro.rows for w in macro.word_lines[tile.row0 : tile.row0 + tile.rows]])
    ohm, length = 2 * p.wire_ohm * 1e-6 / top, macro.rows / 8

    def wire(net: NDArray[np.float64], unsigned: NDArray[np.float64]) -> NDArray[np.float64]:
        """Eight lumps, solved as a tridiagonal system of node voltages: voltage sources behind conductances."""
        a = np.stack([unsigned[:, :, piece == s].sum(2) for s in range(8)], -1)
        d = np.stack([net[:, :, piece == s].sum(2) for s in range(8)], -1)
        wide = 1 + ohm * (length - 1 / length) / 6 * a
        gap = np.array([ohm * (length + 1) / 2] + [ohm * length] * 7)
        line = np.diag(1 / gap) + np.diag(np.append(1 / gap[1:], 0.0))
        line -= np.diag(1 / gap[1:], 1) + np.diag(1 / gap[1:], -1)
        volts = np.linalg.solve(line + np.eye(8) * (a * wide)[..., None], (d * wide)[..., None])[..., 0]
        return np.asarray(volts[..., 0] / gap[0])

    plus, minus = cell
    total = sum(np.abs(c).sum((2, 3)) for c in cell)[..., None]
    if macro.encoding is Encoding.ROW_PAIRS:
        current = wire(plus - minus, np.abs(plus) + np.abs(minus))
    else:
        current = wire(plus, np.abs(plus)) - wire(minus, np.abs(minus))
    middle = macro.levels_us[len(macro.levels_us) // 2]
    current = current / (1 + p.supply_droop * total / (macro.rows * macro.columns * middle * top))
    columns = conversion_columns(macro, tile.output0, tile.outputs)
    adc = columns // macro.adc.shared_by
    q = current * truth.gain[columns] / macro.lsb_us(range_code) + truth.offset_codes[adc]
    low, high = code_limits(macro.adc.bits, macro.adc_signed)
    t = np.clip((q - (low + high + 1) / 2) * 2 / (high + 1 - low), -1, 1)
    a, b, c, d, e, f = (x[adc] for x in truth.inl.astype(np.float64))
    q = q + a + b * t + c * t**2 + d * t**3 + e * (t > 0) + f * ((t > 0.5).astype(float) + (t > -0.5))
    return q.transpose(1, 0, 2)


@pytest.mark.parametrize("name", ["lab-128", "a111"])
@pytest.mark.parametrize("droop", [0.0, 0.5])
@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("dac_inl", [0.0, 0.4])
def test_the_fused_kernel_agrees_with_the_physics_written_out_in_float64(
    name: str, droop: float, cubic: bool, dac_inl: float
) -> None:
    spec = load_chip(name, macros=1)
    if cubic:
        k = tuple(np.linspace(2.0, 0.5, len(spec.macro.levels_us)))
        inputs = dataclasses.replace(spec.macro.inputs, coding=InputCoding.AMPLITUDE, bits_per_cycle=4)
        spec = dataclasses.replace(
            spec, macro=dataclasses.replace(spec.macro, cell_iv=CellIv.CUBIC, cell_iv_k_per_v2=k, inputs=inputs)
        )
    chip = EmulatedChip(spec, 5, {"read_variance_us2": 0.0, "supply_droop": droop, "dac_inl": dac_inl})
    tile = write_levels(chip, random_levels(chip, 120, 20), row0=5, output0=7)
    wait_s(chip, 3600.0)
    codes = np.random.default_rng(6).integers(0, 256, (30, 120))
    raw = multiply(chip, tile, codes, returns=Returns.RAW, range_code=4).values
    position = reference_codes(chip, tile, codes, 4)
    macro = spec.macro
    expected = quantise_adc(position, 1.0, macro.adc.bits, macro.adc_signed)
    assert np.abs(raw - expected).max() <= 1
    far_from_tie = np.abs(position - np.floor(position) - 0.5) > 5e-3
    assert (raw == expected)[far_from_tie].mean() > 0.9995  # steps of the INL sit at ties of their own
    assert np.unique(raw).size > 20


def test_the_read_part_in_a_product_has_the_variance_of_all_driven_cells() -> None:
    chip = EmulatedChip(load_chip("lab-128", macros=1), 1, {**QUIET, "read_variance_us2": 1.7})
    levels = np.zeros((100, 4), np.int8)
    tile = write_levels(chip, levels)
    ones = np.zeros((4000, 100), np.int16)
    ones[:, :80] = 1
    raw = multiply(chip, tile, ones, bits=1, returns=Returns.RAW, range_code=0).values[:, 0]
    lsb = chip.spec.macro.lsb_us(0)
    expected = 1.7 * 2 * 80 / lsb**2 + 1 / 12
    assert raw.std(0) ** 2 == pytest.approx(np.full(4, expected), rel=0.1)
    assert np.abs(raw.mean(0)) == pytest.approx(np.zeros(4), abs=5 * np.sqrt(expected / 4000))
    together = np.corrcoef(raw.T.astype(float))
    assert np.abs(together - np.eye(4)).max() < 0.08


def test_wires_take_current_away_and_more_of_it_the_more_is_driven() -> None:
    loss = []
    for driven in (16, 64, 128):
        sums = []
        for ohm in (0.0, 1.0):
            chip = EmulatedChip(load_chip("lab-128", macros=1), 1, {**QUIET, "wire_ohm": ohm})
            tile = write_levels(chip, np.full((128, 4), 7, np.int8))
            codes = np.zeros((1, 128), np.int16)
            codes[0, :driven] = 1
            sums.append(float(multiply(chip, tile, codes, bits=1, range_code=7).values.mean()))
        loss.append(1 - sums[1] / sums[0])
    assert loss[0] < loss[1] < loss[2]
    first_order = 2e-6 * 128 * 128 * 40.0 / 3  # ρ ∫ C over an evenly loaded line, both wires
    assert 0.5 * first_order < loss[2] < first_order


def test_far_rows_lose_more_than_near_ones() -> None:
    chip = EmulatedChip(load_chip("lab-128", macros=1), 1, {**QUIET, "wire_ohm": 2.0})
    tile = write_levels(chip, np.full((128, 4), 7, np.int8))
    codes = np.zeros((2, 128), np.int16)
    codes[0, :32], codes[1, 96:] = 1, 1
    near, far = multiply(chip, tile, codes, bits=1, range_code=3).values.mean(1)
    assert far < near


def test_supply_droop_shows_only_when_many_columns_are_driven() -> None:
    def relative_loss(outputs: int) -> float:
        sums = []
        for droop in (0.0, 0.1):
            chip = EmulatedChip(load_chip("lab-128", macros=1), 1, {**QUIET, "supply_droop": droop})
            tile = write_levels(chip, np.full((128, outputs), 4, np.int8))
            codes = np.full((1, 128), 255, np.int16)
            sums.append(float(multiply(chip, tile, codes, range_code=7).values.mean()))
        return 1 - sums[1] / sums[0]

    assert relative_loss(1) < 0.003
    assert 0.04 < relative_loss(64) < 0.1


@pytest.mark.parametrize("reads", [5, MOST_READS])
def test_repeated_reads_are_the_sums_of_single_ones_and_take_as_long(reads: int) -> None:
    chip = noisy()
    tile = write_levels(chip, random_levels(chip, 40, 6))
    codes = np.random.default_rng(8).integers(0, 256, (12, 40)).astype(np.int16)
    request = Mvm(Returns.SUMS, tile, 0, 2, 8, False, 7, 4, 0, codes)
    start_ns = chip.chip_time_ns
    single = [finish(chip.mvm(dataclasses.replace(request, sample=7 + k * READ_STEP))) for k in range(reads)]
    middle_ns = chip.chip_time_ns
    added = finish(chip.mvm(dataclasses.replace(request, reads=reads)))
    np.testing.assert_array_equal(added.values, np.sum([one.values for one in single], 0))
    assert (single[0].values != single[1].values).any()
    assert (added.conversions, added.saturated) == tuple(
        sum(counts) for counts in zip(*((one.conversions, one.saturated) for one in single), strict=True)
    )
    assert chip.chip_time_ns - middle_ns == middle_ns - start_ns


@pytest.mark.parametrize("reads", [(1, 1, 1), (6, 3, 1)])
def test_a_loaded_layer_is_tiles_corrected_added_and_requantised(reads: tuple[int, int, int]) -> None:
    chip = noisy()
    rng = np.random.default_rng(8)
    levels = [random_levels(chip, 40, 6, seed) for seed in (1, 2, 3)]
    tiles = [write_levels(chip, v, macro=m, row0=r) for v, m, r in zip(levels, (0, 0, 1), (0, 50, 7), strict=True)]
    gains = rng.integers(1 << 18, 1 << 20, (3, 6)).astype(np.int32)
    parts = tuple(
        LayerTile(t, first, 2, mult, 18, g, np.arange(6) * 1000 - 2500, np.full(6, ig, np.int32), n)
        for t, first, mult, g, ig, n in zip(tiles, (0, 40, 10), (1, 1, 4), gains, (0, 0, 777), reads, strict=True)
    )
    bias = rng.integers(-500, 500, 8).astype(np.int32)
    multiplier, shift = rng.integers(1 << 13, 1 << 14, 8).astype(np.int32), np.full(8, 20, np.int32)
    chip.load_layer(LoadLayer(3, 80, 8, 0, 255, bias, multiplier, shift, parts))
    codes = rng.integers(0, 256, (12, 80)).astype(np.int16)
    got = finish(chip.mvm(Mvm(Returns.LAYER, None, 3, 2, 8, False, 7, 4, 0, codes)))
    total = np.zeros((12, 8), object)
    for part in parts:
        rows = codes[:, part.first_input : part.first_input + 40]
        asked = Mvm(Returns.SUMS, part.address, 0, 2, 8, False, 7, 4, 0, rows, part.reads)
        sums = finish(chip.mvm(asked)).values.astype(object)
        affine = sums * part.gain.astype(object) + part.reads * part.offset.astype(object)
        affine = affine + part.reads * rows.sum(1).astype(object)[:, None] * part.input_gain.astype(object)
        total[:, 2:8] += round_half_away(affine, 18) * (part.multiplier * max(reads) // part.reads)
    mean = [[(2 * abs(v) + reads[0]) // (2 * reads[0]) * (-1 if v < 0 else 1) for v in row] for row in total]
    total = np.array(mean, object) + bias.astype(object)
    expected = np.clip(round_half_away(total * multiplier.astype(object), 20), 0, 255).astype(np.int64)
    np.testing.assert_array_equal(got.values, expected)
    assert got.conversions == 12 * 8 * 6 * sum(reads)
    assert 0 < expected.mean() < 255


def round_half_away(values: NDArray[np.object_], shift: int) -> NDArray[np.object_]:
    half = 1 << (shift - 1)
    return np.vectorize(lambda v: (abs(v) + half >> shift) * (1 if v >= 0 else -1), otypes=[object])(values)


def test_padding_of_an_offset_chip_is_the_code_of_zero() -> None:
    chip = EmulatedChip(idealised(load_chip("a111", macros=1)), seed=1)
    levels = random_levels(chip, 9, 3)
    tile = write_levels(chip, levels)
    signed = np.random.default_rng(0).integers(-128, 128, (2, 1, 4, 4))
    wire = messages.KernelWindow(1, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1))
    sent = (signed + 128).astype(np.int16)
    swept = finish(chip.sweep(Sweep(Returns.SUMS, tile, 0, 0, 8, True, wire, 0, 0, sent)))
    vectors = unfold(signed.astype(np.int64), Window(1, 4, 4, (3, 3), (1, 1), (1, 1))).reshape(-1, 9)
    expected = vectors @ levels.astype(np.int64) + 128 * levels.sum(0, dtype=np.int64)
    np.testing.assert_array_equal(swept.values, expected)


def test_lines_of_the_emulated_chip_follow_the_exact_ladder() -> None:
    spec = load_chip("lab-128", macros=1)
    chip = EmulatedChip(spec, 5, {"read_variance_us2": 0.0, "wire_ohm": 2.0})
    tile = write_levels(chip, random_levels(chip, 128, 64))
    cells = chip._cells[0].conductance_us(chip._settled_ns)
    halves = tile_halves_us(cells, spec.macro, 0, 128, 0, 64)
    codes = np.random.default_rng(7).integers(0, 2, (200, 128)).astype(np.int16)
    plain = dataclasses.replace(
        chip._sample.parameters, supply_droop=0.0, column_crosstalk=0.0, conversion_noise_codes=0.0
    )
    array = build_tile(spec.macro, cells, tile, 1, False, plain, np.arange(2.0))
    fine = np.zeros((8, 64), np.float32)
    fine[0] = 1000.0  # steps of a thousandth of a microsiemens in place of codes
    raw, sums = np.zeros((200, 64), np.int32), np.zeros((200, 64), np.int32)
    convert_vectors(
        array, codes, 0, np.zeros(200, np.uint64), fine, np.zeros(0, np.float32), (-(2**23), 2**23 - 1), sums, raw
    )
    exact = gated_sums_us(spec.macro, 0, halves, codes, Wire(2.0, 0.0, WireEnd.FIRST))
    free = gated_sums_us(spec.macro, 0, halves, codes, Wire(0.0, 0.0, WireEnd.FIRST))
    loss, error = free - exact, raw / 1000.0 - exact
    assert np.sqrt(np.mean(loss**2)) > 30.0
    assert np.sqrt(np.mean(error**2)) < 0.08 * np.sqrt(np.mean(loss**2))
    assert abs((error * loss).sum() / (loss**2).sum()) < 0.01
