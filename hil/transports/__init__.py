"""Address of a chip and its stream of bytes; ``open_transport`` is the only place that chooses."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from hil.errors import PortError
from hil.transports.base import Transport
from hil.transports.schemes import BOARDS, IN_PROCESS, LINES, OURS, board_lines, loaded, schemes

DEFAULT_BAUD = 921_600
GRAMMAR = (
    "/dev/ttyUSB0?baud=115200, COM5, tcp://HOST:PORT, unix:PATH, visa:ASRL…::INSTR, visa:TCPIP0::HOST::PORT::SOCKET, "
    "emulated:lab-128?seed=7, bench:my_bench.toml, replay:wire.log"
)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<rest>.*)", re.DOTALL)  # two letters: C: is a drive
_BAUD = re.compile(r"(?P<line>.+)\?baud=(?P<baud>[1-9][0-9]{0,8})", re.DOTALL)


def whole_address(port: str, chip: object = None, macros: int | None = None) -> str:
    """The address that a port names; "emulated" is an emulated chip of a kind, by default lab-128."""
    if port != "emulated":
        return port
    return f"emulated:{chip or 'lab-128'}?seed=0" + (f"&macros={macros}" if macros else "")


def chip_named(address: str) -> tuple[str, int | None]:
    """Chip file and number of macros, None: the file's, that an address of an emulated chip names.

    Example:
        >>> chip_named("emulated:lab-128?seed=7&macros=16")
        ('lab-128', 16)
    """
    name, _, query = address.removeprefix("emulated:").partition("?")
    macros = dict(parse_qsl(query)).get("macros", "")
    return name or "lab-128", int(macros) if macros.isdecimal() else None


def open_transport(address: str, *, timeout_s: float = 10.0) -> Transport:
    """Open the stream that ``address`` names.

    Args:
        address: one of ``GRAMMAR``, or what an installed package opens (``hil.transports.schemes``).
        timeout_s: longest time to wait for a connection.

    Raises:
        PortError: missing, busy, not permitted, or no address at all.
        FileError: a log to replay is missing or broken.
    """
    if not address:
        raise bad_address(address)
    address, baud = with_baud(address)
    match = _SCHEME.fullmatch(address)
    if match is None:
        from hil.transports.serial_port import SerialTransport

        return SerialTransport(address, baud)
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme in schemes(BOARDS) and rest:
        return board_lines(address, scheme, rest)()
    if scheme in schemes(LINES) and rest:
        transport: Transport = loaded(LINES, scheme)(rest, baud=baud, timeout_s=timeout_s)
        return transport
    raise bad_address(address)


def line_opener(address: str) -> Callable[[], Transport]:
    """What opens the line of ``address``, time and again, always to the same chip; each time it raises what
    ``open_transport`` raises. A chip in this process is made once, here, and keeps what it holds between its lines.
    """
    match = _SCHEME.fullmatch(address)
    if match is not None and match["scheme"].lower() in schemes(BOARDS):
        return board_lines(address, match["scheme"].lower(), match["rest"])
    return functools.partial(open_transport, address)


def with_baud(address: str) -> tuple[str, int]:
    """An address without its ``?baud=115200``, and the bits per second of its line; only serial lines use them."""
    match = _BAUD.fullmatch(address)
    return (address, DEFAULT_BAUD) if match is None else (match["line"], int(match["baud"]))


def in_this_process(address: str) -> bool:
    """Whether an address names a chip in this process, which does not outlive its line."""
    match = _SCHEME.fullmatch(address)
    return match is not None and match["scheme"].lower() in (*schemes(BOARDS), *IN_PROCESS)


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
    others = sorted({*schemes(LINES), *schemes(BOARDS)} - {name for ours in OURS.values() for name in ours})
    installed = f"; installed packages open {', '.join(f'{name}:' for name in others)}" if others else ""
    return PortError(what, likely=f"an address is one of {GRAMMAR}{installed}", hint="hil board ports")
