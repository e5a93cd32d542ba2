"""Deployments of a small network: what they leave, what they find, what they refuse."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

import hil
from cim.chip.file import load_chip
from firmware_protocols.messages import Capability
from hil.deployment.deploy import DeployOptions
from hil.deployment.expected_work import expected_stages
from hil.deployment.options import usual_recipe
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.emulator.address import chip_from_address
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.errors import FileError, Interrupted, MismatchError, OutputError, UsageError
from hil.report.schema import report_schema
from hil.server.serve import serving
from hil.transports.wire_log import read_wire_log
from hil.verdict.agreement import AgreementReport
from hil.verdict.verdict import Verdict
from hil.watch import Watch
from mapping.program.file import held_digest_at

from ..conftest import CHIP, QUICK, Small
from ..report.test_report import faults
from ..same_runs import BRIEF
from ..small_net import images, small_network


@contextmanager
def served(folder: Path, address: str = CHIP) -> Iterator[tuple[EmulatedChip, str]]:
    chip = chip_from_address(address)
    with serving(chip, f"unix:{folder / 'chip'}") as where:
        yield chip, where


def test_a_run_folder_is_complete_and_its_report_fits_the_schema(finished_run: Path) -> None:
    assert sorted(p.name for p in finished_run.iterdir()) == [
        *("data.h5", "program.h5", "record.h5", "report.html", "report.json", "report.md", "wire.log")
    ]
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    assert faults(report, report_schema()) == []
    assert report["run"] == str(finished_run)
    assert "NOT SILICON" in (finished_run / "report.md").read_text("utf-8")
    page = (finished_run / "report.html").read_text("utf-8")
    assert "NOT SILICON" in page
    assert "<script src" not in page
    with h5py.File(finished_run / "data.h5") as file:
        assert len(file) > 0
    assert any(e.sent for e in read_wire_log(finished_run / "wire.log").entries)
    assert not list(finished_run.parent.glob("*.part"))


def test_the_report_counts_what_was_programmed_and_run(finished_run: Path, small: Small) -> None:
    report = AgreementReport.from_text((finished_run / "report.json").read_text("utf-8"))
    assert report.chip.macros_used == len(small.program.macros) == 2
    assert report.network.weights == 8 * 9 + 4 * 128
    assert report.cells.total == 4 * 2 * report.network.weights  # four copies
    assert report.cells.pulses > report.cells.total
    assert 0 < report.cells.stuck + report.cells.unreached < 0.2 * report.cells.total
    assert report.data.images == 300
    assert report.digests["program"] == small.program.digest
    low, high = report.age_range_s
    assert 3600 <= low <= high < 3700
    assert {"calibrating", "programming", "measuring", "simulating"} <= set(report.timing_s)


def test_a_modelled_chip_agrees_with_its_simulation(small: Small, tmp_path: Path) -> None:
    report = small.deploy(CHIP, tmp_path / "run")
    assert report.verdict is Verdict.AGREE
    assert report.exit_code == 0
    judged = report.decisive
    assert judged.ideal.mean > judged.measured.mean > 0.9
    assert abs(judged.difference) < 0.02


@pytest.mark.parametrize("effect", ["supply_droop=1000", "read_variance_us2=80"])
def test_an_effect_that_the_record_does_not_know_is_a_disagreement(small: Small, tmp_path: Path, effect: str) -> None:
    report = small.deploy(f"{CHIP}&{effect}", tmp_path / "run")
    assert report.verdict is Verdict.DISAGREE
    assert report.exit_code == 1
    assert report.decisive.difference < -0.03  # beyond the tolerance, though the tune takes a part of it away
    assert report.untuned is not None
    assert report.untuned.verdict is Verdict.DISAGREE
    assert report.untuned.difference < -0.03


def test_a_compiled_program_runs_without_its_network_and_has_no_float_column(small: Small, tmp_path: Path) -> None:
    report = hil.deploy(
        small.program_file,
        CHIP,
        data=str(small.data),
        calibration=small.record_file,
        options=QUICK,
        out=tmp_path / "run",
    )
    assert report.float_accuracy is None
    assert report.verdict is Verdict.AGREE


def test_a_program_that_the_chip_holds_is_checked_and_not_rewritten(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (chip, where):
        first = small.deploy(where, tmp_path / "first")
        pulses = chip.status().pulses_total
        assert first.cells.pulses == pulses > 0
        second = small.deploy(where, tmp_path / "second")
        assert chip.status().pulses_total == pulses
        assert second.cells.pulses == 0
        assert any("not rewritten" in note for note in second.notes)
        third = small.deploy(where, tmp_path / "third", options=DeployOptions(samples=64, repeats=2, reprogram=True))
        assert chip.status().pulses_total > pulses
        assert third.cells.pulses > 0


def test_a_held_program_whose_cells_were_overwritten_is_written_again(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (_, where):
        small.deploy(where, tmp_path / "first")
        with open_chip(where, macros=4) as driver:
            digest = driver.held_program()
            assert digest is not None
            assert digest.hex() == held_digest_at(small.program.digest, QUICK.age_s)
            driver.program_cells(0, np.full((128, 128), 20.0, np.float32), sample=5)
            driver.hold_program(digest)
        again = small.deploy(where, tmp_path / "again")
        assert again.cells.pulses > 0
        assert any("do not match" in note for note in again.notes)
        assert again.verdict is Verdict.AGREE


def test_calibrating_a_chip_that_holds_the_program_writes_it_again_and_says_why(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (_, where):
        small.deploy(where, tmp_path / "first")
        again = small.deploy(where, tmp_path / "again", record=False, recalibrate=True)
        assert again.cells.pulses > 0
        assert any("calibrating overwrites the program" in note for note in again.notes)
        assert not any("do not match" in note for note in again.notes)


def test_outputs_are_off_after_a_run(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (chip, where):
        small.deploy(where, tmp_path / "run")
        assert not chip.status().outputs_on


def test_outputs_that_do_not_go_off_at_the_end_cost_no_finished_work(small: Small, tmp_path: Path) -> None:
    with served(tmp_path) as (chip, where):

        def broken() -> None:
            raise RuntimeError("the switch sticks")

        chip.outputs_off = broken  # type: ignore[assignment, method-assign]
        report = small.deploy(where, tmp_path / "run", options=DeployOptions(samples=64, repeats=1, causes=False))
        del chip.outputs_off
    said = "outputs UNKNOWN: switch off by hand"
    assert any(said in note and "the switch sticks" in note for note in report.notes)
    assert (tmp_path / "run" / "report.html").exists()


def test_a_record_without_the_macros_in_use_is_refused(small: Small, tmp_path: Path) -> None:
    import dataclasses

    from cim.record.file import save_record

    part = dataclasses.replace(small.record, macros={0: small.record.macros[0]})
    save_record(part, tmp_path / "part.h5")
    with pytest.raises(MismatchError, match="macro 1 is not in the calibration record"):
        small.deploy(CHIP, tmp_path / "run", calibration=tmp_path / "part.h5")


def test_images_that_calibrated_the_network_are_not_scored(small: Small, tmp_path: Path) -> None:
    network = small_network()
    pixels, labels = images(100, seed=3)
    pixels[17] = network.calibration_images[5]
    np.savez(tmp_path / "leaky.npz", images=pixels, labels=labels)
    with pytest.raises(FileError, match="1 of the images to be scored calibrated the network"):
        hil.deploy(small.net, CHIP, macros=4, data=str(tmp_path / "leaky.npz"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_that_the_network_does_not_know_are_a_usage_error(small: Small, tmp_path: Path) -> None:
    pixels, labels = images(20, seed=3)
    labels[0] = 7
    np.savez(tmp_path / "data.npz", images=pixels, labels=labels)
    with pytest.raises(UsageError, match="labels up to 7, the network 4 classes"):
        hil.deploy(small.net, CHIP, macros=4, data=str(tmp_path / "data.npz"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples"),
        ({"repeats": 0}, "repeat"),
        ({"virtual_chips": 0}, "virtual"),
        ({"tolerance": -0.01}, "tolerance"),
    ],
)
def test_options_that_make_no_run_are_refused_before_anything_is_written(
    small: Small, tmp_path: Path, options: dict[str, float], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        small.deploy(CHIP, tmp_path / "run", options=DeployOptions(**options))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_is_not_empty_is_left_alone(small: Small, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        small.deploy(CHIP, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]


class Recorder(Watch):
    """Keeps notes and stages in the order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []

    def begin(self, name: str) -> None:
        self.story.append(name)

    def message(self, text: str) -> None:
        self.story.append(text)


