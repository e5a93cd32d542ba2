"""Dialogue with an instrument: orders as messages on its line, their answers, and polling until an order is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil.server.bench.bench_file import InstrumentEntry
from hil.server.bench.faults import ComplianceTrip, InstrumentFault, InstrumentSilent
from hil.server.bench.order_tables import ModelOrder
from hil.server.bench.orders import OrderReply, ReplyForm
from hil.server.bench.roles import Answer, OrderStep
from hil.transports.base import CHUNK, Transport
from hil.transports.visa import VisaMessages

CLOSE = 1e-3  # share by which a limit that is read back may differ: instruments round to their steps


class _Asked(NamedTuple):
    """A step whose answer is due, and how many numbers the answer has."""

    step: OrderStep
    numbers: int


class Dialogue:
    """One instrument's line, in the notation of its model.

    Every verb raises ``InstrumentSilent`` (no answer, or half of one), ``InstrumentFault`` (an answer that is none, or
    that refuses), ``ComplianceTrip``, or ``hil.errors.LinkError``: the line is gone.
    """

    def __init__(self, entry: InstrumentEntry, line: Transport, current_a: float) -> None:
        """``current_a``: compliance, for instruments that answer the limit itself."""
        self._entry, self._model, self._current_a = entry, entry.model, current_a
        time.sleep(self._model.link.wakes_s)
        self._line, self._inbox, self._in_step = line, Inbox(entry, line), not self._model.link.wakes_s
        self._line_takes_one = isinstance(line, VisaMessages)  # answer at a time

    @property
    def in_step(self) -> bool:
        """Whether every answer has arrived."""
        return self._in_step

    def exchange(self, steps: Sequence[OrderStep]) -> list[Answer]:
        """Carry out steps, as many on their way at once as the instrument takes."""
        if not self._in_step:  # answers to an exchange that broke off, until the line is quiet
            self._inbox.wait_for_quiet()
        self._inbox.clear()
        self._in_step = False
        answers: list[Answer] = []
        for part in self.messages(steps, 0):
            answers += self._converse(part)
        self._in_step = True
        return answers

    def tell(self, step: OrderStep) -> None:
        """Write a step, and hear no answer."""
        self._line.write(b"".join(self._lines(step)))

    def close(self) -> None:
        self._line.close()

    def messages(self, steps: Sequence[OrderStep], room: int) -> Iterator[list[OrderStep]]:
        """Steps that may be under way together, beside ``room`` bytes; what prepares a step stays beside it."""
        part, size, whole = list[OrderStep](), room, 0
        for step in steps:
            more = self.size(step)
            while part and size + more > self._model.link.most_bytes:
                yield part[: whole or len(part)]
                part, whole = part[whole or len(part) :], 0
                size = room + sum(map(self.size, part))
            part.append(step)
            size += more
            whole = len(part) if step.works else whole
            order = self._model.orders[step.order]
            if (self._line_takes_one and order.reply is not None) or order.until is not None:
                yield part
                part, size, whole = [], room, 0
        if part:
            yield part

    def size(self, step: OrderStep) -> int:
        return sum(map(len, self._lines(step)))

    # --- one message --------------------------------------------------------------------------

    def _lines(self, step: OrderStep) -> list[bytes]:
        try:
            return self._model.lines(step.order, step.values)
        except (KeyError, ValueError) as error:
            raise InstrumentFault(
                f"order {step.order} of {self._model.name} cannot be written: {error}", where=self._entry.name
            ) from error

    @staticmethod
    def _count(order: ModelOrder, step: OrderStep) -> int:
        count = order.reply.count if order.reply is not None else None
        return count if count is not None else int(np.asarray(step.values.get("count", 1)))

    def _converse(self, steps: list[OrderStep]) -> list[Answer]:
        """Write the steps as one message, then take their answers; line by line where each line is answered, and where
        the last step is to be waited for."""
        orders = [self._model.orders[step.order] for step in steps]
        asked = [_Asked(step, self._count(order, step)) for order, step in zip(orders, steps, strict=True)]
        if self._model.link.acknowledge is not None:
            return [self._line_by_line(order, one) for order, one in zip(orders, asked, strict=True)]
        if orders[-1].until is None:
            self._line.write(b"".join(line for step in steps for line in self._lines(step)))
            return [None if o.reply is None else self._answer(a) for o, a in zip(orders, asked, strict=True)]
        return [*(self._converse(steps[:-1]) if steps[1:] else []), self._line_by_line(orders[-1], asked[-1])]

    def _line_by_line(self, order: ModelOrder, asked: _Asked) -> Answer:
        """Carry out one order; a line that has no answer of its own may be acknowledged."""
        lines = self._lines(asked.step)
        behind = 0 if order.until is None else order.until.lines_behind
        for number, line in enumerate(lines, 1):
            self._line.write(line)
            if number == len(lines) and order.reply is not None:
                continue
            if self._model.link.acknowledge is not None:
                self._check_acknowledged(asked)
            if number == len(lines) - behind:
                self._wait_until_done(order, asked)
        answer = None if order.reply is None else self._answer(asked)
        if order.reply is not None and not behind:
            self._wait_until_done(order, asked)
        return answer

    def _check_acknowledged(self, asked: _Asked) -> None:
        said = self._inbox.line(asked.step.order).decode("utf-8", "replace")
        if said != self._model.link.acknowledge:
            raise self._odd(asked, f"{said!r:.80}, not with {self._model.link.acknowledge}")

    def _wait_until_done(self, order: ModelOrder, asked: _Asked) -> None:
        """Ask again and again, where the order says how, until it is done; raises ``InstrumentFault``: it is not."""
        if (until := order.until) is None:
            return
        link, deadline_s = self._model.link, time.monotonic() + until.within_s
        while True:
            self._line.write(until.ask.encode() + link.end)
            word = until.word(self._inbox.line(asked.step.order).decode("utf-8", "replace"))
            if word in until.done:
                return
            if word not in until.busy:
                raise self._odd(asked, f"{word!r:.80}, which says neither done nor busy, to {until.ask}")
            if time.monotonic() > deadline_s:
                raise InstrumentFault(
                    f"{self._entry.name} ({self._model.name}) is not done with {asked.step.order} after "
                    f"{until.within_s:g} s: it still says {word!r:.80}",
                    where=self._entry.port,
                    likely="it takes longer than the model file allows (within_s), or is stuck",
                )
            time.sleep(until.every_s)

    # --- answers ------------------------------------------------------------------------------

    def _answer(self, asked: _Asked) -> Answer:
        reply = self._model.orders[asked.step.order].reply
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
            held = np.abs(numbers) >= (1.0 - CLOSE) * self._current_a
        if held is not None and held.any():
            raise ComplianceTrip(asked.step, held, numbers)
        if asked.step.order == "currents" and len(numbers) != asked.numbers:
            raise self._odd(asked, f"{len(numbers)} numbers for {asked.numbers} bit lines")
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
            f"{self._entry.name} ({self._model.name}) answers {asked.step.order} with {why}",
            where=self._entry.port,
            likely="the reply of this order in the model file is another than the instrument's",
        )


_END_OF_TEXT = b"\n"  # of a text that a board of words answers
_QUIET_S = 0.1  # after which nothing more of a broken exchange comes
_LOOK_S = 0.25


class Inbox:
    """Answers of one instrument. ``what`` is the order that is to be answered, for the errors.

    Every verb raises ``InstrumentSilent``: nothing, or half of an answer, within the time-out of the model.
    """

    def __init__(self, entry: InstrumentEntry, line: Transport) -> None:
        self._entry, self._link, self._line = entry, entry.model.link, line
        self._pending = bytearray()

    def clear(self) -> None:
        self._pending.clear()

    def wait_for_quiet(self) -> None:
        """Drop what comes until nothing comes any more; raises ``InstrumentFault`` where it does not end."""
        until_s = time.monotonic() + self._link.timeout_s
        while self._line.read(CHUNK, _QUIET_S):
            if time.monotonic() > until_s:
                raise InstrumentFault(
                    f"{self._entry.name} ({self._entry.model.name}) does not stop to send", where=self._entry.port
                )

    def take(self, size: int, what: str) -> bytes:
        deadline = time.monotonic() + self._link.timeout_s
        while len(self._pending) < size:
            self._more(deadline, size, what)
        data = bytes(self._pending[:size])
        del self._pending[:size]
        return data

    def line(self, what: str) -> bytes:
        """Up to the end of a line, without it."""
        end = _END_OF_TEXT if self._link.words else self._link.end
        deadline = time.monotonic() + self._link.timeout_s
        while (at := self._pending.find(end)) < 0:
            self._more(deadline, len(self._pending) + 1, what)
        data = bytes(self._pending[:at])
        del self._pending[: at + len(end)]
        return data

    def block(self, what: str, size: int) -> bytes:
        """A block of IEEE 488.2, of ``size`` bytes where it says no length; raises ``ValueError``: it is none."""
        head = self.take(2, what)
        if head[:1] != b"#" or not head[1:].isdigit():
            raise ValueError(f"{head!r} where a block begins")
        data = self.take(size if head == b"#0" else int(self.take(int(head[1:]), what)), what)
        self.line(what)
        return data

    def _more(self, deadline: float, size: int, what: str) -> None:
        data = self._line.read(max(CHUNK, size), max(0.0, min(_LOOK_S, deadline - time.monotonic())))
        self._pending += data
        if not data and time.monotonic() >= deadline:
            raise InstrumentSilent(
                f"{self._entry.name} ({self._entry.model.name}) does not answer {what} within "
                f"{self._link.timeout_s:g} s: {len(self._pending)} bytes of {size}",
                where=self._entry.port,
                likely="off or busy, another rate of the line, or it answers in another form than its model says",
                hint="hil bench check FILE.toml",
            )
