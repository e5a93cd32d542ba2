"""``hil chip fit``: a law from a lab's table, judged on cells it has not seen, and a record that simulates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.cells.programming_law import law_at
from cim.chip.file import load_chip
from cim.fit.aged_readings import level_knots
from cim.fit.cells import TooFewCells
from cim.fit.goodness_of_fit import Gaussian, distance, published_sigma, score
from cim.record.file import load_record, save_record
from hil.cli import run
from hil.device_fit.measured_tables import CellTable, by_age, split
from hil.device_fit.result import FitResult, fit_source, fit_table
from hil.errors import FileError, UsageError
from hil.watch import Watch

AGES = (0.01, 1.0, 100.0, 10_000.0)
LEVELS = np.linspace(2.0, 40.0, 8)
Floats = NDArray[np.float64]


def heavy_tailed(cells: int = 4000, *, seed: int = 0, noise_us: float = 0.0, reads: int = 1) -> CellTable:
    """Cells whose errors are t(4), shift −0.2 µS and variance 0.5 µS² a decade, with a rank of their own."""
    rng = np.random.default_rng(seed)
    target = LEVELS[np.arange(cells) % len(LEVELS)]
    t = rng.standard_t(4, cells)
    rows = []
    for age in AGES:
        decades = np.log10(age) + 3.0
        for _ in range(reads):
            reading = (
                target - 0.2 * decades + np.sqrt(0.25 + 0.25 * decades) * t + noise_us * rng.standard_normal(cells)
            )
            rows.append((np.arange(cells), np.full(cells, age), reading, target))
    cell, time, conductance, targets = (np.concatenate(c) for c in zip(*rows, strict=True))
    return CellTable("made.csv", cell, time, conductance, targets, False)


@pytest.fixture(scope="module")
def fitted() -> FitResult:
    return fit_table(heavy_tailed(8000), watch=TOLD)


def csv(table: CellTable, path: Path, more: str = "", values: str = "") -> Path:
    rows = zip(table.cell, table.time_s, table.conductance_us, table.target_us, strict=True)
    path.write_text(
        f"cell,time_s,conductance_us,target_us{more}\n"
        + "".join(f"{c},{t},{g:.6f},{target:.6f}{values}\n" for c, t, g, target in rows)
    )
    return path


# --- readings ---------------------------------------------------------------------------------


class Told(Watch):
    """Keeps the steps of each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        super().step(done, total, what, of)
        self.steps.append(f"{self.stages[-1].name}: {done} of {total}, {what}")


TOLD = Told()


def test_a_fit_tells_which_tail_it_is_at(fitted: FitResult) -> None:
    assert list(TOLD.timing_s) == ["fitting", "judging"]
    assert TOLD.steps[0].startswith("fitting: 0 of ")
    assert TOLD.steps[-1].endswith(f"{fitted.record.programming.tail.name} tail, all cells")


def test_rows_are_sorted_by_age_and_cell_and_cells_may_be_missing_at_an_age() -> None:
    table = CellTable(
        "t", np.array([7, 3, 7, 3, 7]), np.array([1.0, 1.1, 99.0, 0.0, 0.0]), np.arange(5.0), np.full(5, 2.0), False
    )
    readings = by_age(table)
    assert readings.cells.tolist() == [3, 7]
    assert readings.ages_s.tolist() == [0.001, 1.05, 99.0]
    assert readings.readings_us[:2].tolist() == [[3.0, 4.0], [1.0, 0.0]]
    assert np.isnan(readings.readings_us[2, 0])
    assert readings.counts.tolist() == [[1, 1], [1, 1], [0, 1]]


def test_repeated_readings_are_averaged_and_give_pairs() -> None:
    table = CellTable("t", np.array([1, 1, 1, 2]), np.ones(4), np.array([4.0, 6.0, 8.0, 9.0]), np.full(4, 5.0), False)
    readings = by_age(table)
    assert readings.readings_us.tolist() == [[6.0, 9.0]]
    assert readings.pairs_us.tolist() == [[4.0], [6.0]]


def test_nominal_times_hold_readings_together() -> None:
    times = np.array([0.5, 1.0, 2.0, 4.0])
    table = CellTable("t", np.arange(4), times, np.ones(4), np.ones(4), False, np.ones(4))
    assert by_age(table).ages_s.tolist() == [1.5]
    assert len(by_age(CellTable("t", np.arange(4), times, np.ones(4), np.ones(4), False)).ages_s) == 4


def test_first_readings_are_targets_and_no_age() -> None:
    table = CellTable("t", np.array([1, 1]), np.array([0.0, 1.0]), np.array([5.0, 6.0]), np.full(2, 5.0), True)
    assert by_age(table).ages_s.tolist() == [1.0]
    with pytest.raises(FileError, match="no reading after time 0"):
        by_age(CellTable("t", np.array([1]), np.zeros(1), np.ones(1), np.ones(1), True))


