"""Estimators on synthetic measurements of known truth: right within their standard errors."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.array.wire_law import conversion_cells
from cim.cells.programming_law import law_at
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import code_limits
from cim.chip.encoding import encode_tile, tile_halves_us
from cim.chip.file import load_chip
from cim.fit.cells import TooFewCells, fit_read_variance
from cim.fit.columns import ColumnFit, MeanReadings, TooFewVectors, combine, fit_columns, predicted_variance_us2
from cim.fit.curves import Converters
from cim.fit.offset import idle_noise, without_misfit, zero_input
from cim.fit.programming import fit_programming, programming_distance
from cim.fit.wire import fit_wire
from cim.record.calibration import CellState, GainKnown
from cim.record.inl import inl_at
from tests.cim.array.wire_loss import wire_loss_us

SPEC = load_chip("lab-128").macro
LEVELS = np.array(SPEC.levels_us)
OUTPUTS = 64
VECTORS = 512


@dataclass
class Bench:
    """One synthetic macro, measured: arrays as a calibration has them, and the truth."""

    predicted: NDArray[np.float64]
    loss: NDArray[np.float64]
    variance: NDArray[np.float64]
    codes: NDArray[np.int64]
    setup: Converters
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]
    inl: NDArray[np.float64]
    readings: MeanReadings


def bench(seed: int, ohm: float = 0.0, noise: float = 0.3, inl_codes: float = 0.8, outliers: float = 0.0) -> Bench:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 8, (128, OUTPUTS)).astype(np.int8)
    levels[64:] *= -1
    cells = np.zeros((SPEC.rows, SPEC.columns))
    tile = encode_tile(levels, SPEC, 0, 0)
    cells[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us
    cells = np.clip(cells + rng.standard_t(4, cells.shape) * 1.5, 0.0, 44.0)
    readings = cells + rng.normal(0.0, np.sqrt(1.7 / 16), cells.shape)
    true, read = (tile_halves_us(c, SPEC, 0, 128, 0, OUTPUTS) for c in (cells, readings))
    active, lean = rng.uniform(0.05, 1.0, (VECTORS, 1)), rng.uniform(-1.0, 1.0, (VECTORS, 1))
    share = np.where(np.arange(128) < 64, active * (1 + np.minimum(lean, 0)), active * (1 - np.maximum(lean, 0)))
    units = (rng.random((VECTORS, 128)) < share).astype(np.int16)
    adc = np.arange(OUTPUTS) // SPEC.adc.shared_by
    setup = Converters(SPEC.lsb_us(5), code_limits(SPEC.adc.bits, True), adc)
    gain = 1.0 + 0.05 * rng.standard_normal(OUTPUTS)
    offset = np.repeat(rng.uniform(-2.0, 2.0, 8), 8)
    grid = np.linspace(-1.0, 1.0, 17)
    inl = inl_codes * np.stack([np.sin(np.pi * grid * rng.uniform(1.5, 2.5) + rng.uniform(0, 6)) for _ in range(8)])
    inl -= np.stack([np.polyval(np.polyfit(grid, curve, 1), grid) for curve in inl])  # a straight part is not INL
    law = ReadNoise(LEVELS, np.full(8, 1.7), np.zeros(8))
    x = units @ conversion_cells(SPEC, true) - ohm * wire_loss_us(SPEC, 0, true, units)
    spread2 = noise**2 + predicted_variance_us2(SPEC, true, units, law) * (gain / setup.lsb_us) ** 2
    y = x * gain / setup.lsb_us + offset + rng.standard_normal(x.shape) * np.sqrt(spread2)
    codes = np.clip(np.floor(y + inl_at(y, inl, adc, setup.limits) + 0.5), *setup.limits).astype(np.int64)
    codes[rng.random(codes.shape) < outliers] = 100
    return Bench(
        units @ conversion_cells(SPEC, read),
        wire_loss_us(SPEC, 0, read, units),
        predicted_variance_us2(SPEC, read, units, law),
        codes,
        setup,
        gain,
        offset,
        inl,
        MeanReadings.of(SPEC, read, units, law, 16),
    )


def columns(b: Bench, ohm: float = 0.0) -> ColumnFit:
    return fit_columns(b.predicted - ohm * b.loss, b.codes, b.variance, b.setup, b.readings)


def test_gain_offset_and_noise_are_recovered_within_their_errors() -> None:
    gains, offsets = [], []
    for seed in range(4):
        b = bench(seed, inl_codes=0.0)
        found = columns(b)
        gains.append((found.gain - b.gain) / found.gain_se)
        offsets.append((found.offset_codes - b.offset) / found.offset_se)
        assert found.conversion_noise_codes.mean() == pytest.approx(0.3, abs=0.12)
        assert found.read_scale == pytest.approx(1.0 + 1.0 / 16, abs=0.1)
        assert found.r2 > 0.995
    assert 0.85 < np.std(gains) < 1.15
    assert 0.85 < np.std(offsets) < 1.15
    assert abs(np.mean(gains)) < 0.3


def test_gain_offset_and_curve_share_their_errors_honestly_where_converters_bend() -> None:
    """Gain means the line over the whole scale, however the vectors were spread, and offset the code of zero input."""
    gains, offsets, curves = [], [], []
    for seed in range(30, 36):
        b = bench(seed, inl_codes=0.8)
        found = columns(b)
        gains.append((found.gain - b.gain) / found.gain_se)
        at_zero = inl_at(b.offset[None], b.inl, b.setup.adc, b.setup.limits)[0]
        offsets.append((found.offset_codes - b.offset - at_zero) / found.offset_se)
        pinned = b.inl - at_zero[:: SPEC.adc.shared_by, None]
        reached = [4, 5, 6, 7, 9, 10, 11, 12]  # by vectors; node 8 lies where the curve is held
        typical = np.sqrt(np.mean(found.inl_se[:, reached] ** 2))
        curves.append((found.inl_codes - pinned)[:, reached] / typical)
    for name, z in (("gain", gains), ("offset", offsets), ("curve", curves)):
        assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.2, name
    assert np.abs(np.polyfit(np.arange(17), found.inl_codes.T, 1)[0]).max() < 1e-9, "no slope"


def test_the_code_of_zero_input_is_known_from_reads_near_it_and_holds_the_offset() -> None:
    """Reads of single rows see through rounding by their noise; idle codes without noise leave half a code."""
    b = bench(40, inl_codes=0.8)
    rng = np.random.default_rng(41)
    at_zero = b.offset + inl_at(b.offset[None], b.inl, b.setup.adc, b.setup.limits)[0]
    sums = rng.normal(0.0, 2.0 * b.setup.lsb_us, (512, OUTPUTS))
    y = sums * b.gain / b.setup.lsb_us + b.offset
    seen = y + inl_at(y, b.inl, b.setup.adc, b.setup.limits) + rng.normal(0.0, 0.4, y.shape)
    idle = np.floor(at_zero + 0.5)
    zero = zero_input(sums, np.floor(seen + 0.5).astype(np.int64), b.gain, b.setup, idle, np.zeros(OUTPUTS), 128)
    assert 0.5 < np.sqrt(np.mean(np.square((zero.codes - at_zero) / zero.se))) < 1.2
    assert zero.se.max() < 0.15
    assert np.abs(zero.codes - idle).max() <= 0.5
    held = fit_columns(b.predicted, b.codes, b.variance, b.setup, b.readings, zero=zero)
    assert np.abs(held.offset_codes - zero.codes).max() < 0.01
    assert np.median(held.offset_se) == pytest.approx(np.median(zero.se), rel=0.2)
    clipped = zero_input(sums, np.full(sums.shape, 127), b.gain, b.setup, np.full(OUTPUTS, 127.0), idle * 0.0, 128)
    assert np.isinf(clipped.se).all()


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 1.0])
def test_the_noise_of_a_converter_is_known_from_codes_without_input(sigma: float) -> None:
    rng = np.random.default_rng(50)
    true = rng.uniform(-20.0, 20.0, 512)  # anywhere between two codes
    codes = np.floor(true + sigma * rng.standard_normal((128, 512)) + 0.5)
    nowhere = np.zeros(512, bool)
    assert idle_noise(codes.std(0), nowhere) == pytest.approx(sigma, rel=0.1, abs=0.002)
    assert idle_noise(codes.std(0), ~nowhere) is None
    residual = np.array([0.2, 0.4])
    assert np.sqrt(np.mean(without_misfit(residual, sigma) ** 2)) == pytest.approx(min(sigma, 0.1**0.5))


def test_the_whole_transfer_with_inl_is_recovered_to_a_fraction_of_a_code() -> None:
    b = bench(5)
    found = columns(b)
    y = np.linspace(-60.0, 60.0, 121)[:, None] * np.ones(OUTPUTS)  # the codes that vectors reach
    truth = y + inl_at(y, b.inl, b.setup.adc, b.setup.limits)
    error = found.expected_codes((y - b.offset) / b.gain * b.setup.lsb_us, b.setup) - truth
    assert np.sqrt(np.mean(error**2)) < 0.2
    without = found.gain * (y - b.offset) / b.gain + found.offset_codes - truth
    assert np.sqrt(np.mean(without**2)) > 0.3


def test_outliers_do_not_pull_a_column() -> None:
    clean, dirty = columns(bench(6)), columns(bench(6, outliers=0.004))
    assert np.abs(dirty.gain - clean.gain).max() < 0.006
    assert np.abs(dirty.offset_codes - clean.offset_codes).max() < 0.2
    assert dirty.conversion_noise_codes.mean() == pytest.approx(clean.conversion_noise_codes.mean(), abs=0.1)


@pytest.mark.parametrize("ohm", [0.0, 1.0])
def test_wire_resistance_is_recovered_beside_gain_and_inl(ohm: float) -> None:
    found = []
    for seed in range(4):
        b = bench(10 + seed, ohm, outliers=0.002)
        linear = functools.partial(lambda b, r: b.predicted - r * b.loss, b)
        found.append(fit_wire(linear, b.codes, b.variance, b.setup, columns(b)))
    mean, error = combine(*zip(*found, strict=True))
    assert mean == pytest.approx(ohm, abs=max(4 * error, 0.01))
    assert error < 0.02


def test_gain_is_right_once_the_wire_is_known() -> None:
    b = bench(20, 1.0, inl_codes=0.0)
    assert np.mean(columns(b, 0.0).gain / b.gain) < 0.97  # the loss looks like gain
    found = columns(b, 1.0)
    assert np.mean((found.gain - b.gain) / found.gain_se) == pytest.approx(0.0, abs=1.0)


def test_columns_become_a_macro_of_the_record() -> None:
    b = bench(7)
    cells = np.zeros((SPEC.rows, SPEC.columns), np.int8)
    part = columns(b).calibration(2, cells, np.full(cells.shape, np.nan, np.float32), GainKnown.SENSE)
    assert part.macro == 2
    assert part.inl_codes.shape == (8, 17)


def test_a_column_without_usable_vectors_is_named() -> None:
    b = bench(8)
    b.codes[:, 3] = b.setup.limits[1]
    with pytest.raises(TooFewVectors, match="column 3"):
        columns(b)


def test_columns_as_noisy_as_the_scale_is_wide_are_fitted_all_the_same() -> None:
    b = bench(9, noise=45.0)
    found = columns(b)
    assert np.all(np.isfinite(found.gain))
    assert np.median(found.conversion_noise_codes) > 15.0


def cells_of(seed: int, n: int = 8192) -> tuple[NDArray[np.float64], NDArray[np.float64], np.random.Generator]:
    rng = np.random.default_rng(seed)
    targets = rng.choice(LEVELS[:2], n)
    return targets, targets - 0.3 + 1.1 * rng.standard_t(2.5, n), rng


def noise(value: float = 1.7) -> ReadNoise:
    return ReadNoise(LEVELS[:2], np.full(2, value), np.full(2, 0.05))


def test_read_variance_is_recovered_within_its_error() -> None:
    scores = []
    for seed in range(10):
        targets, cells, rng = cells_of(seed, 2000)
        readings = cells + rng.normal(0.0, np.sqrt(1.7), (2, len(cells)))
        readings[0, :2] += 500.0  # a glitch
        found = fit_read_variance(readings, targets, LEVELS[:2])
        scores.append((found.variance_us2 - 1.7) / found.se_us2)
    assert abs(np.mean(scores)) < 0.7
    assert 0.6 < np.std(scores) < 1.5


def test_readings_that_end_at_zero_do_not_make_cells_seem_quieter() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(2.0, 1.2, 20000).clip(0.0)
    readings = (cells + rng.normal(0.0, np.sqrt(0.425), (2, len(cells)))).clip(0.0)
    found = fit_read_variance(readings, np.full(len(cells), 2.0), np.array([2.0]))
    assert abs(found.variance_us2[0] - 0.425) < 2.5 * found.se_us2[0]
    assert abs(readings.var(0, ddof=1).mean() - 0.425) > 5.0 * found.se_us2[0], "a check that can fail"


def test_the_programming_law_is_recovered_with_the_reading_noise_taken_out() -> None:
    scores = []
    for seed in range(5):
        targets, cells, rng = cells_of(seed)
        readings = np.stack([cells + rng.normal(0.0, np.sqrt(1.7 / k), len(cells)) for k in (1, 16)])
        states = np.zeros(len(cells), np.int8)
        states[:80], states[80:160], states[160:184] = CellState.STUCK_LOW, CellState.STUCK_HIGH, CellState.NOT_REACHED
        law = fit_programming(
            targets, readings, states, ages_s=(1.0, 3600.0), reads=(1, 16), levels_us=LEVELS[:2], read_noise=noise()
        )
        scores.append((law.loc_us + 0.3) / law.loc_se_us)
        scores.append((law.scale_us - 1.1) / law.scale_se_us)
        scores.append(np.log(law.df / 2.5) / law.ln_df_se)
        assert law.stuck_low_share == pytest.approx(80 / len(cells))
        assert law.unreached_share == pytest.approx(24 / (len(cells) - 160))
        assert len(law.unreached_us) == 24
    assert abs(np.mean(scores)) < 0.6
    assert 0.6 < np.std(scores) < 1.5


def test_held_out_distance_is_small_for_the_right_law_and_large_for_a_wrong_one() -> None:
    targets, cells, rng = cells_of(3)
    readings = cells + rng.normal(0.0, np.sqrt(1.7 / 8), len(cells))
    states = np.zeros(len(cells), np.int8)
    law = fit_programming(
        targets[::2], readings[None, ::2], states[::2], ages_s=(1.0,), reads=(8,), levels_us=LEVELS[:2],
        read_noise=noise(),
    )  # fmt: skip
    right = programming_distance(law, targets[1::2], readings[1::2], age_s=1.0, reads=8, read_noise=noise())
    wrong = programming_distance(law, targets[1::2], readings[1::2] + 0.5, age_s=1.0, reads=8, read_noise=noise())
    assert right < 0.03
    assert wrong > 0.1


def test_cells_that_never_vary_give_a_law_without_spread() -> None:
    targets = np.repeat(LEVELS[:2], 100)
    law = fit_programming(
        targets, targets[None], np.zeros(200, np.int8), ages_s=(1.0,), reads=(1,), levels_us=LEVELS[:2],
        read_noise=noise(0.0),
    )  # fmt: skip
    assert np.abs(law.loc_us).max() < 1e-3
    assert law.scale_us.max() < 1e-2


def test_a_level_that_no_cell_aims_at_has_the_law_of_its_neighbour() -> None:
    targets = np.repeat(LEVELS[[0, 5, 6]], 100) + 0.01
    read = (targets + np.random.default_rng(0).normal(0.0, 1.5, 300))[None]
    states, levels = np.zeros(300, np.int8), LEVELS[[0, 5, 7]]
    law = fit_programming(targets, read, states, ages_s=(1.0,), reads=(1,), levels_us=levels, read_noise=noise(0.0))
    assert law_at(law, LEVELS[6:7], 1.0).draw((4000, 1), np.random.default_rng(1)).std() == pytest.approx(1.5, abs=0.5)


def test_too_few_cells_of_a_level_are_named() -> None:
    with pytest.raises(TooFewCells, match=r"7\.42857 µS"):
        fit_read_variance(np.zeros((2, 50)), np.full(50, LEVELS[0]), LEVELS[:2])


def test_combined_estimates_are_no_surer_than_their_scatter() -> None:
    assert combine([1.0, 1.0], [0.1, 0.1]) == pytest.approx((1.0, 0.1 / np.sqrt(2)))
    mean, error = combine([0.0, 2.0], [0.1, 0.1])
    assert mean == pytest.approx(1.0)
    assert error == pytest.approx(1.0)
