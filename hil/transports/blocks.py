"""Byte streams over what a board cannot begin by itself: SPI, I2C, and memory that it shares with this computer.

The host swaps **blocks** with the board: a count, and so many bytes. A board has its next block ready before it is
asked; where it has not, or cannot take one, its count is ``BUSY``, which is also what a line says that nobody drives,
and the host comes again. The count ``BEGIN`` says that a new host is there: the board forgets half an order, and what
it had to say to the host before.

- ``spi:BUS.DEVICE?hz=1000000&mode=0&most=63``: both blocks at once, each ``most`` + 1 bytes long, the rest zeros.
- ``i2c:BUS:ADDRESS?most=31``: a block written (count and bytes), unless it is empty; one read, ``most`` + 1 bytes long.
- ``mmap:PATH?offset=0&bytes=8192``: a file, ``/dev/uio0``, ``/dev/mem``. Words of 32 bits, as ``Word`` names them; a
  ring to the board and one from it hold a byte in each word.

Bytes are not checked here: on a line that loses bits, frames are, and an order is by its answer only.
"""

from __future__ import annotations

import enum
import mmap
import os
import time
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

from hil.errors import PortError
from hil.transports.base import CLEAN_PAYLOAD, NOISY_PAYLOAD, Transport, lost, stuck

BEGIN, BUSY = 0xFE, 0xFF
MAGIC = 0x424C4948
_WRAP = 1 << 32
_POLL_S, _WRITE_TIMEOUT_S = 0.0003, 10.0


class Blocks(Protocol):
    """What swaps blocks with a board."""

    most: int  # bytes of one block
    max_payload: int

    def swap(self, data: bytes, *, begin: bool = False) -> tuple[bool, bytes]:
        """Give a block; whether the board took it, and the bytes of its own. Raises ``OSError``: the line is gone."""
        ...

    def close(self) -> None: ...


class BlockLine:
    """Blocks as a stream of bytes."""

    def __init__(self, address: str, blocks: Blocks, timeout_s: float) -> None:
        """Begin anew with the board; raises ``PortError`` where none takes a block within ``timeout_s``."""
        self.address, self._blocks, self._pending = address, blocks, bytearray()
        until_s = time.monotonic() + timeout_s
        try:
            while not self._blocks.swap(b"", begin=True)[0]:
                if time.monotonic() > until_s:
                    raise OSError("no board takes a block")
                time.sleep(_POLL_S)
        except OSError as error:
            blocks.close()
            raise _closed(address, error) from error

    @property
    def max_payload(self) -> int:
        return self._blocks.max_payload

    def write(self, data: bytes) -> None:
        until_s = time.monotonic() + _WRITE_TIMEOUT_S
        while data:
            part = data[: self._blocks.most]
            if self._swap(part):
                data, until_s = data[len(part) :], time.monotonic() + _WRITE_TIMEOUT_S
            elif time.monotonic() > until_s:
                raise stuck(self.address, _WRITE_TIMEOUT_S)
            else:
                time.sleep(_POLL_S)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        until_s = time.monotonic() + timeout_s
        self._swap(b"")
        while not self._pending and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            self._swap(b"")
        data = bytes(self._pending[:max_bytes])
        del self._pending[:max_bytes]
        return data

    def close(self) -> None:
        self._blocks.close()

    def _swap(self, data: bytes) -> bool:
        try:
            taken, come = self._blocks.swap(data)
        except (OSError, ValueError) as error:  # ValueError: closed
            raise lost(self.address, error) from error
        self._pending += come
        return taken


class SpiBlocks:
    """Blocks of one length both ways, by ``spidev``."""

    max_payload = NOISY_PAYLOAD

    def __init__(self, device: Any, most: int) -> None:
        self._device, self.most = device, most

    def swap(self, data: bytes, *, begin: bool = False) -> tuple[bool, bytes]:
        come = bytes(self._device.xfer2([BEGIN if begin else len(data), *data.ljust(self.most, b"\0")]))
        return come[0] != BUSY, _bytes_of(come)

    def close(self) -> None:
        self._device.close()


