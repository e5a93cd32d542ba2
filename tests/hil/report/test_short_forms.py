"""Results in a notebook: a line where Python asks for one, a small table where a notebook does; names are escaped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cim.record.file import load_record
from hil.report.run_data import read_run
from mapping.program.file import load_program

from ..conftest import Small


def test_every_result_has_a_short_form(run, small: Small, finished_run: Path) -> None:
    for value in (
        run[0],
        load_record(small.record_file),
        load_program(small.program_file),
        read_run(finished_run / "data.h5"),
    ):
        assert repr(value).startswith(f"<{type(value).__name__}")
        assert len(repr(value)) < 250


def test_the_table_of_a_report_in_a_notebook_is_small_and_escaped(run) -> None:
    text = dataclasses.replace(run[0], run="<img src=x>")._repr_html_()
    assert "<img" not in text
    assert len(text) < 1500
    assert "emulated (NOT SILICON)" in text
