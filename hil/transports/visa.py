"""VISA resources that are plain byte streams: ``ASRL…::INSTR`` and ``TCPIP…::SOCKET``.

They carry the same frames as a serial port or a socket, for labs whose switch boxes and
gateways are reached through VISA. PyVISA-py is the backend, so no vendor library is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from typing import Any

from hil.errors import PortError
from hil.transports.base import CLEAN_PAYLOAD, NOISY_PAYLOAD, Transport, lost
from hil.transports.serial_port import port_error
from hil.transports.sockets import nobody_listens

_QUIET_MS = 2  # a socket read returns after this much quiet; constant, so nothing is cut off
_SERIAL_TIMEOUT_MS = 10_000  # of a write; reads take only what is already there
_POLL_S = 0.0005
_SERIAL = re.compile(r"ASRL(?P<device>.+?)(::INSTR)?", re.IGNORECASE)
_SOCKET = re.compile(r"TCPIP\d*::[^:]+::\d+::SOCKET", re.IGNORECASE)


def open_visa(name: str, *, baud: int, timeout_s: float) -> Transport:
    """Open the VISA resource ``name`` as a byte stream."""
    address = f"visa:{name}"
    serial = _SERIAL.fullmatch(name)
    if serial:
        return VisaSerial(address, name, serial["device"], baud)
    if _SOCKET.fullmatch(name):
        return VisaSocket(address, name, timeout_s)
    raise PortError(
        f"{name} is not a VISA byte stream",
        where=address,
        likely="frames travel over ASRL…::INSTR and TCPIP…::HOST::PORT::SOCKET only",
        hint="for example visa:TCPIP0::192.168.0.5::5025::SOCKET",
    )


class VisaSerial:
    """``ASRL…::INSTR`` without terminations."""

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
            os.close(self._claim)
            self._claim = None


class VisaSocket:
    """``TCPIP…::SOCKET`` without terminations."""

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        from pyvisa.constants import ResourceAttribute

        self.address = address
        self._resource = _open(name, address, _QUIET_MS, name, open_timeout=int(timeout_s * 1000))
        # Give out what has come as soon as the line is quiet, instead of waiting for a full buffer.
        self._resource.set_visa_attribute(ResourceAttribute.suppress_end_enabled, False)
        try:
            _send_at_once(self._resource)
            self._early = self._take(1)  # PyVISA-py hides a refused connection until the first read
        except Exception as error:
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
        if self._early:
            early, self._early = self._early, b""
            return early
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                data = self._take(max_bytes)
                if data or time.monotonic() >= deadline:
                    return data
        except Exception as error:
            raise lost(self.address, error) from error

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._resource.close()

    def _take(self, max_bytes: int) -> bytes:
        from pyvisa.constants import StatusCode
        from pyvisa.errors import VisaIOError

        try:
            return _read(self._resource, max_bytes)
        except VisaIOError as error:
            if error.error_code == StatusCode.error_timeout:
                return b""
            raise


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


def _send_at_once(resource: Any) -> None:
    """No waiting for more to send, as for other sockets: PyVISA-py names the attribute for it and cannot set it."""
    stream = resource.visalib.sessions[resource.session].interface
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


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
