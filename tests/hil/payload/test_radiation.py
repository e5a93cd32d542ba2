"""Radiation campaigns: sampling, sites, injection, detectors, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.record.calibration import CalibrationRecord
from hil.cli import run as command
from hil.datasets.image_set import Dataset
from hil.errors import FileError, MismatchError, UsageError
from hil.payload.budget import busy_share, image_energy
from hil.payload.facts_file import FactsFileError
from hil.payload.harden import harden_campaign
from hil.payload.orbit import load_orbit, orbit_names
from hil.payload.radiation.campaign import (
    block_name,
    injections_needed,
    kept_years,
    read_injections,
    run_campaign,
    run_study,
)
from hil.payload.radiation.detectors import scrub_finds
from hil.payload.radiation.faults import CELLS, FAULTS, Fault, fault_space, inject, strike
from hil.payload.radiation.outcomes import FaultOutcome, Share, outcome_of, weighted
from hil.payload.radiation.report import campaign_summary
from hil.payload.radiation.run import FaultContext
from hil.payload.radiation.timeline import right_answers, simulate_years, with_dose
from hil.payload.requirements import load_mission
from hil.payload.settings import SCRUBBED, WITHOUT, FaultKind, OrbitSettings
from hil.report.work_folder import load_json
from hil.simulation.virtual_chip import build_chip
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import run
from mapping.program.file import load_program, save_program
from mapping.recipe.recipe import Recipe, with_recipe
from mapping.recipe.rewrite import Rewrite
from mapping.recipe.tune import TunedChannels

from ..conftest import CHIP, Small
from ..fitting import every_answer_fits as every_answer_fits
from .conftest import own_orbit

EXAMPLE = Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml"
FEW = OrbitSettings(injections=65, widen_images=60, alarm_images=100, chips=0)


def test_injections_follow_leveugle() -> None:
    assert injections_needed(10**12, 0.01) == 9604
    assert injections_needed(10**12, 0.05) == 385
    assert injections_needed(1000, 0.01) == 906
    assert injections_needed(50, 0.01) == 50
    with pytest.raises(UsageError, match="margin of 0"):
        injections_needed(1000, 0.0)


def test_every_orbit_that_comes_along_gives_each_rate_a_source(program: ConductanceProgram) -> None:
    space = fault_space(program)
    assert orbit_names() == ["geo", "leo-sso"]
    for name in orbit_names():
        orbit = load_orbit(f"{name}.toml")
        assert all(source.split(":")[0] in ("measured", "published", "assumed") for source in orbit.sources.values())
        assert all("doi 10." in source for source in orbit.sources.values() if source.startswith("published"))
        upsets = sum(space.per_day(kind, orbit.upsets) for kind in CELLS)
        assert upsets == pytest.approx(orbit.upsets.cell_per_day * space.units[FaultKind.CELL_EXTREME])
    with pytest.raises(FactsFileError, match="one of geo, leo-sso"):
        load_orbit("mars")


def test_sites_are_counted_by_hand(program: ConductanceProgram) -> None:
    space = fault_space(program)
    cells = (9 * 8 + 128 * 4) * 2
    assert space.units[FaultKind.CELL_EXTREME] == cells
    assert space.sites(FaultKind.CELL_EXTREME) == 2 * cells
    assert space.sites(FaultKind.IMAGE_LEVEL) == (9 * 8 + 128 * 4) * 4
    assert space.sites(FaultKind.ACCUMULATOR) == (8 * 16 + 4) * 32
    assert space.sites(FaultKind.ROW_ENABLE) == 9 + 128


def test_without_a_fault_the_bench_answers_as_the_virtual_chip(bench: FaultContext, data: Dataset) -> None:
    images = data.images[:20]
    assert np.array_equal(bench.healthy(images, 7).logits, run(bench.program, images, bench.virtual, sample=7))


@pytest.mark.parametrize("kind", [k for k, row in FAULTS.items() if row.held and k is not FaultKind.CONVERTER_RANGE])
def test_a_fault_recomputed_from_its_layer_on_is_the_whole_chip_with_that_fault(
    kind: FaultKind, bench: FaultContext, record: CalibrationRecord, data: Dataset
) -> None:
    images, chip = data.images[:20], bench.chip
    before = bench.healthy(images, 0)
    space, rng = fault_space(bench.program), np.random.default_rng(5)
    for _ in range(3):
        fault = space.draw(kind, rng, 0.5)
        struck = strike(chip, chip.drawn, fault)
        if struck is None:
            assert inject(chip, fault).refused
            continue
        whole = build_chip(chip.program, record, struck, seed=bench.virtual.seed, number=0, mode="fast")
        after = bench.faulted(inject(chip, fault), before, images, 0)
        assert np.array_equal(after.logits, run(bench.program, images, whole))


@pytest.mark.parametrize("kind", [FaultKind.REQUANTISE, FaultKind.IMAGE_TABLE])
def test_a_rule_or_table_with_a_fault_is_the_whole_program_with_it(
    kind: FaultKind, bench: FaultContext, data: Dataset
) -> None:
    images, program = data.images[:20], bench.program
    before = bench.healthy(images, 0)
    space, rng = fault_space(program), np.random.default_rng(6)
    for _ in range(4):
        injection = inject(bench.chip, space.draw(kind, rng, 0.5))
        if injection.refused:
            continue
        steps = tuple(injection.steps.get(step.name, step) for step in program.steps)
        changed = replace(program, steps=steps, input=injection.table or program.input)
        after = bench.faulted(injection, before, images, 0)
        assert np.array_equal(after.logits, run(changed, images, bench.virtual))


def test_a_bit_of_a_sum_moves_one_sum_by_its_weight(bench: FaultContext, data: Dataset) -> None:
    images, name = data.images[:20], bench.program.matrices[1].name
    before = bench.healthy(images, 0)
    fault = Fault(FaultKind.ACCUMULATOR, name, -1, 2, 14)
    after = bench.faulted(inject(bench.chip, fault), before, images, 0)
    moved = np.abs(after.sums[name].astype(np.int64) - before.sums[name])
    assert set(moved[:, 2]) == {1 << 14}
    assert not moved[:, [0, 1, 3]].any()


def test_a_row_that_is_not_driven_adds_nothing(bench: FaultContext, data: Dataset) -> None:
    name = bench.program.matrices[0].name
    images = data.images[:8]
    before = bench.healthy(images, 0)
    faults = [Fault(FaultKind.ROW_ENABLE, name, 0, row, 0) for row in range(9)]
    drawn = bench.chip.drawn
    for fault in faults[:-1]:
        struck = strike(bench.chip, drawn, fault)
        assert struck is not None
        drawn = struck
    last = inject(replace(bench.chip, drawn=drawn), faults[-1])
    after = bench.faulted(last, before, images, 0)
    assert after.sums[name].std() < before.sums[name].std() / 3


def test_the_loader_refuses_a_level_that_cells_do_not_have(bench: FaultContext) -> None:
    tile = bench.program.matrices[1].group.tiles[0]
    zero = int(np.flatnonzero(tile.levels == 0)[0])
    fault = Fault(FaultKind.IMAGE_LEVEL, bench.program.matrices[1].name, 0, zero, 3)  # 0000 becomes 1000, −8
    assert inject(bench.chip, fault).refused


def test_a_step_number_beyond_the_end_hangs_and_the_timer_sees_it(bench: FaultContext, data: Dataset) -> None:
    images = data.images[:8]
    fault = Fault(FaultKind.SEQUENCER, bench.program.steps[0].name, -1, 0, 7)
    after = bench.faulted(inject(bench.chip, fault), bench.healthy(images, 0), images, 0)
    assert after.hung


def test_a_scrub_finds_a_cell_that_moved_by_a_level_and_none_that_stayed(record: CalibrationRecord) -> None:
    rng = np.random.default_rng(0)
    noise = record.read_noise
    assert sum(scrub_finds((18.0, 23.5), 5.43, noise, rng) for _ in range(200)) > 190
    assert sum(scrub_finds((18.0, 18.0), 5.43, noise, rng) for _ in range(200)) == 0


def test_dose_moves_outermost_states_to_the_middle(bench: FaultContext) -> None:
    orbit, spec = load_orbit("geo"), bench.program.spec.macro
    after = with_dose(bench.chip.drawn, spec, orbit.dose, 100.0, np.random.default_rng(0))  # 1 Mrad
    slot = bench.program.slots[0]
    was, now = bench.chip.drawn.cells_us[slot], after.cells_us[slot]
    assert (now - was)[was < 5].mean() > 1.0
    assert (now - was)[was > 35].mean() < -1.0
    none = with_dose(bench.chip.drawn, spec, orbit.dose, 0.0, np.random.default_rng(0))
    assert np.array_equal(none.cells_us[slot], was, equal_nan=True)


def test_a_weighted_share_counts_kinds_by_their_upsets() -> None:
    shares = {"a": Share(100, 100), "b": Share(0, 100)}
    assert weighted(shares, {"a": 1.0, "b": 3.0}).share == pytest.approx(0.25)


@pytest.fixture(scope="module")
def small_campaign(
    tmp_path_factory: pytest.TempPathFactory, program: ConductanceProgram, record: CalibrationRecord, data: Dataset
) -> Path:
    folder = tmp_path_factory.mktemp("campaign") / "one"
    run_study(program, data, record, load_orbit("leo-sso"), folder, FEW, Watch())
    return folder


def test_a_campaign_of_two_workers_that_goes_on_after_a_stop_has_the_bytes_of_one(
    small_campaign: Path,
    program: ConductanceProgram,
    record: CalibrationRecord,
    data: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hil.payload.radiation import campaign

    monkeypatch.setattr(campaign, "BLOCK", 13)  # blocks of another size, and one of them lost
    other = tmp_path / "two"
    run_campaign(program, data, record, load_orbit("leo-sso"), other, replace(FEW, workers=2), Watch())
    (other / block_name(2)).unlink()
    run_study(program, data, record, load_orbit("leo-sso"), other, FEW, Watch())
    for name in ("campaign.json", "injections.json", "campaign.html"):
        assert (other / name).read_bytes() == (small_campaign / name).read_bytes()


def test_a_folder_of_other_settings_or_with_a_damaged_block_is_refused(
    small_campaign: Path, program: ConductanceProgram, record: CalibrationRecord, data: Dataset
) -> None:
    with pytest.raises(MismatchError, match="was begun with another"):
        run_campaign(program, data, record, load_orbit("leo-sso"), small_campaign, replace(FEW, seed=1), Watch())
    block = small_campaign / block_name(0)
    good = block.read_text("utf-8")
    try:
        block.write_text(good[:-30], "utf-8")
        with pytest.raises(FileError, match="cannot read injections"):
            read_injections(block)
    finally:
        block.write_text(good, "utf-8")


def test_the_report_counts_every_injection_once_and_names_what_is_assumed(small_campaign: Path) -> None:
    report = json.loads((small_campaign / "campaign.json").read_text("utf-8"))
    assert sum(report["outcomes"].values()) == 65
    assert set(report["kinds"]) == {str(kind) for kind in FaultKind}
    assert any(text.startswith("upsets.cell_per_day") for text in report["assumed"])
    page = (small_campaign / "campaign.html").read_text("utf-8")
    assert page.index("Criticality") < page.index("What is taken for granted")
    results = read_injections(small_campaign / "injections.json")
    assert [r.number for r in results] == list(range(65))
    assert [r.kind for r in results] == [str(kind) for kind in FaultKind] * 5
    caught = [r for r in results if r.harmful and r.kind == "activation"]
    assert all(outcome_of(r, ["parity"]) is FaultOutcome.DETECTED for r in caught)


def test_scrubbing_keeps_an_accuracy_that_upsets_take(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    options = OrbitSettings(years=(0.0, 3.0), chips=3, year_images=200)
    found = simulate_years(program, data, record, own_orbit(tmp_path, cell_per_day="2e-4"), options, Watch())
    assert found.band(WITHOUT, 0)[1] > 0.8
    assert found.band(WITHOUT, 1)[1] < found.band(SCRUBBED, 1)[1] - 0.05
    assert found.to_json()["extrapolated"] == [False, True]


def test_accuracies_that_were_simulated_before_a_stop_or_for_fewer_courses_are_taken_as_they_are(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    options = OrbitSettings(years=(1.0,), chips=2, year_images=100, scenarios=(WITHOUT, SCRUBBED))
    kept, orbit = kept_years(options, tmp_path), load_orbit("leo-sso")
    whole = simulate_years(program, data, record, orbit, options, Watch(), kept)
    assert simulate_years(program, data, record, orbit, options, Watch()).to_json() == whole.to_json()
    kept.forget("00001.json")
    kept.keep_json("00000.json", {**kept.load("00000.json", load_json), "1.0 nothing": 3})
    more = replace(options, scenarios=(*options.scenarios, "ecc alone"))
    again = simulate_years(program, data, record, orbit, more, Watch(), kept)
    assert again.accuracies[0, 0, 0] == 0.03
    assert again.accuracies[0, 0, 1] == whole.accuracies[0, 0, 1]
    assert (again.accuracies[1] == whole.accuracies[1]).all()
    assert len(kept.load("00001.json", load_json)) == len(more.scenarios)


def test_accuracies_of_other_settings_are_kept_beside_and_damaged_ones_refused(tmp_path: Path) -> None:
    options = OrbitSettings(years=(1.0,), chips=2, year_images=100)
    kept = kept_years(options, tmp_path)
    kept.keep_json("00000.json", {"1.0 nothing": 101})
    assert not kept_years(replace(options, year_images=99), tmp_path).has("00000.json")
    assert not kept_years(replace(options, scrub_s=1.0), tmp_path).has("00000.json")
    assert kept_years(options, tmp_path).has("00000.json")
    with pytest.raises(FileError, match=r"00000\.json") as found:
        kept.load("00000.json", lambda path: right_answers(path, 100))
    assert "rm " in str(found.value.hint)


def test_what_is_over_with_an_image_counts_only_while_one_is_worked_on(
    small_campaign: Path, program: ConductanceProgram, record: CalibrationRecord, data: Dataset
) -> None:
    all_day = json.loads((small_campaign / "campaign.json").read_text("utf-8"))
    busy = busy_share(program, load_mission(EXAMPLE))
    assert busy == pytest.approx(600 * image_energy(program, load_mission(EXAMPLE)).seconds / (94.6 * 60))
    report = run_study(program, data, record, load_orbit("leo-sso"), small_campaign, FEW, Watch(), busy_share=busy)
    for kind, about in report["kinds"].items():
        waits = FaultKind(kind) in (
            FaultKind.CONVERSION,
            FaultKind.ACCUMULATOR,
            FaultKind.ACTIVATION,
            FaultKind.SEQUENCER,
        )
        upsets = all_day["kinds"][kind]["upsets_per_day"]
        assert about["upsets_per_day"] == pytest.approx(upsets * (busy if waits else 1.0))
    low, high = report["harmful_per_day_interval"]
    assert low < report["harmful_per_day"] < high
    assert report["harmful_per_day"] < all_day["harmful_per_day"]
    assert "upper bound" in "\n".join(campaign_summary(all_day).lines())


@pytest.mark.parametrize("name", ["campaign.json", "injections.json"])
def test_a_campaign_that_was_edited_is_refused(
    name: str, small_campaign: Path, program: ConductanceProgram, tmp_path: Path
) -> None:
    for file in ("campaign.json", "injections.json"):
        (tmp_path / file).write_bytes((small_campaign / file).read_bytes())
    text = (tmp_path / name).read_text("utf-8")
    at = text.index("0.9" if name == "campaign.json" and "0.9" in text else "1")
    (tmp_path / name).write_text(f"{text[:at]}{'2' if text[at] == '1' else '1'}{text[at + 1 :]}", "utf-8")
    with pytest.raises(FileError, match=f"{name} was changed|no whole campaign"):
        harden_campaign(tmp_path, program, load_mission(EXAMPLE), OrbitSettings(floor=0.5))


def test_a_headline_is_an_interval_or_says_how_many_injections_would_do() -> None:
    few = weighted({"a": Share(1, 10)}, {"a": 1.0})
    assert few.needed(10) > 10
    enough = few.needed(10) // 10 * 2
    assert weighted({"a": Share(enough, 10 * enough)}, {"a": 1.0}).needed(10 * enough) <= 10 * enough
    assert weighted({"a": Share(0, 10)}, {"a": 1.0}).needed(10) > 10


def test_campaigns_do_to_the_network_what_the_run_did_and_what_a_program_file_holds(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    quick = ["--no-causes", "--samples", "100", "--repeat", "1", "--with", "rewrite=2,after=5s", "--without", "aims"]
    command(small.arguments("--port", CHIP, *quick, "--out", str(run)))
    options = ["--data", str(small.data), "--orbit", "leo-sso", "--injections", "26", "--chips", "0", "--json"]
    capsys.readouterr()

    def campaign(name: str, subject: Path, *more: str) -> tuple[str, list[str], bytes]:
        assert command(["campaign", str(subject), *options, *more, "-o", str(tmp_path / name)]) == 0
        found = json.loads(capsys.readouterr().out)
        done = [technique["name"] for technique in found["settings"]["recipe"]]
        return found["plan"]["recipe"], done, (tmp_path / name / "injections.json").read_bytes()

    as_run = campaign("as-run", run)
    assert as_run[1][-2:] == ["rewrite", "tune"]
    assert "rewrite=times=2,after=5s" in as_run[0]
    once = campaign("once", run, "--without", "rewrite")
    assert "rewrite" not in once[0]
    assert once[2] != as_run[2]
    file = tmp_path / "program.h5"
    save_program(with_recipe(load_program(run / "program.h5"), Recipe((Rewrite(2, 5.0), TunedChannels()))), file)
    assert campaign("file", file)[1:] == (["rewrite", "tune"], as_run[2])
    plain = campaign("plain", file, "--effort", "0")
    assert plain[:2] == ("", [])
    assert plain[2] != as_run[2]
