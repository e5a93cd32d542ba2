"""Hosts that end while outputs are on, and when these went off, measured at the instrument.

Stand-ins and hosts are processes of their own; ``time.monotonic_ns`` is one clock for all of this machine. Between them
lines run through a relay of this process, which can cut them, and sees who opens new ones: the guard. Hosts are forked
from a process that has imported everything, and end as a script does: what ``atexit`` holds is carried out.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.hil.bench import working_host
from tests.hil.bench.benches import WRITTEN, free_ports

ENDS = ("kill", "disconnect", "exception", "interrupt")
SILENCE = "silence"  # the host stands still: no byte more, and nobody is told, as where a cable is pulled
_FRAMES = Path(__file__).with_name("logged_chip.py")
_PORT = re.compile(r"(?<=tcp://127\.0\.0\.1:)\d+|(?<=127\.0\.0\.1::)\d+(?=::SOCKET)")
_WAIT_S = 60.0
_CHUNK = 1 << 16
_LATEST = 1000  # switchings that are looked at: more than the end of a host takes
_SPREAD_S = 0.01  # behind the event that outputs are on, at random


KINDS: Mapping[str, Callable[[Path], Path] | None] = {
    "frames": None,
    **{kind: WRITTEN[kind] for kind in ("visa-station", "row-board", "b1500a", "arc-two")},
}
GUARDED = ("visa-station", "b1500a", "arc-two")  # have instruments without a timer


@dataclass(frozen=True)
class EndedHost:
    """How long outputs stayed on behind the end of a host, s; 0 where they were off already."""

    how: str
    were_on: bool
    stayed_on_s: float
    by: str  # who turned them off: host, guard, timer, instrument (at the end of what it was sent), nobody needed


@dataclass
class Relay:
    """Lines through this process: a port of its own before each port of an instrument."""

    ports: dict[int, int] = field(default_factory=dict)  # ours by theirs
    opened_ns: list[int] = field(default_factory=list)
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before(self, port: int) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self.ports[port] = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()
        return self.ports[port]

    @property
    def open_lines(self) -> int:
        return len(self._pairs)

    def cut(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            client, _ = listener.accept()
            opened_ns = time.monotonic_ns()
            try:
                server = socket.create_connection(("127.0.0.1", port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:  # a line that is told of is an open one
                self._pairs.append((client, server))
                self.opened_ns.append(opened_ns)
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with contextlib.suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    if not (data := end.recv(_CHUNK)):
                        raise ConnectionResetError
                    other[end].sendall(data)
        for end in other:
            end.close()
        with self._lock:
            self._pairs.remove((client, server))


@dataclass(frozen=True)
class StandingIn:
    """Stand-ins of a kind, and where a host reaches them."""

    kind: str
    address: str
    log: Path
    relay: Relay
    _switched: list[tuple[int, str, bool, str]] = field(default_factory=list)
    _read: list[int] = field(default_factory=lambda: [0])  # bytes of the log until now

    def switched(self) -> list[tuple[int, str, bool, str]]:
        """Each switching of outputs until now: ns, instrument, on, why."""
        with self.log.open("rb") as file:
            file.seek(self._read[0])
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read[0] += len(whole)
        lines = [line.split(",") for line in whole.decode().splitlines()]
        self._switched.extend((int(at), name, word == "on", why) for at, name, word, why in lines)
        return self._switched

    def are_on(self, at_ns: int | None = None) -> bool:
        """Now, or at an instant that is past."""
        last: dict[str, bool] = {}
        for at, name, on, _ in reversed(self.switched()[-_LATEST:]):
            if at_ns is None or at <= at_ns:
                last.setdefault(name, on)
        return any(last.values())


@contextlib.contextmanager
def standing_in(kind: str, folder: Path, write: Callable[[Path], Path] | None = None) -> Iterator[StandingIn]:
    """Stand-ins of a kind (``write``: of a bench file of one's own) in a process, with a log of their outputs."""
    log, relay, write = folder / "outputs.csv", Relay(), write or KINDS[kind]
    if write is None:
        port = free_ports(1)[0]
        address = f"tcp://127.0.0.1:{relay.before(port)}"
        command = [sys.executable, str(_FRAMES), f"127.0.0.1:{port}", str(log)]
    else:
        path = write(folder)
        host = path.with_name("host.toml")
        host.write_text(_PORT.sub(lambda found: str(relay.before(int(found.group()))), path.read_text()))
        address = f"bench:{host}"
        command = [sys.executable, "-m", "hil", "emulate", "--bench", str(path), "--outputs-log", str(log)]
    with (folder / "stand_ins.err").open("w+") as complaints:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), (folder / "stand_ins.err").read_text()
        yield StandingIn(kind, address, log, relay)
    finally:
        process.terminate()  # an interrupt is ignored where this process was started in the background
        process.wait(_WAIT_S)


def end_a_host(standing: StandingIn, how: str, rng: random.Random) -> EndedHost:
    """Start a host, end it at a random instant while outputs are on, and wait until they are off for good.

    Raises:
        TimeoutError: they are not.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([working_host.__name__])
    ours, theirs = context.Pipe()
    host = context.Process(target=working_host.work, args=(standing.address, theirs))
    host.start()
    theirs.close()  # a host that fails before it works is seen
    assert host.pid is not None
    assert (said := ours.recv()) == working_host.WORKING, said
    _until(standing.are_on, "outputs never went on")
    time.sleep(rng.uniform(0.0, _SPREAD_S))
    guards = psutil.Process(host.pid).children()
    ended_ns = time.monotonic_ns()
    if how == "disconnect":
        standing.relay.cut()
    else:
        os.kill(host.pid, _SIGNALS[how])
    if how != SILENCE:
        host.join(_WAIT_S)
    guarded = standing.kind in GUARDED and how in ("kill", "disconnect")
    _until(lambda: not guarded or any(ns > ended_ns for ns in standing.relay.opened_ns), "no guard came")
    _until(lambda: not standing.are_on() and (how == SILENCE or not standing.relay.open_lines), "outputs stay on")
    found = standing.switched()
    if how == SILENCE:
        host.kill()
        host.join(_WAIT_S)
        _until(lambda: not standing.relay.open_lines, "lines stay open")
    # The line of a guard would throw the next host off an instrument that has one line at a time.
    _until(lambda: all(map(_is_over, guards)), "a guard goes on")
    off_ns, _, _, why = found[-1]
    return EndedHost(
        how, standing.are_on(ended_ns), max(0.0, (off_ns - ended_ns) / 1e9), _who(standing, how, ended_ns, off_ns, why)
    )


_SIGNALS = {
    "kill": signal.SIGKILL, "interrupt": signal.SIGINT, "exception": working_host.RAISE, SILENCE: signal.SIGSTOP,
}  # fmt: skip


def _who(standing: StandingIn, how: str, ended_ns: int, off_ns: int, why: str) -> str:
    if off_ns < ended_ns:
        return "nobody needed"
    if why == "timer":
        return why
    if standing.kind == "frames" and how in ("kill", "disconnect"):
        return "chip, as its line ended"
    if any(ended_ns < ns < off_ns for ns in standing.relay.opened_ns):
        return "guard"
    return "host" if how in ("exception", "interrupt") else "instrument"


def _is_over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(done: Callable[[], bool], otherwise: str) -> None:
    until_s = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > until_s:
            raise TimeoutError(f"{otherwise} within {_WAIT_S:g} s")
        time.sleep(0.001)
