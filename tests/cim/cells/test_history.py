"""Cells that keep their history: one path, refresh, reads, heat."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cim.cells.history import CellHistory, RankedErrors, between_ranks
from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.cells.temperature import Thermal

LEVELS = np.linspace(2.0, 40.0, 8)
TARGETS = np.full((100, 100), LEVELS[4])


def law(fresh: float = 0.0, scale: float = 1.0, loss: float = 0.0) -> ProgrammingLaw:
    """Scale² grows by half of itself a decade; ``loss`` of the target is lost a decade."""
    decades = np.array([[0.0], [5.0]])
    ones = np.ones((2, 8))
    zeros = 0.0 * ones
    return ProgrammingLaw(
        np.array([1.0, 1e5]), LEVELS, -loss * decades * LEVELS, scale * np.sqrt(1 + 0.5 * decades) * ones, 4.0 * ones,
        zeros, zeros, zeros, 0.0, 0.0, 0.0, np.zeros(0),
        skew=-0.1 * ones, memory_origin_s=1e-3, memory_fresh_share=fresh,
    )  # fmt: skip


def scores(cells: np.ndarray, age_s: float, of: ProgrammingLaw) -> np.ndarray:
    return law_at(of, TARGETS, age_s).score(cells - TARGETS).ravel()


def test_at_every_age_the_cells_follow_the_law_of_that_age() -> None:
    cells = CellHistory(TARGETS, law(), np.random.default_rng(0))
    for age in (1.0, 60.0, 1e4, 1e5):
        assert stats.kstest(scores(cells.conductance_us(age), age, law()), "norm").pvalue > 0.001


def test_a_cell_goes_along_one_path_with_the_memory_of_the_law() -> None:
    cells = CellHistory(TARGETS, law(), np.random.default_rng(1))
    at = {age: scores(cells.conductance_us(age), age, law()) for age in (1.0, 1.0, 100.0, 1e5)}
    assert np.corrcoef(at[1.0], at[1e5])[0, 1] == pytest.approx(3 / 8, abs=0.03)
    assert np.corrcoef(at[100.0], at[1e5])[0, 1] == pytest.approx(5 / 8, abs=0.03)
    np.testing.assert_array_equal(cells.conductance_us(1e5), cells.conductance_us(1e5))


def test_how_often_a_cell_is_looked_at_changes_nothing() -> None:
    often, once = (CellHistory(TARGETS, law(), np.random.default_rng(s)) for s in (2, 3))
    for age in np.geomspace(1.0, 1e4, 20):
        often.conductance_us(float(age))
    first = once.conductance_us(1.0)
    assert stats.ks_2samp(often.conductance_us(1e5).ravel(), once.conductance_us(1e5).ravel()).pvalue > 0.001
    assert first.std() < once.conductance_us(1e5).std()


def test_the_part_new_at_every_read_is_new_at_every_read_and_weakens_the_correlation() -> None:
    cells = CellHistory(TARGETS, law(fresh=0.2), np.random.default_rng(4))
    first, again, late = (scores(cells.read(t), t, law()) for t in (1.0, 1.0, 1e5))
    assert np.corrcoef(first, again)[0, 1] == pytest.approx(0.8, abs=0.02)
    assert np.corrcoef(first, late)[0, 1] == pytest.approx(0.8 * 3 / 8, abs=0.03)
    assert stats.kstest(late, "norm").pvalue > 0.001
    many = scores(np.mean([cells.read(1e5) for _ in range(50)], axis=0), 1e5, law())
    assert many.std() < 0.96


def test_refreshed_cells_are_young_again_and_the_others_stay_on_their_path() -> None:
    twin, cells = (CellHistory(TARGETS, law(), np.random.default_rng(16)) for _ in range(2))
    before, old = twin.conductance_us(1e5), cells.conductance_us(1e5)
    np.testing.assert_array_equal(before, old)
    half = np.arange(TARGETS.size).reshape(TARGETS.shape) % 2 == 0
    cells.refresh(half, 1e5)
    after = cells.conductance_us(1e5 + 1.0)
    assert np.abs(after - old)[~half].max() < 0.05  # a second is nothing at this age
    assert stats.kstest(scores(after, 1.0, law())[half.ravel()], "norm").pvalue > 0.001
    assert np.corrcoef(old[half], after[half])[0, 1] == pytest.approx(0.0, abs=0.05)


def test_writing_the_worst_cells_again_lowers_the_error_and_a_random_choice_less() -> None:
    rms = {}
    for name in ("none", "random", "worst"):
        cells = CellHistory(TARGETS, law(), np.random.default_rng(7))
        error = cells.read(1e4) - TARGETS
        chosen = np.abs(error) > np.quantile(np.abs(error), 0.9)
        if name == "random":
            chosen = np.random.default_rng(8).permutation(chosen.ravel()).reshape(chosen.shape)
        if name != "none":
            cells.refresh(chosen, 1e4)
        rms[name] = float(np.sqrt(np.mean((cells.read(1.1e4) - TARGETS) ** 2)))
    assert rms["worst"] < 0.75 * rms["none"]
    assert 0.9 * rms["none"] < rms["random"] < rms["none"]


def test_cells_that_miss_their_window_get_a_new_chance_when_written_again() -> None:
    missing = replace(law(scale=0.1), unreached_share=0.1, unreached_us=np.array([-9.0]))
    cells = CellHistory(TARGETS, missing, np.random.default_rng(9))
    low = cells.read(1.0) < LEVELS[4] - 8.0
    assert low.mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(cells.read(1e5) < LEVELS[4] - 8.0, low)
    cells.refresh(low, 1e5)
    assert (cells.read(1e5) < LEVELS[4] - 8.0).mean() == pytest.approx(0.01, abs=0.004)


def test_stuck_cells_stay_whatever_is_written() -> None:
    stuck = np.full(TARGETS.shape, np.nan)
    stuck[3, 4] = 1.5
    cells = CellHistory(TARGETS, law(), np.random.default_rng(10), stuck_us=stuck)
    cells.refresh(np.ones(TARGETS.shape, bool), 10.0)
    assert cells.conductance_us(1e5)[3, 4] == 1.5


def test_heat_ages_cells_and_scales_their_conductance() -> None:
    warm = Thermal(25.0, -1e-3, 0.0, activation_ev=0.5)
    cells = CellHistory(TARGETS, law(), np.random.default_rng(13), thermal=warm)
    cells.set_temperature(0.0, 85.0)
    hot = cells.conductance_us(86_400.0)
    at_room = CellHistory(TARGETS, law(), np.random.default_rng(13))
    at_room.advance(0.0)  # as setting a temperature does
    np.testing.assert_allclose(hot, 0.94 * at_room.conductance_us(26.06 * 86_400), rtol=1e-4, atol=2e-4)
    cells.set_temperature(86_400.0, 25.0)
    np.testing.assert_allclose(hot, cells.conductance_us(86_400.0) * 0.94)
    with pytest.raises(ValueError, match="thermal"):
        CellHistory(TARGETS, law(), np.random.default_rng(0)).set_temperature(0.0, 85.0)


def test_time_does_not_run_backwards() -> None:
    cells = CellHistory(TARGETS, law(), np.random.default_rng(0), now_s=5.0)
    with pytest.raises(ValueError, match="back"):
        cells.read(4.0)


def test_errors_read_off_a_table_of_ranks_are_those_of_each_cell() -> None:
    rng = np.random.default_rng(8)
    which = rng.integers(0, 8, 40_000)
    z, ranked = rng.standard_normal(40_000), RankedErrors(law())
    found = between_ranks(ranked.table(LEVELS, np.array([3600.0])), which, z)
    exact = law_at(law(), LEVELS[which], 3600.0).quantile(z)
    assert found == pytest.approx(exact, abs=2e-3, rel=1e-3)
    soon_after = between_ranks(ranked.table(LEVELS, np.array([3603.0])), which, z)
    assert soon_after == pytest.approx(law_at(law(), LEVELS[which], 3603.0).quantile(z), abs=3e-3, rel=1e-3)


def test_cells_of_many_targets_and_of_few_follow_the_same_law() -> None:
    many = np.linspace(2.0, 40.0, 200 * 200).reshape(200, 200)
    cells = CellHistory(many, law(), np.random.default_rng(11))
    seen = law_at(law(), many, 60.0).score(cells.conductance_us(60.0) - many).ravel()
    assert stats.kstest(seen, "norm").pvalue > 0.001


def test_cells_keep_their_own_age_however_often_others_are_written() -> None:
    """Times of writing without cells are forgotten; cells of each time that is left have its age."""
    cells, rows = CellHistory(TARGETS, law(), np.random.default_rng(12)), np.arange(len(TARGETS))
    for turn in range(60):
        which = np.zeros(TARGETS.shape, bool)
        which[rows % 2 == 1] = True
        cells.refresh(which, float(turn + 1))
    late = scores(cells.conductance_us(1e5 + 60.0), 1e5, law()).reshape(TARGETS.shape)
    assert stats.kstest(late[rows % 2 == 1].ravel(), "norm").pvalue > 0.001
    assert stats.kstest(late[rows % 2 == 0].ravel(), "norm").pvalue > 0.001


def test_cells_are_written_again_to_other_targets() -> None:
    cells = CellHistory(TARGETS, law(scale=0.1), np.random.default_rng(14))
    which = np.zeros(TARGETS.shape, bool)
    which[0] = True
    cells.refresh(which, 1.0, np.full(TARGETS.shape[1], 7.5))
    assert np.median(cells.conductance_us(2.0)[0]) == pytest.approx(7.5, abs=0.1)


def test_a_cell_takes_thirty_two_bytes_at_most() -> None:
    """Tens of millions of cells of a large network have a history at once."""
    targets, of = np.resize(LEVELS, 100_000), law()
    tracemalloc.start()
    cells = CellHistory(targets, of, np.random.default_rng(0), stuck_us=np.full(targets.shape, np.nan, np.float32))
    cells.refresh(np.arange(len(targets)) % 3 == 0, 10.0)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held + targets.nbytes < 32 * len(targets)
