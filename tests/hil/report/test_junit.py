"""JUnit XML and the comparison with an earlier run, for CI."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as xml

import pytest

from hil.errors import FileError
from hil.report.files import write_report
from hil.report.junit import junit_xml, write_junit
from hil.verdict.baseline import compare_reports, read_baseline


def outcome(report, change=None) -> dict[str, str]:
    suite = xml.fromstring(junit_xml(report, change).encode())
    cases = {c.get("name"): (c[0].tag if len(c) else "passed") for c in suite.findall("testcase")}
    assert int(suite.get("tests")) == len(cases)
    assert int(suite.get("failures")) == list(cases.values()).count("failure")
    return cases


def test_agreement_passes_and_the_other_question_never_fails_the_suite(run):
    found = outcome(run[0])
    assert found["agreement of this chip"] == "passed"
    assert found["agreement of other chips"] in ("passed", "skipped")


@pytest.mark.parametrize("arguments", [{"shift": 520}, {"images": 600, "seed": 2, "shift": 150}])
def test_disagree_and_inconclusive_fail(make_run, arguments):
    assert outcome(make_run(macros=1, **arguments)[0])["agreement of this chip"] == "failure"


def test_the_file_is_xml_with_the_numbers(run, tmp_path):
    write_junit(tmp_path / "junit.xml", run[0])
    suite = xml.parse(tmp_path / "junit.xml").getroot()
    assert "simulator and chip 0.1 points apart" in suite.findtext("system-out")


def test_the_same_run_is_no_regression(run, tmp_path):
    write_report(tmp_path, *run)
    for path in (tmp_path, tmp_path / "report.json"):
        change = compare_reports(read_baseline(path), run[0])
        assert change.paired
        assert (change.change, change.regressed) == (0.0, False)
    assert outcome(run[0], change)["no loss against the baseline"] == "passed"


def test_a_loss_beyond_tolerance_and_interval_is_a_regression(run, make_run):
    worse, _ = make_run(shift=520, macros=1)
    change = compare_reports(run[0], worse)
    assert change.regressed
    assert change.paired
    assert "REGRESSED" in change.text
    assert outcome(worse, change)["no loss against the baseline"] == "failure"
    assert not compare_reports(worse, run[0]).regressed


def test_pairing_narrows_the_interval(run, make_run):
    other, _ = make_run(shift=250, macros=1)
    elsewhere = dataclasses.replace(other, data=dataclasses.replace(other.data, order_digest="ff" * 32))
    paired, unpaired = compare_reports(run[0], other), compare_reports(run[0], elsewhere)
    assert paired.paired
    assert not unpaired.paired
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_missing_or_broken_baseline_is_a_file_error(run, tmp_path, content):
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileError):
        read_baseline(path)
