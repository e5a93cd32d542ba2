"""Ends of a simulated line as episodes and invariants see them, whoever plays them."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import LinkCounters
from firmware_protocols.host import HostLink
from firmware_protocols.states import State
from tests.line_simulation.line import LineEnd
from tests.line_simulation.sent_requests import EpisodeRequests, SentRequest


class Met(enum.Enum):
    """What a run of the simulation is to meet beside faults."""

    DRIVER = "requests of the driver"
    FIRMWARE = "requests to the C firmware"
    RESUMED = "runs that the driver resumed"
    ANEW = "runs that the driver restarted"
    PROVED = "proofs of a key"
    OFF = "OUTPUTS_OFF requested"
    RESET = "RESET requested"
    IMAGE_TILES = "writes out of images"
    TRIPPED = "requests that the chip failed"


Advance = Callable[[float], None]
"""Moves time to what happens next, at most to a time (s): one step of the line, its checks, the events that are due."""


class SeenConnection(Protocol):
    """A chip's end of the link."""

    @property
    def state(self) -> State: ...

    @property
    def session(self) -> int: ...

    @property
    def hello(self) -> Any: ...  # of its host, with a nonce; None: there is none

    @property
    def last_heard_s(self) -> float | None: ...

    @property
    def idle(self) -> bool: ...

    @property
    def limits(self) -> LinkLimits: ...


class SeenChip(LineEnd, Protocol):
    """A chip role (``ChipServer``) in Python or C."""

    @property
    def boot_id(self) -> int: ...

    @property
    def connection(self) -> SeenConnection: ...

    @property
    def counters(self) -> LinkCounters: ...

    @property
    def busy(self) -> bool: ...

    @property
    def answered(self) -> frozenset[int]: ...

    @property
    def unanswered(self) -> frozenset[int]: ...


class SeenHost(LineEnd, Protocol):
    """Whoever asks the requests of an episode."""

    requests: EpisodeRequests
    count: int
    answered: int
    stopped: int  # requests that outputs off ended for good
    begun_anew: int  # how often all that had no answer was asked under other ids
    unanswered: dict[int, SentRequest]  # by place
    met: Counter[Met]

    @property
    def link(self) -> HostLink: ...

    @property
    def done(self) -> bool: ...

    @property
    def offs(self) -> frozenset[int]: ...  # ids of OUTPUTS_OFF and RESET without an answer

    @property
    def waiting(self) -> dict[int, SentRequest]: ...  # by id under the nonce of this life

    def id_of(self, place: int) -> int:
        """Number that the request at a place has since the host started last; 0: it was not sent since."""
        ...

    def go_on(self, advance: Advance) -> None:
        """Live on, until the end of this life or of the episode."""
        ...

    def unplug(self) -> None: ...

    def plug(self, now_s: float) -> None: ...

    def kill(self, now_s: float) -> None: ...

    def begin_anew(self, now_s: float) -> None: ...

    def outputs_off(self, *, reset: bool = False) -> None: ...
