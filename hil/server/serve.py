"""Serve a chip to other programs: any ``ChipHandlers`` on a pseudo-terminal, a TCP port or a Unix socket.

One client at a time; another that connects meanwhile is told so and sent away. A client may go and come
again: the chip keeps its state, its outputs go off when a connection ends. The handlers run in
a thread of their own, so the link keeps answering while a board's SDK is busy. A TCP address that other machines reach
is served as it was named, and logged as a warning, which Python prints unless a program says otherwise.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import secrets
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits, taken_frame
from firmware_protocols.extensions.chip_side import keeping_of
from firmware_protocols.handlers import ChipHandlers
from hil.errors import PortError
from hil.server.background import InBackground
from hil.transports import host_and_port
from hil.transports.base import CHUNK, CLEAN_PAYLOAD
from hil.transports.in_process import MAX_MESSAGE

log = logging.getLogger(__name__)

Ready = Callable[[str], None]
"""Called once with the address that clients can open."""

_MOST_TOLD = 8  # clients that were told that the chip is taken, and have not gone
_LOOK_UP_S = 0.1  # how often a quiet server looks whether it is to stop


def serve_pty(handlers: ChipHandlers, ready: Ready, *, stop: threading.Event | None = None) -> None:
    """Serve on a new pseudo-terminal until ``stop`` is set or Ctrl-C comes."""
    import tty

    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        os.set_blocking(master, False)
        with _chip(handlers) as server:
            ready(os.ttyname(slave))
            # The slave stays open here, so that the terminal survives clients that come and go.
            _converse(server, _Descriptor(master), stop or threading.Event())
    finally:
        os.close(master)
        os.close(slave)


def serve_tcp(handlers: ChipHandlers, where: str, ready: Ready, *, stop: threading.Event | None = None) -> None:
    """Serve on ``"HOST:PORT"`` (port 0: any free one).

    Args:
        handlers: the chip: what answers its requests.
        where: address and port; "127.0.0.1:0" takes any free port.
        ready: called once with the address, when a host can connect.
        stop: ends the server when it is set; None: it serves until it is interrupted.

    Raises:
        PortError: nothing can listen there.

    Example:
        >>> from queue import SimpleQueue
        >>> from threading import Event, Thread
        >>> from hil.emulator.chip import EmulatedChip
        >>> address, stop = SimpleQueue(), Event()
        >>> emulated = EmulatedChip(cim.load_chip("lab-128", macros=1), 7)
        >>> server = Thread(target=serve_tcp, args=(emulated, "127.0.0.1:0", address.put), kwargs={"stop": stop})
        >>> server.start()
        >>> with open_chip(address.get(timeout=30), chip="lab-128", macros=1) as chip:
        ...     print(chip.description.name)
        lab-128
        >>> stop.set()
        >>> server.join()
    """
    host, port = host_and_port(where, where if where.startswith("//") else f"//{where.removeprefix('tcp://')}")
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise PortError(
            f"cannot listen on {host}:{port}: {error}",
            where=where,
            likely="the port number is taken",
            hint="take another",
        ) from error
    with listener:
        bound = listener.getsockname()
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        if not ipaddress.ip_address(bound[0]).is_loopback:
            log.warning(
                "warning: other machines reach tcp://%s:%d, and whoever connects may program the chip, unless it wants "
                "a key\n  try     127.0.0.1:%d, for programs of this machine only",
                *(name, bound[1], bound[1]),
            )
        _accept(handlers, listener, lambda: ready(f"tcp://{name}:{bound[1]}"), stop or threading.Event())


def serve_unix(handlers: ChipHandlers, path: str | Path, ready: Ready, *, stop: threading.Event | None = None) -> None:
    """Serve on a Unix socket; its file is removed at the end.

    Args:
        handlers: the chip: what answers its requests.
        path: of the socket.
        ready: called once with the address, when a host can connect.
        stop: ends the server when it is set; None: it serves until it is interrupted.

    Raises:
        PortError: nothing can listen there, it is served already, or another kind of file.

    Example:
        >>> from queue import SimpleQueue
        >>> from threading import Event, Thread
        >>> from hil.emulator.chip import EmulatedChip
        >>> address, stop = SimpleQueue(), Event()
        >>> emulated = EmulatedChip(cim.load_chip("lab-128", macros=1), 7)
        >>> server = Thread(target=serve_unix, args=(emulated, "chip.socket", address.put), kwargs={"stop": stop})
        >>> server.start()
        >>> address.get(timeout=30)
        'unix:chip.socket'
        >>> stop.set()
        >>> server.join()
    """
    path = str(path).removeprefix("unix:")
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            listener.bind(path)
            listener.listen()
        except OSError as error:
            raise PortError(f"cannot listen on {path}: {error}", where=path) from error
        try:
            _accept(handlers, listener, lambda: ready(f"unix:{path}"), stop or threading.Event())
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


@contextlib.contextmanager
def serving(handlers: ChipHandlers, where: str) -> Iterator[str]:
    """Serve in a thread while the block runs; gives the address.

    ``where``: ``"pty"``, ``"tcp://HOST:PORT"`` or ``"unix:PATH"``.
    """
    stop, up = threading.Event(), threading.Event()
    found: list[str] = []
    failed: list[BaseException] = []

    def ready(address: str) -> None:
        found.append(address)
        up.set()

    def run() -> None:
        try:
            if where == "pty":
                serve_pty(handlers, ready, stop=stop)
            elif where.startswith("unix:"):
                serve_unix(handlers, where, ready, stop=stop)
            else:
                serve_tcp(handlers, where, ready, stop=stop)
        except BaseException as error:
            failed.append(error)
            up.set()

    thread = threading.Thread(target=run, name="chip", daemon=True)
    thread.start()
    up.wait()
    try:
        if failed:
            raise failed[0]
        yield found[0]
    finally:
        stop.set()
        thread.join(timeout=10.0)


# --- one client ----------------------------------------------------------------------------


class _Stream(Protocol):
    def fileno(self) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: bytes | memoryview, /) -> int: ...


class _Descriptor:
    """A file descriptor with the verbs of a socket."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def recv(self, size: int, /) -> bytes:
        return os.read(self._number, size)

    def send(self, data: bytes | memoryview, /) -> int:
        return os.write(self._number, data)


