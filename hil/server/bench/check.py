"""``hil bench check``: a bench file and its instruments, looked at before a chip is trusted to them."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_protocols.capability import COMPUTED_PRODUCTS
from firmware_protocols.messages import CellBlock, CellReadings, Progress, ReadCells
from hil.pages.tables import Table
from hil.server.bench.bench_file import ROLES, load_bench
from hil.server.bench.chip import BenchChip

_FOR_S = 1.0  # how long rows are read
_UNIT_NS = 1


@dataclass(frozen=True, slots=True)
class CheckedInstrument:
    """One instrument as it answered."""

    name: str
    model: str
    port: str
    identity: str
    roles: tuple[str, ...]
    off_by_itself: str
    off_within_s: float
    voltage_limit: str


@dataclass(frozen=True, slots=True)
class BenchCheck:
    """A bench that answered; limits were set and read back, outputs went on and off. Rates are of this machine."""

    name: str
    chip: str
    instruments: tuple[CheckedInstrument, ...]
    computes_products: bool
    lacking: tuple[str, ...]
    resolution_a: float
    rows_per_s: float
    rows_per_processor_s: float  # of this program: what it would read if nothing else ran, and the line took no time
    median_cell_a: float
    outputs: str  # how they were left

    def lines(self) -> list[str | Table]:
        rows = tuple(
            (i.name, i.model, i.identity, ", ".join(i.roles), f"{i.off_by_itself}; {i.off_within_s:g} s")
            for i in self.instruments
        )
        products = COMPUTED_PRODUCTS if self.computes_products else "products with all rows driven at once"
        return [
            f"{self.name} before {self.chip}: limits set and read back, outputs on; now {self.outputs}",
            Table("Instruments", ("name", "model", "says", "roles", "outputs go off by"), rows),
            *(
                f"voltages   of {i.name} are held inside it by {i.voltage_limit}"
                for i in self.instruments
                if "drive" in i.roles
            ),
            f"products   {products}",
            f"currents   resolution {self.resolution_a:g} A; median of the cells {self.median_cell_a:.3g} A",
            f"rate       {self.rows_per_s:,.0f} rows of cells a second",
            f"at best    {self.rows_per_processor_s:,.0f} a second of this program's processor time",
            f"lacks      {', '.join(self.lacking) or 'nothing'}",
        ]

    def to_json(self) -> dict[str, Any]:
        return {"bench": "hil.bench_check/1.0", **dataclasses.asdict(self)}


def check_bench(path: str | Path) -> BenchCheck:
    """Check a bench file, open what it names, read rows for a second with outputs on, and switch them off.

    Raises:
        hil.server.bench.faults.BenchFileError, PortError, InstrumentSilent, InstrumentFault.
    """
    bench = load_bench(path)
    chip, macro = BenchChip(bench), bench.chip.macro
    with contextlib.closing(chip):
        chip.switch_on()
        rows, start_s, work_s = 0, time.monotonic(), time.process_time()
        while (lasted_s := time.monotonic() - start_s) < _FOR_S or not rows:
            request = ReadCells(CellBlock(0, 0, macro.rows, 0, macro.columns), _UNIT_NS, 1, rows)
            reading = _whole(chip.read_cells(request))
            rows += macro.rows
        work_s = time.process_time() - work_s
        found = tuple(
            CheckedInstrument(
                name=name,
                model=i.model.name,
                port=i.entry.port,
                identity=identity,
                roles=tuple(role for role in ROLES if name in bench.roles.get(role, ())),
                off_by_itself=i.model.off_by_itself,
                off_within_s=bench.off_within_s + i.model.settle_s,
                voltage_limit=i.model.voltage_limit.by,
            )
            for (name, i), identity in zip(chip.instruments.items(), chip.identities, strict=True)
        )
    steps = [span.step for e in bench.of_role("sense") if (span := e.model.ranges.get("current_a")) is not None]
    return BenchCheck(
        name=bench.name,
        chip=f"{bench.chip.name} of {bench.chip.source}",
        instruments=found,
        computes_products=bench.computes_products,
        lacking=tuple(role for role in ROLES if role not in bench.roles),
        resolution_a=max(steps, default=0.0),
        rows_per_s=rows / lasted_s,
        rows_per_processor_s=rows / work_s,
        outputs=str(chip.outputs),
        median_cell_a=float(np.median(reading.readings) * _UNIT_NS * 1e-9 * macro.v_read_v),
    )


def _whole(steps: Generator[Progress | None, None, CellReadings]) -> CellReadings:
    """Carry a verb out to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            reading: CellReadings = end.value
            return reading
