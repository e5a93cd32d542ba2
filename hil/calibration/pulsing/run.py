"""An experiment on cells of a chip through the driver: its actions in order, one reading of each cell a line."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cim.chip.spec import ChipSpec
from firmware_protocols.messages import CellBlock, Polarity
from hil.calibration.pulsing.experiments import Act, Action, Experiment
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.watch import Watch

SHOWN_EVERY_S = 2.0
MOST_CELLS = 4096
COLUMNS = (
    "cell", "time_s", "conductance_us", "initial_us", "read_v", "pulses",
    "macro", "row", "column", "pulse", "pulse_v", "pulse_s",
)  # fmt: skip
_CELL = re.compile(r"(?:(\d+):)?(\d+)(?:-(\d+))?,(\d+)(?:-(\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class CellAddress:
    """Macro, word line and bit line of one cell."""

    macro: int
    row: int
    column: int

    @property
    def block(self) -> CellBlock:
        return CellBlock(self.macro, self.row, 1, self.column, 1)

    def __str__(self) -> str:
        return f"{self.macro}:{self.row},{self.column}"


@dataclass(frozen=True, slots=True)
class CellReading:
    """One reading of a cell: chip time since the experiment began, conductance, pulses so far and the last pulse."""

    cell: CellAddress
    time_s: float
    conductance_us: float
    pulses: int
    last: Action


@dataclass
class Series:
    """Readings of an experiment in order; an interrupted experiment keeps the readings that it has."""

    experiment: Experiment
    spec: ChipSpec
    cells: tuple[CellAddress, ...]
    kind: str
    begun: float = field(default_factory=time.time)
    readings: list[CellReading] = field(default_factory=list)

    def of(self, cell: CellAddress) -> list[CellReading]:
        return [one for one in self.readings if one.cell == cell]


def cells_named(texts: Sequence[str], spec: ChipSpec) -> tuple[CellAddress, ...]:
    """Cells by their word lines and bit lines: "3,5", "0:3,5", "0:0-7,2-3"; macro 0 unless the text names one.

    Raises:
        UsageError: the chip does not have these cells.
    """
    found: dict[CellAddress, None] = {}
    for text in texts:
        macro, rows, columns = cells_of(text, spec)
        if len(rows) * len(columns) > MOST_CELLS:
            raise UsageError(f"cells {text}: at most {MOST_CELLS} cells are taken")
        found |= dict.fromkeys(CellAddress(macro, r, c) for r in rows for c in columns)
    return tuple(found)


def cells_of(text: str, spec: ChipSpec) -> tuple[int, range, range]:
    """Macro, word lines and bit lines of one text as "0:0-7,2-3"."""
    matched = _CELL.fullmatch(text.strip())
    if matched is None:
        raise UsageError(f"{text!r:.60} names no cells", hint="hil board pulse noise --cell 0:3-7,5")
    macro, row, last_row, column, last_column = (int(g or 0) for g in matched.groups())
    rows = range(row, (last_row if matched[3] else row) + 1)
    columns = range(column, (last_column if matched[5] else column) + 1)
    inside = macro < spec.macros and rows.stop <= spec.macro.rows and columns.stop <= spec.macro.columns
    if not inside or not rows or not columns:
        raise UsageError(
            f"cells {text}: {spec.name} has {spec.macros} macros of {spec.macro.rows} word lines and "
            f"{spec.macro.columns} bit lines"
        )
    return macro, rows, columns


def run_experiment(
    driver: ChipDriver,
    series: Series,
    *,
    watch: Watch,
    shown: Callable[[Series], None] = lambda series: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Carry out an experiment; readings are added to ``series``, which is ``shown`` now and then.

    Raises:
        UsageError: an action beyond the limits of the chip file; nothing was done then.
        hil.errors.DeviceError, hil.errors.LinkError: the chip refused or fell silent; it is switched off by its driver.
    """
    experiment, blocks = series.experiment, [cell.block for cell in series.cells]
    count = experiment.check(driver.spec)
    for macro in {cell.macro for cell in series.cells}:
        chosen = np.zeros((driver.spec.macro.rows, driver.spec.macro.columns), np.bool_)
        for cell in series.cells:
            chosen[cell.row, cell.column] |= cell.macro == macro
        driver.check_formed(macro, chosen)
    begun_ns, pulses, last, due = driver.chip_time_ns, 0, Action(Act.READ), clock()
    with watch.stage("pulsing"):
        for number, action in enumerate(experiment.actions(driver.spec)):
            watch.step(number, count, f"{action.act} {number + 1} of {count}")
            match action.act:
                case Act.WAIT:
                    driver.wait(action.seconds)
                case Act.READ:
                    found = driver.read_single(blocks, reads=experiment.reads, sample=number)
                    now_s = (driver.chip_time_ns - begun_ns) * 1e-9
                    series.readings += [
                        CellReading(cell, now_s, float(g), pulses, last)
                        for cell, g in zip(series.cells, found, strict=True)
                    ]
                case _:
                    polarity = Polarity.SET if action.act is Act.SET else Polarity.RESET
                    driver.pulse_single(blocks, polarity, action.volts_v, action.seconds, sample=number)
                    pulses, last = pulses + 1, action
            if clock() >= due:
                shown(series)
                due = clock() + SHOWN_EVERY_S


def series_csv(series: Series) -> str:
    """The readings as CSV, one a row: the columns that ``hil chip fit`` reads, and further columns of pulses."""
    first: dict[CellAddress, float] = {}
    numbers = {cell: number for number, cell in enumerate(series.cells)}
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in series.readings:
        initial, at, last = first.setdefault(one.cell, one.conductance_us), one.cell, one.last
        pulse = ("", "", "") if last.act is Act.READ else (last.act.value, f"{last.volts_v:g}", f"{last.seconds:g}")
        lines.writerow(
            (
                numbers[at], f"{one.time_s:.9g}", f"{one.conductance_us:.6g}", f"{initial:.6g}",
                f"{series.spec.macro.v_read_v:g}", one.pulses, at.macro, at.row, at.column, *pulse,
            )
        )  # fmt: skip
    return text.getvalue()
