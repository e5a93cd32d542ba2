"""Virtual chips drawn from a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cim.array.wire_law import Wire
from cim.cells.laws.registry import tails
from cim.cells.laws.student import STUDENT
from cim.cells.laws.tail import Tail
from cim.cells.programming_law import ProgrammingLaw, law_at, redraw_law
from cim.cells.read_noise import ReadNoise
from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord, CellState, MacroCalibration, NotCalibrated, nominal_macro
from cim.record.device import draw_columns, draw_posterior, draw_programming

SPEC = load_chip("lab-128").macro
LEVELS = np.array(SPEC.levels_us)
TARGETS = np.full((SPEC.rows, SPEC.columns), LEVELS[4], np.float32)


def law(df: float = 4.0, scale: float = 1.0, se: float = 0.0, unreached: float = 0.0) -> ProgrammingLaw:
    shape = (2, len(LEVELS))
    loc = np.repeat([[-0.2], [-1.6]], len(LEVELS), 1)
    return ProgrammingLaw(
        np.array([1.0, 1e4]),
        LEVELS,
        loc,
        np.full(shape, scale),
        np.full(shape, df),
        np.full(shape, se),
        np.full(shape, se),
        np.full(shape, se),
        0.02,
        0.002,
        unreached,
        np.array([-9.0]) if unreached else np.array([]),
    )


def record(
    programming: ProgrammingLaw, part: MacroCalibration | None = None, variance: float = 1.7
) -> CalibrationRecord:
    noise = ReadNoise(LEVELS, np.full(8, variance), np.zeros(8))
    macros = {0: part or nominal_macro(SPEC, 0)}
    return CalibrationRecord(
        "lab-128", "A", "1", "1", "emulated", "", 25.0, "", "", 0, 1.0, macros, programming, noise, Wire(0.0, 0.0)
    )


def test_the_law_is_linear_in_log_time_from_its_first_age_on() -> None:
    at = [float(law_at(law(), LEVELS[:1], age).loc_us[0]) for age in (0.1, 1.0, 100.0, 1e4, 1e6)]
    assert at == pytest.approx([-0.2, -0.2, -0.9, -1.6, -2.3])


def test_programming_again_follows_the_law() -> None:
    cells = draw_programming(TARGETS, record(law()), 0, 1e4, np.random.default_rng(1))
    error = (cells - LEVELS[4] + 1.6).ravel()
    assert stats.kstest(error, stats.t(4).cdf).pvalue > 0.01
    assert cells.dtype == np.float32


def test_no_cell_leaves_the_physical_range() -> None:
    targets = np.where(np.arange(SPEC.columns) % 2, LEVELS[0], LEVELS[-1]) * np.ones((SPEC.rows, 1))
    cells = draw_programming(targets, record(law(df=1.0, scale=3.0)), 0, 1e4, np.random.default_rng(1))
    assert cells.min() == 0.0
    assert cells.max() == pytest.approx(1.1 * LEVELS[-1])


def test_stuck_cells_stay_and_unprogrammed_cells_are_unknown() -> None:
    part = nominal_macro(SPEC, 0)
    part.cells[3, 4], part.stuck_us[3, 4] = CellState.STUCK_HIGH, 41.5
    targets = TARGETS.copy()
    targets[5] = np.nan
    cells = draw_programming(targets, record(law(), part), 0, 1.0, np.random.default_rng(0))
    assert cells[3, 4] == 41.5
    assert np.isnan(cells[5]).all()
    assert not np.isnan(np.delete(cells, 5, 0)).any()


def test_unreached_cells_are_redrawn_at_their_rate_not_kept() -> None:
    part = nominal_macro(SPEC, 0)
    part.cells[7, 7] = CellState.NOT_REACHED
    missed = [
        draw_programming(TARGETS, record(law(scale=0.1, unreached=0.05), part), 0, 1.0, np.random.default_rng(s))
        < LEVELS[4] - 8.0
        for s in range(3)
    ]
    assert np.mean(missed) == pytest.approx(0.05, abs=0.005)
    assert not np.array_equal(missed[0], missed[1])


def test_a_virtual_chip_repeats_from_its_seed_and_differs_from_the_next() -> None:
    chips = [draw_programming(TARGETS, record(law()), 0, 1.0, np.random.default_rng(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(chips[0], chips[1])
    assert not np.array_equal(chips[0], chips[2])


def test_law_parameters_move_by_their_standard_errors() -> None:
    drawn = [redraw_law(law(se=0.1), np.random.default_rng(s)) for s in range(300)]
    assert np.std([d.loc_us for d in drawn]) == pytest.approx(np.hypot(0.1, 0.7), rel=0.05)  # 0.7: two ages
    assert np.std([d.loc_us[0] for d in drawn]) == pytest.approx(0.1, rel=0.05)
    assert np.std([np.log(d.df) for d in drawn]) == pytest.approx(0.1, rel=0.05)


def test_posterior_with_gaussian_cells_is_shrinkage_by_lambda() -> None:
    rng = np.random.default_rng(3)
    reading = np.full(TARGETS.shape, LEVELS[4] + 2.0)
    cells = draw_posterior(TARGETS, reading, 4, record(law(df=1e6, scale=1.5), variance=4.0), 0, 1.0, rng)
    shrink = 1.5**2 / (1.5**2 + 1.0)
    middle = LEVELS[4] - 0.2
    assert cells.mean() == pytest.approx(middle + shrink * 2.2, abs=0.03)
    assert cells.std() == pytest.approx(np.sqrt(shrink), rel=0.03)


@pytest.mark.parametrize("tail", tails())
@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_posterior_with_heavy_and_lopsided_tails_matches_numerical_integration(tail: Tail, skew: float) -> None:
    own = law(df=2.5)
    shape = own.loc_us.shape
    own = replace(own, tail=tail, wide_share=np.full(shape, 0.3), wide_ratio=3.0, skew=np.full(shape, skew))
    for off in (-2.0, 0.5, 2.0, *([4.0] if tail is STUDENT else [])):
        reading = np.full(TARGETS.shape, LEVELS[4] - 0.2 + off)
        cells = draw_posterior(TARGETS, reading, 2, record(own), 0, 1.0, np.random.default_rng(4))
        grid = np.linspace(-15, 15, 6001)
        density = np.diff(law_at(own, np.full(6002, LEVELS[4]), 1.0).cdf(np.linspace(-15.0025, 15.0025, 6002) - 0.2))
        weight = density * stats.norm(off, np.sqrt(1.7 / 2)).pdf(grid)
        weight /= weight.sum()
        mean = (grid * weight).sum()
        spread = np.sqrt(((grid - mean) ** 2 * weight).sum())
        assert cells.mean() - LEVELS[4] + 0.2 == pytest.approx(mean, abs=0.04)
        assert cells.std() == pytest.approx(spread, rel=0.06)


def test_posterior_errors_have_the_variance_that_truth_has() -> None:
    """True minus posterior mean and draw minus posterior mean are exchangeable: equal variance V.

    The mean of 20 draws is off by V / 20 itself: 21/20 V for the truth, 19/20 V for a draw in it.
    """
    rng = np.random.default_rng(5)
    truth = TARGETS - 0.2 + rng.standard_t(4, TARGETS.shape)
    reading = truth + rng.normal(0, np.sqrt(1.7 / 2), truth.shape)
    draws = [draw_posterior(TARGETS, reading, 2, record(law()), 0, 1.0, np.random.default_rng(s)) for s in range(20)]
    mean = np.mean(draws, 0)
    assert np.var(truth - mean) == pytest.approx(np.var(draws[0] - mean) * 21 / 19, rel=0.05)
    assert np.mean(truth - mean) == pytest.approx(0.0, abs=0.03)


def test_stuck_and_outlying_readings_are_believed() -> None:
    part = nominal_macro(SPEC, 0)
    part.cells[1, 1], part.stuck_us[1, 1] = CellState.STUCK_LOW, 1.0
    reading = TARGETS.copy()
    reading[1, 1], reading[2, 2] = 1.25, LEVELS[4] + 15.0
    cells = draw_posterior(TARGETS, reading, 4, record(law(), part), 0, 1.0, np.random.default_rng(0))
    assert cells[1, 1] == pytest.approx(1.25)
    assert cells[2, 2] == pytest.approx(LEVELS[4] + 15.0)


def test_columns_move_within_their_standard_errors_only() -> None:
    part = nominal_macro(SPEC, 0)
    n = len(part.gain)
    part = replace(part, gain_se=np.full(n, 0.01), inl_se=np.full(part.inl_codes.shape, 0.1))
    drawn = [draw_columns(record(law(), part), 0, np.random.default_rng(s)) for s in range(50)]
    assert np.std([d.gain for d in drawn]) == pytest.approx(0.01, rel=0.05)
    assert np.std([d.inl_codes for d in drawn]) == pytest.approx(0.1, rel=0.05)
    assert np.ptp([d.offset_codes for d in drawn]) == 0.0


def test_a_macro_without_calibration_is_refused() -> None:
    with pytest.raises(NotCalibrated):
        draw_programming(TARGETS, record(law()), 1, 1.0, np.random.default_rng(0))
