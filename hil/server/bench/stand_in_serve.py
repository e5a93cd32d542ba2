"""Stand-ins of a bench on real lines: pseudo-terminals where its file has serial ports, sockets where it
has those."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from firmware_protocols.handlers import ChipHandlers
from hil.errors import PortError
from hil.server.bench.bench_file import BenchFile, InstrumentEntry
from hil.server.bench.fixture import Clock, Fixture, MachineClock
from hil.server.bench.stand_in import AS_MEANT, Behaviour, HungUp, StandIn
from hil.transports import host_and_port
from hil.transports.base import CHUNK

_LOOK_UP_S = 0.1
_VISA_SOCKET = re.compile(r"visa:TCPIP\d*::(?P<host>[^:]+)::(?P<port>\d+)::SOCKET", re.IGNORECASE)


class _Served:
    """One stand-in and its line."""

    def __init__(self, entry: InstrumentEntry, stand_in: StandIn, closing: contextlib.ExitStack) -> None:
        self.stand_in = stand_in
        self.listener: socket.socket | None = None
        self.client: socket.socket | None = None
        self.master: int | None = None
        if (visa := _VISA_SOCKET.fullmatch(entry.port)) is not None:
            self._listen(visa["host"], int(visa["port"]), entry.port, closing)
        elif entry.port.startswith("tcp:"):
            self._listen(*host_and_port(entry.port, entry.port.removeprefix("tcp:")), entry.port, closing)
        elif ":" in entry.port:
            hint = "a path, tcp://host:port or visa:…::SOCKET"
            raise PortError(f"there is no stand-in at {entry.port}", hint=hint)
        else:
            self.master = _pseudo_terminal(Path(entry.port), closing)

    def _listen(self, host: str, port: int, address: str, closing: contextlib.ExitStack) -> None:
        try:
            self.listener = closing.enter_context(socket.create_server((host, port)))
        except OSError as error:
            raise PortError(f"cannot listen at {address}: {error}", where=address, hint="another port") from error

    def descriptors(self) -> list[int]:
        found = [self.master] if self.master is not None else []
        return found + [s.fileno() for s in (self.listener, self.client) if s is not None]

    def take(self, readable: set[int]) -> None:
        if self.master is not None and self.master in readable:
            try:
                _write_all(self.master, self.stand_in.receive(os.read(self.master, CHUNK)))
            except HungUp as end:  # a terminal has no end that its other side would see
                _write_all(self.master, end.last)
        if self.client is not None and self.client.fileno() in readable:
            try:
                data = self.client.recv(CHUNK)
                if data:
                    self.client.sendall(self.stand_in.receive(data))
            except HungUp as end:
                with contextlib.suppress(OSError):
                    self.client.sendall(end.last)
                data = b""
            except OSError:
                data = b""
            if not data:
                self.client.close()
                self.client = None
        if self.listener is not None and self.listener.fileno() in readable:
            if self.client is not None:
                self.client.close()
            self.stand_in.forget()
            self.client, _ = self.listener.accept()
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def serve_bench(
    bench: BenchFile,
    cells: ChipHandlers,
    ready: Callable[[list[str]], None],
    *,
    outputs_log: TextIO | None = None,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    behaviour: Behaviour = AS_MEANT,
) -> None:
    """Serve every instrument of a bench until ``stop`` is set or Ctrl-C comes.

    Args:
        cells: the chip role of the emulated chip behind the instruments.
        ready: called once with the addresses.
        outputs_log: gets a line ``nanoseconds,instrument,on|off,why`` for each switching of outputs, the clock that of
            ``time.monotonic_ns``.
        clock: time of the cells; time-outs and the instruments' timers are of this machine's clock.
        behaviour: how voltages settle, and what goes wrong on the line of each instrument.
    """
    stop, fixture = stop or threading.Event(), Fixture(bench, cells, clock or MachineClock(), behaviour.settling_s)

    def report_to_log(name: str) -> Callable[[int, bool, str], None]:
        def told(at_ns: int, on: bool, why: str) -> None:
            if outputs_log is not None:
                outputs_log.write(f"{at_ns},{name},{'on' if on else 'off'},{why}\n")
                outputs_log.flush()

        return told

    with contextlib.ExitStack() as closing:
        served = [
            _Served(e, StandIn(e, fixture, report_to_log(name), behaviour), closing)
            for name, e in bench.instruments.items()
        ]
        ready([entry.port for entry in bench.instruments.values()])
        while not stop.is_set():
            due_s = [s for one in served if (s := one.stand_in.due_s()) is not None]
            wait_s = max(0.0, min([_LOOK_UP_S, *(s - time.monotonic() for s in due_s)]))
            readable, _, _ = select.select([d for one in served for d in one.descriptors()], [], [], wait_s)
            for one in served:
                one.take(set(readable))
                one.stand_in.look_at_the_clock()


def _pseudo_terminal(path: Path, closing: contextlib.ExitStack) -> int:
    """A new pseudo-terminal under a path that a bench file names; a link, taken away at the end."""
    import tty

    if path.exists():
        raise PortError(
            f"{path} is there: a stand-in takes the place of no other server", hint="another path in the bench file"
        )
    path.unlink(missing_ok=True)  # the link that a killed stand-in left
    master, slave = os.openpty()
    closing.callback(os.close, master)
    closing.callback(os.close, slave)  # held open, so that the terminal outlives hosts that come and go
    tty.setraw(slave)
    try:
        path.symlink_to(os.ttyname(slave))
    except OSError as error:
        raise PortError(f"cannot make {path}: {error}", hint="another path in the bench file") from error
    closing.callback(path.unlink, missing_ok=True)
    return master


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