class I2cBlocks:
    """A block written and one read, by ``smbus2``; a board that is not ready does not acknowledge its address."""

    max_payload = NOISY_PAYLOAD

    def __init__(self, bus: Any, messages: Any, at: int, most: int) -> None:
        """``messages``: ``smbus2.i2c_msg``."""
        self._bus, self._messages, self._at, self.most = bus, messages, at, most

    def swap(self, data: bytes, *, begin: bool = False) -> tuple[bool, bytes]:
        try:
            if data or begin:
                self._bus.i2c_rdwr(self._messages.write(self._at, [BEGIN if begin else len(data), *data]))
        except OSError:
            return False, b""
        asked = self._messages.read(self._at, self.most + 1)
        try:
            self._bus.i2c_rdwr(asked)
        except OSError:
            return True, b""  # it took what was written
        return True, _bytes_of(bytes(list(asked)))

    def close(self) -> None:
        self._bus.close()


class Word(enum.IntEnum):
    """Words at the start of shared memory. Counters rise by each byte, and begin anew at 2³²."""

    MAGIC = 0  # written by the board
    SIZE = 1  # bytes that a ring holds, a power of two; by the board
    BEGUN = 2  # hosts that opened it; by the host
    KNOWN = 3  # the same, once the board has forgotten the host before; by the board
    HOST_WROTE = 4
    BOARD_TOOK = 5
    BOARD_WROTE = 6
    HOST_TOOK = 7
    RINGS = 16  # the first word of the ring to the board; the other follows


