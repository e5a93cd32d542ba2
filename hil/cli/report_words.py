"""The report of a run on the screen, and its exit code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as xml

from hil.atomic import write_text
from hil.errors import ExitCode, UsageError
from hil.report.account import summary_of
from hil.report.tables import QUESTIONS
from hil.report.terminal.lines import complain, print_json
from hil.verdict.agreement import AgreementReport
from hil.verdict.baseline import BaselineChange
from hil.verdict.verdict import Verdict

MOVED = "not-as-calibrated"
OUTCOMES = ("disagree", "inconclusive", "regression", MOVED)

if TYPE_CHECKING:
    from hil.verdict.agreement import AgreementReport


def outcomes(words: str) -> set[str]:
    """Outcomes of a text as ``disagree,regression``; ``none`` gives an empty set.

    Raises:
        UsageError: a word that is not an outcome.
    """
    found = {word.strip() for word in words.split(",")} - {"none"}
    if not found <= set(OUTCOMES):
        wrong = ", ".join(sorted(found - set(OUTCOMES)))
        raise UsageError(f"--fail-on {wrong!r}", hint=f"one or more of {','.join(OUTCOMES)}, or none")
    return found


def print_report(
    report: AgreementReport, earlier: AgreementReport | None, junit: Path | None, failing: set[str], as_json: bool
) -> int:
    """Print the report of a run, compare it with an earlier one, and give the exit code: 1 for ``failing`` outcomes."""
    from hil.report.account import summary_of
    from hil.report.terminal.answers import show_answer
    from hil.verdict.baseline import compare_reports

    change = None if earlier is None else compare_reports(earlier, report)
    if as_json:
        compared = {} if change is None else {"baseline": dataclasses.asdict(change)}
        print_json({**report.to_json(), **compared})
    else:
        show_answer(summary_of(report))
    if change is not None:
        complain(change.text)
    regressed = change is not None and change.regressed
    found = {report.verdict.value, *(("regression",) if regressed else ()), *((MOVED,) if report.moved else ())}
    code = ExitCode.OUTSIDE_TOLERANCE if found & failing else ExitCode.DONE
    if junit:
        write_junit(junit, report, change)
    return code


def write_junit(path: str | Path, report: AgreementReport, change: BaselineChange | None = None) -> None:
    """Write one test a question, one for the calibration and one for the baseline. Only *agree* passes.

    The question that does not decide the run is marked skipped unless it agrees, so that the
    XML fails exactly when the exit code is not 0.
    """
    write_text(path, junit_xml(report, change))


def junit_xml(report: AgreementReport, change: BaselineChange | None = None) -> str:
    suite = xml.Element("testsuite", name="hil deploy", timestamp=report.created, errors="0")

    def test(name: str, passes: bool, message: str, kind: str, outcome: str = "failure") -> None:
        case = xml.SubElement(suite, "testcase", classname=f"hil.{report.network.name}", name=name)
        if not passes:
            xml.SubElement(case, outcome, message=message, type=kind)

    for name, words in QUESTIONS.items():
        if (judged := getattr(report, name)) is not None:
            verdict, outcome = judged.verdict, "failure" if judged is report.decisive else "skipped"
            said = f"{verdict.value}: {judged.text}"
            test(f"agreement of {words}", verdict is Verdict.AGREE, said, verdict.value, outcome)
    if (found := report.as_calibrated) is not None:
        said = "; ".join((found.text, *found.evidence))
        test("the chip is as it was calibrated", found.holds, said, "not-as-calibrated")
    if change is not None:
        test("no loss against the baseline", not change.regressed, change.text, "regression")
    for kind, count in (("tests", "testcase"), ("failures", "testcase/failure"), ("skipped", "testcase/skipped")):
        suite.set(kind, str(len(suite.findall(count))))
    xml.SubElement(suite, "system-out").text = "\n".join(summary_of(report).lines())
    xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"
