"""Dies by serial number, across the programs of one user: what happened to each, and which of them are quarantined.

Each die has a folder in the user's state folder, whose ``events.jsonl`` grows by a line for each event. A die is
quarantined from an event of that kind until somebody releases it. Emulated chips have no folder.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from hil.errors import DeviceError, OutputError
from hil.transports.locks import Lock, Owner, state_folder


class Happened(enum.StrEnum):
    """Kinds of events."""

    OFF = "off"  # its program ended early, and its outputs went off by themselves
    QUARANTINED = "quarantined"
    RELEASED = "released"
    RECORD = "record"  # it was measured


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a die; ``pid``: the process that had ended, where one had."""

    time: str
    serial: str
    what: Happened
    text: str
    pid: int = 0


def _folder(serial: str) -> Path:
    name = f"{re.sub(r'[^A-Za-z0-9-]+', '_', serial)[:40]}-{hashlib.sha256(serial.encode()).hexdigest()[:8]}"
    return state_folder() / "dies" / name


def note(serial: str, what: Happened, text: str, pid: int = 0) -> None:
    """Append an event; raises ``OutputError``."""
    path = _folder(serial) / "events.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Event(Owner.this().since, serial, what, text, pid))) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}", hint="XDG_STATE_HOME=FOLDER hil …") from error


def events(serial: str) -> list[Event]:
    """All events of a die, the oldest first."""
    path = _folder(serial) / "events.jsonl"
    return [_event(line, serial) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _event(line: str, serial: str) -> Event:
    try:
        found = json.loads(line)
        return Event(**{**found, "what": Happened(found["what"])})
    except (ValueError, TypeError, KeyError):  # cut by a loss of power: it may have been of that kind
        return Event("", serial, Happened.QUARANTINED, "an event that cannot be read")


def dies() -> dict[str, list[Event]]:
    """Events of every die that is known here, by serial number."""
    paths = sorted((state_folder() / "dies").glob("*/events.jsonl"))
    found = ([_event(line, "") for line in path.read_text("utf-8").splitlines()] for path in paths)
    return {one[0].serial: one for one in found if one}


def quarantine(serial: str) -> Event | None:
    """The event since which a die is quarantined; None where it is not."""
    turns = [e for e in events(serial) if e.what in (Happened.QUARANTINED, Happened.RELEASED)]
    return turns[-1] if turns and turns[-1].what is Happened.QUARANTINED else None


def refuse_quarantined(serial: str) -> None:
    """Raise ``DeviceError`` for a die that is quarantined."""
    if (event := quarantine(serial)) is not None:
        raise DeviceError(
            f"the die {serial} is quarantined since {event.time}: {event.text}",
            where=str(_folder(serial)),
            likely="its cells, or the bench before it, may be damaged",
            hint="look at it, then: hil board release SERIAL --reason TEXT",
        )


def judge(serial: str, owner: Owner, off_by: str) -> None:
    """Note that a program ended without switching the outputs of a die off; they went off ``off_by`` something.

    Where that is empty, and nobody noted so either since the program began, the die is quarantined.
    """
    left = f"left by {owner}"
    if off_by:
        note(serial, Happened.OFF, f"{left}; switched off by {off_by}", owner.pid)
    elif not any(e.what is Happened.OFF and e.pid == owner.pid and e.time >= owner.since for e in events(serial)):
        note(serial, Happened.QUARANTINED, f"{left}; nobody read its outputs back as off", owner.pid)


class HeldDie(Lock):
    """A die that this process drives, until ``release``.

    Raises:
        PortError: another program drives it. DeviceError: it is quarantined.
    """

    def __init__(self, serial: str, off_by: str) -> None:
        """``off_by``: what switches its outputs off when its program ends; empty: nothing that is known."""
        super().__init__(f"die {serial}")
        if self.left_by is not None:
            judge(serial, self.left_by, off_by)
            self.left_by = None
        try:
            refuse_quarantined(serial)
        except DeviceError:
            self.release()
            raise
