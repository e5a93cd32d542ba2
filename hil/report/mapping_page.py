"""A compiled program as one self-contained page: which tiles lie where."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from html import escape

from hil.pages.account import Account, Plot, Section
from hil.pages.figures import Figure, figure
from hil.pages.shell import page
from hil.pages.summary import Summary
from hil.pages.tables import Table
from mapping.compile import MappingPlan, plan
from mapping.program.conductance import ConductanceProgram, Tile

COLOURS = 12  # of page.css: layer0 … layer11
BARE = {"showgrid": False, "zeroline": False, "showticklabels": False, "showline": False, "ticks": ""}


def mapping_page(program: ConductanceProgram) -> str:
    """The whole page as text (about 5 MB, nearly all of it Plotly)."""
    summary, usage = plan(program), macro_usage(program)
    tiles = (
        "Tiles on logical rows (down) and outputs (across) of every macro in use, coloured by layer; "
        "the tables below say the same."
    )
    return page(
        Account(
            Summary(f"{len(summary.layers)} layers on {summary.chip}"),
            (
                Section("Macros", (Plot("tiles", tiles, occupancy_figure(program)),)),
                Section("Layers", (layer_table(summary),)),
                Section("Macros in use", (macro_table(usage),)),
            ),
            title=f"{summary.chip}: {summary.tiles} tiles on {summary.macros_used} macros",
            subtitle=f"W{program.weight_bits}A{program.activation_bits}, {summary.lines()[-1]} · "
            f"program {program.digest[:16]}…",
        )
    )


@dataclass(frozen=True, slots=True)
class MacroUse:
    """One macro in use: its layers, tiles, and the share of its weight positions that hold a weight."""

    macro: int
    layers: tuple[str, ...]
    tiles: int
    share: float


def macro_usage(program: ConductanceProgram) -> tuple[MacroUse, ...]:
    """Use of every macro, in their order."""
    spec = program.spec.macro
    held: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for step in program.matrices:
        for tile in step.group.tiles:
            held[tile.macro].append((step.name, tile.levels.size))
    positions = len(spec.word_lines) * spec.outputs
    return tuple(
        MacroUse(m, tuple(dict.fromkeys(n for n, _ in tiles)), len(tiles), sum(size for _, size in tiles) / positions)
        for m, tiles in sorted(held.items())
    )


def occupancy_figure(program: ConductanceProgram) -> Figure:
    """Every macro a box of logical rows and outputs, every tile a rectangle in it; the legend switches layers."""
    spec = program.spec.macro
    rows, outputs = len(spec.word_lines), spec.outputs
    across = min(len(program.macros), max(1, round(math.sqrt(len(program.macros) * 2.5 * rows / outputs))))
    gap = max(rows, outputs) // 6
    corner = {m: (i % across * (outputs + gap), i // across * (rows + gap) + gap) for i, m in enumerate(program.macros)}
    share = {u.macro: u.share for u in macro_usage(program)}
    data: list[Figure] = []
    for k, step in enumerate(program.matrices):
        tiles = step.group.tiles
        data.append(
            {
                "type": "bar",
                "name": step.name,
                "x": [corner[t.macro][0] + t.output0 + len(t.outputs) / 2 for t in tiles],
                "width": [len(t.outputs) for t in tiles],
                "base": [corner[t.macro][1] + t.row0 for t in tiles],
                "y": [len(t.inputs) for t in tiles],
                "hovertext": [_words(step.name, t, share[t.macro]) for t in tiles],
                "hovertemplate": "%{hovertext}<extra></extra>",
                "marker": {"color": f"@layer{k % COLOURS}", "line": {"color": "@surface", "width": 1}},
            }
        )
    notes, boxes = [], []
    for macro, (left, top) in corner.items():
        text = f"macro {macro}" if across <= 8 else str(macro)
        note = {"x": left + outputs / 2, "y": top, "yanchor": "bottom", "text": text, "showarrow": False}
        notes.append({**note, "borderpad": 1, "font": {"size": 10}})
        box = {"type": "rect", "x0": left, "x1": left + outputs, "y0": top, "y1": top + rows, "layer": "below"}
        boxes.append({**box, "fillcolor": "@ground", "line": {"width": 1, "color": "@line"}})
    deep = math.ceil(len(program.macros) / across) * (rows + gap)
    wide = across * (outputs + gap)
    x = {**BARE, "range": [-gap / 2, wide - gap / 2], "constrain": "domain"}
    y = {**BARE, "range": [deep + gap / 4, 0], "scaleanchor": "x", "constrain": "domain"}
    height = int(min(1000, max(260, 100 + 1000 * deep / wide)))
    layout = {"barmode": "overlay", "annotations": notes, "shapes": boxes, "showlegend": len(data) <= 40}
    return figure(data, height, x=x, y=y, left=10, bottom=10, **layout)


def _words(layer: str, tile: Tile, share: float) -> str:
    """Text at a pointer on a tile; Plotly takes it for markup, so names are escaped."""
    slices = f"<br>slice of weight {tile.multiplier}" if tile.multiplier > 1 else ""
    return (
        f"{escape(layer)}<br>macro {tile.macro}, {share:.0%} of it in use"
        f"<br>rows {tile.row0}-{tile.row0 + len(tile.inputs) - 1}, "
        f"outputs {tile.output0}-{tile.output0 + len(tile.outputs) - 1}"
        f"<br>inputs {tile.inputs.start}-{tile.inputs.stop - 1}, "
        f"outputs {tile.outputs.start}-{tile.outputs.stop - 1} of the layer{slices}"
    )


def layer_table(summary: MappingPlan) -> Table:
    """Every layer: its matrix, bits and tiles, and how often conversions end at the ends of its range."""
    rows = tuple(
        (
            p.layer,
            f"{p.inputs} × {p.outputs}",
            f"W{p.weight_bits}A{p.input_bits}",
            f"{p.tiles}",
            f"{p.slices}",
            f"{p.copies}",
            f"{p.averages}",
            f"{p.cells:,}",
            f"{p.range_us:g} µS",
            f"{p.saturated_share:.3%}",
        )
        for p in summary.layers
    )
    header = (
        "layer",
        "matrix",
        "bits",
        "tiles",
        "slices",
        "copies",
        "averaged",
        "weight positions",
        "ADC range",
        "at its ends",
    )
    return Table("Layers", header, rows)


def macro_table(usage: tuple[MacroUse, ...]) -> Table:
    rows = tuple((f"{u.macro}", ", ".join(u.layers), f"{u.tiles}", f"{u.share:.1%}") for u in usage)
    return Table("Macros in use", ("macro", "layers", "tiles", "weight positions in use"), rows)
