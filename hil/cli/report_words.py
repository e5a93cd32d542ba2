"""The report of a run on the screen, and its exit code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import ExitCode, UsageError
from hil.report.terminal.lines import complain, print_json

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
        from hil.report.junit import write_junit

        write_junit(junit, report, change)
    return code
