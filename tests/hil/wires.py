"""One chip over every kind of wire."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cim.chip.spec import ChipSpec
from firmware_protocols.handlers import ChipHandlers
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect, open_chip
from hil.server.serve import serving
from hil.transports.in_process import InProcessTransport
from hil.transports.wire_log import read_wire_log

WIRES = ("in process", "pty", "tcp", "unix", "visa socket", "visa serial")


@contextlib.contextmanager
def over(
    kind: str, chip: ChipHandlers, spec: ChipSpec, folder: Path | None = None, log: Path | None = None
) -> Iterator[ChipDriver]:
    """Open ``chip`` over one kind of wire; a Unix socket is made in ``folder``."""
    if kind == "in process":
        with connect(InProcessTransport(chip, kind), chip=spec, log=log) as driver:
            yield driver
        return
    tcp = "tcp://127.0.0.1:0"
    where = {"tcp": tcp, "visa socket": tcp, "unix": f"unix:{folder}/chip"}.get(kind, "pty")
    with serving(chip, where) as address, open_chip(visa(kind, address), chip=spec, log=log) as driver:
        yield driver


def visa(kind: str, address: str) -> str:
    """The VISA name of an address, for the VISA kinds."""
    if kind == "visa socket":
        return "visa:TCPIP0::127.0.0.1::{}::SOCKET".format(address.rsplit(":", 1)[1])
    return f"visa:ASRL{address}::INSTR" if kind == "visa serial" else address


def messages(log: Path) -> list[tuple[int, bytes | str]]:
    """Host-to-chip messages: request id and bytes (op, id, body), or the digest of long ones."""
    return [(e.request_id, e.data or e.digest) for e in read_wire_log(log).entries if e.sent]
