"""Answers measured elsewhere: the verdict of the deployment that gave them, and what no file may hold."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hil
from cim.chip.file import chip_text
from hil.cli import run
from hil.prediction.judge import judge
from hil.report.run_data import RunData, read_run
from hil.report.schema import report_schema
from hil.verdict.agreement import AgreementReport
from hil.verdict.json_record import encode
from mapping.program.execute import IdealMultiply
from mapping.program.execute import run as run_program

from ..conftest import CHIP, Small
from ..fitting import every_answer_fits as every_answer_fits
from ..report.test_report import faults
from ..small_net import NAMES, small_network
from ..small_net import images as make_images

CHIPS = ["--macros", "4", "--chips", "10", "--tolerance", "3"]


@dataclass(frozen=True)
class Deployed:
    """A run on the emulated chip, and its answers as a lab would have them."""

    report: AgreementReport
    data: RunData

    @property
    def arrays(self) -> dict[str, Any]:
        of_run = {"logits": self.data.measured_logits, "labels": self.data.labels, "images": self.data.indices}
        return {**of_run, "age_s": self.report.age_s, "chip": self.report.chip.serial, "backend": "emulated"}

    def npz(self, path: Path, **other: Any) -> Path:
        np.savez(path, **{k: v for k, v in {**self.arrays, **other}.items() if v is not None})
        return path

    def rows(self) -> list[dict[str, Any]]:
        """A row for each answer, repeat after repeat."""
        return [
            {"image": image, "repeat": repeat, "label": label, **{f"logit_{k}": int(z) for k, z in enumerate(logits)},
             "age_s": self.report.age_s, "chip": self.report.chip.serial, "backend": "emulated"}
            for repeat, answers in enumerate(self.data.measured_logits)
            for image, label, logits in zip(self.data.indices, self.data.labels, answers, strict=True)
        ]  # fmt: skip


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture(scope="module")
def deployed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    folder = tmp_path_factory.mktemp("deployed") / "run"
    return Deployed(small.deploy(CHIP, folder), read_run(folder / "data.h5"))


def arguments(small: Small, answers: Path, out: Path, *more: str) -> list[str]:
    files = [str(small.net), "--answers", str(answers), "--data", str(small.data)]
    return ["judge", *files, "--calibration", str(small.record_file), "--out", str(out), *CHIPS, *more]


def judged(small: Small, answers: Path, out: Path, *more: str) -> AgreementReport:
    assert run(arguments(small, answers, out, "--fail-on", "none", *more)) == 0
    return AgreementReport.from_text((out / "report.json").read_text("utf-8"))


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_the_answers_of_a_deployment_get_the_judgement_that_it_had_to_the_digit(
    small: Small, deployed: Deployed, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"measured.{kind}"
    deployed.npz(file) if kind == "npz" else write_csv(file, deployed.rows())
    report = judged(small, file, tmp_path / "run")
    assert report.other_chips is not None
    assert report.this_chip is None
    assert encode(report.other_chips) == encode(deployed.report.other_chips)
    assert report.float_accuracy == deployed.report.float_accuracy
    assert report.data == deployed.report.data
    assert {k: v for k, v in report.digests.items() if k != "answers"}.items() <= deployed.report.digests.items()
    found = read_run(tmp_path / "run" / "data.h5")
    np.testing.assert_array_equal(found.simulated_logits, deployed.data.such_logits)
    np.testing.assert_array_equal(found.measured_logits, deployed.data.measured_logits)


def test_a_call_from_python_gives_what_the_command_gives(small: Small, deployed: Deployed, tmp_path: Path) -> None:
    options = hil.DeployOptions(virtual_chips=10, tolerance=0.03)
    more: dict[str, Any] = {"macros": 4, "data": str(small.data), "options": options, "out": tmp_path / "run"}
    report = judge(small.net, deployed.npz(tmp_path / "a.npz"), calibration=small.record_file, **more)
    assert encode(report.other_chips) == encode(deployed.report.other_chips)


def test_a_run_that_stopped_early_is_judged_by_the_looks_that_were_planned(small: Small, tmp_path: Path) -> None:
    options = hil.DeployOptions(samples=1000, repeats=2, virtual_chips=10, tolerance=0.05)
    large, (pixels, labels) = tmp_path / "large.npz", make_images(1000, seed=4)
    np.savez(large, images=pixels, labels=labels, classes=np.array(NAMES))
    files: dict[str, Any] = {"data": str(large), "calibration": small.record_file, "out": tmp_path / "whole"}
    whole = hil.deploy(small.net, CHIP, macros=4, options=options, **files)
    assert whole.other_chips is not None
    assert whole.other_chips.looks == (500, 1000)
    file = Deployed(whole, read_run(tmp_path / "whole" / "data.h5")).npz(tmp_path / "a.npz")
    more = ["--looks", "500,1000", "--data", str(large), "--tolerance", "5"]
    assert encode(judged(small, file, tmp_path / "run", *more).other_chips) == encode(whole.other_chips)
    assert run(arguments(small, file, tmp_path / "other", *more, "--looks", "400,1000")) == 2


def test_the_report_says_whose_word_the_backend_is_and_what_cannot_be_asked(
    small: Small, deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for backend, words, mark in (
        ("silicon", "measured elsewhere", "MEASURED ELSEWHERE"),
        ("emulated", "emulated (NOT SILICON)", "NOT SILICON, ELSEWHERE"),
        (None, "unknown backend", "ELSEWHERE, BACKEND UNKNOWN"),
    ):
        out = tmp_path / str(backend)
        report = judged(small, deployed.npz(tmp_path / f"{backend}.npz", backend=backend), out)
        screen = capsys.readouterr().out
        assert report.backend == (backend or "unknown")
        assert report.backend_words == words
        for text in (screen, (out / "report.md").read_text("utf-8"), (out / "report.html").read_text("utf-8")):
            assert mark in text
            assert "causes cannot be separated" in text
        assert "firmware" not in screen
        assert "other chips of its kind" in " ".join(screen.split())
        assert faults(json.loads((out / "report.json").read_text("utf-8")), report_schema()) == []
        assert sorted(p.name for p in out.iterdir()) == ["data.h5", "report.html", "report.json", "report.md"]


def test_classes_alone_get_the_same_verdict_without_a_comparison_of_logits(
    small: Small, deployed: Deployed, tmp_path: Path
) -> None:
    classes = deployed.data.measured_logits.argmax(axis=-1)
    scaled = deployed.data.measured_logits * 0.125
    for name, other in (("classes", {"answers": classes, "logits": None}), ("floats", {"logits": scaled})):
        report = judged(small, deployed.npz(tmp_path / f"{name}.npz", **other), tmp_path / name)
        wanted = {**encode(deployed.report.other_chips), "fidelity": None}
        assert encode(report.other_chips) == wanted
        assert any("logits are not compared" in note for note in report.notes)


def test_without_a_record_the_models_of_the_chip_file_are_what_is_believed(
    small: Small, deployed: Deployed, tmp_path: Path
) -> None:
    file, out = deployed.npz(tmp_path / "a.npz", age_s=None), tmp_path / "run"
    files = [str(small.net), "--answers", str(file), "--data", str(small.data), "--out", str(out)]
    assert run(["judge", *files, *CHIPS, "--age", "1d", "--fail-on", "none"]) == 0
    report = AgreementReport.from_text((out / "report.json").read_text("utf-8"))
    assert report.age_s == 86400
    assert any("published models, no chip measured" in note for note in report.notes)
    assert any("does not say how old" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_an_accuracy_alone_is_judged_as_other_chips_and_says_so(
    small: Small, deployed: Deployed, tmp_path: Path, kind: str
) -> None:
    file, out = tmp_path / f"a.{kind}", tmp_path / "run"
    said = {"accuracy": 0.5, "images": 2000, "runs": 3}
    np.savez(file, **said) if kind == "npz" else write_csv(file, [said])
    report = judged(small, file, out, "--samples", "200")
    found = report.other_chips
    assert found is not None
    assert report.this_chip is None
    assert report.verdict.value == "disagree"
    assert (found.n, found.repeats, found.measured.mean, report.data.images) == (2000, 3, 0.5, 200)
    assert any("only other chips can be judged" in note for note in report.notes)
    assert any("not paired" in flag for flag in found.flags)
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json", "report.md"]
    assert faults(json.loads((out / "report.json").read_text("utf-8")), report_schema()) == []


def test_the_interval_of_an_accuracy_alone_holds_both_samplings_of_images(small: Small, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [{"accuracy": 0.9, "images": 400, "runs": 2}])
    found = judged(small, file, tmp_path / "run").other_chips
    assert found is not None
    p = found.simulated.mean
    images = 0.9 * 0.1 / 400 + p * (1 - p) / 300
    assert found.components.image == pytest.approx(100 * images**0.5)
    chips = np.var(found.simulated_chips, ddof=1)
    assert found.equivalence.standard_error == pytest.approx((images + chips / 10) ** 0.5)
    assert found.prediction.statistic == pytest.approx(abs(0.9 - p) / (images + chips * 1.1) ** 0.5)


# --- what is refused ----------------------------------------------------------------------


def refused(small: Small, answers: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 7) -> str:
    out = answers.parent / "refused"
    assert run(arguments(small, answers, out, *more)) == code
    assert not out.exists()
    assert not list(answers.parent.glob("*.unfinished"))
    return capsys.readouterr().err


def change(column: str, value: Any, at: int = 7) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[at].update({column: value})


@pytest.mark.parametrize(
    ("spoil", "row", "reason"),
    [
        (change("logit_2", "much"), 9, "logit 'much' is not a finite number"),
        (change("logit_2", "nan"), 9, "is not a finite number"),
        (change("label", "-1"), 9, "label '-1' is not a whole number"),
        (lambda rows: [rows[at].update(image=300) for at in (7, 307)], 9, "image 300 of a set of 300 images"),
        (change("image", "9" * 40), 9, "is not a whole number"),
        (lambda rows: rows.insert(9, dict(rows[4])), 11, "is in row 6 already"),
        (lambda rows: rows.pop(400), 102, "has no answer in repeat 1"),
        (lambda rows: rows[8].update(label=(rows[8]["label"] + 1) % 4), 310, "has label"),
        (change("backend", "gold"), 9, "backend 'gold', not one of"),
        (change("backend", "silicon"), 9, "backend 'silicon', 'emulated' in rows before"),
        (change("age_s", "-1"), 9, "age_s -1 is not a time"),
        (change("age_s", "1_0"), 9, "is not a finite number"),
    ],
)
def test_a_row_that_cannot_be_is_named_with_its_reason(
    small: Small,
    deployed: Deployed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[list[dict[str, Any]]], None],
    row: int,
    reason: str,
) -> None:
    rows = deployed.rows()
    spoil(rows)
    said = refused(small, write_csv(tmp_path / "a.csv", rows), capsys)
    assert reason in said
    assert f"row {row}\n" in said


def test_answers_in_another_order_than_the_images_are_refused_with_the_first_row(
    small: Small, deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = deployed.rows()[:300]
    for row, label in zip(rows, np.roll([row["label"] for row in rows], 1), strict=True):
        row["label"] = label
    said = refused(small, write_csv(tmp_path / "a.csv", rows), capsys)
    assert "rows in another order than the images" in said
    assert "row " in said
    said = refused(small, deployed.npz(tmp_path / "a.npz", images=None), capsys)  # in run order, taken for 0 to n - 1
    first = int(np.argmax(deployed.data.labels != np.load(small.data)["labels"]))
    assert f"row {first}\n" in said
    assert "rows in another order than the images" in said


def test_answers_in_another_order_than_their_labels_are_noted(small: Small, deployed: Deployed, tmp_path: Path) -> None:
    mixed = deployed.data.measured_logits[:, np.random.default_rng(1).permutation(300)]
    report = judged(small, deployed.npz(tmp_path / "a.npz", logits=mixed), tmp_path / "run")
    assert report.verdict.value == "disagree"
    assert "rows in another order than their labels" in report.notes[0]
    dead = deployed.npz(tmp_path / "b.npz", logits=mixed * 0)
    assert any("lost everything" in note for note in judged(small, dead, tmp_path / "dead").notes)
    plain = judged(small, deployed.npz(tmp_path / "c.npz"), tmp_path / "plain")
    assert not any("another order" in note for note in plain.notes)


def test_images_that_calibrated_the_network_are_refused_with_their_row(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, network = np.load(small.data), small_network()
    pixels, labels = data["images"].copy(), data["labels"].copy()
    pixels[5], labels[5] = network.calibration_images[3], network.calibration_labels[3]
    overlapping, file = tmp_path / "set.npz", tmp_path / "a.npz"
    np.savez(overlapping, images=pixels, labels=labels, classes=data["classes"])
    np.savez(file, answers=labels, labels=labels)
    said = refused(small, file, capsys, "--data", str(overlapping))
    assert "image 5 calibrated or trained the network" in said
    assert "row 5\n" in said


def test_answers_of_several_chips_are_judged_one_chip_at_a_time(
    small: Small, deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = deployed.rows()
    other = [{**row, "chip": "other", "logit_0": 10**6} for row in rows]
    file = write_csv(tmp_path / "a.csv", other + rows)
    assert "answers of 2 chips" in refused(small, file, capsys)
    assert "no answers of chip 'none'" in refused(small, file, capsys, "--measured-chip", "none")
    report = judged(small, file, tmp_path / "run", "--measured-chip", deployed.report.chip.serial)
    assert encode(report.other_chips) == encode(deployed.report.other_chips)
    logits = np.concatenate([deployed.data.measured_logits * 0, deployed.data.measured_logits])
    both = deployed.npz(tmp_path / "b.npz", logits=logits, chip=np.repeat(["other", "mine"], 2))
    report = judged(small, both, tmp_path / "second", "--measured-chip", "mine")
    assert encode(report.other_chips) == encode(deployed.report.other_chips)


def answers_of_chips(program: Any, images: np.ndarray, chips: int, extra: float) -> np.ndarray:
    """Classes (chips, n): the ideal network's, of which each chip gets a share of ``extra`` wrong."""
    ideal = run_program(program, images, IdealMultiply(program)).argmax(1)
    rng = np.random.default_rng(5)
    wrong = rng.random((chips, len(ideal))) < extra
    return np.where(wrong, (ideal + 1) % 4, ideal)


