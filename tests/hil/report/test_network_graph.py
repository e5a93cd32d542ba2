"""The network as a graph: every step and edge once, arcs apart from each other, layers above their macros."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path

import pytest

from cim.chip.file import load_chip
from hil.report.mapping_page import mapping_page
from hil.report.network_graph import draw_network, number_ranges
from hil.report.page import page
from mapping.compile import compile_network
from mapping.operators.joins import AddStep
from mapping.operators.moves import FlattenStep
from mapping.program.conductance import ConductanceProgram

from ..browser import AXE, BROWSER, UNFOLD, look, violations
from ..small_net import small_network


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return compile_network(small_network(), load_chip("lab-128", macros=4))


def lengthened(program: ConductanceProgram, steps: int) -> ConductanceProgram:
    """The program with residual blocks before its last layer, ``steps`` in all."""
    *first, last = program.steps
    rule = last.requantise
    many = list(first)
    while len(many) < steps - 1:
        k = len(many)
        if k % 3 == 0 and k > 4:
            both = (many[-1].name, many[-3].name)
            many.append(AddStep(name=f"block{k}.add", inputs=both, rescale=(rule, rule), requantise=rule))
        else:
            many.append(FlattenStep(name=f"block{k}.a_layer_with_a_long_name", inputs=(many[-1].name,)))
    return dataclasses.replace(program, steps=(*many, dataclasses.replace(last, inputs=(many[-1].name,))))


def test_every_step_is_a_row_and_every_input_a_line(program: ConductanceProgram) -> None:
    drawn = draw_network(program)
    assert [r.name for r in drawn.rows] == ["input", *(s.name for s in program.steps)]
    assert len(drawn.lines) == sum(len(s.inputs) for s in program.steps)
    assert drawn.rows[1].operation == "convolution 3 × 3"
    assert drawn.rows[1].size == "8 × 4 × 4"
    held = {r.name: r.macros for r in drawn.rows if r.macros}
    assert held == {m.name: tuple(sorted({t.macro for t in m.group.tiles})) for m in program.matrices}
    assert len(drawn.marks) == sum(map(len, held.values()))


def test_arcs_over_the_same_rows_lie_in_different_lanes(program: ConductanceProgram) -> None:
    drawn = draw_network(lengthened(program, 72))
    assert len(drawn.rows) == 73
    lanes: dict[str, list[tuple[int, int]]] = {}
    for path in drawn.lines:
        if found := re.match(r"M\d+ (\d+)C(\d+) .* (\d+)$", path):
            top, lane, bottom = found.groups()
            lanes.setdefault(lane, []).append((int(top), int(bottom)))
    assert sum(map(len, lanes.values())) > 10
    for spans in lanes.values():
        assert all(a[1] <= b[0] for a, b in pairwise(sorted(spans)))


def test_macros_are_named_in_ranges() -> None:
    assert number_ranges((3, 4, 5, 9)) == "3-5, 9"
    assert number_ranges(()) == ""


def test_a_report_beside_its_program_shows_the_network(run, program: ConductanceProgram) -> None:
    text = page(*run, program=program)
    assert text.count('class="network"') == 1
    assert 'href="#network"' in text
    assert 'class="network"' not in page(*run)


@pytest.mark.skipif(BROWSER is None or not AXE.exists(), reason="no chromium, or no axe-core-python")
@pytest.mark.parametrize("steps", [4, 72])
def test_a_browser_shows_small_and_large_networks_without_words_over_each_other(
    program: ConductanceProgram, tmp_path: Path, steps: int
) -> None:
    text = mapping_page(program if steps == 4 else lengthened(program, steps))
    ask = """
      const boxes = [...document.querySelectorAll("svg.network text")].map((t) => t.getBoundingClientRect());
      const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
      window.asked = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => over(a, b))).length;
    """
    for one in look(text, tmp_path, dark=False, also=UNFOLD + ask):
        assert one["asked"] == 0
        assert one["content"] <= one["room"]
        assert (one["errors"], one["overlaps"], one["outside"], one["unnamed"]) == ([], [], [], 0)
    assert violations(text, tmp_path, dark=True) == []
