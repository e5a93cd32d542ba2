"""A chip in this process: the bytes of a wire without a wire."""

from __future__ import annotations

import secrets
import time

from cim.chip.spec import ChipSpec
from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import VERSIONS, LinkLimits
from firmware_protocols.extensions.chip_side import keeping_of
from firmware_protocols.handlers import ChipHandlers
from hil.transports.base import CLEAN_PAYLOAD

KEEPS_SINCE = 0x0101  # version of the protocol
MAX_MESSAGE = 1 << 20  # what a chip served by this program takes, bytes; the same on every wire


def chip_role(
    handlers: ChipHandlers, *, boot_id: int | None = None, versions: tuple[int, int] = VERSIONS
) -> ChipServer:
    """The chip role before a chip of this process, as any wire to it would meet."""
    return ChipServer(
        handlers,
        boot_id=secrets.randbits(32) if boot_id is None else boot_id,
        limits=LinkLimits(max_payload=CLEAN_PAYLOAD, window=32, max_message=MAX_MESSAGE),
        versions=versions,
        keeping=keeping_of(handlers) if versions[1] >= KEEPS_SINCE else None,
    )


class InProcessTransport:
    """Bytes written go straight into a chip role, whose answers are read back.

    ``chip``: what stands behind a chip role of its own, which speaks ``versions``; or a chip role that outlives this
    line, one of several.
    """

    def __init__(
        self,
        chip: ChipHandlers | ChipServer,
        address: str,
        *,
        boot_id: int | None = None,
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        self.address = address
        self._outlived = isinstance(chip, ChipServer)
        self._server = chip if isinstance(chip, ChipServer) else chip_role(chip, boot_id=boot_id, versions=versions)
        self._pending = bytearray()
        self.spec: ChipSpec | None = getattr(self._server.handlers, "spec", None)  # of a board that knows its chip file

    @property
    def max_payload(self) -> int:
        return CLEAN_PAYLOAD

    def write(self, data: bytes) -> None:
        self._server.receive(data, time.monotonic())

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        deadline_s = time.monotonic() + timeout_s
        while not self._pending:
            now_s = time.monotonic()
            self._pending += self._server.data_to_send(now_s)  # the chip works in here
            if self._pending or now_s >= deadline_s:
                break
            due_s = self._server.next_deadline(now_s)
            wait_s = min(deadline_s, deadline_s if due_s is None else due_s) - time.monotonic()
            if wait_s > 0.0:  # sleep(0) would give the processor away
                time.sleep(wait_s)
        data = bytes(self._pending[:max_bytes])
        del self._pending[:max_bytes]
        return data

    def close(self) -> None:
        self._pending.clear()
        if self._outlived:
            self._server.miss_host()
