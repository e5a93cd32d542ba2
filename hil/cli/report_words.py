"""The report of a run on the screen, and the exit code that follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cli.options import complain, say
from hil.errors import ExitCode

if TYPE_CHECKING:
    from hil.verdict.agreement import AgreementReport


def tell_report(report: AgreementReport, earlier: AgreementReport | None, junit: Path | None, as_json: bool) -> int:
    """Print the report of a run, compare it with an earlier one, and give the exit code."""
    from hil.report.files import summary_lines
    from hil.verdict.baseline import compare_reports

    if as_json:
        say(json.dumps(report.to_json()))
    else:
        for line in summary_lines(report):
            say(line)
        say(f"report         {report.run}/report.html   (hil show {report.run})")
    code, change = int(report.exit_code), None
    if earlier is not None:
        change = compare_reports(earlier, report)
        complain(change.text)
        code = code or (ExitCode.OUTSIDE_TOLERANCE if change.regressed else ExitCode.DONE)
    if junit:
        from hil.report.junit import write_junit

        write_junit(junit, report, change)
    return code
