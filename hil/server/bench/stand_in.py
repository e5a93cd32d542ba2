"""A stand-in for one instrument of a bench: bytes in, bytes out, by the same model file, before emulated cells.

It reads the orders that the model file describes, so it shows that host and file agree, and what the host does with
real bytes, limits, errors and time; it does not show that the file agrees with the instrument's manual.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.handlers import Refusal
from hil.errors import LinkError, UsageError
from hil.server.bench.bench_file import InstrumentEntry
from hil.server.bench.fixture import Fixture
from hil.server.bench.model_file import Range
from hil.server.bench.orders import NUMBER, OrderReply, ReplyForm, TextOrder, WordOrder
from hil.server.bench.roles import Value

_MOST_ERRORS = 16
_FIRST = "^"  # in a regular expression of a mark that stands before the number
_ROUNDED = 1.001  # times its limit that a value may have, which the host rounds to a step

OutputCallback = Callable[[int, bool, str], None]
"""Called with the time of ``time.monotonic_ns``, whether outputs are on from then, and why."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How slow stand-ins are, and what goes wrong once, after so many answers of the bench; 0: never."""

    settling_s: float = 0.0  # time constant of voltages that are held
    reading_s: float = 0.0  # that an instrument integrates for one reading; nobody is heard meanwhile
    hang_up_after: float = 0  # the line is closed in the middle of an answer
    silent_after: float = 0  # an answer never comes
    working_s: float = 0.0  # that an order that is asked until it is done takes

    @classmethod
    def parse(cls, settings: Sequence[str]) -> Behaviour:
        """Behaviour from texts ``NAME=NUMBER``; raises ``UsageError`` for others."""
        found = {}
        for setting in settings:
            name, _, number = setting.partition("=")
            if name not in cls.__slots__ or re.fullmatch(NUMBER, number) is None or float(number) < 0:
                raise UsageError(f"{setting!r:.60} is none of {', '.join(f'{n}=NUMBER' for n in cls.__slots__)}")
            found[name] = float(number)
        return cls(**found)


AS_MEANT = Behaviour()


class HungUp(LinkError):
    """Raised by a stand-in that hangs up: send ``last``, then close the line."""

    def __init__(self, last: bytes) -> None:
        super().__init__("the instrument hangs up")
        self.last = last


@dataclass
class _Begun:
    """An order whose lines are arriving: lines so far, their values, and its answer once carried out."""

    name: str
    lines: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    answer: bytes = b""

    def takes(self, lines: Sequence[TextOrder], message: bytes) -> bool:
        """Whether a message is its next line."""
        if (found := lines[self.lines].decode(message)) is None:
            return False
        self.lines, self.values = self.lines + 1, self.values | found
        return True