def test_several_chips_of_a_file_are_judged_by_their_mean(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.load(small.data)
    arguments_ = [str(small.net), "--data", str(small.data), "--macros", "4", "--chips", "12", "--measured-chip", "all"]
    for extra, verdict, code in ((0.0, "agree", 0), (0.2, "disagree", 1)):
        answers = answers_of_chips(small.program, data["images"], 5, extra)
        file = tmp_path / f"{extra}.npz"
        np.savez(file, answers=answers, labels=data["labels"], chip=np.array(["a", "b", "c", "d", "e"]), age_s=3600.0)
        more = ["--answers", str(file), "--tolerance", "4", "--json"]
        assert run(["judge", *arguments_, *more]) == code
        found = json.loads(capsys.readouterr().out)
        assert found["verdict"] == verdict
        assert list(found["chips"]) == ["a", "b", "c", "d", "e"]
        right = (answers == data["labels"]).mean(axis=1)
        np.testing.assert_allclose(list(found["chips"].values()), right)
        assert found["difference"] == pytest.approx(right.mean() - np.mean(found["simulated"]))
    assert run(["judge", *arguments_, "--answers", str(file), "--tolerance", "4"]) == 1
    screen = " ".join(capsys.readouterr().out.split())
    assert "DISAGREE" in screen
    assert "mean of 5 chips" in screen


def test_two_chips_or_the_record_of_one_do_not_make_several(
    small: Small, deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logits = np.concatenate([deployed.data.measured_logits] * 2)
    files = [str(small.net), "--data", str(small.data), "--measured-chip", "all", *CHIPS]
    for names, more, reason in (
        (["a", "a", "b", "b"], [], "answers of 2 chips: 3 are needed"),
        (["a", "b", "c", "c"], ["--out", str(tmp_path / "run")], "no --out, no --looks"),
        (["a", "b", "c", "c"], ["--calibration", str(small.record_file)], "whose columns the others do not have"),
    ):
        file = deployed.npz(tmp_path / "a.npz", logits=logits, chip=np.array(names))
        assert run(["judge", *files, "--answers", str(file), *more]) == 2
        assert reason in " ".join(capsys.readouterr().err.split())


def test_ranges_of_a_chip_file_widen_what_they_may_have(small: Small, deployed: Deployed, tmp_path: Path) -> None:
    text, _ = chip_text("lab-128")
    unsure = tmp_path / "unsure.toml"
    entry = 'cell_error_factor = { value = 7.0, range = [0.5, 14.0], source = "assumed: wide" }'
    unsure.write_text(text.replace("[models]", f"[models]\n{entry}", 1))
    sure = tmp_path / "sure.toml"
    sure.write_text(text.replace("[models]", f"[models]\n{entry.replace('range = [0.5, 14.0], ', '')}", 1))
    options = hil.DeployOptions(virtual_chips=12)
    spreads = []
    for number, chip in enumerate((sure, unsure)):
        more: dict[str, Any] = {"macros": 4, "data": str(small.data), "options": options}
        report = judge(small.net, deployed.npz(tmp_path / "a.npz"), chip=str(chip), out=tmp_path / f"r{number}", **more)
        assert report.other_chips is not None
        spreads.append(np.std(report.other_chips.simulated_chips))
    assert spreads[1] > 1.3 * spreads[0]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"logits": np.array([[None]])}, "shape (1, 1) of object"),
        ({"logits": None}, "either answers or logits"),
        ({"labels": None}, "no array 'labels'"),
        ({"labels": np.zeros(3, np.int64)}, "labels (3,) of 300 images"),
        ({"labels": np.full(300, 0.5)}, "label 0.5 is not a whole number"),
        ({"logits": np.zeros((2, 300, 4), complex)}, "complex128"),
        ({"logits": np.zeros((2, 300, 7), np.int32)}, "7 logits an image, of a network with 4 classes"),
        ({"logits": None, "answers": np.full((2, 300), 4)}, "class 4 of 4"),
        ({"logits": np.full((2, 300, 4), np.inf)}, "a logit is not a finite number"),
        ({"images": np.zeros(300, np.int64)}, "is in row 0 already"),
        ({"age_s": np.zeros(7)}, "age_s (7,) of 2 repeats"),
    ],
)
def test_arrays_that_cannot_be_are_refused(
    small: Small,
    deployed: Deployed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    other: dict[str, Any],
    reason: str,
) -> None:
    assert reason in refused(small, deployed.npz(tmp_path / "a.npz", **other), capsys)


