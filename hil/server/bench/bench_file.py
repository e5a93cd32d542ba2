"""Bench files: which instruments stand before which chip, and how they are wired to it.

::

    format = "hil.bench"
    version = "1.0"

    [bench]
    name = "row board on desk 3"
    chip = "macro-32.toml"           # chip file: a name of `hil chip list`, or a path, relative to this file
    serial = "die 4"                 # which chip of that kind

    [instruments.board]              # one table an instrument, under a name of your own
    model = "row-board"              # a name of `hil bench models`, or a path, relative to this file
    port = "/dev/ttyACM0"            # serial port, tcp://host:port, unix:path, visa:RESOURCE
    baud = 921600                    # serial ports only

    [roles]                          # which of them does what; of a bench of one instrument it may be left out
    address = "board"
    drive = "board"
    sense = "board"
    power = "board"
    thermal = "board"                # optional

    [wiring]
    rows_at_once = 1                 # word lines that can be driven at once; below the chip's: products are computed
    columns_at_once = 32             # bit lines that are measured by one order
    rows = { first = 0 }             # contacts of word line 0, 1, …: channels from a number on,
    columns = ["1A01", "1A02"]       # or a list, one a line;
    table = "wiring.csv"             # or, for both, a file with a head line,number,contact (line: row or column)

    [read]
    settle_s = 0.0                   # after a voltage, before its current is measured
    averages = 1                     # readings that the instrument averages in one

    [safety]
    current_a = 5e-4                 # compliance of every output
    off_within_s = 0.5               # without an order all outputs go off
    without_compliance = false       # true: an instrument may be used whose model says that nothing limits its currents

Voltages, widths and their limits are the chip file's: they are set and read back before any output goes on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cim.chip.field_checks import count, flag, number, text
from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from cim.files import read_text
from hil.server.bench.faults import BenchFileError
from hil.server.bench.model_file import InstrumentModel, load_model
from hil.server.bench.roles import Contact, Crossing
from hil.server.bench.toml_tables import CheckedFile
from hil.transports import DEFAULT_BAUD

FORMAT, VERSION = "hil.bench", (1, 0)
ROLES: Mapping[str, tuple[str, ...]] = {  # and the orders, or values of orders, that each needs; of several, any one
    "address": ("select|currents.row|currents.rows_volts_v",),
    "drive": ("volts|rows_volts|pulse",),  # of several: one holds voltages, one gives pulses
    "sense": ("currents",),
    "power": ("off",),
    "thermal": ("temperature",),
}
NEEDED = ("address", "drive", "sense", "power")


@dataclass(frozen=True, slots=True)
class InstrumentEntry:
    """One instrument of a bench."""

    name: str
    model: InstrumentModel
    port: str
    baud: int

    @property
    def line(self) -> str:
        """The address of its line, as ``hil.transports.open_transport`` takes it."""
        return f"{self.port}?baud={self.baud}"


@dataclass(frozen=True, slots=True)
class BenchFile:
    """A checked bench."""

    path: str
    name: str
    chip: ChipSpec
    serial: str
    instruments: Mapping[str, InstrumentEntry]
    roles: Mapping[str, tuple[str, ...]]  # instruments of each role
    wiring: Wiring
    settle_s: float
    averages: int
    current_a: float
    off_within_s: float

    @property
    def computes_products(self) -> bool:
        """Whether products are computed from single reads, because not all rows of one can be driven at once."""
        return self.wiring.rows_at_once < self.chip.macro.logical_rows

    @property
    def drives(self) -> tuple[InstrumentEntry, InstrumentEntry]:
        """What holds voltages, and what gives pulses: a pulse generator where there is one."""
        found = self.of_role("drive")
        holds = [entry for entry in found if {"volts", "rows_volts"} & set(entry.model.orders)]
        return (holds or found)[0], next((entry for entry in found if entry not in holds), found[0])

    def highest_v(self, name: str) -> float:
        """The highest voltage that an instrument may give: for what gives no pulses, that of a reading."""
        limits, pulser = self.chip.limits, self.drives[1]
        return max(limits.read_v, limits.set_v, limits.reset_v) if name == pulser.name else limits.read_v

    def of_role(self, role: str) -> tuple[InstrumentEntry, ...]:
        return tuple(self.instruments[name] for name in self.roles.get(role, ()))


def load_bench(path: str | Path) -> BenchFile:
    """Read and check a bench file and all that it names; nothing is opened.

    Raises:
        BenchFileError: missing or wrong; with file, line, key, value, limit and what to write.
        cim.chip.file.ChipFileError: the chip file is.
    """
    path = Path(path)
    file = CheckedFile.read(path, FORMAT, VERSION)
    data = file.file.data
    file.names(("bench", "instruments", "roles", "wiring", "read", "safety"))
    about = file.table(
        "bench", data.get("bench"), {"name": text, "chip": text, "serial": text, "macros": count(1, 65535)},
        {"serial": "1", "macros": None},
    )  # fmt: skip
    chip_name = about["chip"]
    named = "/" not in chip_name and not chip_name.endswith(".toml")
    chip = load_chip(chip_name if named else path.parent / chip_name, macros=about["macros"])
    instruments = _instruments(file, data.get("instruments"), path.parent)
    read = file.table(
        "read",
        data.get("read"),
        {"settle_s": number(0, 10), "averages": count(1, 65535)},
        {"settle_s": 0.0, "averages": 1},
    )
    safety = file.table(
        "safety", data.get("safety"),
        {"current_a": number(1e-12, 10), "off_within_s": number(0.01, 60), "without_compliance": flag},
        {"without_compliance": False},
    )  # fmt: skip
    for name, entry in instruments.items():
        if entry.model.no_compliance and not safety["without_compliance"]:
            file.fail(
                f"instruments.{name}.model",
                f"nothing limits the currents of {entry.model.name}: {entry.model.no_compliance}",
                "without_compliance = true under [safety], if transistors of the cells or series resistors do",
            )
    bench = BenchFile(
        path=str(path),
        name=about["name"],
        chip=chip,
        serial=about["serial"],
        instruments=instruments,
        roles=_roles(file, data.get("roles"), instruments),
        wiring=wiring_of(file, data.get("wiring"), chip, path.parent),
        settle_s=read["settle_s"],
        averages=read["averages"],
        current_a=safety["current_a"],
        off_within_s=safety["off_within_s"],
    )
    _check_ranges(file, bench)
    return bench


def _instruments(file: CheckedFile, data: Any, folder: Path) -> dict[str, InstrumentEntry]:
    if not isinstance(data, dict) or not data:
        file.fail("instruments", "is missing", "[instruments.board]")
    found = {}
    for name, table in data.items():
        key = f"instruments.{name}"
        checks = {"model": text, "port": _port, "baud": count(1, 100_000_000)}
        values = file.table(key, table, checks, {"baud": DEFAULT_BAUD})
        try:
            model = load_model(values["model"], folder)
        except BenchFileError as error:
            if error.key:
                raise
            file.fail(f"{key}.model", error.text)
        found[name] = InstrumentEntry(name, model, values["port"], values["baud"])
    return found


def _port(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 400:
        raise ValueError(f"{value!r:.60} is not an address such as /dev/ttyACM0, tcp://host:port or visa:RESOURCE")
    return value


def _roles(file: CheckedFile, data: Any, instruments: Mapping[str, InstrumentEntry]) -> dict[str, tuple[str, ...]]:
    def names(value: Any) -> tuple[str, ...]:
        asked = (value,) if isinstance(value, str) else value
        if not isinstance(asked, list | tuple) or not asked or any(name not in instruments for name in asked):
            raise ValueError(f"{value!r:.60} is no instrument of this file; there are {', '.join(instruments)}")
        return tuple(asked)

    if data is None and len(instruments) == 1:
        name, entry = next(iter(instruments.items()))
        found: dict[str, tuple[str, ...]] = {role: (name,) for role in ROLES if not _lacks(entry.model, role)}
    else:
        given = file.table("roles", data, dict.fromkeys(ROLES, names), dict.fromkeys(ROLES))
        found = {role: chosen for role, chosen in given.items() if chosen}
    for role in NEEDED:
        if role not in found:
            file.fail(f"roles.{role}", "is done by nobody", f'{role} = "{next(iter(instruments))}"')
    for role, chosen in found.items():
        for name in chosen:
            if lacking := _lacks(instruments[name].model, role):
                what = f"{name} ({instruments[name].model.name}) cannot be it: its model has no order {lacking}"
                file.fail(f"roles.{role}", what, f"add [orders.{lacking.partition('|')[0]}] to the model")
    return found


def _lacks(model: InstrumentModel, role: str) -> str:
    def has(what: str) -> bool:
        order, _, value = what.partition(".")
        return model.uses(order, value) if value else order in model.orders

    return next((needed for needed in ROLES[role] if not any(map(has, needed.split("|")))), "")


def _check_ranges(file: CheckedFile, bench: BenchFile) -> None:
    """Require that the instruments give what the chip file needs: voltages, currents, pulse widths."""
    chip, limits, (drive, pulser) = bench.chip, bench.chip.limits, bench.drives
    highest_a = chip.macro.levels_us[-1] * 1e-6 * chip.macro.v_read_v
    asked = (
        ((drive,), "drive_v", "read voltage", chip.macro.v_read_v, "V"),
        ((pulser,), "pulse_v", "highest SET voltage", limits.set_v, "V"),
        ((pulser,), "pulse_v", "highest RESET voltage", -limits.reset_v, "V"),
        ((pulser,), "width_s", "longest pulse", limits.pulse_width_ns * 1e-9, "s"),
        ((pulser,), "width_s", "pulse of the recipe", chip.write.pulse_width_ns * 1e-9, "s"),
        (bench.of_role("sense"), "current_a", "current of the highest level", highest_a, "A"),
    )
    for entries, name, what, value, unit in asked:
        for entry in entries:
            span = entry.model.ranges.get(name)
            if span is not None and not span.holds(value):
                file.fail(
                    f"instruments.{entry.name}.model",
                    f"{what} of {chip.source} is {value:g} {unit}, and {entry.model.name} goes from {span.low:g} to "
                    f"{span.high:g} {unit}",
                    "another instrument, or limits of the chip file that it can keep",
                )
    for entry in bench.of_role("power"):
        try:
            entry.model.voltage_limit.held_v(bench.highest_v(entry.name))
        except ValueError as error:
            file.fail(f"instruments.{entry.name}.model", f"{entry.model.name} {error}", "lower limits of the chip file")


_MOST_BYTES = 1 << 22  # of a table


@dataclass(frozen=True, slots=True)
class Wiring:
    """Contacts of every word line and bit line of a macro, in their order."""

    rows: tuple[Contact, ...]
    columns: tuple[Contact, ...]
    rows_at_once: int
    columns_at_once: int

    def crossings(
        self, macro: int, row: int | None, columns: Sequence[int], at_once: int | None = None
    ) -> Iterator[tuple[Crossing, slice]]:
        """Runs of bit lines that one order can reach, and where in ``columns`` they stand; ``row`` None: all rows."""
        at_once = at_once or self.columns_at_once
        rows = () if row is None else (self.rows[row],)
        contacts = [self.columns[c] for c in columns]
        start = 0
        for end in range(1, len(contacts) + 1):
            if end - start == at_once or end == len(contacts) or not _next_to(*contacts[end - 1 : end + 1]):
                yield Crossing(macro, rows, tuple(contacts[start:end])), slice(start, end)
                start = end


def _next_to(one: Contact, other: Contact) -> bool:
    return isinstance(one, int) and isinstance(other, int) and other == one + 1


def wiring_of(file: CheckedFile, data: Any, chip: ChipSpec, folder: Path) -> Wiring:
    macro = chip.macro
    checks = {
        "rows_at_once": count(1, macro.rows), "columns_at_once": count(1, macro.columns),
        "rows": lambda value: _contacts(value, macro.rows), "columns": lambda value: _contacts(value, macro.columns),
        "table": text,
    }  # fmt: skip
    values = file.table("wiring", data, checks, {"rows": None, "columns": None, "table": None})
    if values["table"] is not None:
        if values["rows"] or values["columns"]:
            file.fail("wiring.table", "stands beside rows or columns; one of the two says where the lines are")
        rows, columns = _table(folder / values["table"], macro.rows, macro.columns)
    else:
        rows = values["rows"] or tuple(range(macro.rows))
        columns = values["columns"] or tuple(range(macro.columns))
    return Wiring(rows, columns, values["rows_at_once"], values["columns_at_once"])


def _contacts(value: Any, lines: int) -> tuple[Contact, ...]:
    if isinstance(value, dict) and set(value) == {"first"}:
        first = count(0, 1 << 20)(value["first"])
        return tuple(range(first, first + lines))
    if not isinstance(value, list) or len(value) != lines:
        what = f"a list of {len(value)}" if isinstance(value, list) else f"{value!r:.60}"
        raise ValueError(f"{what}; the chip has {lines} such lines: a list of {lines} contacts, or {{ first = 0 }}")
    if any(isinstance(c, bool) or not isinstance(c, int | str) for c in value) or len(set(value)) < lines:
        raise ValueError("contacts are numbers or texts, each once")
    return tuple(value)


def _table(path: Path, rows: int, columns: int) -> tuple[tuple[Contact, ...], tuple[Contact, ...]]:
    """Contacts from a CSV file with a head ``line,number,contact``."""
    found: dict[str, dict[int, Contact]] = {"row": {}, "column": {}}
    for at, entry in enumerate(_csv(path, ("line", "number", "contact")), 2):
        kind, number_text, contact = entry["line"], entry["number"] or "", entry["contact"] or ""
        limit = {"row": rows, "column": columns}.get(kind)
        if limit is None:
            raise BenchFileError(str(path), at, "line", f"{kind!r:.40} is neither row nor column")
        if not number_text.isdecimal() or int(number_text) >= limit or int(number_text) in found[kind]:
            why = f"{number_text!r:.40} is not a {kind} from 0 to {limit - 1} that has no contact yet"
            raise BenchFileError(str(path), at, "number", why)
        found[kind][int(number_text)] = int(contact) if contact.isdecimal() else contact
    for kind, limit in (("row", rows), ("column", columns)):
        if missing := next((n for n in range(limit) if n not in found[kind]), None):
            raise BenchFileError(str(path), 1, kind, f"{missing} has no contact", f"{kind},{missing},CONTACT")
    return tuple(found["row"][n] for n in range(rows)), tuple(found["column"][n] for n in range(columns))


def _csv(path: Path, head: tuple[str, ...]) -> list[dict[str, str]]:
    """Lines of a CSV file with such a head."""
    try:
        lines = csv.DictReader(io.StringIO(read_text(path, _MOST_BYTES)))
        if lines.fieldnames is None or set(lines.fieldnames) != set(head):
            raise BenchFileError(str(path), 1, "head", f"is {lines.fieldnames}", ",".join(head))
        return list(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchFileError(str(path), 1, "", f"cannot be read ({error})") from error
