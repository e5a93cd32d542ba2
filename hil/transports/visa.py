"""VISA resources: byte streams, ``ASRL…::INSTR`` and ``TCPIP…::SOCKET``, and those of whole messages.

Streams carry the same frames as a serial port or a socket, for labs whose switch boxes and
gateways are reached through VISA. PyVISA-py is the backend, so no vendor library is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from typing import Any

from hil.errors import PortError
from hil.transports.base import CLEAN_PAYLOAD, NOISY_PAYLOAD, Transport, lost
from hil.transports.holders import unlock
from hil.transports.serial_port import port_error
from hil.transports.sockets import nobody_listens

_QUIET_MS = 2  # a socket read returns after this much quiet; constant, so nothing is cut off
_SERIAL_TIMEOUT_MS = 10_000  # of a write; reads take only what is already there
_POLL_S = 0.0005
_SERIAL = re.compile(r"ASRL(?P<device>.+?)(::INSTR)?", re.IGNORECASE)
_MESSAGES = re.compile(r"(GPIB|USB|TCPIP)\d*::.+::INSTR", re.IGNORECASE)
_SOCKET = re.compile(r"TCPIP\d*::[^:]+::\d+::SOCKET", re.IGNORECASE)


def open_visa(name: str, *, baud: int, timeout_s: float) -> Transport:
    """Open the VISA resource ``name`` as a byte stream, or as one of whole messages."""
    address = f"visa:{name}"
    serial = _SERIAL.fullmatch(name)
    if serial:
        return VisaSerial(address, name, serial["device"], baud)
    if _SOCKET.fullmatch(name):
        return VisaSocket(address, name, timeout_s)
    if _MESSAGES.fullmatch(name):
        return VisaMessages(address, name, timeout_s)
    raise PortError(
        f"{name} is not a VISA resource that is known",
        where=address,
        likely="frames travel over ASRL…::INSTR and TCPIP…::HOST::PORT::SOCKET, orders of a bench over GPIB, USB and "
        "TCPIP …::INSTR, too",
        hint="for example visa:TCPIP0::192.168.0.5::5025::SOCKET",
    )


class VisaSerial:
    """A serial line by its VISA name ``ASRL…::INSTR``, all bytes as they are, without terminations."""

    def __init__(self, address: str, name: str, device: str, baud: int) -> None:
        from pyvisa.constants import SerialTermination

        self.address = address
        self._claim = _claim(device)
        try:
            self._resource = _open(name, address, _SERIAL_TIMEOUT_MS, device)
            self._resource.baud_rate = baud
            self._resource.end_input = SerialTermination.none
            self._resource.end_output = SerialTermination.none
        except BaseException:
            self._release()
            raise

    @property
    def max_payload(self) -> int:
        return NOISY_PAYLOAD

    def write(self, data: bytes) -> None:
        try:
            self._resource.write_raw(data)
        except Exception as error:  # PyVISA, pyserial and the system each raise their own kinds
            raise lost(self.address, error) from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        try:
            while not (waiting := self._resource.bytes_in_buffer):
                if time.monotonic() >= deadline:
                    return b""
                time.sleep(_POLL_S)
            return _read(self._resource, min(waiting, max_bytes))
        except Exception as error:
            raise lost(self.address, error) from error

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a port that is already gone
            self._resource.close()
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            unlock(self._claim)
            os.close(self._claim)
            self._claim = None


class VisaSocket:
    """``TCPIP…::SOCKET`` without terminations.

    What has come is taken from PyVISA-py's own socket: its ``read`` gives out nothing before a termination, a full
    buffer, or a time-out of at least some milliseconds, which were the rate of every exchange.
    """

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        self.address = address
        self._resource = _open(name, address, _QUIET_MS, name, open_timeout=int(timeout_s * 1000))
        self._stream: socket.socket = self._resource.visalib.sessions[self._resource.session].interface
        try:
            # No waiting for more to send: PyVISA-py names the attribute for it and cannot set it.
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if refused := self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # PyVISA-py hides it
                raise OSError(refused, os.strerror(refused))
            self._stream.getpeername()
        except OSError as error:
            self.close()
            raise nobody_listens(address, error) from error

    @property
    def max_payload(self) -> int:
        return CLEAN_PAYLOAD

    def write(self, data: bytes) -> None:
        try:
            self._resource.write_raw(data)
        except Exception as error:
            raise lost(self.address, error) from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        try:
            ready, _, _ = select.select([self._stream], [], [], max(timeout_s, 0.0))
            if not ready:
                return b""
            if data := self._stream.recv(max_bytes):
                return data
        except Exception as error:
            raise lost(self.address, error) from error
        raise lost(self.address, ConnectionResetError("the other end closed the connection"))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._resource.close()


class VisaMessages:
    """Instruments that take and give whole messages: ``GPIB…::INSTR``, ``USB…::INSTR``, ``TCPIP…::INSTR``.

    They carry the orders of a bench, and no frames: a line of orders is one message, and an answer is fetched before
    the next line is sent, because such an instrument drops an answer that nobody took.
    """

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        self.address = address
        self._resource = _open(name, address, int(timeout_s * 1000), name, open_timeout=int(timeout_s * 1000))

    @property
    def max_payload(self) -> int:
        return CLEAN_PAYLOAD

    def write(self, data: bytes) -> None:
        try:
            for line in data.splitlines(keepends=True):
                self._resource.write_raw(line)
        except Exception as error:
            raise lost(self.address, error) from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        from pyvisa.constants import StatusCode
        from pyvisa.errors import VisaIOError

        self._resource.timeout = max(_QUIET_MS, round(timeout_s * 1000))
        try:
            return _read(self._resource, max_bytes)
        except VisaIOError as error:
            if error.error_code == StatusCode.error_timeout:
                return b""
            raise lost(self.address, error) from error
        except Exception as error:
            raise lost(self.address, error) from error

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._resource.close()


def _open(name: str, address: str, timeout_ms: int, device: str, open_timeout: int = 0) -> Any:
    import pyvisa

    try:
        resource = pyvisa.ResourceManager("@py").open_resource(name, open_timeout=open_timeout)
        resource.timeout = timeout_ms
    except OSError as error:
        raise port_error(device, error) from error
    except Exception as error:
        raise PortError(f"cannot open {address}: {error}", where=address, hint="check the resource name") from error
    return resource


def _read(resource: Any, count: int) -> bytes:
    from pyvisa.constants import StatusCode

    with resource.ignore_warning(StatusCode.success_max_count_read):  # a full buffer is nothing to warn about
        data, _ = resource.visalib.read(resource.session, count)
    return bytes(data)


def _claim(device: str) -> int | None:
    """Lock a serial device as pyserial's exclusive open does; PyVISA-py itself does not."""
    if os.name != "posix":
        return None
    import fcntl

    try:
        claim = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise port_error(device, error) from error
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(claim)
        raise port_error(device, error) from error
    return claim
