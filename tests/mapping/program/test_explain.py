"""Why each tile is where it is: complete, true to the program, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from cim.chip.file import load_chip
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.place import Placement
from mapping.program.conductance import ConductanceProgram
from mapping.program.explain import explain

from ..small_networks import every_node, network


def compiled(options: LayoutOptions, chip: str = "lab-128", macros: int | None = None) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    spec = load_chip(chip, macros=macros)
    return compile_network(network(every_node(rng), rng, images=4), spec, options=options)


LAYOUTS = [
    ("lab-128", None, LayoutOptions()),
    ("lab-128", None, LayoutOptions(Placement.PACKED, 8)),
    ("lab-128", 4, LayoutOptions(Placement.SPREAD, None, True)),
    ("a111", None, LayoutOptions(None, 48)),
]


@pytest.mark.parametrize(("chip", "macros", "options"), LAYOUTS)
def test_every_tile_is_explained_where_it_lies(chip: str, macros: int | None, options: LayoutOptions) -> None:
    program = compiled(options, chip, macros)
    said = explain(program)
    tiles = [(m.name, t) for m in program.matrices for t in m.group.tiles]
    assert len(said.tiles) == len(tiles)
    for (name, tile), told in zip(tiles, said.tiles, strict=True):
        assert (told.layer, told.macro, told.copy, told.round) == (name, tile.macro, tile.copy, tile.round)
        assert told.rows == (tile.row0, tile.row0 + tile.levels.shape[0] - 1)
        assert told.outputs == (tile.output0, tile.output0 + tile.levels.shape[1] - 1)
        assert told.reads > 0
        assert told.reason
    assert said == explain(compiled(options, chip, macros))
    assert len(said.to_json()) == len(tiles)
    headings = sum(line.startswith("round ") for line in said.lines())
    assert headings == (program.rounds if program.rounds > 1 else 0)


def test_the_reasons_name_copies_slices_sharing_groups_and_rounds() -> None:
    plain = "\n".join(explain(compiled(LayoutOptions())).lines())
    assert "alone on its macro" in plain
    assert "bit slice of weight" in plain
    packed = "\n".join(explain(compiled(LayoutOptions(Placement.PACKED, 8))).lines())
    assert "shares macro 0 with" in packed
    assert "weight positions free without it" in packed
    assert "bottleneck layer:" in packed
    for macros, words in ((2, "larger than the chip: written in rounds"), (4, "written before round 1 runs")):
        rounds = explain(compiled(LayoutOptions(Placement.SPREAD, None, True), macros=macros))
        assert words in "\n".join(rounds.lines())
    grouped = "\n".join(explain(compiled(LayoutOptions(), "a111")).lines())
    assert "of 8 macros holds" in grouped


def test_a_bottleneck_is_told_with_its_reads_before_and_after() -> None:
    program = compiled(LayoutOptions(Placement.SPREAD, 40))
    step = next(m for m in program.matrices if m.group.copies > 1)
    told = [t for t in explain(program).tiles if t.layer == step.name]
    alone = sum(t.reads for t in told if t.piece == 0)
    busiest = max(t.reads for t in told)
    assert alone == step.group.window.positions * 8  # type: ignore[union-attr]
    assert all(f"bring {alone} to {busiest} reads" in t.reason for t in told)
