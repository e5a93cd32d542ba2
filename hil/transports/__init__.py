"""Address of a chip and its stream of bytes; ``open_transport`` is the only place that chooses."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from hil.errors import PortError
from hil.transports.base import Transport

DEFAULT_BAUD = 921_600
GRAMMAR = (
    "/dev/ttyUSB0, COM5, tcp://HOST:PORT, unix:PATH, visa:ASRL…::INSTR, visa:TCPIP0::HOST::PORT::SOCKET, "
    "emulated:lab-128?seed=7, replay:wire.log"
)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<rest>.*)", re.DOTALL)  # two letters: C: is a drive


def open_transport(address: str, *, baud: int = DEFAULT_BAUD, timeout_s: float = 10.0) -> Transport:
    """Open the stream that ``address`` names.

    Args:
        address: one of ``GRAMMAR``.
        baud: bits per second; only serial lines use it.
        timeout_s: longest time to wait for a connection.

    Raises:
        PortError: missing, busy, not permitted, or no address at all.
        FileError: a log to replay is missing or broken.
    """
    if not address:
        raise bad_address(address)
    match = _SCHEME.fullmatch(address)
    if match is None:
        from hil.transports.serial_port import SerialTransport

        return SerialTransport(address, baud)
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme == "tcp":
        from hil.transports.sockets import connect_tcp

        return connect_tcp(address, *host_and_port(address, rest), timeout_s)
    if scheme == "unix" and rest:
        from hil.transports.sockets import connect_unix

        return connect_unix(address, rest, timeout_s)
    if scheme == "visa" and rest:
        from hil.transports.visa import open_visa

        return open_visa(rest, baud, timeout_s)
    if scheme == "emulated" and rest:
        from hil.transports.emulated import open_emulated

        return open_emulated(address)
    if scheme == "replay" and rest:
        from hil.transports.replay import ReplayTransport

        return ReplayTransport(rest)
    raise bad_address(address)


def line_opener(address: str, *, baud: int = DEFAULT_BAUD) -> Callable[[], Transport]:
    """What opens the line of ``address``, time and again, always to the same chip; each time it raises what
    ``open_transport`` raises. A chip in this process is made once, here, and keeps what it holds between its lines.
    """
    if address.lower().startswith("emulated:"):
        from hil.transports.emulated import emulated_lines

        return emulated_lines(address)
    return functools.partial(open_transport, address, baud=baud)


def is_serial(address: str) -> bool:
    """Whether an address names a serial line, on which every byte takes its time."""
    return _SCHEME.fullmatch(address) is None or address.lower().startswith("visa:asrl")


def host_and_port(address: str, rest: str) -> tuple[str, int]:
    """Split ``//HOST:PORT``; IPv6 hosts stand in brackets. Raises ``PortError``."""
    try:
        parts = urlsplit(rest)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not rest.startswith("//") or host is None or port is None:
        raise bad_address(address)
    return host, port


def bad_address(address: str) -> PortError:
    what = f"{address!r} is not an address of a chip"
    return PortError(what, likely=f"an address is one of {GRAMMAR}", hint="hil ports")
