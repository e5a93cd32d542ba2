"""Results in a notebook: a line where Python asks for one, a small table where a notebook does; names are escaped."""

from __future__ import annotations

import dataclasses

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from mapping.compile import compile_network

from ..small_net import small_network


def test_every_result_has_a_short_form(run) -> None:
    program = compile_network(small_network(), load_chip("lab-128", macros=4))
    for value in (*run, program, nominal_record(program.spec, program.macros)):
        assert repr(value).startswith(f"<{type(value).__name__}")
        assert len(repr(value)) < 250


def test_the_table_of_a_report_in_a_notebook_is_small_and_escaped(run) -> None:
    text = dataclasses.replace(run[0], run="<img src=x>")._repr_html_()
    assert "<img" not in text
    assert len(text) < 1500
    assert "emulated (NOT SILICON)" in text
