"""Forming of fresh cells from the host: a staircase of SET pulses, each cell until it reads as formed.

A cell is read before each pulse, so one that is formed is never pulsed again. A run that was killed goes on by its
journal (``hil.transports.journal``): what the chip answered is not asked again, and the map is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec, FormRecipe
from cim.files import read_text
from cim.json_text import parse_json
from firmware_protocols.messages import Description, Polarity
from hil.driver import requests as make
from hil.driver.chip_driver import ChipDriver
from hil.errors import FileError, UsageError
from hil.pages.tables import Table, labelled
from hil.report.work_folder import MAX_JSON_BYTES
from hil.watch import Watch

FORMAT, VERSION = "hil.forming", "1.0"
STATES = {".": "left alone", "b": "formed before", "f": "formed", "n": "did not form", "x": "lost"}
MOST_NAMED = 8  # cells of a macro that are named one by one

Cells = Mapping[int, NDArray[np.bool_]]
"""Chosen cells by macro, (rows, columns)."""


@dataclass(frozen=True, slots=True)
class FormedMacro:
    """State of each cell of a macro (a letter of ``STATES``) and its forming voltage (NaN: not formed), by row."""

    states: NDArray[np.str_]
    formed_v: NDArray[np.float64]
    pulses: int

    def count(self, states: str) -> int:
        return int(np.isin(self.states, list(states)).sum())

    def row(self, macro: int) -> tuple[str, ...]:
        """Macro, cells in each state, yield, and quartiles of the forming voltage."""
        asked, volts = self.count("bfnx"), self.formed_v[self.states == "f"]
        middle = " ".join(f"{v:.2f}" for v in np.quantile(volts, (0.25, 0.5, 0.75))) if len(volts) else "—"
        share = f"{100 * self.count('bf') / asked:.1f} %" if asked else "—"
        return (f"{macro}", *(f"{self.count(letter):,}" for letter in "bfnx"), share, middle)


def form_recipe(spec: ChipSpec) -> FormRecipe:
    """The forming of a chip file, within its limits.

    Raises:
        UsageError: the chip file has no [form]. hil.errors.DeviceError: above an absolute limit.
    """
    if spec.form is None:
        raise UsageError(
            f"{spec.source} does not say how its cells are formed", hint="add [form] to the chip file: docs/my-chip"
        )
    make.check_recipe(spec)
    return spec.form


def plan_of(spec: ChipSpec, chosen: Cells) -> Table:
    """The staircase and what it may take at most: pulses, chip time, wear."""
    form, cells = form_recipe(spec), sum(int(of.sum()) for of in chosen.values())
    most = form.most_pulses
    time_s = cells * (most * spec.timing.pulse_ns + (most + 1) * spec.timing.cell_read_ns) * 1e-9
    life = f"{100 * most / spec.life_pulses:.2g} % of a cell's life" if spec.life_pulses else "life not stated"
    return labelled(
        f"Forming of {spec.name}",
        ("cells", f"{cells:,} of {len(chosen)} macros"),
        ("staircase", f"SET {form.start_v:g} to {form.stop_v:g} V by {form.step_v:g} V, {form.pulses} pulses each, "
                   f"{form.pulse_width_ns:g} ns; at most {spec.limits.set_v:g} V"),
        ("target", f"{form.target_us:g} µS; above {form.lost_us:g} µS a cell is lost"),
        ("at most", f"{most} pulses a cell ({life}), {most * cells:,} in all, {time_s:.3g} s of chip time"),
    )  # fmt: skip


def form_cells(driver: ChipDriver, chosen: Cells, watch: Watch) -> dict[int, FormedMacro]:
    """Form the chosen cells that read as fresh, macro by macro; nobody else may use the chip meanwhile.

    Raises:
        UsageError: the chip file says no forming. hil.errors.DeviceError, hil.errors.LinkError: above a limit, refused
        or silent; what was formed stays, and the same journal goes on.
    """
    form = form_recipe(driver.spec)
    with watch.stage("forming"):
        return {macro: _form_macro(driver, form, macro, wanted, watch) for macro, wanted in chosen.items()}


def _form_macro(
    driver: ChipDriver, form: FormRecipe, macro: int, wanted: NDArray[np.bool_], watch: Watch
) -> FormedMacro:
    readings = driver.read_cells(macro)
    states = np.where(wanted, np.where(readings >= form.target_us, "b", "n"), ".")
    formed_v, pulses, staircase = np.full(wanted.shape, np.nan), 0, form.staircase_v
    for number, volts_v in enumerate(staircase):
        fresh = states == "n"
        if not fresh.any():
            break
        watch.step(number, len(staircase), f"macro {macro}: {int(fresh.sum()):,} cells at {volts_v:g} V")
        driver.pulse_cells(macro, fresh, Polarity.SET, volts_v, form.pulse_width_ns * 1e-9, number)
        pulses += int(fresh.sum())
        rows = np.flatnonzero(fresh.any(1))
        now = driver.read_cells(macro, sample=number + 1, lines=range(int(rows[0]), int(rows[-1]) + 1))
        readings = np.where(fresh, now, readings)
        formed = fresh & (readings >= form.target_us)
        states[formed], formed_v[formed] = "f", volts_v
    states[(states != ".") & (readings > form.lost_us)] = "x"
    return FormedMacro(states, formed_v, pulses)


def record_of(found: Mapping[int, FormedMacro], spec: ChipSpec, chip: Description, date: str) -> dict[str, Any]:
    """What a record file holds: the chip, its staircase and, by macro, a letter and a voltage for each cell."""
    return {
        "format": FORMAT, "version": VERSION, "date": date, "chip": chip.name, "serial": chip.serial, "kind": chip.kind,
        "form": dataclasses.asdict(form_recipe(spec)), "states": STATES,
        "macros": {
            str(macro): {
                "map": ["".join(row) for row in of.states],
                "formed_v": [[None if np.isnan(v) else v for v in row] for row in of.formed_v.tolist()],
                "pulses": of.pulses,
            }
            for macro, of in found.items()
        },
    }  # fmt: skip


def yielded(record: Mapping[str, Any]) -> bool:
    """Whether most of the chosen cells are formed."""
    return sum(of.count("bf") - of.count("nx") for of in formed_macros(record).values()) >= 0


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record of a forming; None: the file holds something else.

    Raises:
        FileError: the record is damaged.
    """
    try:
        record = parse_json(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    try:
        formed_macros(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path} is a damaged record of a forming: {error!r:.100}") from error
    return record


def formed_macros(record: Mapping[str, Any]) -> dict[int, FormedMacro]:
    """The macros of a record."""
    found = {}
    for macro, of in record["macros"].items():
        states, volts = np.array([list(row) for row in of["map"]]), np.array(of["formed_v"], np.float64)
        if states.ndim != 2 or states.shape != volts.shape or not np.isin(states, list(STATES)).all():
            raise ValueError(f"map of macro {macro}")
        found[int(macro)] = FormedMacro(states, volts, int(of["pulses"]))
    return found


def account_of(record: Mapping[str, Any], *, maps: bool) -> Sequence[str | Table]:
    """Yield by macro, the cells that did not form or were lost, and with ``maps`` each cell."""
    found = formed_macros(record)
    about = f"{record['kind']} {record['chip']} {record['serial']}, {record['date']}"
    header = ("macro", "before", "formed", "not formed", "lost", "yield", "formed at (V)")
    told: list[str | Table] = [about, Table("Forming", header, tuple(of.row(m) for m, of in found.items()))]
    for macro, of in found.items():
        for letter in "nx":
            cells = [f"{row},{column}" for row, column in np.argwhere(of.states == letter)]
            more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
            if cells:
                told.append(f"macro {macro} {STATES[letter]}: {' '.join(cells[:MOST_NAMED])}{more}")
        if maps:
            told += [f"macro {macro}, by word line; " + ", ".join(f"{k} {v}" for k, v in STATES.items())]
            told += ["".join(row) for row in of.states]
    return told
