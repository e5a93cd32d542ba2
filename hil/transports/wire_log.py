"""The wire log: every message of a session with its time, small enough to keep, complete enough to replay.

A gzip file of JSON lines. The first names format, version and address; the last says how the
session ended. Between them one line a message: seconds since the start, direction, and the
encoded message (op, request id, chip time, body) in base64. Of a long product only its digest is
kept, which is enough to recognise it again; writes, layers, plans and the images of plans are kept
whole. When replies together pass ``max_bytes``, later ones are kept as digests too and the log says
that it cannot be replayed; requests have as much room of their own.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cim.files import open_regular
from cim.json_text import parse_json
from firmware_protocols import codec
from firmware_protocols.messages import Message, Mvm, Sweep
from hil.atomic import new_file, output_error
from hil.errors import FileError, MismatchError, OutputError

FORMAT, VERSION = "hil.wirelog", (1, 0)
_WHOLE_PRODUCT = 1024  # longer products are kept as digests, bytes
_MAX_LINE = 32 << 20
_MAX_TOTAL = 1 << 27  # of an unpacked log, bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. ``data`` is the encoded message, None when only ``size`` and ``digest`` were kept."""

    time_s: float
    sent: bool  # host to chip
    request_id: int
    data: bytes | None
    size: int
    digest: str

    def matches(self, data: bytes) -> bool:
        return self.data == data if self.data is not None else self.digest == _digest(data)


@dataclass(frozen=True, slots=True)
class Recording:
    """A log read back. ``ending`` is the text of the error that ended the session, empty when it was closed."""

    address: str
    entries: tuple[Entry, ...]
    replayable: bool
    ending: str


class WireLog:
    """Writes one log; it gets its final name when closed, also after an error."""

    def __init__(
        self,
        path: str | Path,
        address: str,
        *,
        max_bytes: int = 16 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.address = Path(path), address
        self._room = self._room_sent = max_bytes
        self._replayable = True
        self._clock, self._start_s = clock, clock()
        self._file: gzip.GzipFile | None = None
        self._naming = new_file(self.path)
        part = self._naming.__enter__()
        try:
            self._file = gzip.GzipFile(part, "wb", compresslevel=1)
        except OSError as error:
            raise self._abandoned(error) from error
        self._line({"format": FORMAT, "version": ".".join(map(str, VERSION)), "address": address})

    def sent(self, message: Message, request_id: int) -> None:
        data = codec.encode(message, request_id)
        short = len(data) <= _WHOLE_PRODUCT
        whole = short or (not isinstance(message, Mvm | Sweep) and len(data) <= self._room_sent)
        self._room_sent -= len(data) if whole and not short else 0
        self._add(">", request_id, data, whole=whole)

    def received(self, message: Message, request_id: int, chip_time_ns: int) -> None:
        data = codec.encode(message, request_id, chip_time_ns)
        whole = len(data) <= self._room
        if whole:
            self._room -= len(data)
        else:
            self._room, self._replayable = 0, False
        self._add("<", request_id, data, whole=whole)

    def close(self, counters: Mapping[str, int] | None = None, ending: str = "") -> None:
        """Finish the file and give it its name. May be called twice."""
        if self._file is None:
            return
        self._line({"end": ending, "replayable": self._replayable, "counters": dict(counters or {})})
        file, self._file = self._file, None
        try:
            file.close()
        except OSError as error:
            raise self._abandoned(error) from error
        self._naming.__exit__(None, None, None)

    def _add(self, way: str, request_id: int, data: bytes, *, whole: bool) -> None:
        line: dict[str, Any] = {"t": round(self._clock() - self._start_s, 6), "d": way, "id": request_id}
        if whole:
            line["m"] = base64.b64encode(data).decode()
        else:
            line |= {"n": len(data), "h": _digest(data)}
        self._line(line)

    def _line(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise self._abandoned(error) from error

    def _abandoned(self, error: OSError) -> OutputError:
        """Remove the unfinished file; give the error to raise."""
        file, self._file = self._file, None
        with contextlib.suppress(OSError, OutputError):
            if file is not None:
                file.close()
        with contextlib.suppress(OSError, OutputError):
            self._naming.__exit__(type(error), error, error.__traceback__)
        return output_error(self.path, error)


def read_wire_log(path: str | Path) -> Recording:
    """Read a log.

    Raises:
        FileError: missing, broken or not a wire log.
        MismatchError: written by a newer major version.
    """
    path = Path(path)
    try:
        lines = _lines(path)
        head = next(lines, {})
        if head.get("format") != FORMAT:
            raise FileError(f"{path} is not a wire log", where=str(path), likely="another file was named")
        _check_version(path, str(head.get("version")))
        entries, end = [], None
        for line in lines:
            if "end" in line:
                end = line
                if next(lines, None) is not None:  # reading on to the end of the file checks its sum, too
                    raise ValueError("lines after its end")
                break
            entries.append(_entry(line))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise FileError(f"cannot read the wire log {path}: {error}", where=str(path)) from error
    if end is None:
        raise FileError(f"the wire log {path} has no end", where=str(path), likely="its program was killed")
    return Recording(str(head.get("address")), tuple(entries), bool(end.get("replayable")), str(end["end"]))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    total = 0
    with open_regular(path) as packed, gzip.GzipFile(fileobj=packed) as file:
        while line := file.readline(_MAX_LINE + 1):
            total += len(line)
            if len(line) > _MAX_LINE or total > _MAX_TOTAL:
                raise ValueError(f"more than {_MAX_LINE} bytes in a line or {_MAX_TOTAL} in all")
            yield parse_json(line)


def _entry(line: dict[str, Any]) -> Entry:
    data = base64.b64decode(line["m"], validate=True) if "m" in line else None
    size, digest = (len(data), "") if data is not None else (int(line["n"]), str(line["h"]))
    return Entry(float(line["t"]), line["d"] == ">", int(line["id"]), data, size, digest)


def _check_version(path: Path, version: str) -> None:
    major = int(version.split(".")[0])
    if major > VERSION[0]:
        raise MismatchError(
            f"{path} has version {version}, this program reads {VERSION[0]}.x", where=str(path), hint="update hil"
        )


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