class _OtherHosts:
    """Those that connect while one is served: told so, and let go once they have read it."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._told: list[socket.socket] = []

    @property
    def sockets(self) -> list[socket.socket]:
        return [self._listener, *self._told]

    def look(self, readable: list[Any], *, leaving: bool) -> None:
        """``leaving``: the host that is served may just be going, so a new one waits for its place."""
        for client in [client for client in self._told if client in readable and _has_gone(client)]:
            self._let_go(client)
        if self._listener in readable and not leaving:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                self._told.append(client)
                client.setblocking(False)
                client.send(taken_frame())
                client.shutdown(socket.SHUT_WR)  # a socket that is closed at once takes the words back
        if len(self._told) > _MOST_TOLD:
            self._let_go(self._told[0])

    def close(self) -> None:
        for client in list(self._told):
            self._let_go(client)

    def _let_go(self, client: socket.socket) -> None:
        self._told.remove(client)
        client.close()


def _has_gone(client: socket.socket) -> bool:
    try:
        return not client.recv(CHUNK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _converse(server: ChipServer, stream: _Stream, stop: threading.Event, others: _OtherHosts | None = None) -> None:
    """Carry bytes between a client and the chip role until the client goes or ``stop`` is set."""
    out = memoryview(b"")
    while not stop.is_set():
        now_s = time.monotonic()
        if not out:
            out = memoryview(server.data_to_send(now_s))
        due_s = server.next_deadline(now_s)
        wait_s = _LOOK_UP_S if due_s is None or out else min(_LOOK_UP_S, max(0.0, due_s - now_s))
        watched = [stream] if others is None else [stream, *others.sockets]
        readable, writable, _ = select.select(watched, [stream] if out else [], [], wait_s)
        if others is not None:
            others.look(readable, leaving=stream in readable)
        try:
            if writable:
                out = out[stream.send(out) :]
            if stream in readable:
                data = stream.recv(CHUNK)
                if not data:
                    return
                server.receive(data, time.monotonic())
        except BlockingIOError:
            continue
        except OSError:
            return


def _accept(handlers: ChipHandlers, listener: socket.socket, ready: Callable[[], None], stop: threading.Event) -> None:
    """Serve one client after the other."""
    with _chip(handlers) as server:
        ready()
        while not stop.is_set():
            readable, _, _ = select.select([listener], [], [], _LOOK_UP_S)
            if not readable:
                continue
            client, _ = listener.accept()
            with client:
                client.setblocking(False)
                if client.family != getattr(socket, "AF_UNIX", None):
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.closing(_OtherHosts(listener)) as others:
                    _converse(server, client, stop, others)
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)  # where another process holds a copy of the socket, too
            server.miss_host()


@contextlib.contextmanager
def _chip(handlers: ChipHandlers) -> Iterator[ChipServer]:
    """A chip role over handlers that run in the background; outputs go off at the end."""
    limits = LinkLimits(max_payload=CLEAN_PAYLOAD, window=32, max_message=MAX_MESSAGE)
    with InBackground(handlers) as background:
        yield ChipServer(background, boot_id=secrets.randbits(32), limits=limits, keeping=keeping_of(handlers))


def _make_room(path: str) -> None:
    """Remove the socket file that a killed server left; refuse anything else of that name."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise PortError(f"cannot listen on {path}: {error}", where=path) from error
    if not stat.S_ISSOCK(mode):
        raise PortError(f"{path} exists and is not a socket", where=path, hint="choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(path) == 0:
            raise PortError(f"{path} is already served", where=path, hint="choose another path")
    os.unlink(path)
