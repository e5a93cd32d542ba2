"""A run written down: report.json, report.md, report.html and data.h5."""

from __future__ import annotations

import json
from pathlib import Path

from hil.atomic import write_text
from hil.pages.shell import page
from hil.report.account import FILES, account_of
from hil.report.run_data import RunData, write_run
from hil.verdict.agreement import AgreementReport


def write_report(folder: str | Path, report: AgreementReport, data: RunData | None) -> None:
    """Write the four files of a run into ``folder``; each appears whole or not at all. Without data there are three.

    Raises:
        OutputError: disk full, no permission.
    """
    folder = Path(folder)
    files = [
        name
        for name in FILES
        if name.startswith("report.") or (name == "data.h5" and data is not None) or (folder / name).exists()
    ]
    if data is not None:
        write_run(folder / "data.h5", data)
    write_text(folder / "report.md", account_of(report).markdown())
    write_text(folder / "report.html", page(account_of(report, data, files)))
    write_text(folder / "report.json", report_text(report))


def report_text(report: AgreementReport) -> str:
    return json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
