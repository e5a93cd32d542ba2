"""Readings of an experiment as a page that draws itself anew while the experiment runs."""

from __future__ import annotations

from hil.calibration.pulsing.run import SHOWN_EVERY_S, CellAddress, CellReading, Series
from hil.pages.account import Account, Plot, Section
from hil.pages.figures import Figure, axis, figure, line, shown
from hil.pages.shell import page
from hil.pages.summary import Fact, Summary

PAGE_SUFFIX = ".html"
MOST_DRAWN = 12  # cells; of more, so many spread evenly
MOST_POINTS = 4000  # of a cell
COLOURS = ("@measured", "@simulated", "@ideal", "@good")


def pulse_page(series: Series, *, running: bool) -> str:
    """The whole page as text; one of a running experiment asks its browser to read it again."""
    of = {cell: series.of(cell) for cell in _some(series)}
    readings = sum(map(len, of.values()))
    facts = (
        Fact("cells", f"{len(series.cells)}"),
        Fact("readings", f"{len(series.readings):,}"),
        Fact("pulses a cell", f"{max((r.pulses for r in series.readings), default=0):,}"),
        Fact("state", "running" if running else "ended"),
    )
    mark = "" if series.kind == "silicon" else f"NOT SILICON · the chip is {series.kind}"
    return page(
        Account(
            Summary(f"Pulses: {series.experiment.name}", mark, parts=facts),
            (Section("Readings", (_plot(series, of) if readings else "No reading yet.",)),),
            subtitle=f"{series.kind} {series.spec.name} · read at {series.spec.macro.v_read_v:g} V",
        ),
        again_s=SHOWN_EVERY_S if running else 0,
    )


def _some(series: Series) -> list[CellAddress]:
    cells, count = series.cells, min(len(series.cells), MOST_DRAWN)
    return [cells[i * len(cells) // count] for i in range(count)]


def _plot(series: Series, of: dict[CellAddress, list[CellReading]]) -> Plot:
    over_time = series.experiment.over_time
    what = "time after the first reading" if over_time else "pulses"
    words = f"Conductance of {len(of)} of {len(series.cells)} cells against {what}, one line a cell."
    return Plot("readings", words, _readings(of, over_time))


def _readings(of: dict[CellAddress, list[CellReading]], over_time: bool) -> Figure:
    lines = []
    for number, (cell, readings) in enumerate(of.items()):
        step = -(-len(readings) // MOST_POINTS) or 1
        some = readings[::step]
        x = [r.time_s if over_time else r.pulses for r in some]
        drawn = line(x, [r.conductance_us for r in some], COLOURS[number % len(COLOURS)], "%{x:.4g}: %{y:.3f} µS")
        lines.append({**drawn, "name": shown(f"cell {cell}"), "showlegend": True})
    x_axis = axis("time (s)", type="log") if over_time else axis("pulses")
    return figure(lines, 420, x=x_axis, y=axis("conductance (µS)"))