def test_too_many_times_ask_for_nominal_ones() -> None:
    many = np.geomspace(1, 1e60, 100)
    with pytest.raises(FileError, match="nominal_s"):
        by_age(CellTable("t", np.arange(100), many, np.ones(100), np.ones(100), False))


def test_cells_are_split_by_parity_or_by_a_hash_of_blocks() -> None:
    assert split(np.arange(4), "odd").tolist() == [False, True, False, True]
    cells = np.arange(40_000)
    quarter = split(cells, "quarter")
    assert quarter.mean() == pytest.approx(0.25, abs=0.01)
    for period in (2, 4, 8, 16, 128):
        shares = np.array([quarter[cells % period == k].mean() for k in range(period)])
        assert np.abs(shares - 0.25).max() < 0.1, f"level = cell modulo {period} would be torn apart"
    assert np.array_equal(split(cells, "quarter", 16), split(cells // 16, "quarter"))
    assert np.array_equal(split(cells[::-1], "quarter"), quarter[::-1]), "a cell's side does not depend on the others"
    with pytest.raises(UsageError):
        split(np.arange(4), "even")


def test_levels_are_the_targets_where_they_are_few_and_medians_of_bins_where_they_are_many() -> None:
    assert level_knots(np.repeat([5.0, 9.0], 40)).tolist() == [5.0, 9.0]
    knots = level_knots(np.random.default_rng(0).uniform(0, 40, 4000))
    assert len(knots) == 16
    assert np.all(np.diff(knots) > 2.0)


# --- the fit ----------------------------------------------------------------------------------


def test_the_law_of_the_cells_is_found(fitted: FitResult) -> None:
    law = fitted.record.programming
    for age in AGES[1:]:
        decades = np.log10(age) + 3.0
        here = law_at(law, LEVELS, age)
        assert here.quantile(np.zeros(8)) == pytest.approx(-0.2 * decades, abs=0.25)
        sigma = np.sqrt(0.25 + 0.25 * decades) * 1.142  # half distance of the 16 and 84 % quantiles of t(4)
        assert here.spread_us() == pytest.approx(sigma, rel=0.2)


def test_held_out_cells_are_nearer_to_the_law_than_to_the_baselines(fitted: FitResult) -> None:
    assert fitted.cells + fitted.held_out_cells == 8000
    assert fitted.held_out_cells == pytest.approx(2000, abs=150)
    assert len(fitted.goodness) == len(AGES)
    for row in fitted.goodness:
        assert row.cells == fitted.held_out_cells
        assert row.law < 0.04 < 2.1 * row.floor
        assert row.law < row.gaussian
        assert np.abs(row.measured_us - row.law_us)[1:6].max() < 0.5
    one_second = fitted.goodness[1]
    assert one_second.published is not None
    assert one_second.published > one_second.law
    assert fitted.goodness[2].published is None, "no published time is near 100 s"


def test_a_law_of_other_cells_is_far_from_these() -> None:
    """The check can fail: cells that are 2 µS lower are seen at once."""
    table = heavy_tailed(seed=1)
    moved = CellTable("moved", table.cell, table.time_s, table.conductance_us - 2.0, table.target_us, False)
    result = fit_table(heavy_tailed(), other=moved)
    assert all(row.law > 0.3 for row in result.other_goodness)
    assert "the same law on moved" in result.lines()[-2]


def test_later_ages_judge_the_extrapolation() -> None:
    result = fit_table(heavy_tailed(), ages_to_s=100.0)
    assert [row.extrapolated for row in result.goodness] == [False, False, False, True]
    assert result.record.programming.ages_s[-1] == pytest.approx(100.0)
    assert result.goodness[-1].law < 0.08


def test_read_noise_is_told_where_cells_were_read_twice_and_said_to_be_unknown_where_not(fitted: FitResult) -> None:
    assert not fitted.record.read_noise.variance_us2.any()
    assert any("read noise cannot be separated" in note for note in fitted.notes)
    twice = fit_table(heavy_tailed(noise_us=1.2, reads=2))
    assert twice.record.read_noise.variance_us2 == pytest.approx(1.44, rel=0.15)
    assert not any("read noise" in note for note in twice.notes)
    spread = law_at(twice.record.programming, LEVELS, 1.0).spread_us()
    assert spread == pytest.approx(np.sqrt(0.25 + 0.75) * 1.142, rel=0.25), "its noise is taken out of the law"


def test_pulses_become_write_statistics(tmp_path: Path) -> None:
    path = csv(heavy_tailed(800), tmp_path / "w.csv", ",pulses,reached", ",12,1")
    result = fit_source(path)
    writes = result.record.writes
    assert writes is not None
    assert writes.cells.sum() == writes.reached.sum() == result.cells
    assert (writes.pulses == 12).all()


def test_the_record_is_of_cells_only_and_survives_its_file(fitted: FitResult, tmp_path: Path) -> None:
    record = fitted.record
    assert record.kind == "table"
    assert not record.macros
    assert record.goodness["programming_ks"] == fitted.goodness[-1].law
    save_record(record, tmp_path / "r.h5")
    again = load_record(tmp_path / "r.h5")
    assert np.array_equal(again.programming.loc_us, record.programming.loc_us)
    assert again.programming.tail is record.programming.tail


def test_a_base_record_gives_what_a_table_cannot(fitted: FitResult) -> None:
    base = fitted.record
    result = fit_table(heavy_tailed(), base=base)
    assert result.record.wire == base.wire
    assert result.record.thermal == base.thermal


def test_few_cells_are_refused_or_said() -> None:
    with pytest.raises(TooFewCells):
        fit_table(heavy_tailed(16))
    assert any("held-out cells resolve a distance" in note for note in fit_table(heavy_tailed(800)).notes)


# --- goodness ---------------------------------------------------------------------------------


def test_the_distance_of_even_places_is_half_a_step_and_of_one_place_all() -> None:
    assert distance((np.arange(100) + 0.5) / 100) == pytest.approx(0.005)
    assert distance(np.zeros(10)) == pytest.approx(1.0)


def test_whole_numbers_are_judged_as_fairly_as_a_continuum() -> None:
    from scipy.special import ndtr

    errors = np.round(np.random.default_rng(3).normal(0, 1.5, 20_000))
    assert score(lambda e: ndtr(e / 1.5), errors, 1.0) < 0.012
    assert score(lambda e: ndtr(e / 1.5), errors, 0.0) > 0.1


def test_the_gaussian_baseline_is_right_for_gaussian_cells() -> None:
    rng = np.random.default_rng(4)
    cells = np.arange(8000)
    target = LEVELS[cells % 8]
    table = CellTable("g", cells, np.ones(8000), target + rng.normal(-1, 2, 8000), target, False)
    gauss = Gaussian.of(by_age(table))
    assert distance(gauss.below(target, 1.0, table.conductance_us - target)) < 0.015
    assert gauss.mean_us == pytest.approx(-1.0, abs=0.3)


def test_the_published_polynomial_is_asked_near_its_times_only() -> None:
    assert published_sigma(np.array([40.0]), 1.0, 40.0) == pytest.approx([1.103], abs=1e-3)
    assert published_sigma(np.array([40.0]), 30.0, 40.0) is None


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_the_goodness_and_writes_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = csv(heavy_tailed(2000), tmp_path / "t.csv"), tmp_path / "r.h5"
    assert run(["chip", "fit", str(table), "-o", str(out), "--temperature", "40C"]) == 0
    text = capsys.readouterr().out
    for word in (
        "held out (a quarter of the cells",
        "Gaussian",
        "published",
        "quantiles",
        "floor",
        f"record         {out}",
    ):
        assert word in text, text
    assert load_record(out).temperature_c == 40.0
    assert run(["chip", "fit", str(table), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"].startswith("hil.")
    assert answer["record"] is None
    assert [round(row["age_s"], 3) for row in answer["goodness"]] == list(AGES)


def test_a_chip_file_begins_with_a_table_and_answers_and_its_virtual_chips_are_drawn_from_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = csv(heavy_tailed(2000, noise_us=1.2, reads=2), tmp_path / "t.csv")
    assert run(["chip", "new", "mine.toml", f"readings={table}", "rows=40", "inputs=6:bit_serial"]) == 0
    assert "hil deploy --emulated --chip ./mine.toml" in capsys.readouterr().out
    models = load_chip("mine.toml").models
    assert models is not None
    assert models.read_variance_us2 == pytest.approx(1.44, rel=0.2)
    assert models.programming_sigma_us[0][0] > 0.3
    assert run(["chip", "check", "mine.toml", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)["beliefs"]
    assert (len(known["range"]), [one.split()[0] for one in known["measured or published"]]) == (
        9, ["read_variance_us2", "cell_error_factor"],
    )  # fmt: skip
    assert run(["simulate", "--chip", "mine.toml", "--samples", "40", "--chips", "20", "--mode", "fast"]) == 0
    assert "not knowing what chips of this kind are like" in " ".join(capsys.readouterr().out.split())
    assert run(["chip", "new", "mine.toml", "rows=40"]) == 2


def test_the_command_wants_a_table(tmp_path: Path) -> None:
    assert run(["chip", "fit"]) == 2
    assert run(["chip", "fit", str(tmp_path / "a.csv")]) == 7
    assert run(["chip", "fit", str(csv(heavy_tailed(16), tmp_path / "few.csv"))]) == 5
