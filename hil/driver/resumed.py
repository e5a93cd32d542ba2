"""Resuming a run of an earlier process: the chip must be the same, with the same program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from firmware_protocols.messages import Description, HoldProgram, LoadLayer, ProgramTile, Pulse, Request
from firmware_protocols.plans.messages import LoadPlan
from hil.driver.errors import shown
from hil.errors import DeviceError, FileError, MismatchError
from hil.transports.journal import Journal

NOTHING_HELD = bytes(32)


@dataclass
class LeftInChip:
    """State of the chip as the recalled requests left it: loaded layers, plan and the digest of its program."""

    layers: dict[int, LoadLayer] = field(default_factory=dict)
    plan: list[LoadPlan] = field(default_factory=list)
    held: bytes | None = None  # None: no recalled request says
    found: bytes | None = None  # what the chip said when this process opened it

    def see(self, request: Request[Any]) -> None:
        """Note a request that an earlier process asked."""
        match request:
            case LoadLayer():
                self.layers[request.layer] = request
            case LoadPlan():
                self.plan = [*(self.plan if request.offset else ()), request]
            case HoldProgram():
                self.held = request.digest
            case ProgramTile() | Pulse():
                self.held = NOTHING_HELD

    def take_loaded(self) -> tuple[LoadLayer | LoadPlan, ...]:
        """Take the layers and plan to load again, as the chip may have restarted or run another program."""
        loaded: tuple[LoadLayer | LoadPlan, ...] = (*self.layers.values(), *self.plan)
        self.layers, self.plan = {}, []
        return loaded

    def check(self, address: str, asked: Request[Any]) -> None:
        """Raise ``MismatchError`` if the chip holds another program than when the run was interrupted.

        ``asked`` is the first request without an answer: perhaps the chip has done it already.
        """
        held, found, self.found = self.held, self.found, None
        allowed = (held, NOTHING_HELD, asked.digest if isinstance(asked, HoldProgram) else None)
        if held is not None and found is not None and found not in allowed:
            raise MismatchError(
                f"the chip at {address} holds program {found.hex()[:12]}…, the run left "
                + (f"{held.hex()[:12]}…" if any(held) else "none"),
                likely="another program used the chip since the run was interrupted",
                hint="hil deploy --restart begins again, hil deploy --out FOLDER beside it",
            )


def check_same_chip(address: str, journal: Journal, found: Description, chip_time_ns: int) -> None:
    """Compare the chip with the one whose answers the journal holds.

    If the chip's clock is before the last of these answers, it was restarted; then the run restarts, if allowed.

    Raises:
        MismatchError: another chip. DeviceError: the run must not be restarted. FileError: the journal does not
        begin as a run does.
    """
    first = journal.first()
    if not isinstance(first, Description):
        raise FileError(f"{journal.path} does not begin with the description of a chip")
    for what in ("name", "serial", "revision", "firmware", "macros", "spec_digest"):
        was, now = getattr(first, what), getattr(found, what)
        if was != now:
            raise MismatchError(
                f"the chip at {address} is not the one that the run was begun on: "
                f"its {what.replace('_', ' ')} is {_words(now)}, it was {_words(was)}",
                likely="another board on that port",
                hint="hil board ports; connect the board of the run, or begin a new one with hil deploy",
            )
    if chip_time_ns < journal.last_chip_time_ns:
        if not journal.may_begin_anew:
            raise DeviceError(
                f"the chip restarted and its clock with it: it stands at {chip_time_ns * 1e-9:.1f} s, "
                f"the run was at {journal.last_chip_time_ns * 1e-9:.1f} s",
                where=address,
                likely="its ages are not known any more; to continue means to calibrate and write it again",
            )
        journal.begin_anew()


def _words(value: object) -> str:
    return value.hex()[:12] if isinstance(value, bytes) else shown(str(value))
