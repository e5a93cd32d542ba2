"""Errors between two ends of a link: this side's, the far side's, or the line's.

``LocalProtocolError`` is raised at the call that is wrong. ``RemoteProtocolError`` and
``LinkFailed`` are kept by the link as its ``failure``, because they arrive with bytes and time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LinkCounters:
    """What one end of a link has seen since it was made; never reset."""

    bytes_sent: int = 0
    bytes_received: int = 0
    frames_sent: int = 0  # first transmissions of numbered frames
    frames_received: int = 0  # well-formed frames of any kind
    acks_sent: int = 0  # frames that carry nothing but acknowledgements
    retransmissions: int = 0  # after a time-out
    fast_retransmissions: int = 0  # after later frames were acknowledged
    duplicates: int = 0
    out_of_window: int = 0
    wrong_session: int = 0
    bad_cobs: int = 0
    bad_length: int = 0
    bad_crc: int = 0
    bad_version: int = 0  # frame of another major version, or one that needs an authority trailer
    bytes_discarded: int = 0  # in frames that were not accepted
    hellos: int = 0  # sent by a host, answered by a chip
    resyncs: int = 0  # sessions opened anew on one link
    messages_sent: int = 0
    messages_received: int = 0
    message_bytes: int = 0  # acknowledged or arrived, of all messages but progress: they grow while one is under way

    def __str__(self) -> str:
        seen = ((name, getattr(self, name)) for name in self.__slots__)
        return ", ".join(f"{name} {count}" for name, count in seen if count) or "nothing sent or received"


class ProtocolError(Exception):
    """Base of everything this package raises on purpose."""


class LocalProtocolError(ProtocolError):
    """This side's request does not fit the protocol."""


class RemoteProtocolError(ProtocolError):
    """The far side sent something that it must not send."""


class ChipProblem(ProtocolError):
    """The chip itself refused, or could not go on."""


class UnknownOperation(RemoteProtocolError):
    """An operation code that this version does not know."""

    def __init__(self, op: int, request_id: int) -> None:
        super().__init__(f"operation 0x{op:02X} is not known to this version (request {request_id})")
        self.op, self.request_id = op, request_id


class MalformedMessage(RemoteProtocolError):
    """The body of a message cannot be read."""

    def __init__(self, text: str, op: int = 0, request_id: int = 0) -> None:
        super().__init__(f"{text} (operation 0x{op:02X}, request {request_id})")
        self.text, self.op, self.request_id = text, op, request_id


class VersionMismatch(RemoteProtocolError):
    """The two ends share no major version; ranges are (lowest, highest), each ``major << 8 | minor``."""

    def __init__(self, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        super().__init__(f"no common protocol version: host {_range(ours)}, chip {_range(theirs)}")
        self.ours, self.theirs = ours, theirs


class ChipRestarted(RemoteProtocolError, ChipProblem):
    """The boot id changed: what the chip had not finished is lost."""

    def __init__(self, old_boot_id: int, new_boot_id: int, reset_cause: int) -> None:
        super().__init__(
            f"the chip restarted: boot id 0x{old_boot_id:08X} became 0x{new_boot_id:08X} (reset cause {reset_cause})"
        )
        self.old_boot_id, self.new_boot_id, self.reset_cause = old_boot_id, new_boot_id, reset_cause


class ChipTaken(RemoteProtocolError):
    """The chip serves another host."""


class LinkFailed(ProtocolError):
    """The line is silent or lost too much; ``heard`` tells whether any good frame ever came."""

    def __init__(self, text: str, counters: LinkCounters, *, heard: bool) -> None:
        super().__init__(f"{text} ({counters})")
        self.text, self.counters, self.heard = text, counters, heard


def _range(versions: tuple[int, int]) -> str:
    low, high = (f"{version >> 8}.{version & 0xFF}" for version in versions)
    return low if low == high else f"{low} to {high}"
