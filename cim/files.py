"""Files of every room: written whole or not at all, read only when they are regular and not too large.

Writing goes to a random temporary name in the same folder, reaches the disk, and takes the final
name in one step: whoever looks sees the old file or the new one, and two writers at once leave one
of the two. Reading opens regular files only, since a FIFO blocks and a device never ends. All
failures are ``OSError``; each room turns them into its own error class.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cim.errors import CimFileError


class NotRegularFile(CimFileError, OSError):
    """A folder, FIFO, socket or device stands where a file belongs; field ``kind``."""

    def __init__(self, path: str | Path, kind: str) -> None:
        super().__init__(errno.EINVAL, f"is a {kind}, not a regular file", str(path))
        self.kind = kind


class FileTooLarge(CimFileError, OSError):
    """A file is larger than its reader takes; field ``most_bytes``."""

    def __init__(self, path: str | Path, most_bytes: int) -> None:
        super().__init__(errno.EINVAL, f"is larger than {most_bytes} bytes", str(path))
        self.most_bytes = most_bytes


_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; on success it takes the name ``path``, else it is removed.

    Raises:
        OSError: disk full, no permission, no such folder, or something that is no file has the name.
    """
    final = Path(path).absolute()
    if final.exists() and not final.is_file():
        taken = IsADirectoryError if final.is_dir() else FileExistsError
        number = errno.EISDIR if final.is_dir() else errno.EEXIST
        raise taken(number, os.strerror(number), str(final))
    part = _part_of(final)
    try:
        part.touch(exist_ok=False)
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder that appears whole or not at all: it must not exist yet (or be empty); parents are made."""
    final = Path(path).absolute()
    part = _part_of(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir(0o700)
        yield part
        os.replace(part, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def private_folder(path: str | Path) -> None:
    """Make a folder that only its owner may enter, its parents with usual rights; an existing folder is left as it is.

    Raises:
        OSError: it cannot be made.
    """
    Path(path).mkdir(0o700, parents=True, exist_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write bytes whole or not at all."""
    with new_file(path) as part:
        part.write_bytes(data)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading; a FIFO or device is refused, never waited for.

    Raises:
        NotRegularFile: a FIFO, a device, a socket, a folder.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket or a FIFO cannot be opened so
            raise NotRegularFile(path, _kind_of(os.stat(path).st_mode)) from error
        raise
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularFile(path, _kind_of(mode))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: str | Path, most_bytes: int | None = None) -> None:
    """Refuse what ``open_regular`` refuses, and a file above ``most_bytes``: for readers that open paths themselves.

    Raises:
        OSError: missing, not regular (``NotRegularFile``), too large (``FileTooLarge``).
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise NotRegularFile(path, _kind_of(found.st_mode))
    if most_bytes is not None and found.st_size > most_bytes:
        raise FileTooLarge(path, most_bytes)


def read_bytes(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: missing, not regular (``NotRegularFile``), too large (``FileTooLarge``), unreadable.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise FileTooLarge(path, most_bytes)
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise FileTooLarge(path, most_bytes)
    return data


def read_text(path: str | Path, most_bytes: int) -> str:
    """The UTF-8 text of a regular file, its line ends as ``\\n``.

    Raises:
        OSError: as ``read_bytes``.
        UnicodeDecodeError: not UTF-8.
    """
    return io.TextIOWrapper(io.BytesIO(read_bytes(path, most_bytes)), "utf-8").read()


def _kind_of(mode: int) -> str:
    return next((kind for holds, kind in _KINDS if holds(mode)), "special file")


def _part_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
