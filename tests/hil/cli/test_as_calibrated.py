"""A chip whose gains are others than its record says: tuned it agrees, and every place says that it moved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from cim.record.file import load_record, save_record
from hil.report.schema import report_schema
from hil.verdict.agreement import AgreementReport
from hil.verdict.verdict import Verdict

from ..conftest import CHIP, Small
from ..report.test_report import faults
from .test_cli import Cli

HEADLINE = "agree after tuning; the chip is not as calibrated: gain of all outputs −"


@pytest.fixture(scope="module")
def moved(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a chip with four fifths of the gains of its record."""
    from hil.cli import run

    folder = tmp_path_factory.mktemp("moved")
    record = load_record(small.record_file)
    macros = {n: dataclasses.replace(m, gain=m.gain / 0.8) for n, m in record.macros.items()}
    save_record(dataclasses.replace(record, macros=macros), folder / "record.h5")
    files = [str(small.net), "--data", str(small.data), "--calibration", str(folder / "record.h5")]
    how = [
        "--samples",
        "300",
        "--repeat",
        "2",
        "--tolerance",
        "3",
        "--macros",
        "4",
        "--junit",
        str(folder / "junit.xml"),
    ]
    assert run(["deploy", *files, *how, "--port", CHIP, "--no-causes", "--out", str(folder / "run")]) == 1
    return folder


def test_the_report_says_that_the_chip_moved_and_by_how_much(moved: Path) -> None:
    report = AgreementReport.from_text((moved / "run" / "report.json").read_text("utf-8"))
    assert report.verdict is Verdict.AGREE
    assert report.headline.startswith(HEADLINE)
    assert report.exit_code == 1
    assert report.as_calibrated is not None
    first = report.as_calibrated.moved[0]
    assert first.what == "gain of all outputs"
    assert first.share == pytest.approx(-0.2, abs=0.02)


def test_the_accuracies_without_and_with_the_tune_are_of_the_same_images(moved: Path) -> None:
    report = AgreementReport.from_text((moved / "run" / "report.json").read_text("utf-8"))
    assert report.untuned is not None
    assert report.tuned_alike is not None
    assert report.untuned.n == report.tuned_alike.n == 300
    assert report.tuned_alike.measured == report.decisive.measured


def test_screen_page_text_and_junit_say_it(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Cli(capsys)("show", str(moved / "run"), code=1)
    for text in ("AGREE AFTER TUNING", "Not as calibrated", "gain of all outputs −", "of the same 300 images"):
        assert text in screen
    page = (moved / "run" / "report.html").read_text("utf-8")
    for text in ("AGREE AFTER TUNING", "Not as calibrated", "gain of all outputs −"):
        assert text in page
    text = (moved / "run" / "report.md").read_text("utf-8")
    assert "**AGREE AFTER TUNING**" in text
    assert "* **Not as calibrated**: gain of all outputs −" in text
    failed = [c.get("name") for c in xml.parse(moved / "junit.xml").getroot().findall("testcase") if len(c)]
    assert "the chip is as it was calibrated" in failed


def test_fail_on_leaves_it_out_when_told(
    small: Small, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(small.net), "--data", str(small.data), "--calibration", str(moved / "record.h5"), "--port", CHIP]
    how = ["--samples", "300", "--repeat", "2", "--tolerance", "3", "--macros", "4", "--no-causes"]
    report = Cli(capsys).json(
        "deploy", *files, *how, "--out", str(tmp_path / "a"), "--fail-on", "disagree,inconclusive"
    )
    assert report["as_calibrated"]["holds"] is False
    assert report["as_calibrated"]["moved"][0]["what"] == "gain of all outputs"
    assert faults(report, report_schema()) == []
