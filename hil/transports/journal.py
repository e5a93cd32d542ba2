"""The journal of a run: every answer of the chip, on disk as it comes, so that a later process goes on where one ended.

A run asks the same questions in the same order whenever it is restarted, as far as it gets the same answers. So
the place of a request in that order names its answer: a process that goes on takes the answers that the journal
holds and asks the chip for the rest only. The file is append-only; each entry carries its length and a CRC, and
what a killed process wrote of its last entry is dropped:

    u32 length of body | u32 CRC-32 of kind and body | u8 kind | body
    HEAD     JSON: format, version
    OPENING  u32 nonce, u16 session, u32 number: written before hello is said
    ANSWER   u64 place, 16 bytes digest of the request, the encoded reply
    LEFT     the session was ended by this side; what it had asked and not got, it must ask anew
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import os
import secrets
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from cim.files import open_regular
from cim.json_text import parse_json
from firmware_protocols import codec
from firmware_protocols.errors import ProtocolError
from firmware_protocols.messages import ErrorReply, Message, Reply, Request
from hil.atomic import output_error
from hil.errors import FileError, MismatchError, UsageError
from hil.transports.holders import unlock

FORMAT, VERSION = "hil.journal", (1, 0)
MAX_BODY = (1 << 24) + (1 << 12)  # the longest reply of the protocol, and more than its head
SYNC_EVERY_S = 5.0  # what the system has taken survives a killed process, not a power cut
SESSIONS_APART = 100  # more sessions than one process opens after a lost one
_ENTRY = struct.Struct("<IIB")
_OPENING = struct.Struct("<IHI")
_ANSWER = struct.Struct("<Q16s")
_MEASURED = (codec.Op.TILE_PROGRAMMED, codec.Op.CELL_READINGS, codec.Op.MVM_RESULT)  # the first byte of a reply


class EntryKind(enum.IntEnum):
    HEAD = 1
    OPENING = 2
    ANSWER = 3
    LEFT = 4


def _any_nonce() -> int:
    return secrets.randbits(32)


class Journal:
    """The journal in ``path``: that of an earlier process, or a new one; ``nonces`` draws those of openings (u32).

    Raises:
        FileError: it is no journal, or does not begin as one.
        MismatchError: of a newer major version.
        UsageError: another process has it open.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str | Path, *, nonces: Callable[[], int] = _any_nonce) -> None:
        self.path, self._nonces = Path(path), nonces
        self.nonce, self.session, self.openings = nonces(), 0, 0
        self.last_chip_time_ns = 0
        self.dropped_bytes = 0  # of an entry that was not finished
        self.may_begin_anew, self.begun_anew = True, False
        self.measured = 0  # answers about cells and products
        self._where: dict[int, tuple[int, int, bytes]] = {}  # by place: reply's offset and size, request's digest
        self._waiting: dict[int, tuple[int, bytes]] = {}  # by request id: place and digest
        self._place = 0
        self._synced_s = time.monotonic()
        new = not self.path.exists()
        self._file = self._open()
        try:
            if new:
                self._begin()
            else:
                self._read()
        except BaseException:
            self._file.close()
            raise

    # --- what is known ------------------------------------------------------------------------

    @property
    def answers(self) -> int:
        """Answers that the journal holds."""
        return len(self._where)

    @property
    def waiting(self) -> int:
        """Requests of this process without an answer."""
        return len(self._waiting)

    def first(self) -> Message | None:
        """The answer to the first request; None: there is none yet."""
        return self._reply(0).message if 0 in self._where else None

    def recall(self, request: Request[Any]) -> codec.Decoded | None:
        """The answer to the next request of the run, if an earlier process got it.

        Raises:
            MismatchError: another request stood at this place.
        """
        place, self._place = self._place, self._place + 1
        if place not in self._where:
            return None
        if self._where[place][2] != digest_of(request):
            raise MismatchError(
                f"the run does not continue as begun: request {place + 1}, {type(request).__name__}, was another one",
                where=str(self.path),
                likely="the network, the data, the chip file or this program changed since it began",
                hint="hil deploy --restart begins again, hil deploy --out FOLDER beside it",
            )
        return self._reply(place)

    def asked(self, request: Request[Any], request_id: int) -> None:
        """Note that the request which was just not recalled was asked under this id."""
        self._waiting[request_id] = (self._place - 1, digest_of(request))

    # --- writing ------------------------------------------------------------------------------

    def opening(self) -> tuple[int, int, int]:
        """Nonce, session and number of a new opening of the chip; written before they are used."""
        self.session = (self.session + SESSIONS_APART) & 0xFFFF if self.openings else 0
        self._add(EntryKind.OPENING, _OPENING.pack(self.nonce, self.session, self.openings))
        self.openings += 1
        return self.nonce, self.session, self.openings - 1

    def answered(self, request_id: int, reply: Reply, chip_time_ns: int) -> None:
        """Keep a final answer to a request of ``asked``. What failed is not kept: it is asked again later."""
        place, digest = self._waiting.pop(request_id, (-1, b""))
        if place < 0 or isinstance(reply, ErrorReply):
            return
        data = codec.encode(reply, request_id, chip_time_ns)
        at = self._add(EntryKind.ANSWER, _ANSWER.pack(place, digest) + data)
        self._where[place] = (at + _ENTRY.size + _ANSWER.size, len(data), digest)
        self.measured += data[0] in _MEASURED
        self.last_chip_time_ns = max(self.last_chip_time_ns, chip_time_ns)

    def left(self) -> None:
        """This side ends the session: the chip's memory of its requests is not to be asked for again."""
        self._waiting.clear()
        self._add(EntryKind.LEFT, b"")

    def begin_anew(self) -> None:
        """Forget all answers: the chip that gave them is not the one that is there.

        The next opening is another host's: what the chip keeps of the one before answers nothing of the run anew.
        """
        try:
            self._file.truncate(0)
        except OSError as error:
            raise output_error(self.path, error) from error
        self.begun_anew = True
        self._where.clear()
        self._waiting.clear()
        self._place = self.last_chip_time_ns = self.measured = 0
        self.nonce, self.session, self.openings = self._nonces(), 0, 0
        self._begin()

    def close(self) -> None:
        """Close the file; may be called twice."""
        if not self._file.closed:
            unlock(self._file.fileno())
        self._file.close()

    def _open(self) -> BinaryIO:
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            raise output_error(self.path, error) from error
        file = os.fdopen(handle, "r+b", buffering=0)
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise UsageError(
                    f"another process is at work on {self.path.parent}", hint="wait for it, or end it"
                ) from None
        return file

    def _begin(self) -> None:
        head = {"format": FORMAT, "version": ".".join(map(str, VERSION))}
        self._add(EntryKind.HEAD, json.dumps(head).encode())

    def _add(self, kind: EntryKind, body: bytes) -> int:
        """Append an entry; gives its offset."""
        check = zlib.crc32(body, zlib.crc32(bytes([kind])))
        entry = memoryview(_ENTRY.pack(len(body), check, kind) + body)
        try:
            at = self._file.seek(0, os.SEEK_END)
            try:
                while entry:
                    entry = entry[self._file.write(entry) :]
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(at)  # whole or not at all, on a full disk too
                raise
            if time.monotonic() - self._synced_s > SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced_s = time.monotonic()
        except OSError as error:
            raise output_error(self.path, error) from error
        return at

    # --- reading ------------------------------------------------------------------------------

    def _read(self) -> None:
        """Find every whole entry; cut off what follows the last one."""
        good, left = 0, False
        with open_regular(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            while entry := _next_entry(file):
                kind, body = entry
                if (good == 0) != (kind is EntryKind.HEAD):
                    break
                if kind is EntryKind.HEAD:
                    self._check_head(body)
                elif kind is EntryKind.OPENING and len(body) == _OPENING.size:
                    self.nonce, self.session, number = _OPENING.unpack(body)
                    self.openings, left = number + 1, False
                elif kind is EntryKind.ANSWER and len(body) > _ANSWER.size:
                    place, digest = _ANSWER.unpack_from(body)
                    self._where[place] = (good + _ENTRY.size + _ANSWER.size, len(body) - _ANSWER.size, digest)
                    self.measured += body[_ANSWER.size] in _MEASURED
                elif kind is EntryKind.LEFT:
                    left = True
                else:
                    break
                good += _ENTRY.size + len(body)
        if good == 0:
            raise FileError(f"{self.path} is not the journal of a run", where=str(self.path.parent))
        self.dropped_bytes = size - good
        if self.dropped_bytes:
            try:
                self._file.truncate(good)
            except OSError as error:
                raise output_error(self.path, error) from error
        if left:
            self.nonce = self._nonces()
        self.last_chip_time_ns = max((self._reply(p).chip_time_ns for p in self._latest()), default=0)

    def _latest(self) -> list[int]:
        """Places of the last answers: the chip's clock only goes forward."""
        return sorted(self._where)[-32:]

    def _check_head(self, body: bytes) -> None:
        try:
            head = parse_json(body)
            found, version = head["format"], str(head["version"])
            major = int(version.split(".")[0])
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{self.path} is damaged: {error}", where=str(self.path.parent)) from error
        if found != FORMAT:
            raise FileError(f"{self.path} is a {found!s:.40}, not the journal of a run")
        if major > VERSION[0]:
            raise MismatchError(
                f"{self.path} has version {version}, this program reads {VERSION[0]}.x", hint="update hil"
            )

    def _reply(self, place: int) -> codec.Decoded:
        at, size, _ = self._where[place]
        try:
            with open_regular(self.path) as file:
                file.seek(at)
                return codec.decode(file.read(size))
        except (OSError, ProtocolError) as error:
            raise FileError(f"{self.path}: answer {place + 1} cannot be read: {error}") from error


def digest_of(request: Request[Any]) -> bytes:
    return hashlib.blake2b(codec.encode(request), digest_size=16).digest()


def _next_entry(file: BinaryIO) -> tuple[EntryKind, bytes] | None:
    """The entry at the file's position; None at its end, or where an entry is not whole."""
    head = file.read(_ENTRY.size)
    if len(head) < _ENTRY.size:
        return None
    size, check, number = _ENTRY.unpack(head)
    if size > MAX_BODY or number not in list(EntryKind):
        return None
    body = file.read(size)
    if len(body) < size or zlib.crc32(body, zlib.crc32(bytes([number]))) != check:
        return None
    return EntryKind(number), body