class StandIn:
    """An emulated instrument; ``told`` is called when its outputs are switched."""

    def __init__(
        self, entry: InstrumentEntry, fixture: Fixture, told: OutputCallback, behaviour: Behaviour = AS_MEANT
    ) -> None:
        self._model, self._fixture, self._told, self._behaviour = entry.model, fixture, told, behaviour
        self._on_within_orders = "on" not in entry.model.orders
        self._texts = {n: o.send.lines for n, o in entry.model.orders.items() if isinstance(o.send, TextOrder)}
        self._begun: list[_Begun] = []  # orders that the lines until now may be of
        self._busy_until_s = 0.0
        self._pending = bytearray()
        self._errors: deque[str] = deque(maxlen=_MOST_ERRORS)
        limits = entry.model.orders.get("limits")
        self._limits = {name: math.inf for name in ("volts_v", "current_a", "width_s")}
        self._limits |= {place.name: 0.0 for place in (limits.send.places if limits is not None else ())}
        self._off_s: float | None = None
        self._heard_s = time.monotonic()
        self.outputs_on = False
        self._verbs: Mapping[str, Callable[[Mapping[str, Value]], NDArray[np.float64] | str | None]] = {
            "identity": lambda _: f"EMULATED {entry.model.identity or entry.model.name}, stand-in of a bench",
            "errors": lambda _: self._errors.popleft() if self._errors else entry.model.no_error,
            "limits": self._set_limits,
            "limits_now": lambda _: np.array([self._limits[p.name] for p in entry.model.orders["limits"].send.places]),
            "timer": self._set_timer,
            "on": lambda _: self._switch(True, "order"),
            "off": lambda _: self._switch(False, "order"),
            "is_on": lambda _: np.array([float(self.outputs_on)]),
            "select": self._select,
            "volts": self._volts,
            "rows_volts": self._rows_volts,
            "pulse": self._pulse,
            "pulse_down": lambda values: self._pulse({**values, "volts_v": -np.asarray(values["volts_v"], np.float64)}),
            "settle": lambda values: fixture.clock.pause(_number(values, "settle_s")),
            "currents": self._currents,
            "temperature": lambda _: np.array([fixture.temperature_c]),
        }

    # --- bytes --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """Carry out what has come whole; gives the answers."""
        self._pending += data
        answers = b"".join(self._words() if self._model.link.words else self._lines())
        self._heard_s = time.monotonic()
        return answers

    def forget(self) -> None:
        """Drop a half-received order, as another host connects."""
        self._pending.clear()
        self._begun.clear()

    def due_s(self) -> float | None:
        """When the outputs go off unless an order comes before."""
        return self._heard_s + self._off_s if self.outputs_on and self._off_s is not None else None

    def look_at_the_clock(self) -> None:
        due_s = self.due_s()
        if due_s is not None and time.monotonic() >= due_s:
            self._switch(False, "timer")

    def _words(self) -> list[bytes]:
        answers: list[bytes] = []
        orders = {n: o.send for n, o in self._model.orders.items() if isinstance(o.send, WordOrder)}
        while self._pending:
            name = next((n for n, o in orders.items() if self._pending.startswith(o.head)), None)
            if name is None:
                if any(o.head.startswith(bytes(self._pending)) for o in orders.values()):
                    break
                self._errors.append(f"no order 0x{self._pending[0]:02x}")
                self._pending.clear()
                break
            taken = orders[name].take(bytes(self._pending))
            if taken is None:
                break
            del self._pending[: taken[1]]
            answers.append(self._answering(self._do(name, taken[0])))
        return answers

    def _lines(self) -> list[bytes]:
        answers: list[bytes] = []
        link = self._model.link
        while (at := self._pending.find(link.end)) >= 0:
            line = bytes(self._pending[:at])
            del self._pending[: at + len(link.end)]
            for message in line.split(link.join) if link.join else [line]:
                answers.append(self._message(message))
        return answers

    def _message(self, message: bytes) -> bytes:
        """Take a line: an order, a part of one, or the question whether one is done."""
        for order in self._model.orders.values():
            if (until := order.until) is not None and message == until.ask.encode():
                words = until.busy if time.monotonic() < self._busy_until_s else until.done
                return self._answering(words[0].encode() + self._model.link.end)
        new = [_Begun(name) for name, lines in self._texts.items() if lines[0].decode(message) is not None]
        self._begun = [one for one in (*self._begun, *new) if one.takes(self._texts[one.name], message)]
        if not self._begun:
            self._errors.append(f'-113,"Undefined header; {message.decode("ascii", "replace")!r:.40}"')
            return self._answering(self._said())
        reached = next((one for one in self._begun if one.lines in self._stops(one.name)), None)
        return self._answering(self._said() if reached is None else self._reached(reached))

    def _stops(self, name: str) -> tuple[int, int]:
        """After how many lines an order is carried out, and after how many it ends."""
        lines, until = len(self._texts[name]), self._model.orders[name].until
        return lines - (until.lines_behind if until is not None else 0), lines

    def _reached(self, one: _Begun) -> bytes:
        """Carry out an order when enough lines arrived, and answer at its end."""
        works_at, ends_at = self._stops(one.name)
        self._begun = [one]
        if one.lines == works_at:
            one.answer = self._do(one.name, one.values)
        if one.lines < ends_at:
            return self._said()
        self._begun = []
        return one.answer if self._model.orders[one.name].reply is not None else self._said()

    def _do(self, name: str, values: Mapping[str, Value]) -> bytes:
        """Carry an order out; its answer."""
        order = self._model.orders[name]
        try:
            answer = self._verbs[name](values)
        except (ValueError, Refusal) as error:  # of the order, or of the chip in the socket
            self._errors.append(f'-222,"{error}"')
            answer = np.zeros(int(_number(values, "count", 1.0)))
        if order.until is not None:
            self._busy_until_s = time.monotonic() + self._behaviour.working_s
        return b"" if order.reply is None else self._written(order.reply, answer)

    def _said(self) -> bytes:
        """The acknowledgement of a line without an answer of its own."""
        link = self._model.link
        return b"" if link.acknowledge is None else link.acknowledge.encode() + link.end

    def _answering(self, data: bytes) -> bytes:
        """Send an answer, unless a fault is due (hang up or silence)."""
        if data:
            self._fixture.answers += 1
            if self._fixture.answers == self._behaviour.hang_up_after:
                self._pending.clear()
                raise HungUp(data[: len(data) // 2])
            if self._fixture.answers == self._behaviour.silent_after:
                return b""
        return data

    def _written(self, reply: OrderReply, answer: NDArray[np.float64] | str | None) -> bytes:
        end = b"\n" if self._model.link.words else self._model.link.end
        if isinstance(answer, str) or reply.form is ReplyForm.TEXT:
            return b"".join(line.encode() + end for line in [str(answer or "done")] * reply.lines)
        numbers = np.zeros(1) if answer is None else answer
        held = np.isnan(numbers)  # by the compliance
        if reply.form is ReplyForm.NUMBERS:
            mark = reply.tripped.lstrip(_FIRST) if isinstance(reply.tripped, str) else ""
            parts = (
                f"{mark if h else ''}{self._limits['current_a'] if h else x / reply.unit:.9g}"
                for x, h in zip(numbers, held, strict=True)
            )
            lines = ["-"] * reply.lines
            lines[reply.line - 1] = ",".join(parts)
            return b"".join(line.encode() + end for line in lines)
        if np.dtype(reply.type).kind == "f":
            data = np.where(held, np.inf, numbers / reply.unit).astype(reply.type).tobytes()
        else:
            code = reply.tripped if isinstance(reply.tripped, int) else np.iinfo(reply.type).max
            data = np.where(held, code, np.rint(np.where(held, 0, numbers) / reply.unit)).astype(reply.type).tobytes()
        if reply.form is ReplyForm.WORDS:
            return data
        length = str(len(data))
        return f"#{len(length)}{length}".encode() + data + end

    # --- orders -------------------------------------------------------------------------------

    def _switch(self, on: bool, why: str) -> None:
        if on and not all(self._limits.values()):
            raise ValueError("no limits are set")
        if on != self.outputs_on:
            self.outputs_on = on
            if not on:
                self._fixture.hold(0.0)
            self._told(time.monotonic_ns(), on, why)

    def _set_limits(self, values: Mapping[str, Value]) -> None:
        for name in self._limits:
            if name in values:
                self._limits[name] = _number(values, name)

    def _set_compliance(self, values: Mapping[str, Value]) -> None:
        """Take the compliance current from an order, for instruments that name it in each."""
        if "current_a" in values:
            self._limits["current_a"] = _number(values, "current_a")

    def _set_timer(self, values: Mapping[str, Value]) -> None:
        self._off_s = _number(values, "off_s")

    def _select(self, values: Mapping[str, Value]) -> None:
        macro, count = int(_number(values, "macro", 0.0)), int(_number(values, "count", 1.0))
        self._fixture.open(macro, values.get("row"), values.get("column"), count)

    def _volts(self, values: Mapping[str, Value]) -> None:
        self._set_compliance(values)
        self._fixture.hold(float(self._allowed(values["volts_v"], "drive_v")[0]))

    def _rows_volts(self, values: Mapping[str, Value]) -> None:
        self._fixture.hold_rows(int(_number(values, "macro", 0.0)), self._allowed(values["rows_volts_v"], "drive_v"))

    def _pulse(self, values: Mapping[str, Value]) -> NDArray[np.float64]:
        with self._within_order(values):
            volts_v, width_s = self._allowed(values["volts_v"], "pulse_v"), _number(values, "width_s")
            self._set_compliance(values)
            span: Range | None = self._model.ranges.get("width_s")
            if span is not None and not span.low <= width_s * _ROUNDED:
                raise ValueError(f"a pulse of {width_s:g} s is too short")
            if width_s > self._limits["width_s"] * _ROUNDED:
                raise ValueError(f"a pulse of {width_s:g} s is above the limit of {self._limits['width_s']:g} s")
            currents_a = self._fixture.pulse_currents_a(volts_v, self._limits["current_a"])
            if not (tripped := currents_a >= self._limits["current_a"]).any():
                self._fixture.pulse(volts_v, width_s)
                return currents_a
        self._switch(False, "compliance")
        return np.where(tripped, np.nan, currents_a)

    @contextlib.contextmanager
    def _within_order(self, values: Mapping[str, Value]) -> Iterator[None]:
        """Select lines and set voltages given within the order; outputs are on during it if no order switches them."""
        if "column" in values and "row" in values:
            self._select(values)
        if not self._on_within_orders:
            yield
            return
        self._switch(True, "order")
        try:
            yield
        finally:
            self._switch(False, "its own end")

    def _allowed(self, value: Value, name: str) -> NDArray[np.float64]:
        """Check voltages against limits and range, with outputs on; else raises ``ValueError``."""
        volts_v = np.atleast_1d(np.asarray(value, np.float64))
        span: Range | None = self._model.ranges.get(name)
        limit = self._limits["volts_v"] * _ROUNDED
        if not self.outputs_on:
            raise ValueError("outputs are off")
        most = float(np.abs(volts_v).max())
        if most > limit or (span is not None and not (span.holds(volts_v.min()) and span.holds(volts_v.max()))):
            raise ValueError(f"{most:g} V is beyond the limit")
        return volts_v

    def _currents(self, values: Mapping[str, Value]) -> NDArray[np.float64]:
        reads = max(1, int(_number(values, "reads", 1.0)))
        count = int(_number(values, "count", float(self._fixture.lines.count)))
        span = self._model.ranges.get("reads")
        if span is not None and not span.holds(reads):
            raise ValueError(f"{reads} readings are beyond the limit")
        column, wired = values.get("column"), self._fixture.bench.wiring.columns
        with self._within_order(values):
            if "rows_volts_v" in values:
                self._rows_volts(values)
                column, count = wired[0], len(wired)
            elif "volts_v" in values:
                self._volts(values)
            if self._behaviour.reading_s:
                self._fixture.clock.pause(self._behaviour.reading_s * reads)
            currents_a = self._fixture.currents_a(reads, column, count)
        tripped = np.abs(currents_a) >= self._limits["current_a"]
        if tripped.any():
            self._switch(False, "compliance")
        return np.where(tripped, np.nan, currents_a)


def _number(values: Mapping[str, Value], name: str, otherwise: float | None = None) -> float:
    value = values.get(name, otherwise)
    if value is None or isinstance(value, str):
        raise ValueError(f"{name} is {value!r}")
    return float(np.asarray(value, np.float64).reshape(-1)[0])
