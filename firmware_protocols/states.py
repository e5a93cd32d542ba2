"""States and transitions of the link and of requests, as tables that both roles move by.

``LINK`` is the life of one end of the link, ``ASKS`` of a request at the host, ``JOBS`` of a request
at the chip. An event that a state does not list cannot happen there: ``moved`` refuses it, ``takes``
asks before. docs/file-formats.md shows the same tables (``tests/firmware_protocols/state_tables.py``).

>>> moved(LINK[Role.HOST], State.CLOSED, LinkEvent.OPEN)
<State.OPENING: 'opening'>
>>> takes(LINK[Role.CHIP], State.CLOSED, LinkEvent.OPEN)
False
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from firmware_protocols.errors import LocalProtocolError


class Role(enum.Enum):
    HOST = "host"
    CHIP = "chip"


# --- the link -----------------------------------------------------------------------------


class State(enum.Enum):
    CLOSED = "closed"
    OPENING = "opening"
    UP = "up"
    FAILED = "failed"


class LinkEvent(enum.Enum):
    OPEN = "opened"  # by its owner
    CLOSE = "closed"
    HELLO = "HELLO"  # of a session that is not open
    HELLO_COPY = "copy of HELLO"
    HELLO_REJECTED = "HELLO with no common version"
    HELLO_REPLY = "HELLO_REPLY"
    REFUSED = "refused"  # HELLO_REJECT, values that were not offered, another boot id
    SESSION_UNKNOWN = "session unknown"
    BROKEN = "broken"  # silent, out of tries, lost too often


LINK: dict[Role, dict[State, dict[LinkEvent, State]]] = {
    Role.HOST: {
        State.CLOSED: {
            LinkEvent.OPEN: State.OPENING,
            LinkEvent.CLOSE: State.CLOSED,
        },
        State.OPENING: {
            LinkEvent.OPEN: State.OPENING,
            LinkEvent.HELLO_REPLY: State.UP,
            LinkEvent.REFUSED: State.FAILED,
            LinkEvent.BROKEN: State.FAILED,
            LinkEvent.CLOSE: State.CLOSED,
        },
        State.UP: {
            LinkEvent.OPEN: State.OPENING,
            LinkEvent.REFUSED: State.FAILED,  # another boot id
            LinkEvent.SESSION_UNKNOWN: State.OPENING,
            LinkEvent.BROKEN: State.FAILED,
            LinkEvent.CLOSE: State.CLOSED,
        },
        State.FAILED: {
            LinkEvent.OPEN: State.OPENING,
            LinkEvent.CLOSE: State.CLOSED,
        },
    },
    Role.CHIP: {
        State.CLOSED: {
            LinkEvent.HELLO: State.UP,
            LinkEvent.HELLO_REJECTED: State.CLOSED,
            LinkEvent.CLOSE: State.CLOSED,
        },
        State.UP: {
            LinkEvent.HELLO: State.UP,
            LinkEvent.HELLO_COPY: State.UP,
            LinkEvent.HELLO_REJECTED: State.UP,
            LinkEvent.BROKEN: State.CLOSED,
            LinkEvent.CLOSE: State.CLOSED,
        },
    },
}


# --- a request at the host ----------------------------------------------------------------


class AskState(enum.Enum):
    QUEUED = "queued"  # waits for room at the chip
    SENT = "sent"
    ANSWERED = "answered"  # its id is free again


class AskEvent(enum.Enum):
    SEND = "room at the chip"
    PROGRESS = "PROGRESS"
    REPLY = "any other reply"
    NEW_SESSION = "new session"


ASKS: dict[AskState, dict[AskEvent, AskState]] = {
    AskState.QUEUED: {
        AskEvent.SEND: AskState.SENT,
        AskEvent.PROGRESS: AskState.QUEUED,  # sent in the session before
        AskEvent.REPLY: AskState.ANSWERED,
        AskEvent.NEW_SESSION: AskState.QUEUED,
    },
    AskState.SENT: {
        AskEvent.PROGRESS: AskState.SENT,
        AskEvent.REPLY: AskState.ANSWERED,
        AskEvent.NEW_SESSION: AskState.QUEUED,
    },
    AskState.ANSWERED: {},
}


# --- a request at the chip ----------------------------------------------------------------


class JobState(enum.Enum):
    UNKNOWN = "unknown"
    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"  # the reply is kept


class JobEvent(enum.Enum):
    QUEUE = "accepted"
    START = "its turn"  # at once for OUTPUTS_OFF and RESET
    ANSWER = "reply"  # also an error, also STOPPED
    REPEAT = "comes again"
    FORGET = "forgotten"


JOBS: dict[JobState, dict[JobEvent, JobState]] = {
    JobState.UNKNOWN: {
        JobEvent.QUEUE: JobState.QUEUED,
        JobEvent.START: JobState.RUNNING,
        JobEvent.ANSWER: JobState.ANSWERED,
    },
    JobState.QUEUED: {
        JobEvent.START: JobState.RUNNING,
        JobEvent.ANSWER: JobState.ANSWERED,
        JobEvent.REPEAT: JobState.QUEUED,
        JobEvent.FORGET: JobState.UNKNOWN,  # the link failed: a host that comes back repeats it
    },
    JobState.RUNNING: {
        JobEvent.ANSWER: JobState.ANSWERED,
        JobEvent.REPEAT: JobState.RUNNING,
    },
    JobState.ANSWERED: {
        JobEvent.REPEAT: JobState.ANSWERED,  # answered from memory
        JobEvent.FORGET: JobState.UNKNOWN,  # after 16 later replies, by another host, by a reset
    },
}


# --- moving -------------------------------------------------------------------------------

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)
Transitions: TypeAlias = Mapping[S, Mapping[E, S]]
"""State -> event -> next state."""


def takes(table: Transitions[S, E], state: S, event: E) -> bool:
    """Whether ``event`` can happen in ``state``."""
    return event in table[state]


def moved(table: Transitions[S, E], state: S, event: E) -> S:
    """The state after ``event``; raises ``LocalProtocolError`` when it cannot happen in ``state``."""
    try:
        return table[state][event]
    except KeyError:
        raise LocalProtocolError(f"{type(event).__name__} {event.name} cannot happen when {state.value}") from None
