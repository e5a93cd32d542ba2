"""Two numbers beside each other are of the same images, ages and passes, or the difference says so."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hil.cli import run as hil
from hil.cli.show import difference, side_by_side, warnings
from hil.pages.tables import Table
from hil.report.account import account_of, summary_of
from hil.report.files import report_text, write_report
from hil.report.run_index import read_runs
from hil.report.tables import tuning
from hil.searching.summary import bases
from hil.verdict.agreement import AgreementReport
from hil.verdict.tuning import TunedLayer, TuneSummary


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


def said(report: AgreementReport) -> str:
    return "\n".join(summary_of(report).lines())


def beside(one: AgreementReport, other: AgreementReport) -> dict[str, Table]:
    return {table.title: table for table in side_by_side(("a", "b"), account_of(one), account_of(other))}


def test_the_difference_of_two_runs_is_that_of_their_numbers(run, worse: AgreementReport) -> None:
    rows = {row[0]: row[1:] for row in beside(run[0], worse)["Accuracy"].rows}
    lost = 100 * (worse.decisive.measured.mean - run[0].decisive.measured.mean)
    assert lost < -1
    assert rows["chip"][2] == f"{lost:+.2f} points".replace("-", "−")
    assert "float" not in rows, "what is the same is counted below"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("1,000", "998", "−2"),
        ("2.31 levels", "2.4 levels", "+0.09 levels"),
        ("−1.0 %", "0.25 %", "+1.25 points"),
        ("12 µS", "12 s", "differs"),
        ("1,000 × 3", "200 × 3", "differs"),
        ("—", "3", "—"),
    ],
)
def test_numbers_of_one_unit_have_a_difference_and_other_words_differ(one: str, other: str, said: str) -> None:
    assert difference(one, other) == said


def test_what_only_one_run_has_stands_beside_a_dash_with_its_reason(run) -> None:
    tables = beside(run[0], dataclasses.replace(run[0], causes=None, layers=run[0].layers[1:]))
    assert {row[2:] for row in tables["Where the gap comes from"].rows} == {("—", "—")}
    assert [row[2:] for row in tables["Layers: residual σ"].rows] == [("—", "—")]
    assert tables["Layers: residual σ"].rows[0][1] == f"{run[0].layers[0].residual_sigma:.2f}"
    assert "only one of them" in tables["Layers: residual σ"].note


def test_other_images_or_ages_are_warned_of(run, make_run, runs: Path, capsys) -> None:
    later = dataclasses.replace(make_run(images=200)[0], age_s=30 * 86400.0)
    warned = " ".join(warnings(account_of(run[0]), account_of(later)))
    assert "1,000 × 3 beside 200 × 3, accuracies are of other images or passes" in warned
    assert "the chips were read at other ages" in warned
    assert warnings(account_of(run[0]), account_of(run[0])) == ()
    (runs / "0004").mkdir()
    (runs / "0004" / "report.json").write_text(report_text(later), encoding="utf-8")
    assert hil(["show", str(runs / "0001"), str(runs / "0004")]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("  Not alike")
    shutil.rmtree(runs / "0004")


def test_show_alone_prints_the_newest_run(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert hil(["show"]) == 7
    for name, made_s in (("0001", 2), ("0002", 1)):
        (report := Path("runs") / name / "report.json").parent.mkdir(parents=True)
        report.write_text(report_text(dataclasses.replace(run[0], run=f"runs/{name}")), encoding="utf-8")
        os.utime(report, (made_s, made_s))
    assert hil(["show"]) == 0
    assert "runs/0001/report.html" in capsys.readouterr().out


def test_show_of_two_runs_prints_both(runs: Path, capsys) -> None:
    assert hil(["show", str(runs / "0001"), str(runs / "0002")]) == 0
    said = capsys.readouterr().out
    assert "REGRESSED" in said.splitlines()[0]
    assert "residual" in said.lower()


def test_show_of_two_runs_as_json_holds_change_and_tables(runs: Path, capsys) -> None:
    assert hil(["show", str(runs / "0001"), str(runs / "0002"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["change"]["paired"] is True
    assert [t["title"] for t in value["tables"]][:2] == ["Accuracy", "The two questions"]


def test_answers_of_other_images_than_the_simulated_ones_say_so_on_the_scale(run) -> None:
    report = run[0]
    n = report.decisive.n
    assert "simulated on" not in said(report)
    elsewhere = dataclasses.replace(report, data=dataclasses.replace(report.data, images=n + 1000))
    assert f"measured on {n:,} images elsewhere, simulated on {n + 1000:,} images of fashion-mnist" in said(elsewhere)


def test_the_second_question_names_its_images_where_they_are_fewer(run) -> None:
    report = run[0]
    assert report.other_chips is not None
    assert "by the first" not in said(report)
    fewer = dataclasses.replace(report, other_chips=dataclasses.replace(report.other_chips, n=200))
    assert "by the first 200 images" in said(fewer)


def test_a_tune_stands_beside_the_same_images_without_it(run) -> None:
    report = run[0]
    few = dataclasses.replace(report.decisive, n=200, repeats=1)
    table = tuning(dataclasses.replace(report, untuned=few, tuned_alike=few), _tune())
    assert ["200 images" in row[2] for row in table.rows if row[0].startswith("simulated")] == [True, True]
    assert [row[2] for row in table.rows if row[0].startswith("chip,")] == ["the same images, once"] * 2


def test_no_table_of_a_report_says_one_thing_twice(run) -> None:
    for table in account_of(*run).tables:
        twice = [name for name, count in Counter(row[0] for row in table.rows).items() if count > 1 and name]
        assert not twice, (table.title, twice)


def test_runs_beside_each_other_say_images_and_passes(tmp_path: Path, run) -> None:
    report = run[0]
    (tmp_path / "0007").mkdir()
    write_report(tmp_path / "0007", report, None)
    table = read_runs(tmp_path).table()
    at = table.header.index("images × repeats")
    assert table.rows[0][at] == f"{report.decisive.n:,} × {report.decisive.repeats}"


def test_networks_of_a_search_that_were_evaluated_on_other_images_are_named() -> None:
    def row(name: str, images: int, chips: int = 20) -> dict[str, Any]:
        return {"name": name, "evaluated": {"images": images, "chips": chips}, "measured": None}

    alike = bases([row("aa", 1000), row("bb", 1000)])
    assert "simulated: 1,000 test images, 20 virtual chips" in alike
    assert "aa" not in alike
    other = bases([row("aa", 1000), row("bb", 500), {"name": "cc", "evaluated": None, "measured": None}])
    assert "simulated, 1,000 test images, 20 virtual chips: aa" in other
    assert "simulated, 500 test images, 20 virtual chips: bb" in other
    chip = {"name": "aa", "evaluated": None, "measured": {"images": 300, "chips": 1}}
    assert "on a chip: 300 images" in bases([chip])


def _tune() -> TuneSummary:
    return TuneSummary(images=128, layers=(TunedLayer("fc", 0.9, 1.0, 1.1, 0.2, 0.1, 0, 0, None, True),))
