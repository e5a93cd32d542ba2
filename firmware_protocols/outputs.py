"""State of a chip's outputs. Every error, report and page takes its words from here."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

MOST_TEXT = 400  # characters of a fault; hosts show no more


class Known(enum.Enum):
    """Knowledge of the outputs, the worst last."""

    OFF = "outputs read back as off"
    TOLD = "outputs ordered off, not read back"
    UNKNOWN = "outputs UNKNOWN: switch off by hand"


@dataclass(frozen=True, slots=True)
class OutputState:
    """Knowledge of the outputs; ``at``: the instruments to switch off by hand."""

    known: Known
    at: str = ""

    def __str__(self) -> str:
        return f"{self.known.value} {self.at or 'the chip'}" if self.known is Known.UNKNOWN else self.known.value

    @classmethod
    def at_end_of(cls, fault: str) -> OutputState | None:
        """The state with which ``fault_text`` ended a text, None where it ends otherwise."""
        last = fault.rpartition("; ")[2]
        found = (cls(known, last.removeprefix(known.value).strip()) for known in Known if last.startswith(known.value))
        return next((state for state in found if str(state) == last), None)


@runtime_checkable
class TellsOutputs(Protocol):
    """A chip that knows how its last ``outputs_off`` ended."""

    @property
    def outputs(self) -> OutputState: ...


def state_of(chip: object, *, failed: bool) -> OutputState:
    """The state behind ``outputs_off`` of a chip, which may have raised something."""
    told = chip.outputs if isinstance(chip, TellsOutputs) else OutputState(Known.TOLD)
    return OutputState(Known.UNKNOWN) if failed and told.known is not Known.UNKNOWN else told


def fault_text(error: Exception, state: OutputState) -> str:
    """An error in one line, cut before the state of the outputs and never behind it."""
    lines = (" ".join(line.split()) for line in f"{type(error).__name__}: {error}".splitlines())
    return "; ".join(lines)[: max(0, MOST_TEXT - len(f"; {state}"))] + f"; {state}"