class SharedMemory:
    """Both rings of shared memory, from either end; one host at a time."""

    max_payload = CLEAN_PAYLOAD

    def __init__(self, path: str | Path, offset: int = 0, size: int = 0, *, board: bool = False) -> None:
        """Map ``size`` bytes, 0: the whole file. Raises ``OSError``: there is none, or no board at its other end."""
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_SYNC", 0))
        try:
            self._map = mmap.mmap(descriptor, size, offset=offset)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map)[: len(self._map) // 4 * 4].cast("I")
        room = (len(self._words) - Word.RINGS) // 2
        if room < 1:
            self.close()
            raise OSError(f"no room for two rings, which take {4 * (Word.RINGS + 2)} bytes at least")
        if board:
            self._words[Word.SIZE], self._words[Word.MAGIC] = 1 << room.bit_length() - 1, MAGIC
        self._size = self._words[Word.SIZE]
        if self._words[Word.MAGIC] != MAGIC or self._size.bit_count() != 1 or self._size > room:
            self.close()
            raise OSError("no board has written its first words there")
        self.most = max(1, self._size // 4)
        to_board = (Word.HOST_WROTE, Word.BOARD_TOOK, int(Word.RINGS))
        to_host = (Word.BOARD_WROTE, Word.HOST_TOOK, Word.RINGS + self._size)
        self._mine, self._theirs = (to_host, to_board) if board else (to_board, to_host)
        self._host = (self._words[Word.BEGUN] + 1) % _WRAP
        if not board:
            self._words[Word.BEGUN] = self._host

    def swap(self, data: bytes, *, begin: bool = False) -> tuple[bool, bytes]:
        if self._words[Word.BEGUN] != self._host:
            raise OSError("another host has begun")
        known = self._words[Word.KNOWN] == self._host
        return known and self.put(data) == len(data), self.take()

    def begun_anew(self) -> bool:
        """For the board: whether another host is there; what the one before had sent is forgotten."""
        if self._words[Word.BEGUN] == self._words[Word.KNOWN]:
            return False
        self._words[Word.BOARD_TOOK] = self._words[Word.HOST_WROTE]
        self._words[Word.KNOWN] = self._words[Word.BEGUN]
        return True

    def put(self, data: bytes) -> int:
        """Write all of ``data``, or nothing where there is no room for it; how many bytes that was."""
        wrote, took, ring = self._mine
        at = self._words[wrote]
        if len(data) > self._size - (at - self._words[took]) % _WRAP:
            return 0
        for number, byte in enumerate(data, at):
            self._words[ring + number % self._size] = byte
        self._words[wrote] = (at + len(data)) % _WRAP  # behind the bytes that it counts
        return len(data)

    def take(self) -> bytes:
        """What the other end has written. Raises ``OSError``: its counter says more than the ring holds."""
        wrote, took, ring = self._theirs
        at = self._words[took]
        count = (self._words[wrote] - at) % _WRAP
        if count > self._size:
            raise OSError(f"a ring of {self._size} bytes says that it has {count}")
        come = bytes(self._words[ring + number % self._size] for number in range(at, at + count))
        self._words[took] = (at + count) % _WRAP
        return come

    def close(self) -> None:
        self._words.release()
        self._map.close()


def open_spi(rest: str, *, baud: int, timeout_s: float) -> Transport:
    """Open ``spi:BUS.DEVICE``; needs ``spidev``."""
    name, values = _named("spi", rest, hz=1_000_000, mode=0, most=63)
    try:
        import spidev
    except ImportError as error:
        raise _missing("spi", "spidev", error) from error
    bus, _, device = name.partition(".")
    try:
        line = spidev.SpiDev()
        line.open(int(bus), int(device))
        line.max_speed_hz, line.mode = values["hz"], values["mode"]
    except (OSError, ValueError) as error:
        raise _closed(f"spi:{rest}", error) from error
    return BlockLine(f"spi:{rest}", SpiBlocks(line, values["most"]), timeout_s)


def open_i2c(rest: str, *, baud: int, timeout_s: float) -> Transport:
    """Open ``i2c:BUS:ADDRESS``; needs ``smbus2``."""
    name, values = _named("i2c", rest, most=31)
    try:
        import smbus2
    except ImportError as error:
        raise _missing("i2c", "smbus2", error) from error
    bus, _, at = name.partition(":")
    try:
        blocks = I2cBlocks(smbus2.SMBus(int(bus)), smbus2.i2c_msg, int(at, 0), values["most"])
    except (OSError, ValueError) as error:
        raise _closed(f"i2c:{rest}", error) from error
    return BlockLine(f"i2c:{rest}", blocks, timeout_s)


def open_mmap(rest: str, *, baud: int, timeout_s: float) -> Transport:
    """Open ``mmap:PATH``."""
    path, values = _named("mmap", rest, offset=0, bytes=0)
    try:
        blocks = SharedMemory(path, values["offset"], values["bytes"])
    except (OSError, ValueError) as error:
        raise _closed(f"mmap:{rest}", error) from error
    return BlockLine(f"mmap:{rest}", blocks, timeout_s)


def _named(scheme: str, rest: str, **usual: int) -> tuple[str, dict[str, int]]:
    """The name before the question mark, and whole numbers behind it; raises ``PortError``."""
    name, _, query = rest.partition("?")
    try:
        given = {key: int(value, 0) for key, value in parse_qsl(query, strict_parsing=bool(query))}
    except ValueError:
        given = {"": 0}
    if not 0 < given.get("most", 1) < BEGIN:
        raise PortError(f"{scheme}:{rest}: a block has 1 to {BEGIN - 1} bytes", hint=f"{scheme}:{name}?most=63")
    if unknown := set(given) - set(usual):
        known = "&".join(f"{key}={value}" for key, value in usual.items())
        raise PortError(f"{scheme}:{rest}: {min(unknown)!r} is no number that it has", hint=f"{scheme}:{name}?{known}")
    return name, usual | given


def _bytes_of(block: bytes) -> bytes:
    """Raises ``OSError`` for a count that no block has."""
    if block[0] in (BEGIN, BUSY):
        return b""
    if block[0] > len(block) - 1:
        raise OSError(f"a block of {len(block) - 1} bytes says that it has {block[0]}")
    return block[1 : 1 + block[0]]


def _missing(scheme: str, package: str, error: ImportError) -> PortError:
    return PortError(f"{scheme}: needs {package}, which is not installed ({error})", hint=f"pip install {package}")


def _closed(address: str, error: Exception) -> PortError:
    return PortError(
        f"cannot open {address}: {error}",
        where=address,
        likely="no such bus, no permission, a board without power, or firmware that swaps no blocks",
    )
