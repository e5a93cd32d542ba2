"""TCP and Unix sockets, both ways at once so that two full pipes cannot block each other."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from hil.errors import LinkError, PortError
from hil.transports import host_and_port
from hil.transports.base import CHUNK, CLEAN_PAYLOAD, lost, stuck

_WRITE_TIMEOUT_S = 10.0


class SocketTransport:
    """A connected stream socket. While it writes it also takes in what arrives."""

    def __init__(self, connected: socket.socket, address: str) -> None:
        connected.setblocking(False)
        self.address = address
        self._socket = connected
        self._pending = bytearray()
        self._heard = False

    @property
    def max_payload(self) -> int:
        return CLEAN_PAYLOAD

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = time.monotonic() + _WRITE_TIMEOUT_S
        while rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise stuck(self.address, _WRITE_TIMEOUT_S)
            try:
                readable, writable, _ = select.select([self._socket], [self._socket], [], left)
                if readable:
                    self._take_in()
                if writable:
                    rest = rest[self._socket.send(rest) :]
                    deadline = time.monotonic() + _WRITE_TIMEOUT_S
            except BlockingIOError:
                continue
            except (OSError, ValueError) as error:
                raise self._broken(error) from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        if not self._pending:
            try:
                readable, _, _ = select.select([self._socket], [], [], max(0.0, timeout_s))
                if readable:
                    self._take_in()
            except BlockingIOError:
                pass
            except (OSError, ValueError) as error:
                raise self._broken(error) from error
        data = bytes(self._pending[:max_bytes])
        del self._pending[:max_bytes]
        return data

    def close(self) -> None:
        # A process that this program has just begun may hold a copy of the socket: the far side hears the end anyway.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _broken(self, error: Exception) -> LinkError:
        if isinstance(error, ConnectionError) and not self._heard:
            return closed_at_once(self.address)
        return lost(self.address, error)

    def _take_in(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            raise ConnectionResetError("the far side closed it")
        self._heard = True
        self._pending += data


def open_tcp(rest: str, *, baud: int, timeout_s: float) -> SocketTransport:
    """Open ``tcp://HOST:PORT``."""
    address = f"tcp:{rest}"
    return connect_tcp(address, *host_and_port(address, rest), timeout_s)


def open_unix(rest: str, *, baud: int, timeout_s: float) -> SocketTransport:
    """Open ``unix:PATH``, a Unix socket."""
    return connect_unix(f"unix:{rest}", rest, timeout_s)


def connect_tcp(address: str, host: str, port: int, timeout_s: float) -> SocketTransport:
    try:
        connected = socket.create_connection((host, port), timeout=timeout_s)
    except socket.gaierror as error:
        raise PortError(f"no host named {host}", where=address, hint="check the name: tcp://HOST:PORT") from error
    except OSError as error:
        raise nobody_listens(address, error) from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return SocketTransport(connected, address)


def closed_at_once(address: str) -> LinkError:
    return LinkError(
        f"{address} closed the connection without a word",
        where=address,
        likely="the chip is taken: many servers serve one host at a time",
        hint=f"end the other program, then: hil board info --port {address}",
    )


def nobody_listens(address: str, error: Exception) -> PortError:
    if isinstance(error, ConnectionRefusedError):
        return PortError(
            f"nobody listens at {address}",
            where=address,
            likely="the board's server or 'hil emulate' is not running, or has another port number",
            hint="start it, or check the number",
        )
    return PortError(f"cannot connect to {address}: {error}", where=address, hint="check host, port and cable")


def connect_unix(address: str, path: str, timeout_s: float) -> SocketTransport:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise PortError("this system has no Unix sockets", where=address, hint="use tcp://HOST:PORT")
    connecting = socket.socket(family, socket.SOCK_STREAM)
    connecting.settimeout(timeout_s)
    try:
        connecting.connect(path)
    except OSError as error:
        connecting.close()
        raise _unix_error(address, path, error) from error
    return SocketTransport(connecting, address)


def _unix_error(address: str, path: str, error: OSError) -> PortError:
    if isinstance(error, FileNotFoundError):
        return PortError(f"there is no socket {path}", where=address, hint="start the server, or check the path")
    if isinstance(error, PermissionError):
        return PortError(f"no permission to open {path}", where=address, hint=f"ls -l {path}")
    if isinstance(error, ConnectionRefusedError):
        return PortError(f"nobody listens at {path}", where=address, likely="not a socket, or its server has ended")
    return PortError(f"cannot connect to {path}: {error}", where=address)
