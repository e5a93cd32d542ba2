"""Model files: one instrument as data, from its manual. ``models`` has ours; a path names a stranger's.

::

    format = "hil.instrument"
    version = "1.0"

    [instrument]
    name = "row-board"
    identity = "ROW-BOARD"           # must stand in the answer to orders.identity
    source = "manual or firmware that the orders are of"
    no_compliance = "why"            # only where no order limits its current: a bench file must then agree to that

    [link]
    form = "words"                   # lines | words
    byte_order = "little"            # of words
    end = "\\n"                       # of a line; lines only
    join = ";"                       # several orders in one line; left out: one order a line
    list = ","                       # between values of a list
    acknowledge = "ACK"              # what each line is answered that has no answer of its own; left out: nothing
    most_bytes = 4096                # of orders that its input buffer takes
    timeout_s = 2.0                  # longest silence while an answer is due
    wakes_s = 0.0                    # after its line is opened; what it says until then is dropped

    [ranges]                         # of what it gives and measures: low, high, and the step between two values
    drive_v = { low = 0.0, high = 5.0, step = 0.001 }
    pulse_v = { low = -5.0, high = 5.0, step = 0.001 }
    width_s = { low = 1e-7, high = 1.0, step = 1e-8 }
    current_a = { low = -1e-3, high = 1e-3, step = 1e-10 }
    reads = { low = 1, high = 100, step = 1 }   # readings that it averages in one

    [voltage_limit]                  # may be left out
    by = "its over-voltage protection"   # what holds voltages inside it, set by {volts_v} of orders.limits
    steps_v = [2.0, 5.0, 10.0]       # limits that it can hold; left out: any. The next above the chip file's is set

    [off]                            # what turns its outputs off when its host is gone
    by_itself = "its own timer, set by orders.timer before outputs go on"
    settle_s = 0.01                  # from the order until no voltage is left

    [orders.currents]                # one table an order; order_tables.ORDERS has their names and values
    send = ["u1:0x22", "u1:reads"]
    reply = { form = "words", type = "i4", unit = 1e-9, tripped = 2147483647 }

    [orders.pulse]
    send = ["WIDTH {width_s:.3e}", "PULSE {volts_v:.3f}"]
    until = { ask = "DONE?", done = "1", busy = "0", every_s = 0.05, within_s = 60.0 }  # asked again and again
    then = ["DISCONNECT"]            # lines behind that; a reply is always that of the last line

Where a compliance is part of every order that gives a voltage (``{current_a}``), ``orders.limits`` may be left out.
Without ``orders.timer`` a guard process watches the host instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cim.chip.field_checks import count, number, text
from hil.server.bench.faults import BenchFileError
from hil.server.bench.order_tables import ORDERS, ModelOrder, OrderForm, choice
from hil.server.bench.roles import Value
from hil.server.bench.toml_tables import CheckedFile

FORMAT, VERSION = "hil.instrument", (1, 0)


@dataclass(frozen=True, slots=True)
class Range:
    """What an instrument can give or measure."""

    low: float
    high: float
    step: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class VoltageLimit:
    """What holds voltages inside an instrument, whatever its host sends; ``steps_v``: limits that it can hold."""

    by: str
    steps_v: tuple[float, ...]

    def held_v(self, volts_v: float) -> float:
        """The lowest limit that lets ``volts_v`` pass; raises ``ValueError`` where there is none."""
        if not self.steps_v:
            return volts_v
        found = min((step for step in self.steps_v if step >= volts_v), default=None)
        if found is None:
            raise ValueError(f"holds no limit above {max(self.steps_v):g} V")
        return found


@dataclass(frozen=True, slots=True)
class LinkForm:
    """How orders are put on the line."""

    words: bool
    end: bytes
    join: bytes | None
    most_bytes: int
    timeout_s: float
    acknowledge: str | None
    wakes_s: float


@dataclass(frozen=True, slots=True)
class InstrumentModel:
    """One kind of instrument."""

    name: str
    identity: str
    source: str
    link: LinkForm
    ranges: Mapping[str, Range]
    voltage_limit: VoltageLimit
    off_by_itself: str
    settle_s: float
    no_error: str
    no_compliance: str
    orders: Mapping[str, ModelOrder]

    @property
    def has_timer(self) -> bool:
        return "timer" in self.orders

    def lines(self, order: str, values: Mapping[str, Value]) -> list[bytes]:
        """An order as it goes on the line, line by line; of words it is one. Raises ``KeyError``, ``ValueError``."""
        data = self.orders[order].send.encode(values)
        return [data] if self.link.words else [line + self.link.end for line in data.split(b"\n")]

    def uses(self, order: str, value: str) -> bool:
        """Whether it has an order that names a value."""
        return order in self.orders and value in self.orders[order].values


def model_names() -> list[str]:
    """Names of the models that come with the package."""
    folder = resources.files("hil.server.bench").joinpath("models")
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load_model(name: str, beside: Path) -> InstrumentModel:
    """A model by its name, or by the path of its file, which may be relative to the folder ``beside``.

    Raises:
        BenchFileError: missing, or wrong; with file, line, key, value and what may stand there.
    """
    if "/" not in name and not name.endswith(".toml"):
        if name not in model_names():
            raise BenchFileError(
                name, 1, "", f"no such model; there are {', '.join(model_names())}, or a path to a .toml"
            )
        file = resources.files("hil.server.bench").joinpath("models", f"{name}.toml")
        return _model(CheckedFile.parse(file.read_text("utf-8"), f"{name}.toml", FORMAT, VERSION))
    return _model(CheckedFile.read(beside / name, FORMAT, VERSION))


def _long_text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 400:
        raise ValueError(f"{value!r:.60} is not a text of 1 to 400 characters")
    return value


def _model(file: CheckedFile) -> InstrumentModel:
    data = file.file.data
    file.names(("instrument", "link", "ranges", "voltage_limit", "off", "orders"))
    about = file.table(
        "instrument", data.get("instrument"), {"name": text, "identity": text, "source": _long_text,
        "no_compliance": _long_text}, {"identity": "", "no_compliance": ""},
    )  # fmt: skip
    form = {
        "form": choice("lines", "words"), "byte_order": choice("little", "big"), "end": text, "join": text,
        "most_bytes": count(1, 1 << 24), "timeout_s": number(0.001, 600), "list": text, "acknowledge": text,
        "wakes_s": number(0, 60),
    }  # fmt: skip
    usual = {
        "byte_order": "little", "end": "\n", "join": None, "most_bytes": 4096, "timeout_s": 2.0, "list": ",",
        "acknowledge": None, "wakes_s": 0.0,
    }  # fmt: skip
    link = file.table("link", data.get("link"), form, usual)
    off = file.table(
        "off",
        data.get("off"),
        {"by_itself": _long_text, "settle_s": number(0, 60), "no_error": text},
        {"no_error": "0"},
    )
    byte_order = "<" if link["byte_order"] == "little" else ">"
    words = link["form"] == "words"
    orders = data.get("orders")
    if not isinstance(orders, dict) or not orders:
        file.fail("orders", "is missing", "[orders.currents]")
    file.table("orders", orders, dict.fromkeys(ORDERS, lambda value: value), dict.fromkeys(ORDERS))
    if "off" not in orders:
        file.fail("orders.off", "is missing: no instrument is driven that has no order to switch its outputs off")
    form_of = OrderForm(file, "" if words else link["list"], byte_order)
    made = {name: form_of.order(name, table) for name, table in orders.items()}
    if not about["no_compliance"]:
        _check_limited(file, made)
    return InstrumentModel(
        name=about["name"],
        identity=about["identity"],
        source=about["source"],
        link=LinkForm(
            words, link["end"].encode(), link["join"].encode() if link["join"] else None,
            link["most_bytes"], link["timeout_s"], link["acknowledge"], link["wakes_s"],
        ),
        ranges=_ranges(file, data.get("ranges", {})),
        voltage_limit=_voltage_limit(file, data.get("voltage_limit", {}), made),
        off_by_itself=off["by_itself"],
        settle_s=off["settle_s"],
        no_error=off["no_error"],
        no_compliance=about["no_compliance"],
        orders=made,
    )  # fmt: skip


def _check_limited(file: CheckedFile, orders: Mapping[str, ModelOrder]) -> None:
    """Refuse a model that can give a voltage without a limit of its current: set and read back before, or within the
    order."""
    if "limits" in orders:
        if "limits_now" not in orders:
            file.fail("orders.limits_now", "is missing: limits that cannot be read back are not trusted")
        return
    for name in ("volts", "rows_volts", "pulse"):
        if name in orders and "current_a" not in orders[name].values:
            file.fail(
                f"orders.{name}.send",
                "has no {current_a}, and there is no orders.limits: nothing would limit its current",
                "add the compliance to this order, or orders.limits and orders.limits_now, or say in "
                "instrument.no_compliance why there is none",
            )


def _voltage_limit(file: CheckedFile, data: Any, orders: Mapping[str, ModelOrder]) -> VoltageLimit:
    held = "limits" in orders and "volts_v" in orders["limits"].values
    usual = "its limits" if held else "nothing: the host alone checks them"
    found = file.table("voltage_limit", data, {"by": _long_text, "steps_v": _steps}, {"by": usual, "steps_v": ()})
    if found["steps_v"] and not held:
        file.fail("voltage_limit.steps_v", "are set by no order", "{volts_v} in orders.limits.send")
    return VoltageLimit(**found)


def _steps(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r:.60} is not a list of voltages")
    return tuple(map(number(0.0, 1e4), value))


def _ranges(file: CheckedFile, data: Any) -> dict[str, Range]:
    checks = {"low": number(-1e6, 1e6), "high": number(-1e6, 1e6), "step": number(0, 1e6)}
    names = ("drive_v", "pulse_v", "width_s", "current_a", "reads")
    file.table("ranges", data, dict.fromkeys(names, lambda value: value), dict.fromkeys(names))
    found = {}
    for name, table in data.items():
        values = file.table(f"ranges.{name}", table, checks, {})
        if values["low"] >= values["high"]:
            file.fail(f"ranges.{name}", f"low {values['low']:g} is not below high {values['high']:g}")
        found[name] = Range(**values)
    return found
