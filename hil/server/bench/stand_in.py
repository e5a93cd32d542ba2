"""A stand-in for one instrument of a bench: bytes in, bytes out, by the same model file, before emulated cells.

It reads the orders that the model file describes, so it shows that host and file agree, and what the host does with
real bytes, limits, errors and time; it does not show that the file agrees with the instrument's manual.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hil.server.bench.bench_file import InstrumentEntry
from hil.server.bench.fixture import Fixture
from hil.server.bench.model_file import Range
from hil.server.bench.orders import OrderReply, ReplyForm, WordOrder
from hil.server.bench.roles import Value

_MOST_ERRORS = 16
_ROUNDED = 1.001  # times its limit that a value may have, which the host rounds to a step

OutputCallback = Callable[[int, bool, str], None]
"""Called with the time of ``time.monotonic_ns``, whether outputs are on from then, and why."""


class StandIn:
    """One instrument. ``told`` hears of its outputs."""

    def __init__(self, entry: InstrumentEntry, fixture: Fixture, told: OutputCallback) -> None:
        self._model, self._fixture, self._told = entry.model, fixture, told
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
            "settle": lambda values: time.sleep(_number(values, "settle_s")),
            "currents": self._currents,
            "temperature": lambda _: np.array([fixture.temperature_c]),
            "move": lambda _: None,
        }

    # --- bytes --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """Carry out what has come whole; gives the answers."""
        self._pending += data
        answers = b"".join(self._words() if self._model.link.words else self._lines())
        self._heard_s = time.monotonic()
        return answers

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
            answers.append(self._do(name, taken[0]))
        return answers

    def _lines(self) -> list[bytes]:
        answers: list[bytes] = []
        link = self._model.link
        while (at := self._pending.find(link.end)) >= 0:
            line = bytes(self._pending[:at])
            del self._pending[: at + len(link.end)]
            for message in line.split(link.join) if link.join else [line]:
                found = (
                    (n, o.send.decode(message))
                    for n, o in self._model.orders.items()
                    if not isinstance(o.send, WordOrder)
                )
                name, values = next(((n, v) for n, v in found if v is not None), ("", None))
                if values is None:
                    self._errors.append(f'-113,"Undefined header; {message.decode("ascii", "replace")!r:.40}"')
                else:
                    answers.append(self._do(name, values))
        return answers

    def _do(self, name: str, values: Mapping[str, Value]) -> bytes:
        reply = self._model.orders[name].reply
        try:
            answer = self._verbs[name](values)
        except ValueError as error:
            self._errors.append(f'-222,"{error}"')
            answer = np.zeros(int(_number(values, "count", 1.0)))
        return b"" if reply is None else self._written(reply, answer)

    def _written(self, reply: OrderReply, answer: NDArray[np.float64] | str | None) -> bytes:
        end = b"\n" if self._model.link.words else self._model.link.end
        if isinstance(answer, str):
            return answer.encode() + end
        numbers = np.zeros(1) if answer is None else answer
        held = np.isnan(numbers)  # by the compliance
        if reply.form is ReplyForm.NUMBERS:
            mark = reply.tripped if isinstance(reply.tripped, str) else ""
            parts = (
                f"{mark if h else ''}{self._limits['current_a'] if h else x / reply.unit:.9g}"
                for x, h in zip(numbers, held, strict=True)
            )
            return ",".join(parts).encode() + end
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
                self._fixture.volts_v, self._fixture.rows_v = 0.0, None
            self._told(time.monotonic_ns(), on, why)

    def _set_limits(self, values: Mapping[str, Value]) -> None:
        for name in self._limits:
            if name in values:
                self._limits[name] = _number(values, name)

    def _set_compliance(self, values: Mapping[str, Value]) -> None:
        """Of instruments that have it in each order."""
        if "current_a" in values:
            self._limits["current_a"] = _number(values, "current_a")

    def _set_timer(self, values: Mapping[str, Value]) -> None:
        self._off_s = _number(values, "off_s")

    def _select(self, values: Mapping[str, Value]) -> None:
        macro, count = int(_number(values, "macro", 0.0)), int(_number(values, "count", 1.0))
        self._fixture.open(macro, values.get("row"), values.get("column"), count)

    def _volts(self, values: Mapping[str, Value]) -> None:
        self._set_compliance(values)
        self._fixture.volts_v = float(self._allowed(values["volts_v"], "drive_v")[0])

    def _rows_volts(self, values: Mapping[str, Value]) -> None:
        self._fixture.lines.macro = int(_number(values, "macro", 0.0))
        self._fixture.rows_v = self._allowed(values["rows_volts_v"], "drive_v")

    def _pulse(self, values: Mapping[str, Value]) -> None:
        volts_v, width_s = self._allowed(values["volts_v"], "pulse_v"), _number(values, "width_s")
        self._set_compliance(values)
        if width_s > self._limits["width_s"] * _ROUNDED:
            raise ValueError(f"a pulse of {width_s:g} s is above the limit of {self._limits['width_s']:g} s")
        self._fixture.pulse(volts_v, width_s)

    def _allowed(self, value: Value, name: str) -> NDArray[np.float64]:
        """Voltages within limits and range, of outputs that are on; else none is given."""
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
        reads, count = (
            max(1, int(_number(values, "reads", 1.0))),
            int(_number(values, "count", float(self._fixture.lines.count))),
        )
        currents_a = self._fixture.currents_a(reads, values.get("column"), count)
        tripped = np.abs(currents_a) >= self._limits["current_a"]
        if tripped.any():
            self._switch(False, "compliance")
        return np.where(tripped, np.nan, currents_a)


def _number(values: Mapping[str, Value], name: str, otherwise: float | None = None) -> float:
    value = values.get(name, otherwise)
    if value is None or isinstance(value, str):
        raise ValueError(f"{name} is {value!r}")
    return float(np.asarray(value, np.float64).reshape(-1)[0])
