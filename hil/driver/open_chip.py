"""From an address to an open chip that is what its file says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cim.chip.file import chip_names, load_chip
from cim.chip.spec import ChipSpec
from firmware_protocols.messages import Capability, Describe, Description
from hil.driver.chip_clock import ComparedClock
from hil.driver.chip_driver import ChipDriver
from hil.driver.keys import HostKey, find_key
from hil.driver.reconnection import Reconnection
from hil.driver.resumed import check_same_chip
from hil.driver.session import Session
from hil.errors import MismatchError, PortError, UsageError
from hil.transports import in_this_process, is_serial, open_transport, with_baud
from hil.transports.base import Transport
from hil.transports.dies import HeldDie
from hil.transports.in_process import InProcessTransport
from hil.transports.journal import Journal
from hil.transports.wire_log import WireLog


def open_chip(
    address: str,
    *,
    chip: str | Path | ChipSpec | None = None,
    macros: int | None = None,
    log: str | Path | None = None,
    journal: Journal | None = None,
    reconnect_timeout_s: float = 0.0,
    report: Callable[[str], None] | None = None,
    key: HostKey | None = None,
    hello_s: float = 10.0,
    silence_s: float = 2.0,
    port: Transport | None = None,
) -> ChipDriver:
    """Open the chip at ``address``.

    Args:
        address: ``/dev/ttyUSB0?baud=115200``, ``COM5``, ``tcp://host:port``, ``unix:path``,
            ``visa:TCPIP0::host::port::SOCKET``, ``emulated:lab-128?seed=7``, ``replay:wire.log``.
        chip: its chip file by name or path, or what it says; None takes the file of the name that the chip gives.
        macros: another macro count than the file's.
        log: where to write the wire log (``hil.transports.wire_log``).
        journal: answers that an earlier process got of this chip; those that it holds are not asked for again.
        reconnect_timeout_s: how long a line that was open may be silent or gone, s; a USB serial line is found again
            by its serial number. 0: it is lost at once.
        key: what a chip with authority wants proved; None takes that of the environment (``hil.driver.keys``), if any.
        report: called with one line of text when such an outage begins, while it lasts, and when it ends.
        port: of this address, open already (``opened_port``).

    Raises:
        PortError, LinkError, MismatchError, DeviceError; UsageError: no chip file of that name.

    Example:
        >>> with open_chip("emulated:lab-128?seed=7") as chip:    # doctest: +SKIP
        ...     chip.read_cells(0).shape
        (128, 128)
    """
    transport = port or open_transport(address, timeout_s=hello_s)
    reopen = reopener(address, timeout_s=hello_s) if reconnect_timeout_s else None
    return connect(
        transport,
        chip=chip,
        macros=macros,
        log=log,
        journal=journal,
        reconnection=Reconnection(reconnect_timeout_s, reopen, report),
        key=key,
        hello_s=hello_s,
        silence_s=silence_s,
    )


@contextlib.contextmanager
def opened_port(address: str) -> Iterator[Transport]:
    """The port of an address, open from now on; an error in the block closes it.

    Raises:
        PortError: missing, busy, not permitted, or no address at all. FileError: a log to replay is missing or broken.
    """
    port = open_transport(address)
    try:
        yield port
    except BaseException:
        port.close()
        raise


def connect(
    transport: Transport,
    *,
    chip: str | Path | ChipSpec | None = None,
    macros: int | None = None,
    log: str | Path | None = None,
    journal: Journal | None = None,
    reconnection: Reconnection | None = None,
    key: HostKey | None = None,
    hello_s: float = 10.0,
    silence_s: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
) -> ChipDriver:
    """Say hello over an open transport and check that the chip is what its file says; closes it on any error.

    ``clock``: of the line, s.
    """
    try:
        key = key or find_key()
    except BaseException:
        transport.close()
        raise
    session = Session(
        transport,
        wire_log=_log(transport, log),
        hello_s=hello_s,
        silence_s=silence_s,
        journal=journal,
        reconnection=reconnection,
        key=key,
        clock=clock,
    )
    return introduced(session, chip=chip, macros=macros)


def introduced(session: Session, *, chip: str | Path | ChipSpec | None = None, macros: int | None = None) -> ChipDriver:
    """Say hello in a session and check that the chip matches its file, and is the chip of the journal."""
    journal, address, begun_s = session.journal, session.address, time.monotonic()
    try:
        session.open()
        if journal is not None and journal.answers:
            now = session.ask_aside(Describe())
            check_same_chip(address, journal, now, session.latest_chip_time_ns)
            session.left_in_chip.found = now.program_digest
            if journal.begun_anew:
                session.open_anew()
        description = session.ask(Describe())
        found = _chip_file(chip, macros, description, session.transport)
        check_description(address, description, found)
        session.checks.spec = found
        if description.kind == "silicon" and description.serial and not address.startswith("replay:"):
            own = isinstance(session.transport, InProcessTransport)  # such a chip role ends with its host
            alone = Capability.DEAD_MAN in session.hello.capabilities and not own
            session.die = HeldDie(description.serial, "the chip itself" if alone else "")
    except BaseException as error:
        session.close(ending=f"{type(error).__name__}: {error}"[:500])
        raise
    driver = ChipDriver(session, description, found)
    if description.kind == "silicon":
        heard_s = driver.host_s()

        def report(text: str) -> None:
            driver.fall_back(text)
            session.say(text)

        first = ComparedClock(session.latest_chip_time_ns, heard_s - (time.monotonic() - begun_s), heard_s, report)
        session.compare_clocks(first, driver.host_s)
    return driver


def check_description(address: str, description: Description, spec: ChipSpec) -> None:
    """Raise ``MismatchError`` when the chip is not what its file says; each difference with both values."""
    pairs = (
        ("name", description.name, spec.name),
        ("revision", description.revision, spec.revision),
        ("macros", description.macros, spec.macros),
        ("rows", description.rows, spec.macro.rows),
        ("columns", description.columns, spec.macro.columns),
        ("description digest", description.spec_digest.hex(), spec.digest),
    )
    different = [
        f"{what}: the chip says {theirs}, the file says {ours}" for what, theirs, ours in pairs if theirs != ours
    ]
    if different:
        raise MismatchError(
            f"the chip at {address} is not what its file says: " + "; ".join(different),
            where=f"chip {description.name} {description.revision} serial {description.serial}, file {spec.source}",
            likely="another chip, an edited chip file, or another macro count",
            hint="name the right file with --chip, or --macros N",
        )


def _chip_file(
    chip: str | Path | ChipSpec | None, macros: int | None, description: Description, transport: Transport
) -> ChipSpec:
    if isinstance(chip, ChipSpec):
        return chip
    if chip is not None:
        return load_chip(chip, macros=macros)
    own = transport.spec if isinstance(transport, InProcessTransport) else None
    if own is not None and macros is None:
        return own
    if description.name not in (known := chip_names()):  # a path that the chip says is not opened
        raise UsageError(
            f"the chip calls itself {description.name!r}, and there is no chip file of that name",
            likely=f"a chip of your own; ours are {', '.join(known)}",
            hint="give its file with --chip FILE.toml",
        )
    return load_chip(description.name, macros=description.macros if macros is None else macros)


def _log(transport: Transport, path: str | Path | None) -> WireLog | None:
    if path is None:
        return None
    try:
        return WireLog(path, transport.address)
    except BaseException:
        transport.close()
        raise


def reopener(address: str, *, timeout_s: float) -> Callable[[], Transport] | None:
    """What opens the line of ``address`` again; None for chips in this process.

    A USB serial line is found by the vendor, product and serial number that it has now: a board that is plugged
    in again may get another name, and another board the old one.

    Raises (when called):
        PortError: it is not there.
    """
    if in_this_process(address):
        return None
    device, baud = with_baud(address)
    usb = _usb_of(device) if is_serial(address) and not address.lower().startswith("visa:") else ""

    def again() -> Transport:
        if usb and _usb_of(device) != usb:
            renamed = [device for device, name in _usb_names().items() if name == usb]
            if not renamed:
                raise PortError(f"no port has the board {usb} that was at {device}", hint="hil board ports")
            return open_transport(f"{renamed[0]}?baud={baud}", timeout_s=timeout_s)
        return open_transport(address, timeout_s=timeout_s)

    return again


def _usb_of(device: str) -> str:
    return _usb_names().get(device, "")


def _usb_names() -> dict[str, str]:
    """Vendor, product and serial number by device; boards without a serial number are left out."""
    from hil.transports.ports import list_ports

    return {port.device: port.usb for port in list_ports() if "serial" in port.usb}
