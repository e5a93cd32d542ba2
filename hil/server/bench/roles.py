"""Roles of instruments on a bench: what a chip asks of them, in steps that one message may carry.

A role gives **steps** and sends nothing. The chip collects the steps of a whole request, in order, and ``carry_out``
gives each run of steps of one carrier to it at once: so a board gets a thousand rows in a few messages, and an
instrument with scripts can make one script of them. Which order of its manual a step is, an instrument's model file
says (``model_file``); one class, ``hil.server.bench.instrument.Instrument``, has each role that its model can play.

Contacts are what the bench file's wiring calls them: a channel number, or a text such as ``"1A03"`` of a switch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Contact: TypeAlias = int | str
Value: TypeAlias = float | int | str | NDArray[np.float64]
Answer: TypeAlias = NDArray[np.float64] | str | None
"""Numbers in the unit of the step (A, V, °C), a text, or None where nothing is answered."""


class Carrier(Protocol):
    """What carries out steps: an instrument behind its line, or a maker's library."""

    def exchange(self, steps: Sequence[OrderStep]) -> list[Answer]:
        """Carry out steps in their order and give one answer each; raises ``hil.server.bench.faults`` errors."""
        ...


class HostPause:
    """The host itself, which waits where no instrument can."""

    def exchange(self, steps: Sequence[OrderStep]) -> list[Answer]:
        for step in steps:
            time.sleep(float(np.asarray(step.values["settle_s"], np.float64)))
        return [None] * len(steps)


@dataclass(frozen=True, slots=True)
class OrderStep:
    """One order to one carrier, by its name in ``hil.server.bench.order_tables.ORDERS``, with its values."""

    carrier: Carrier
    order: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether it measures or pulses; steps before it only prepare it, and are worth nothing without it."""
        return self.order in ("currents", "pulse", "pulse_down")


@dataclass(frozen=True, slots=True)
class Crossing:
    """Lines of a macro that are reached at once: contacts of word lines and of bit lines."""

    macro: int
    rows: tuple[Contact, ...]
    columns: tuple[Contact, ...]


def carry_out(steps: Iterable[OrderStep]) -> list[Answer]:
    """Carry out steps in their order; neighbours of one carrier go to it together. One answer a step."""
    answers: list[Answer] = []
    for carrier, run in itertools.groupby(steps, key=lambda step: step.carrier):
        answers += carrier.exchange(list(run))
    return answers
