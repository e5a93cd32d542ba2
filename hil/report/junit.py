"""The verdicts of a run as JUnit XML, so that a CI server shows them as tests."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

from hil.atomic import write_text
from hil.report.account import summary_of
from hil.report.tables import QUESTIONS
from hil.verdict.agreement import AgreementReport
from hil.verdict.baseline import BaselineChange
from hil.verdict.verdict import Verdict


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
