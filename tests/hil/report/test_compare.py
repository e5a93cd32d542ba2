"""Two runs side by side."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from hil.cli import run as hil
from hil.report.compare import comparison_tables, comparison_warnings, run_facts
from hil.report.files import report_text
from hil.verdict.agreement import AgreementReport


@pytest.fixture(scope="module")
def worse(make_run) -> AgreementReport:
    return make_run(shift=520.0)[0]


@pytest.fixture(scope="module")
def runs(run, worse: AgreementReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both") / "runs"
    for name, report in (("0001", run[0]), ("0002", worse), ("0003", run[0])):
        (folder / name).mkdir(parents=True)
        (folder / name / "report.json").write_text(report_text(report), encoding="utf-8")
    return folder


def test_the_difference_of_two_runs_is_that_of_their_numbers(run, worse: AgreementReport) -> None:
    (accuracy,) = (t for t in comparison_tables(("a", "b"), run[0], worse) if t.title == "Accuracy")
    rows = {row[0]: row[1:] for row in accuracy.rows}
    lost = 100 * (worse.decisive.measured.mean - run[0].decisive.measured.mean)
    assert lost < -1
    assert rows["measured"][2] == f"{lost:+.2f} points".replace("-", "−")
    assert rows["float"][2] == "+0.00 points"


def test_what_only_one_run_has_stands_beside_a_dash_with_its_reason(run) -> None:
    other = dataclasses.replace(run[0], causes=None, layers=run[0].layers[1:])
    tables = {t.title: t for t in comparison_tables(("a", "b"), run[0], other)}
    assert {row[2:] for row in tables["Lost to causes"].rows} == {("—", "—")}
    assert tables["Residual σ of layers"].rows[0][2:] == ("—", "—")
    assert tables["Residual σ of layers"].rows[1][3] == "+0.00 levels"
    assert "only one of them" in tables["Lost to causes"].note


def test_what_differs_stands_first_and_other_images_or_ages_are_warned_of(run, make_run, runs: Path, capsys) -> None:
    later = dataclasses.replace(make_run(images=200)[0], age_s=30 * 86400.0)
    tables = comparison_tables(("a", "b"), run[0], later)
    for table in tables:
        differs = [row[1] != row[2] for row in table.rows]
        assert differs == sorted(differs, reverse=True), table.title
    warned = " ".join(comparison_warnings(run[0], later))
    assert "1,000 × 3 beside 200 × 3, accuracies are of other images or passes" in warned
    assert "the chips were read at other ages" in warned
    assert comparison_warnings(run[0], run[0]) == ()
    (runs / "0004").mkdir()
    (runs / "0004" / "report.json").write_text(report_text(later), encoding="utf-8")
    assert hil(["show", str(runs / "0001"), str(runs / "0004")]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("  Not alike")
    shutil.rmtree(runs / "0004")


def test_numbers_that_are_not_finite_are_no_facts(run) -> None:
    odd = dataclasses.replace(run[0], saturated_share=float("nan"))
    assert "saturated conversions" not in {fact.label for fact in run_facts(odd)}


def test_show_of_two_runs_prints_both(runs: Path, capsys) -> None:
    assert hil(["show", str(runs / "0001"), str(runs / "0002")]) == 0
    said = capsys.readouterr().out
    assert "REGRESSED" in said.splitlines()[0]
    assert "residual" in said.lower()


def test_show_of_two_runs_as_json_holds_change_and_tables(runs: Path, capsys) -> None:
    assert hil(["show", str(runs / "0001"), str(runs / "0002"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["change"]["paired"] is True
    assert [t["title"] for t in value["tables"]][:2] == ["Runs", "Accuracy"]