def test_a_long_run_over_a_slow_line_says_so_before_it_starts(small: Small, tmp_path: Path) -> None:
    watch = Recorder()
    options = DeployOptions(samples=2000, repeats=3)
    chip = chip_from_address(CHIP)
    with serving(chip, "pty") as where:
        small.deploy(f"{where}?baud=1200", tmp_path / "run", options=options, watch=watch)
    said = [i for i, text in enumerate(watch.story) if "minutes" in text and "1200 baud" in text]
    assert said, watch.story
    assert said[0] < watch.story.index("programming")


def test_a_short_run_makes_no_such_note(small: Small, tmp_path: Path) -> None:
    watch = Recorder()
    with serving(chip_from_address(CHIP), "pty") as where:
        small.deploy(where, tmp_path / "run", watch=watch)
    assert not any("minutes" in text for text in watch.story)
    assert watch.job is not None
    begun = [name for name in watch.story if name in watch.timing_s and name != "compiling"]
    planned = iter([stage.name for stage in watch.job.stages])
    assert all(name in planned for name in begun), f"{begun} are not in the order of the plan {watch.job.stages}"
    assert watch.job.share(None) == pytest.approx(1.0)


class SetOn:
    """The wall clock, which a wait sets on."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.by_s


def test_the_time_left_counts_down_while_the_host_waits_for_a_board_without_wait(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, watch = SetOn(), Watch()
    left: list[float] = []

    def sleep(seconds: float) -> None:
        assert watch.job is not None
        for _ in range(10):
            clock.by_s += seconds / 10
            left.append(watch.job.left_s(watch.stages[0], clock.monotonic()))

    monkeypatch.setattr("hil.watch.time", clock)
    monkeypatch.setattr("hil.driver.open_chip.ChipDriver", partial(ChipDriver, sleep=sleep))
    board = EmulatedChip(load_chip("lab-128", macros=4), 3, capabilities=ALL_CAPABILITIES & ~Capability.WAIT)
    with serving(board, f"unix:{tmp_path / 'chip'}") as where:
        small.deploy(where, tmp_path / "run", options=BRIEF, watch=watch)
    assert len(left) == 10
    assert 3240 < left[0] < 3240 + 120
    assert all(before - after == pytest.approx(360, abs=1) for before, after in itertools.pairwise(left)), left


def test_the_age_on_a_chip_without_wait_is_a_choice_before_the_first_pulse_that_a_resumed_run_keeps(
    small: Small, tmp_path: Path
) -> None:
    board = EmulatedChip(load_chip("lab-128", macros=4), 3, capabilities=ALL_CAPABILITIES & ~Capability.WAIT)
    asked: list[tuple[str, int]] = []

    class Asked(Watch):
        def choose(self, question: str, answers: Sequence[str]) -> int:
            asked.append((f"{question}: {' / '.join(answers)}", board.status().pulses_total))
            return 1

        def begin(self, name: str) -> None:
            if asked and name == "measuring" and len(seen) < 1:
                seen.append(name)
                raise KeyboardInterrupt

    seen: list[str] = []
    with serving(board, f"unix:{tmp_path / 'chip'}") as where:
        with pytest.raises(Interrupted):
            small.deploy(where, tmp_path / "run", options=BRIEF, watch=Asked())
        report = small.deploy(where, tmp_path / "run", options=BRIEF, watch=Asked())
    assert [pulses for _, pulses in asked] == [0]
    assert "no WAIT: its cells are 1 h old only after 1 h by the clock: wait 1 h, counted down / do not" in asked[0][0]
    assert any("cells run young, as was chosen" in note for note in report.notes)


def test_what_a_short_run_excludes_is_said_before_the_first_pulse(small: Small, tmp_path: Path) -> None:
    said: dict[str, int] = {}

    class Listening(Watch):
        def message(self, text: str) -> None:
            said.setdefault(text, chip.status().pulses_total)

    options = DeployOptions(samples=64, repeats=1, virtual_chips=2, causes=False, recipe=usual_recipe(without=["tune"]))
    with served(tmp_path) as (chip, where):
        report = small.deploy(where, tmp_path / "run", options=options, watch=Listening())
        assert chip.status().pulses_total > 0
    assert report.verdict is not Verdict.AGREE
    excluded = {text: pulses for text, pulses in said.items() if "cannot end in agree" in text}
    assert set(excluded.values()) == {0}
    assert [text for text in excluded if "at least 2 repeats of the chip, it has 1 (--repeat 2)" in text]
    assert [text for text in excluded if "at least 300 images, it has 64 (--samples 300" in text]


def test_a_forecast_is_not_that_of_a_run_which_needs_every_look_and_all_causes(small: Small) -> None:
    with open_chip(CHIP, chip=small.program.spec) as driver:
        short, usual = (
            sum(
                stage.work_s
                for stage in expected_stages(driver, small.program, DeployOptions(causes=causes), looks, calibrate=True)
            )
            for causes, looks in ((False, (500,)), (True, (500, 1000, 2000)))
        )
    assert short < usual < 1.5 * short
