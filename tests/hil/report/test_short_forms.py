"""Results at a prompt: a line where Python asks for one."""

from __future__ import annotations

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from mapping.compile import compile_network

from ..small_net import small_network


def test_every_result_has_a_short_form(run) -> None:
    program = compile_network(small_network(), load_chip("lab-128", macros=4))
    for value in (*run, program, nominal_record(program.spec, program.macros)):
        assert repr(value).startswith(f"<{type(value).__name__}")
        assert len(repr(value)) < 250
