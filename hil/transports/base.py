"""Interface of every transport: bytes out, bytes in, a name, nothing else."""

from __future__ import annotations

from typing import Protocol

from hil.errors import LinkError

CHUNK = 65536  # bytes asked for in one read
NOISY_PAYLOAD, CLEAN_PAYLOAD = 512, 4096  # frame payloads for serial lines and for streams without bit errors


class Transport(Protocol):
    """A two-way byte stream to one chip.

    ``write`` gives all of ``data`` away or raises; ``read`` gives what has come, at most
    ``max_bytes``, and ``b""`` when nothing came within ``timeout_s``. Both raise ``LinkError``
    when the far side is gone. ``close`` may be called twice.
    """

    @property
    def address(self) -> str: ...

    @property
    def max_payload(self) -> int:
        """Longest useful frame payload, bytes: short where bits get lost, so that little is repeated."""
        ...

    def write(self, data: bytes) -> None: ...

    def read(self, max_bytes: int, timeout_s: float) -> bytes: ...

    def close(self) -> None: ...


def lost(address: str, reason: object) -> LinkError:
    """The error of a stream that broke while open."""
    return LinkError(
        f"connection to {address} lost: {reason}",
        where=address,
        likely="cable pulled, board without power, or the far program ended",
        hint=f"plug it in again, then: hil board info --port {address}",
    )


def stuck(address: str, seconds: float) -> LinkError:
    """The error of a stream that takes no more bytes."""
    return LinkError(
        f"{address} took no bytes for {seconds:.1f} s",
        where=address,
        likely="the far side stopped reading, or flow control holds the line",
        hint=f"reset the board, then: hil board info --port {address}",
    )
