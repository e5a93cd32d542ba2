"""Serial ports: UARTs, USB-serial adapters, pseudo-terminals."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

import serial

from hil.errors import PortError
from hil.transports.base import NOISY_PAYLOAD, lost, stuck
from hil.transports.holders import holders, unlock

_POLL_S = 0.01  # pyserial reconfigures the port when its time-out changes, so it stays at this
_WRITE_TIMEOUT_S = 10.0


class SerialTransport:
    """A serial port, 8N1, no flow control, opened for this program alone."""

    def __init__(self, device: str, baud: int) -> None:
        self.address = device
        _refuse_other_files(device)
        try:
            self._port = serial.Serial(
                device,
                baud,
                timeout=_POLL_S,
                write_timeout=_WRITE_TIMEOUT_S,
                exclusive=True if os.name == "posix" else None,
            )
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise port_error(device, error, baud) from error

    @property
    def max_payload(self) -> int:
        return NOISY_PAYLOAD

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except serial.SerialTimeoutException as error:
            raise stuck(self.address, _WRITE_TIMEOUT_S) from error
        except (OSError, TypeError) as error:  # TypeError: pyserial, closed under its feet
            raise lost(self.address, error) from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                data: bytes = self._port.read(1)  # waits up to _POLL_S
                if data:
                    return data + self._port.read(min(self._port.in_waiting, max_bytes - 1))
                if time.monotonic() >= deadline:
                    return b""
        except (OSError, TypeError) as error:
            raise lost(self.address, error) from error

    def close(self) -> None:
        if self._port.is_open:
            unlock(self._port.fileno())
        with contextlib.suppress(OSError):  # a device that was unplugged cannot be closed properly
            self._port.close()


def port_error(device: str, error: Exception, baud: int = 0) -> PortError:
    """Say which of missing, busy, not permitted or wrong it is, and what to do."""
    number = getattr(error, "errno", None)
    where = f"{device} at {baud} baud" if baud else device
    if number in (errno.EAGAIN, errno.EBUSY, errno.EWOULDBLOCK):
        return busy(device)
    if number in (errno.EACCES, errno.EPERM):
        return PortError(
            f"no permission to open {device}",
            where=_owner(device),
            likely="your user is not in the group of the port",
            hint=f"sudo usermod -aG {_group(device)} $USER, then log in again",
        )
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return missing(device)
    return PortError(f"cannot open {where}: {error}", where=where, hint="hil board ports")


def missing(device: str) -> PortError:
    return PortError(
        f"there is no port {device}",
        where=device,
        likely="board not plugged in, or under another name",
        hint="hil board ports",
    )


def busy(device: str) -> PortError:
    names = holders(device)
    return PortError(
        f"{device} is busy",
        where=device,
        likely=f"held by {', '.join(names)}" if names else "another program has it open",
        hint="close that program and try again",
    )


def _refuse_other_files(device: str) -> None:
    """A path that exists and is not a character device would only give an odd ioctl error."""
    try:
        mode = os.stat(device).st_mode
    except OSError:
        return  # the open will say why
    if not stat.S_ISCHR(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "socket (unix:PATH opens one)" if stat.S_ISSOCK(mode) else "file"
        raise PortError(f"{device} is a {kind}, not a serial port", where=device, hint="hil board ports")


def _owner(device: str) -> str:
    try:
        node = os.stat(device)
    except OSError:
        return device
    return f"{device}, {stat.filemode(node.st_mode)}, group {_group(device)}"


def _group(device: str) -> str:
    try:
        import grp

        return grp.getgrgid(os.stat(device).st_gid).gr_name
    except (ImportError, OSError, KeyError):
        return "dialout"