def test_pickles_and_sizes_that_a_header_promises_are_refused_before_memory_is_taken(
    small: Small, deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, answers=np.array([print, 1], object), labels=np.zeros(2, np.int64))
    assert "shape (2,) of object" in refused(small, pickled, capsys)
    huge = deployed.npz(tmp_path / "huge.npz", logits=None)
    with zipfile.ZipFile(huge, "a") as archive, archive.open("logits.npy", "w") as member:
        header = {"descr": "<i4", "fortran_order": False, "shape": (9999, 300, 60000)}
        np.lib.format.write_array_header_1_0(member, header)
    assert "(9999, 300, 60000)" in refused(small, huge, capsys)
    assert "neither .npz nor .csv" in refused(small, small.net, capsys)


def test_a_lab_that_did_not_tune_is_judged_against_virtual_chips_that_were_not(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.csv").write_text("accuracy,images,runs\n0.9,300,3\n", "utf-8")
    said = []
    for more in ([], ["--without", "tune"]):
        command = ["judge", str(small.net), "--answers", str(tmp_path / "one.csv"), "--data", str(small.data)]
        files = ["--calibration", str(small.record_file), "--macros", "4", "--chips", "3", "--mode", "fast"]
        run([*command, *files, *more, "--out", str(tmp_path / f"judged{len(more)}")])
        said.append(" ".join("".join(capsys.readouterr()).split()))
    assert "tuned" in said[0]
    assert "untuned: gains and biases are those of the compiled program" in said[1]
