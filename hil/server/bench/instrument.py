"""One instrument behind its line: every role that its model has orders for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil.server.bench.bench_file import InstrumentEntry
from hil.server.bench.faults import ComplianceTrip, InstrumentFault
from hil.server.bench.inbox import Inbox
from hil.server.bench.model_file import ModelOrder
from hil.server.bench.orders import OrderReply, ReplyForm
from hil.server.bench.roles import Answer, Crossing, HostPause, OrderStep, Value
from hil.transports.base import Transport
from hil.transports.visa import VisaMessages

_MOST_ERRORS = 100  # asked for in a row
_CLOSE = 1e-3  # share by which a limit that is read back may differ: instruments round to their steps


class _Asked(NamedTuple):
    """A step that is to be answered, and how many numbers its answer has."""

    step: OrderStep
    numbers: int


class Instrument:
    """An instrument as a carrier of steps and, by its model's orders, in every role of ``hil.server.bench.roles``."""

    def __init__(
        self, entry: InstrumentEntry, line: Transport, current_a: float, *, beside_others: bool = False
    ) -> None:
        """An instrument of a bench file over an open line.

        Args:
            current_a: compliance of every output, A.
            beside_others: other instruments of the bench depend on what this one does, so an exchange ends with a
                question whose answer says that all orders before it were carried out.
        """
        self.entry, self.model, self._current_a = entry, entry.model, current_a
        self.connect(line)
        asks = next((order for order in ("is_on", "identity", "errors") if self.can(order)), None)
        self._sign = OrderStep(self, asks) if beside_others and asks else None  # its answer says that all is done

    def connect(self, line: Transport) -> None:
        """Continue over a line that was opened again."""
        time.sleep(self.model.link.wakes_s)
        self._line, self._inbox, self._in_step = line, Inbox(self.entry, line), not self.model.link.wakes_s
        self._line_takes_one = isinstance(line, VisaMessages)  # answer at a time

    # --- roles --------------------------------------------------------------------------------

    def select(self, at: Crossing) -> list[OrderStep]:
        return [self._step("select", at)] if self.can("select") else []  # lines may stand in each of its orders

    def volts(self, at: Crossing, volts_v: float) -> list[OrderStep]:
        if not self.can("volts"):  # voltages may stand in the order that measures
            return []
        return [self._step("volts", at, volts_v=volts_v, current_a=self._current_a)]

    def rows_volts(self, macro: int, volts_v: NDArray[np.float64]) -> list[OrderStep]:
        if not self.can("rows_volts"):
            return []
        values: dict[str, Value] = {"macro": macro, "count": len(volts_v), "rows_volts_v": volts_v}
        return [OrderStep(self, "rows_volts", {**values, "current_a": self._current_a})]

    def pulse(self, at: Crossing, volts_v: NDArray[np.float64], width_s: float) -> list[OrderStep]:
        ways = {"pulse": volts_v}
        if self.can("pulse_down"):
            ways = {"pulse": np.maximum(volts_v, 0.0), "pulse_down": np.maximum(-volts_v, 0.0)}
        return [
            self._step(order, at, volts_v=size_v, width_s=width_s, current_a=self._current_a)
            for order, size_v in ways.items()
            if size_v.any()
        ]

    def settle(self, settle_s: float) -> list[OrderStep]:
        return [OrderStep(self if self.can("settle") else HostPause(), "settle", {"settle_s": settle_s})]

    def currents_a(self, at: Crossing, reads: int, **driven: Value) -> list[OrderStep]:
        most = self.model.ranges["reads"].high if "reads" in self.model.ranges else reads
        parts = math.ceil(reads / most) if self.model.uses("currents", "reads") else reads
        return [self._step("currents", at, reads=math.ceil(reads / parts), **driven)] * parts

    def limits(self, volts_v: float, current_a: float, width_s: float) -> list[OrderStep]:
        if not self.can("limits"):  # a compliance stands in each of its orders
            return []
        held_v = self.model.voltage_limit.held_v(volts_v)
        values: dict[str, Value] = {"volts_v": held_v, "current_a": current_a, "width_s": width_s}
        return [OrderStep(self, "limits", values), OrderStep(self, "limits_now", values)]

    def timer(self, off_s: float) -> list[OrderStep]:
        return [OrderStep(self, "timer", {"off_s": off_s})] if self.model.has_timer else []

    def on(self) -> list[OrderStep]:
        return self._if_known("on")  # without it they are on within an order, and at its end off again

    def off(self) -> list[OrderStep]:
        return [OrderStep(self, "off")]

    def temperature_c(self) -> list[OrderStep]:
        return [OrderStep(self, "temperature")]

    def move(self, die_x: int, die_y: int) -> list[OrderStep]:
        return [OrderStep(self, "move", {"die_x": die_x, "die_y": die_y})]

    def can(self, order: str) -> bool:
        return order in self.model.orders

    # --- carrying out -------------------------------------------------------------------------

    def exchange(self, steps: Sequence[OrderStep]) -> list[Answer]:
        """Carry out steps, as many on their way at once as the instrument takes.

        Raises:
            InstrumentSilent: no answer, or half of one. InstrumentFault: an answer that is none. ComplianceTrip.
            hil.errors.LinkError: the line is gone.
        """
        self._forget_answers()
        self._in_step = False  # until every answer is in
        answers: list[Answer] = []
        for part in self._messages(steps, 0):
            answers += self._converse(part)
        if self._sign is not None and self.model.orders[steps[-1].order].reply is None:
            self._converse([self._sign])
        self._in_step = True
        return answers

    def with_outputs(self, steps: Sequence[OrderStep]) -> list[Answer]:
        """Carry out steps with outputs on from the begin of each message to its end, and off between two.

        So nothing stays on that waits for the host: the order that switches off is there before work begins.

        Raises:
            as ``exchange``, and InstrumentFault: the outputs went off meanwhile.
        """
        before = self.on()
        behind = self._if_known("is_on") + self.off() + self._if_known("errors")
        room = sum(self._bytes(step) for step in before + behind)
        answers: list[Answer] = []
        for part in self._messages(steps, room):
            found = self.exchange([*before, *part, *behind])
            self._check_errors(behind, found[-len(behind) :], "during the request")
            self._check_on(found[-len(behind) :])
            answers += found[len(before) : len(before) + len(part)]
        return answers

    def hello(self) -> str:
        """Its identity, checked against the model's, and no error in its queue from before."""
        if not self.can("identity"):
            return self.model.name
        found = str(self.exchange([OrderStep(self, "identity")])[0]).strip()
        if self.model.identity not in found:
            raise InstrumentFault(
                f"{self.entry.name} answers {found!r:.80}, and {self.model.name} answers {self.model.identity!r}",
                where=self.entry.port,
                likely="another instrument at this address, or another model in the bench file",
                hint="hil bench check FILE.toml",
            )
        return found

    def set_limits(self, volts_v: float, current_a: float, width_s: float, off_s: float) -> None:
        """Limits, read back, and its timer; before any output is on.

        Raises:
            InstrumentFault: it holds other limits, or reports an error.
        """
        steps = self.limits(volts_v, current_a, width_s) + self.timer(off_s) + self._if_known("errors")
        self._check_errors(steps, self.exchange(steps), "when it was given its limits")

    def finish(self) -> None:
        """End of a request with outputs that were on until now: off, and no error came up meanwhile; in one message.

        Raises:
            InstrumentFault: they went off by themselves, stay on, or an error is reported.
        """
        steps = self._if_known("is_on") + self._if_known("errors") + self.off() + self._if_known("is_on")
        answers = self.exchange(steps)
        if self.can("is_on") and _is_on(answers[-1]):
            raise self._stays_on()
        self._check_errors(steps, answers, "during the request")
        self._check_on(answers)

    def _check_on(self, answers: list[Answer]) -> None:
        """Raise ``InstrumentFault`` where the instrument can be asked and does not say that its outputs are on."""
        if self.can("is_on") and not _is_on(answers[0]):
            raise InstrumentFault(
                f"the outputs of {self.entry.name} ({self.model.name}) went off in the middle of a request",
                where=self.entry.port,
                likely="its timer: this machine was too busy to give it orders; or its interlock",
                hint="a longer off_within_s in the bench file",
            )

    def _check_limits(self, step: OrderStep, answer: Answer) -> None:
        """The limits that were read back are those that were set; raises ``InstrumentFault``."""
        places = [p.name for p in self.model.orders["limits"].send.places]
        wanted = [float(np.asarray(step.values[name], np.float64)) for name in places]
        found = [] if answer is None or isinstance(answer, str) else answer.tolist()
        if len(found) != len(wanted) or not np.allclose(found, wanted, rtol=_CLOSE, atol=0):
            said = ", ".join(f"{name} {value:g}" for name, value in zip(places, wanted, strict=True))
            raise InstrumentFault(
                f"{self.entry.name} ({self.model.name}) was given the limits {said}, and holds {found}; no output was "
                "switched on",
                where=self.entry.port,
                likely="a limit beyond its range, or another order in its firmware",
            )

    def make_safe(self) -> None:
        """Outputs off, also where answers of an exchange that broke off are still on their way."""
        if not self._in_step:  # first of all
            self._line.write(b"".join(self._lines(OrderStep(self, "off"))))
        answers = self.exchange(self.off() + self._if_known("is_on"))
        if self.can("is_on") and _is_on(answers[-1]):
            raise self._stays_on()

    def close(self) -> None:
        self._line.close()

    def _if_known(self, order: str) -> list[OrderStep]:
        return [OrderStep(self, order)] if self.can(order) else []

    def _stays_on(self) -> InstrumentFault:
        return InstrumentFault(
            f"{self.entry.name} ({self.model.name}) was ordered to switch its outputs off, and says that they are on",
            where=self.entry.port,
            hint="switch it off by hand",
        )

    def check_errors(self, when: str) -> None:
        """No error came up; raises ``InstrumentFault``."""
        steps = self._if_known("errors")
        self._check_errors(steps, self.exchange(steps), when)

    def _check_errors(self, steps: Sequence[OrderStep], answers: list[Answer], when: str) -> None:
        """What its error queue says, all of it, so that the next request finds it empty."""
        found = [str(a).strip() for step, a in zip(steps, answers, strict=True) if step.order == "errors"]
        while found and not found[-1].startswith(self.model.no_error) and len(found) < _MOST_ERRORS:
            found.append(str(self.exchange(self._if_known("errors"))[0]).strip())
        found = [text for text in found if not text.startswith(self.model.no_error)]
        if found:
            raise InstrumentFault(
                f"{self.entry.name} ({self.model.name}) reports {'; '.join(found[:4])} {when}",
                where=self.entry.port,
                likely="a value beyond its range, or an order that it does not know",
            )

    def _forget_answers(self) -> None:
        """Answers to an exchange that broke off, until the line is quiet."""
        if not self._in_step:
            self._inbox.wait_for_quiet()
        self._inbox.clear()

    # --- bytes --------------------------------------------------------------------------------

    def _step(self, order: str, at: Crossing, **values: Value) -> OrderStep:
        line: dict[str, Value] = {"macro": at.macro, "count": len(at.columns), "column": at.columns[0]}
        if at.rows:
            line["row"] = at.rows[0]
        return OrderStep(self, order, {**line, **values})

    def _lines(self, step: OrderStep) -> list[bytes]:
        try:
            return self.model.lines(step.order, step.values)
        except (KeyError, ValueError) as error:
            raise InstrumentFault(
                f"order {step.order} of {self.model.name} cannot be written: {error}", where=self.entry.name
            ) from error

    @staticmethod
    def _count(order: ModelOrder, step: OrderStep) -> int:
        count = order.reply.count if order.reply is not None else None
        return count if count is not None else int(np.asarray(step.values.get("count", 1)))

    def _messages(self, steps: Sequence[OrderStep], room: int) -> Iterator[list[OrderStep]]:
        """Steps that may be under way together, beside ``room`` bytes; what prepares a step stays beside it."""
        part, size, whole = list[OrderStep](), room, 0
        for step in steps:
            more = self._bytes(step)
            while part and size + more > self.model.link.most_bytes:
                yield part[: whole or len(part)]
                part, whole = part[whole or len(part) :], 0
                size = room + sum(map(self._bytes, part))
            part.append(step)
            size += more
            whole = len(part) if step.works else whole
            if self._line_takes_one and self.model.orders[step.order].reply is not None:
                yield part
                part, size, whole = [], room, 0
        if part:
            yield part

    def _bytes(self, step: OrderStep) -> int:
        return sum(map(len, self._lines(step)))

    def _converse(self, steps: list[OrderStep]) -> list[Answer]:
        """Write the steps as one message, then take their answers; line by line where each line is acknowledged."""
        orders = [self.model.orders[step.order] for step in steps]
        asked = [_Asked(step, self._count(order, step)) for order, step in zip(orders, steps, strict=True)]
        if self.model.link.acknowledge is None:
            self._line.write(b"".join(line for step in steps for line in self._lines(step)))
            return [None if o.reply is None else self._answer(a) for o, a in zip(orders, asked, strict=True)]
        return [self._acknowledged(order, one) for order, one in zip(orders, asked, strict=True)]

    def _acknowledged(self, order: ModelOrder, asked: _Asked) -> Answer:
        *before, last = self._lines(asked.step)
        for line in before + ([last] if order.reply is None else []):
            self._line.write(line)
            if (said := self._inbox.line(asked.step.order).decode("utf-8", "replace")) != self.model.link.acknowledge:
                raise self._odd(asked, f"{said!r:.80}, not with {self.model.link.acknowledge}")
        if order.reply is None:
            return None
        self._line.write(last)
        return self._answer(asked)

    def _answer(self, asked: _Asked) -> Answer:
        reply = self.model.orders[asked.step.order].reply
        assert reply is not None
        what, size = asked.step.order, asked.numbers * np.dtype(reply.type or "u1").itemsize
        match reply.form:
            case ReplyForm.WORDS:
                raw = self._inbox.take(size, what)
            case ReplyForm.BLOCK:
                raw = self._block(asked, size)
            case _:
                raw = [self._inbox.line(what) for _ in range(reply.lines)][reply.line - 1]
        if reply.form is ReplyForm.TEXT:
            return raw.decode("utf-8", "replace")
        try:
            numbers = (
                reply.numbers(raw.decode("ascii", "replace")) if reply.form is ReplyForm.NUMBERS else reply.words(raw)
            )
        except ValueError as error:
            raise self._odd(asked, str(error)) from error
        asked, numbers, raw = self._of_lines_asked(asked, reply, numbers, raw)
        held = reply.trips(raw)
        if held is None and asked.step.order == "currents" and reply.tripped is None:  # it answers the limit itself
            held = np.abs(numbers) >= (1.0 - _CLOSE) * self._current_a
        if held is not None and held.any():
            raise ComplianceTrip(asked.step, held, numbers)
        if asked.step.order == "currents" and len(numbers) != asked.numbers:
            raise self._odd(asked, f"{len(numbers)} numbers for {asked.numbers} bit lines")
        if asked.step.order == "limits_now":
            self._check_limits(asked.step, numbers)
        return numbers

    def _block(self, asked: _Asked, size: int) -> bytes:
        """``size``: bytes of a block whose length is not said."""
        try:
            return self._inbox.block(asked.step.order, size)
        except ValueError as error:
            raise self._odd(asked, str(error)) from error

    @staticmethod
    def _of_lines_asked(
        asked: _Asked, reply: OrderReply, numbers: NDArray[np.float64], raw: bytes
    ) -> tuple[_Asked, NDArray[np.float64], bytes]:
        """The lines that were asked for, out of an answer with all lines of an instrument, by their contacts from 0."""
        count, first = asked.step.values.get("count"), asked.step.values.get("column")
        if asked.step.order != "currents" or reply.count in (None, 1) or not isinstance(count, int):
            return asked, numbers, raw
        assert isinstance(first, int)
        lines = slice(first, first + count)
        return _Asked(asked.step, count), numbers[lines], b",".join(raw.split(b",")[lines])

    def _odd(self, asked: _Asked, why: str) -> InstrumentFault:
        return InstrumentFault(
            f"{self.entry.name} ({self.model.name}) answers {asked.step.order} with {why}",
            where=self.entry.port,
            likely="the reply of this order in the model file is another than the instrument's",
        )


def _is_on(answer: Answer) -> bool:
    return isinstance(answer, str) or bool(np.any(answer))
