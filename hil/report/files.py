"""A run written down: report.json, report.md, report.html and data.h5."""

from __future__ import annotations

import json
from pathlib import Path

from hil.atomic import write_text
from hil.pages.tables import as_markdown, markdown
from hil.report.page import FILES, page
from hil.report.run_data import RunData, write_run
from hil.report.summary import summary_of
from hil.report.tables import every_table
from hil.verdict.agreement import AgreementReport
from mapping.program.file import load_program


def write_report(folder: str | Path, report: AgreementReport, data: RunData | None) -> None:
    """Write the four files of a run into ``folder``; each appears whole or not at all. Without data there are three.

    A program.h5 that lies there already gives the page its graph of the network.

    Raises:
        FileError: program.h5 is damaged.
        OutputError: disk full, no permission.
    """
    folder = Path(folder)
    files = [
        name
        for name in FILES
        if name.startswith("report.") or (name == "data.h5" and data is not None) or (folder / name).exists()
    ]
    held = folder / "program.h5"
    program = load_program(held) if held.exists() else None
    if data is not None:
        write_run(folder / "data.h5", data)
    write_text(folder / "report.md", report_markdown(report))
    write_text(folder / "report.html", page(report, data, files, program))
    write_text(folder / "report.json", report_text(report))


def report_text(report: AgreementReport) -> str:
    return json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def report_markdown(report: AgreementReport) -> str:
    """The answer as on the screen, and every table."""
    chip = report.chip
    mark = [f"> **{chip.mark}**: {as_markdown(chip.reservation)}", ""] if chip.mark else []
    return "\n".join([*summary_of(report).markdown(), *mark, *map(markdown, every_table(report))])
