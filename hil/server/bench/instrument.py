"""One instrument behind its line: every role that its model has orders for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.outputs import Known
from hil.server.bench.bench_file import InstrumentEntry
from hil.server.bench.dialogue import CLOSE, Dialogue
from hil.server.bench.faults import InstrumentFault
from hil.server.bench.roles import Answer, Crossing, HostPause, OrderStep, Value
from hil.transports.base import Transport

_MOST_ERRORS = 100  # asked for in a row


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
        alone = not beside_others or self.model.link.acknowledge is not None
        self._sign = OrderStep(self, asks) if asks and not alone else None  # its answer says that all is done

    def connect(self, line: Transport) -> None:
        """Continue over a line that was opened again."""
        self._dialogue = Dialogue(self.entry, line, self._current_a)

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

    def can(self, order: str) -> bool:
        return order in self.model.orders

    # --- carrying out -------------------------------------------------------------------------

    def exchange(self, steps: Sequence[OrderStep]) -> list[Answer]:
        """Carry out steps, as many on their way at once as the instrument takes.

        Raises:
            InstrumentSilent: no answer, or half of one. InstrumentFault: an answer that is none. ComplianceTrip.
            hil.errors.LinkError: the line is gone.
        """
        asks = self._sign is not None and self.model.orders[steps[-1].order].reply is None
        answers = self._dialogue.exchange([*steps, self._sign] if asks and self._sign else steps)[: len(steps)]
        for step, answer in zip(steps, answers, strict=True):
            if step.order == "limits_now":
                self._check_limits(step, answer)
        return answers

    def with_outputs(self, steps: Sequence[OrderStep]) -> list[Answer]:
        """Carry out steps with outputs on from the begin of each message to its end, and off between two.

        So nothing stays on that waits for the host: the order that switches off is there before work begins.

        Raises:
            as ``exchange``, and InstrumentFault: the outputs went off meanwhile.
        """
        before = self.on()
        behind = self._if_known("is_on") + self.off() + self._if_known("errors")
        room = sum(map(self._dialogue.size, before + behind))
        answers: list[Answer] = []
        for part in self._dialogue.messages(steps, room):
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
        if len(found) != len(wanted) or not np.allclose(found, wanted, rtol=CLOSE, atol=0):
            said = ", ".join(f"{name} {value:g}" for name, value in zip(places, wanted, strict=True))
            raise InstrumentFault(
                f"{self.entry.name} ({self.model.name}) was given the limits {said}, and holds {found}; no output was "
                "switched on",
                where=self.entry.port,
                likely="a limit beyond its range, or another order in its firmware",
            )

    def make_safe(self) -> Known:
        """Outputs off, also where answers of an exchange that broke off are still on their way."""
        if not self._dialogue.in_step:  # first of all
            self._dialogue.tell(OrderStep(self, "off"))
        answers = self.exchange(self.off() + self._if_known("is_on"))
        if self.can("is_on") and _is_on(answers[-1]):
            raise self._stays_on()
        return Known.OFF if self.can("is_on") else Known.TOLD

    def close(self) -> None:
        self._dialogue.close()

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

    def _step(self, order: str, at: Crossing, **values: Value) -> OrderStep:
        line: dict[str, Value] = {"macro": at.macro, "count": len(at.columns), "column": at.columns[0]}
        if at.rows:
            line["row"] = at.rows[0]
        return OrderStep(self, order, {**line, **values})


def _is_on(answer: Answer) -> bool:
    return isinstance(answer, str) or bool(np.any(answer))
