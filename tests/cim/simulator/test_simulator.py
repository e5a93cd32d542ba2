"""The simulator: exact in the ideal limit, each noise with its grain, repeatable from its key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from cim.array.wire_law import Wire, WireEnd, conversion_cells
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import conversions
from cim.chip.correction import SHIFT, Correction, nominal_correction
from cim.chip.file import idealised, load_chip
from cim.chip.spec import (
    AdcSpec,
    MacroSpec,
)
from cim.chip.windows import Window, unfold
from cim.record.calibration import nominal_macro
from cim.record.device import Columns
from cim.simulator.layer import NoiseKey, prepare_layer, prepare_tile
from cim.simulator.simulator import LayerSimulator

from .tiles import LAB, NO_WIRE, QUIET, columns_of, random_levels, segment_sums_us, tile_of, variants


def codes_as_sums(outputs: int) -> Correction:
    """A correction that leaves sums of codes as they are."""
    zeros = np.zeros(outputs, np.int64)
    return Correction(np.full(outputs, 1 << SHIFT, np.int32), zeros, zeros.astype(np.int32), SHIFT)


def one_vector_layer(
    levels: NDArray[np.int8],
    *,
    spec: MacroSpec = LAB,
    columns: Columns | None = None,
    noise: ReadNoise = QUIET,
    wire: Wire = NO_WIRE,
    bits: int = 1,
    range_code: int = 5,
    row0: int = 0,
) -> LayerSimulator:
    tile = tile_of(spec, levels, correction=codes_as_sums(levels.shape[1]), columns=columns, row0=row0)
    return LayerSimulator(
        spec,
        [tile],
        window=None,
        inputs=levels.shape[0],
        outputs=levels.shape[1],
        range_code=range_code,
        input_bits=bits,
        input_signed=False,
        read_noise=noise,
        wire=wire,
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", list(variants()))
def test_without_errors_it_is_the_integer_product(name: str, signed: bool) -> None:
    spec = idealised(variants()[name]).macro
    rng = np.random.default_rng(1)
    window = Window(3, 7, 6, (3, 3), (2, 1), (1, 1))
    outputs = min(7, spec.outputs)
    levels = random_levels(rng, spec, 27, outputs)
    bits = spec.inputs.bits
    low, high = (1 - (1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    codes = rng.integers(low, high, (2, 3, 7, 6)).astype(np.int16)
    parts = [(range(20), range(outputs), 1), (range(20, 27), range(outputs), 1), (range(9), range(2), 8)]
    expected = np.zeros((27, outputs), np.int64)
    tiles = []
    for inputs, across, multiplier in parts:
        mine = levels[inputs.start : inputs.stop, across.start : across.stop]
        expected[inputs.start : inputs.stop, across.start : across.stop] += multiplier * mine.astype(np.int64)
        correction = nominal_correction(spec, 0, mine, bits, signed)
        tiles.append(
            tile_of(spec, mine, correction=correction, inputs=inputs, outputs=across, multiplier=multiplier, row0=2)
        )
    layer = LayerSimulator(
        spec,
        tiles,
        window=window,
        inputs=27,
        outputs=outputs,
        range_code=0,
        input_bits=bits,
        input_signed=signed,
        read_noise=QUIET,
        wire=NO_WIRE,
    )
    sums, ends = layer.level_sums(codes, NoiseKey(0))
    exact = (unfold(codes, window).astype(np.int64) @ expected).transpose(0, 2, 1).reshape(sums.shape)
    np.testing.assert_array_equal(sums, exact)
    assert ends == 0.0
    assert layer.conversions(2) == 2 * 24 * len(layer.layer.planes) * (
        2 * conversions(spec, outputs) + conversions(spec, 2)
    )


def noisy_layer(spec: MacroSpec = LAB, seed: int = 2) -> tuple[LayerSimulator, Window]:
    """A convolution with every error on."""
    rng = np.random.default_rng(seed)
    part, n = nominal_macro(spec, 0), conversions(spec, spec.outputs)
    columns = Columns(
        1 + 0.05 * rng.standard_normal(n),
        rng.uniform(-2, 2, n),
        np.full(n, 0.3),
        part.adc,
        0.5 * rng.standard_normal(part.inl_codes.shape),
    )
    window = Window(4, 8, 8, (3, 3), (1, 1), (1, 1))
    levels = random_levels(rng, spec, 36, 20 if spec.outputs >= 20 else spec.outputs)
    correction = nominal_correction(spec, 2, levels, 8, False)
    layer = LayerSimulator(
        spec,
        [tile_of(spec, levels, correction=correction, columns=columns)],
        window=window,
        inputs=36,
        outputs=levels.shape[1],
        range_code=2,
        input_bits=8,
        input_signed=False,
        read_noise=ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2)),
        wire=Wire(0.5, 0.0),
    )
    return layer, window


MAPS = np.random.default_rng(3).integers(0, 256, (5, 4, 8, 8)).astype(np.int16)


@pytest.mark.parametrize("chip", ["lab-128", "a111"])
def test_the_split_into_batches_changes_no_bit(chip: str) -> None:
    layer, _ = noisy_layer(load_chip(chip).macro)
    whole, _ = layer.level_sums(MAPS, NoiseKey(7, 1, 2, first_image=10))
    head, _ = layer.level_sums(MAPS[:2], NoiseKey(7, 1, 2, first_image=10))
    tail, _ = layer.level_sums(MAPS[2:], NoiseKey(7, 1, 2, first_image=12))
    some, _ = layer.level_sums(MAPS[[3, 1]], NoiseKey(7, 1, 2, first_image=10, chosen=(3, 1)))
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))
    np.testing.assert_array_equal(some, whole[[3, 1]])


def test_every_part_of_the_key_gives_other_noise_and_the_same_key_the_same() -> None:
    layer, _ = noisy_layer()
    keys = [NoiseKey(1), NoiseKey(2), NoiseKey(1, chip=1), NoiseKey(1, layer=1), NoiseKey(1, first_image=9)]
    results = [layer.level_sums(MAPS[:1], key)[0] for key in keys]
    np.testing.assert_array_equal(results[0], layer.level_sums(MAPS[:1], keys[0])[0])
    for i, one in enumerate(results):
        for other in results[i + 1 :]:
            assert np.mean(one != other) > 0.3


def test_two_equal_images_of_a_batch_get_independent_noise() -> None:
    layer, _ = noisy_layer()
    sums, _ = layer.level_sums(np.repeat(MAPS[:1], 2, 0), NoiseKey(1))
    mean, _ = layer.level_sums(np.repeat(MAPS[:1], 40, 0), NoiseKey(2))
    noise = sums - mean.mean(0)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.12


def test_read_noise_adds_the_variances_of_the_driven_cells() -> None:
    levels = np.zeros((64, 2), np.int8)
    levels[:, 1] = 7
    noise = ReadNoise(np.array([2.0, 40.0]), np.array([30.0, 90.0]), np.zeros(2))
    layer = one_vector_layer(levels, noise=noise, range_code=7)
    for active in (16, 64):
        codes = np.zeros((6000, 64), np.int16)
        codes[:, :active] = 1
        sums, _ = layer.level_sums(codes, NoiseKey(active))
        expected = active * np.array([30.0 + 30.0, 90.0 + 30.0]) / LAB.lsb_us(7) ** 2 + 1 / 12
        np.testing.assert_allclose(sums.var(0), expected, rtol=0.08)
        np.testing.assert_allclose(sums.mean(0), active * np.array([0.0, 38.0]) / LAB.lsb_us(7), atol=0.1)
        assert abs(np.asarray(np.corrcoef(sums.T))[0, 1]) < 0.05  # one Gaussian per column


def test_conversion_noise_is_new_in_every_plane() -> None:
    columns = columns_of(LAB)
    columns = replace(columns, conversion_noise_codes=np.full(64, 2.0))
    one = one_vector_layer(np.zeros((8, 3), np.int8), columns=columns)
    sums, _ = one.level_sums(np.zeros((6000, 8), np.int16), NoiseKey(0))
    np.testing.assert_allclose(sums.var(0), 4.0 + 1 / 12, rtol=0.08)
    three = one_vector_layer(np.zeros((8, 3), np.int8), columns=columns, bits=3)
    sums, _ = three.level_sums(np.zeros((6000, 8), np.int16), NoiseKey(0))
    np.testing.assert_allclose(sums.var(0), (4.0 + 1 / 12) * (1 + 4 + 16), rtol=0.08)


def test_gain_offset_and_inl_act_on_the_codes() -> None:
    part = nominal_macro(LAB, 0)
    inl = np.zeros(part.inl_codes.shape)
    inl[0, 16], inl[0, 15] = 3.0, 1.0  # nodes at codes 127 and 111.06
    gain, offset = np.ones(64), np.zeros(64)
    gain[1], offset[2] = 1.25, 5.0
    columns = Columns(gain, offset, np.zeros(64), part.adc, inl)
    levels = np.full((40, 3), 7, np.int8)
    layer = one_vector_layer(levels, columns=columns)
    sums, ends = layer.level_sums(np.tril(np.ones((41, 40), np.int16), -1), NoiseKey(0))
    y = np.arange(41)[:, None] * (38.0 / LAB.lsb_us(5)) * gain[:3] + offset[:3]
    y = np.clip(y, None, 127)
    y = y + np.interp(y, np.linspace(-128, 127, 17), inl[0])
    off = sums - np.clip(np.floor(y + 0.5), -128, 127)
    assert np.abs(off).max() <= 1  # y within 0.02 of a threshold
    assert np.all(np.abs((y + 0.5) % 1.0 - 0.5)[off != 0] > 0.46)
    assert ends == pytest.approx(np.mean(sums == 127))


@pytest.mark.parametrize("nodes", [17, 128, 256])
def test_a_curve_may_have_as_many_nodes_as_the_converter_has_codes(nodes: int) -> None:
    """Two codes more from code 20 on."""
    part = nominal_macro(LAB, 0)
    at = np.linspace(-128, 127, nodes)
    inl = np.where(at >= 20, 2.0, 0.0) * np.ones((len(part.inl_codes), 1))
    columns = Columns(np.ones(64), np.zeros(64), np.zeros(64), part.adc, inl)
    layer = one_vector_layer(np.full((40, 3), 7, np.int8), columns=columns)
    sums, _ = layer.level_sums(np.tril(np.ones((41, 40), np.int16), -1), NoiseKey(0))
    y = np.clip(np.arange(41)[:, None] * (38.0 / LAB.lsb_us(5)), None, 127)
    y = y + np.interp(y, at, inl[0])
    off = sums - np.clip(np.floor(y + 0.5), -128, 127)
    assert np.abs(off).max() <= 1
    assert np.all(np.abs((y + 0.5) % 1.0 - 0.5)[np.any(off != 0, axis=1)] > 0.4)  # y near a threshold


@pytest.mark.parametrize("end", list(WireEnd))
def test_wires_lose_what_the_law_says_and_more_when_more_rows_are_driven(end: WireEnd) -> None:
    rng = np.random.default_rng(5)
    levels = random_levels(rng, LAB, 100, 6)
    wire = Wire(4.0, 0.0, end)
    with_wire = one_vector_layer(levels, wire=wire, range_code=3, row0=7)
    without = one_vector_layer(levels, range_code=3, row0=7)
    units = (rng.random((200, 100)) < rng.uniform(0.1, 0.9, (200, 1))).astype(np.int16)
    fine = replace(LAB, adc=AdcSpec(24, (8.6e5,), 8))  # fine steps: codes are the converted quantity
    results = []
    for one in (with_wire, without):
        tile = one.layer.tiles[0].tile
        layer = LayerSimulator(
            fine,
            [tile],
            window=None,
            inputs=100,
            outputs=6,
            range_code=0,
            input_bits=1,
            input_signed=False,
            read_noise=QUIET,
            wire=wire if one is with_wire else NO_WIRE,
        )
        results.append(layer.level_sums(units, NoiseKey(0))[0] * fine.lsb_us(0))
    halves = with_wire.layer.tiles[0].tile.halves_us
    cells = conversion_cells(LAB, halves)
    expected = segment_sums_us(LAB, 7, halves, cells, units, wire)
    np.testing.assert_allclose(results[0], expected, atol=0.2)
    loss = units @ cells - expected
    assert np.corrcoef(loss.ravel(), results[1].ravel())[0, 1] > 0.8  # the magnitude shrinks


def test_normals_are_normal_and_independent() -> None:
    from cim.simulator.exact.kernels import normals

    keys = np.random.SeedSequence(11).generate_state(200, np.uint32).reshape(100, 2).view(np.int32)
    z = np.stack([normals(key, 20_000) for key in keys])
    flat = z.ravel().astype(np.float64)
    n = len(flat)
    assert abs(flat.mean()) < 4 / np.sqrt(n)
    assert flat.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))
    assert stats.kurtosis(flat) == pytest.approx(0.0, abs=4 * np.sqrt(24 / n))
    assert stats.kstest(flat, "norm").statistic < 1.7 / np.sqrt(n)
    for tail in (3.0, 4.0):
        expected = 2 * stats.norm.sf(tail) * n
        assert np.sum(np.abs(flat) > tail) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    for lag in (1, 2, 8, 16, 128, 1024):
        assert abs(np.mean(z[:, lag:] * z[:, :-lag])) < 4 / np.sqrt(n)
    between = np.corrcoef(z)[np.triu_indices(100, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(20_000)
    # Neighbouring keys, as images and tiles have them.
    close = np.stack([normals(np.array([k, 5], np.int32), 20_000) for k in range(40)])
    assert np.abs(np.corrcoef(close)[np.triu_indices(40, 1)]).max() < 5 / np.sqrt(20_000)


def test_the_normality_test_sees_a_bad_generator() -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (4, 2_000_000)).sum(0)
    bad = (bytes_ - bytes_.mean()) / bytes_.std()
    assert abs(stats.kurtosis(bad)) > 10 * np.sqrt(24 / len(bad))


def test_wrong_shapes_and_codes_are_refused() -> None:
    layer = one_vector_layer(np.zeros((8, 3), np.int8))
    with pytest.raises(ValueError, match=r"codes \(2, 9\), expected \(n, 8\)"):
        layer.level_sums(np.zeros((2, 9), np.int16), NoiseKey(0))
    with pytest.raises(ValueError, match=r"do not fit 0\.\.1"):
        layer.level_sums(np.full((2, 8), 2, np.int16), NoiseKey(0))
    sums, share = layer.level_sums(np.zeros((0, 8), np.int16), NoiseKey(0))
    assert sums.shape == (0, 3)
    assert share == 0.0


@pytest.mark.parametrize("size", [1.5, 3.0, 20.0, 400.0])
def test_an_inl_curve_of_any_size_moves_the_code_by_its_value(size: float) -> None:
    columns = columns_of(LAB)
    columns = replace(columns, inl_codes=columns.inl_codes + size)
    codes = np.zeros((1, 8), np.int16)
    sums, _ = one_vector_layer(np.zeros((8, 3), np.int8), columns=columns).level_sums(codes, NoiseKey(0))
    np.testing.assert_array_equal(sums, min(127, np.floor(size + 0.5)))


def test_threads_do_not_change_a_bit() -> None:
    from concurrent.futures import ThreadPoolExecutor

    layer, _ = noisy_layer()
    alone = [layer.level_sums(MAPS, NoiseKey(s))[0] for s in range(6)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda s: layer.level_sums(MAPS, NoiseKey(s))[0], range(6)))
    np.testing.assert_array_equal(alone, together)


def test_the_belief_never_reads_the_sample_of_a_chip_file() -> None:
    from pathlib import Path

    import cim

    folder = Path(cim.__file__).parent
    belief = [p for room in ("array", "cells", "record", "fit", "simulator") for p in (folder / room).rglob("*.py")]
    assert len(belief) > 40
    for path in belief:
        assert ".sample" not in path.read_text(encoding="utf-8"), path


def test_variance_from_the_number_of_driven_rows_is_right_on_average() -> None:
    """Against the sum over the driven cells: unbiased over reads, a few per cent off for one (126 rows, 4 : 1)."""
    rng = np.random.default_rng(6)
    levels = random_levels(rng, LAB, 126, 32)
    noise = ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 4.0]), np.zeros(2))
    prepared = prepare_tile(LAB, tile_of(LAB, levels, correction=codes_as_sums(32)), 4, noise, NO_WIRE)
    units = (rng.random((4000, 126)) < rng.uniform(0.1, 0.5, (4000, 1))).astype(np.float64)
    cells = units @ prepared.variance  # the oracle: each driven cell with its own variance
    mean = units.sum(1, keepdims=True) * prepared.mean_variance
    ratio = mean[units.sum(1) > 10] / cells[units.sum(1) > 10]
    assert np.mean(mean) / np.mean(cells) == pytest.approx(1.0, abs=0.002)
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.01)
    assert np.std(np.sqrt(ratio)) < 0.04  # of sigma


def test_bits_in_look_ups_and_in_single_precision_agree() -> None:
    """The same tile through both kernels: sums near each other, with wires, INL and offsets, noise off."""
    pytest.importorskip("numba")
    from cim.simulator.exact import numba_engine as engine_numba

    layer, _ = noisy_layer()
    tile = layer.layer.tiles[0].tile
    quiet = replace(tile, conversion_noise_codes=np.zeros_like(tile.conversion_noise_codes))
    codes = MAPS
    given = {
        "window": layer.layer.window, "inputs": 36, "outputs": 20, "range_code": 2, "input_bits": 8,
        "input_signed": False, "read_noise": QUIET, "wire": Wire(0.5, 0.0),
    }  # fmt: skip
    quiet_layer = prepare_layer(LAB, [quiet], **given)  # type: ignore[arg-type]
    bits = engine_numba.ExactNumba(quiet_layer)
    single = engine_numba.ExactNumba(quiet_layer, [engine_numba.SingleTile(quiet_layer, quiet_layer.tiles[0], 0)])
    assert type(bits.tiles[0]).__name__ == "LookupTile"
    keys = NoiseKey(0).words(len(codes))
    (a, count_a), (b, count_b) = bits.layer_sums(codes, keys), single.layer_sums(codes, keys)
    ends_a, ends_b = (count / quiet_layer.conversions(len(codes)) for count in (count_a, count_b))
    # One code of one plane is up to 2^7 code sums; the level sum is gain times that.
    lsb = LAB.lsb_us(2) / LAB.level_step_us
    assert np.sqrt(np.mean((a - b) ** 2.0)) < 0.02 * b.std()
    assert abs(np.mean(a - b)) < 3.0 * lsb
    assert ends_a == pytest.approx(ends_b, abs=2e-3)
