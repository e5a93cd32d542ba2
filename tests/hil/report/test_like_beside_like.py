"""Two numbers beside each other are of the same images, ages and passes, or the difference says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.report.account import account_of, summary_of
from hil.report.files import write_report
from hil.report.run_index import read_runs
from hil.report.tables import tuning
from hil.searching.summary import bases

from ..invented_run import Run, synthetic_run


@pytest.fixture(scope="module")
def made() -> Run:
    return synthetic_run()


def said(report: Any) -> str:
    return "\n".join(summary_of(report).lines())


def test_answers_of_other_images_than_the_simulated_ones_say_so_on_the_scale(made: Run) -> None:
    report = made[0]
    n = report.decisive.n
    assert "simulated on" not in said(report)
    elsewhere = replace(report, data=replace(report.data, images=n + 1000))
    assert f"measured on {n:,} images elsewhere, simulated on {n + 1000:,} images of fashion-mnist" in said(elsewhere)


def test_the_second_question_names_its_images_where_they_are_fewer(made: Run) -> None:
    report = made[0]
    assert report.other_chips is not None
    assert "by the first" not in said(report)
    fewer = replace(report, other_chips=replace(report.other_chips, n=200))
    assert "by the first 200 images" in said(fewer)


def test_a_tune_stands_beside_the_same_images_without_it(made: Run) -> None:
    report = made[0]
    few = replace(report.decisive, n=200, repeats=1)
    table = tuning(replace(report, untuned=few, tuned_alike=few), _tune())
    assert ["200 images" in row[2] for row in table.rows if row[0].startswith("simulated")] == [True, True]
    assert [row[2] for row in table.rows if row[0].startswith("emulated")] == ["the same images, once"] * 2


def test_no_table_of_a_report_says_one_thing_twice(made: Run) -> None:
    for table in account_of(*made).tables:
        twice = [name for name, count in Counter(row[0] for row in table.rows).items() if count > 1 and name]
        assert not twice, (table.title, twice)


def test_runs_beside_each_other_say_images_and_passes(tmp_path: Path, made: Run) -> None:
    report = made[0]
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


def _tune() -> Any:
    from hil.verdict.tuning import TunedLayer, TuneSummary

    return TuneSummary(images=128, layers=(TunedLayer("fc", 0.9, 1.0, 1.1, 0.2, 0.1, 0, 0, None, True),))
