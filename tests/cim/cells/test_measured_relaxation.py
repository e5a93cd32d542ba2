"""The device model on measured RRAM cells that it has not seen: left out by name without HIL_DATA."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
import pytest
from scipy.special import ndtr

from cim.cells.history import CellHistory
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.fit.aged_readings import Readings
from cim.fit.goodness_of_fit import distance as uneven
from cim.fit.goodness_of_fit import score
from cim.fit.programming import fit_programming, programming_distance
from hil.device_fit.measured_tables import by_age

from ...scripts import benchmark

BINS = 16
UNTIL_S = 1.5e3


@lru_cache(maxsize=4)
def measured(name: str) -> Readings:
    """Cells of a public set by age; skips the test that asks where there are no data."""
    if not os.environ.get("HIL_DATA"):
        pytest.skip(f"HIL_DATA not set: {name} is not here")
    return by_age(benchmark("public_sets").read_cells(name))


def quiet(levels_us: np.ndarray) -> ReadNoise:
    return ReadNoise(levels_us, np.zeros(len(levels_us)), np.zeros(len(levels_us)))


def fitted(cells: Readings) -> ProgrammingLaw:
    """The law of single readings; nothing is chosen by hand."""
    levels = benchmark("device_fit").choose_levels(cells.targets_us)
    ages = cells.ages_s.tolist()
    return fit_programming(
        cells.targets_us,
        cells.readings_us,
        np.zeros(len(cells.targets_us), np.int8),
        ages_s=ages,
        reads=[1] * len(ages),
        levels_us=levels,
        read_noise=quiet(levels),
        rounding_us=cells.step,
    )


def distance(law: ProgrammingLaw, cells: Readings, age: int) -> float:
    """KS distance of the cells read at this age."""
    read = np.isfinite(cells.readings_us[age])
    return programming_distance(
        law,
        cells.targets_us[read],
        cells.readings_us[age, read],
        age_s=float(cells.ages_s[age]),
        reads=1,
        read_noise=quiet(law.levels_us),
        rounding_us=cells.step,
    )


def at(cells: Readings, age_s: float) -> int:
    return int(np.argmin(np.abs(np.log(cells.ages_s / age_s))))


def gaussian(early: Readings, cells: Readings, age: int) -> float:
    """KS of a Gaussian in 16 bins of level: of this age if it was seen, else on its line in log time."""
    low, high = np.quantile(early.targets_us, [0.0, 0.995])
    edges = np.linspace(low, high, BINS + 1)[1:-1]
    here, there = np.searchsorted(edges, early.targets_us), np.searchsorted(edges, cells.targets_us)
    errors, held = early.readings_us - early.targets_us, cells.readings_us[age] - cells.targets_us
    mean = np.array([[np.nanmean(e[here == k]) for k in range(BINS)] for e in errors])
    variance = np.array([[np.nanvar(e[here == k]) for k in range(BINS)] for e in errors])
    if age < len(mean):
        mean, variance = mean[age], variance[age]
    else:
        logs, now = np.log(early.ages_s), np.log(cells.ages_s[age])
        mean, variance = (
            np.array([np.polyval(np.polyfit(logs, column, 1), now) for column in table.T]) for table in (mean, variance)
        )
    read = np.isfinite(held)
    where, sigma = there[read], np.sqrt(np.maximum(variance, 1e-6))
    if cells.step == 0.0:
        return uneven(ndtr((held[read] - mean[where]) / sigma[where]))
    return score(lambda e: ndtr((e - mean[where]) / sigma[where]), held[read], cells.step)


def test_cells_at_odd_addresses_follow_the_law_of_the_even_ones_at_every_age() -> None:
    cells = measured("levy-tech-c")
    odd = cells.cells % 2 == 1
    seen, test = cells.of(~odd), cells.of(odd)
    law = fitted(seen)
    assert len(law.ages_s) < len(cells.ages_s)
    for age_s in (0.01, 0.1, 1.0, 1e5):
        found = distance(law, test, at(cells, age_s))
        assert found <= 0.02, f"{age_s} s: {found:.4f}"
        assert found < 0.5 * gaussian(seen, test, at(cells, age_s))


@pytest.mark.parametrize(("name", "ages_s"), [("levy-tech-b", [1e4]), ("ember-1", [1e4, 1e5]), ("ember-2", [1e4, 1e5])])
def test_a_law_fitted_up_to_1000_s_predicts_later_ages_better_than_a_gaussian(name: str, ages_s: list[float]) -> None:
    cells = measured(name)
    early = cells.until(UNTIL_S)
    law = fitted(early)
    assert law.ages_s[-1] < UNTIL_S
    for age_s in ages_s:
        age = at(cells, age_s)
        assert age >= len(early.ages_s)
        assert distance(law, cells, age) < 0.75 * gaussian(early, cells, age)


def test_a_cell_that_moved_early_moves_later_as_often_as_measured_ones_do() -> None:
    cells = measured("levy-tech-c")
    law = fitted(cells)
    first, last = at(cells, 1.0), at(cells, 1e5)
    errors = cells.readings_us - cells.targets_us
    array = CellHistory(cells.targets_us, law, np.random.default_rng(0))
    simulated = np.stack([array.read(float(cells.ages_s[a])) for a in (first, last)]) - cells.targets_us
    real = np.corrcoef(errors[first], errors[last])[0, 1]
    assert real == pytest.approx(0.35, abs=0.01)
    assert np.corrcoef(*simulated)[0, 1] == pytest.approx(real, abs=0.05)


def test_a_law_does_not_transfer_to_another_chip_for_free_and_a_short_recalibration_helps() -> None:
    law, second = fitted(measured("ember-1")), measured("ember-2")
    words = second.cells // 16
    some = np.isin(words, np.random.default_rng(0).choice(np.unique(words), 50, replace=False))
    part, rest = second.of(some).until(UNTIL_S), second.of(~some)
    moved = benchmark("device_fit").recalibrate(
        law,
        part.targets_us,
        part.readings_us,
        ages_s=part.ages_s.tolist(),
        reads=[1] * len(part.ages_s),
        read_noise=quiet(law.levels_us),
        rounding_us=part.step,
    )
    age = at(second, 1e5)
    assert distance(law, rest, age) > 0.1
    assert distance(moved, rest, age) < 0.6 * distance(law, rest, age)
