"""The network of a program as a graph: one row a step in order, arcs for what skips rows, and where each layer lies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hil.pages.tables import Table
from mapping.operators.step import Shape, Step
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep
from mapping.program.shapes import step_shapes

ROW_PX, LANE_PX, EDGE_PX = 24, 12, 14
WORDS_PX, STRIP_PX, PLACES_PX = 420, 240, 130  # columns: words beside the graph, macros, and their numbers
MOST_PLACES = 16  # characters of numbers
MOST_CHARACTERS = 24  # of a name in the drawing; the table below has all of it
COLOURS = 12  # of page.css: layer0 … layer11
INPUT = "input"
CAPTION = (
    "Steps of the network from top to bottom; arcs pass steps by. Squares: macros that hold a layer, in the order of "
    "their numbers."
)


@dataclass(frozen=True, slots=True)
class GraphRow:
    """One step: what it does, the shape of its output, macros that hold it, and its place in px."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    shape: Shape
    macros: tuple[int, ...]
    colour: int | None  # of a layer on macros
    y: int

    @property
    def short(self) -> str:
        return self.name if len(self.name) <= MOST_CHARACTERS else f"…{self.name[1 - MOST_CHARACTERS :]}"

    @property
    def size(self) -> str:
        return " × ".join(map(str, self.shape))

    @property
    def places(self) -> str:
        """Macros in words: "3-5, 9"."""
        return number_ranges(self.macros)

    @property
    def short_places(self) -> str:
        return self.places if len(self.places) <= MOST_PLACES else f"{self.places[: MOST_PLACES - 1]}…"


@dataclass(frozen=True, slots=True)
class NetworkGraphDrawing:
    """Rows and lines of the drawing in px; ``marks`` are squares, one a macro of a layer."""

    rows: tuple[GraphRow, ...]
    lines: tuple[str, ...]  # paths of SVG
    marks: tuple[tuple[float, int, int, int], ...]  # left edge, middle, colour, macro
    macros: tuple[int, ...]
    mark_px: float
    x: int  # of the steps

    @property
    def caption(self) -> str:
        return CAPTION

    @property
    def width(self) -> int:
        return self.x + WORDS_PX + STRIP_PX + PLACES_PX

    @property
    def height(self) -> int:
        return ROW_PX * (len(self.rows) + 1)

    @property
    def strip(self) -> tuple[int, float]:
        """Left edge and width of the column of macros."""
        return self.x + WORDS_PX, len(self.macros) * self.mark_px

    @property
    def table(self) -> Table:
        rows = tuple((r.name, r.operation, ", ".join(r.inputs), r.size, r.places) for r in self.rows)
        return Table("Steps of the network", ("step", "operation", "takes", "output", "macros"), rows)


def draw_network(program: ConductanceProgram) -> NetworkGraphDrawing:
    """The steps of a program from top to bottom, its macros from left to right."""
    shapes = step_shapes(program)
    rows = [GraphRow(INPUT, "pixels to codes", (), program.input.shape, (), None, _y(0))]
    held = program.layers
    colours = {name: k % COLOURS for k, name in enumerate(held)}
    for number, step in enumerate(program.steps, 1):
        layer = step.layer if isinstance(step, AgainStep) else step.name
        macros = sorted({t.macro for t in held[layer].group.tiles}) if layer in held else ()
        rows.append(
            GraphRow(
                step.name,
                _operation(step),
                step.inputs,
                shapes[step.name],
                tuple(macros),
                colours.get(layer),
                _y(number),
            )
        )
    lanes, lines = _lines(rows)
    x = EDGE_PX + LANE_PX * lanes
    mark_px = min(14.0, STRIP_PX / max(len(program.macros), 1))
    place = {macro: x + WORDS_PX + k * mark_px for k, macro in enumerate(program.macros)}
    marks = [(place[m], r.y, r.colour, m) for r in rows if r.colour is not None for m in r.macros]
    return NetworkGraphDrawing(tuple(rows), lines, tuple(marks), program.macros, mark_px, x)


def number_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in words: (3, 4, 5, 9) -> "3-5, 9"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def _operation(step: Step) -> str:
    if isinstance(step, AgainStep):
        return f"{step.layer} again"
    if isinstance(step, MatrixStep):
        window = step.group.window
        return "linear" if window is None else f"convolution {window.kernel[0]} × {window.kernel[1]}"
    name = type(step).__name__.removesuffix("Step")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _y(number: int) -> int:
    return ROW_PX * number + ROW_PX // 2


def _lines(rows: Sequence[GraphRow]) -> tuple[int, tuple[str, ...]]:
    """Lanes that arcs need on the left, and paths from every step to those that take its output.

    Arcs that are in use over the same rows lie in different lanes, the shorter ones nearer to the steps.
    """
    at = {row.name: number for number, row in enumerate(rows)}
    spans = sorted({(at[name], number) for number, row in enumerate(rows) for name in row.inputs}, key=_length)
    ends: list[list[tuple[int, int]]] = []
    lane_of: dict[tuple[int, int], int] = {}
    for first, last in spans:
        if last - first == 1:
            continue
        free = (k for k, used in enumerate(ends) if all(last <= a or b <= first for a, b in used))
        lane = next(free, len(ends))
        if lane == len(ends):
            ends.append([])
        ends[lane].append((first, last))
        lane_of[first, last] = lane
    x = EDGE_PX + LANE_PX * len(ends)
    return len(ends), tuple(_path(rows[a].y, rows[b].y, x, lane_of.get((a, b))) for a, b in spans)


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def _path(top: int, bottom: int, x: int, lane: int | None) -> str:
    if lane is None:
        return f"M{x} {top}V{bottom}"
    aside, bend = x - LANE_PX * (lane + 1), ROW_PX
    out = f"M{x} {top}C{aside} {top} {aside} {top} {aside} {top + bend}"
    return f"{out}V{bottom - bend}C{aside} {bottom} {aside} {bottom} {x} {bottom}"
