"""Files that appear whole or not at all (``cim.files``); failures are raised as ``OutputError``."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cim import files
from hil.errors import FileError, OutputError

_CAUSES = {
    errno.ENOSPC: ("no space left on the device", "free some space, or write elsewhere"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or write elsewhere"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("operation not permitted", "choose a folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose another place"),
    errno.ENOENT: ("the folder does not exist", "make the folder first"),
    errno.ENOTDIR: ("part of the path is a file", "choose another place"),
    errno.EISDIR: ("a folder of that name is in the way", "choose another name"),
    errno.EEXIST: ("something of that name is in the way", "choose another name"),
    errno.ENOTEMPTY: ("a folder of that name is in the way", "choose another name"),
    errno.EFBIG: ("the file is too large for this file system", "choose another place"),
    errno.EIO: ("the device reports an input/output error", "check the disk"),
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # never said by a port


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; on success it takes the name ``path``, else it is removed.

    An operating system error while writing (disk full, no permission) becomes ``OutputError``.
    """
    final = Path(path).absolute()
    with output_errors(final), files.new_file(final) as part:
        yield part


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder that appears whole or not at all: it must not exist yet (or be empty); parents are made."""
    final = Path(path).absolute()
    with output_errors(final), files.new_folder(final) as part:
        yield part


def work_folder(path: str | Path) -> None:
    """Make a folder for the files of a long job, which only its owner may read; it must hold no symbolic links.

    Raises:
        OutputError: the folder cannot be made. FileError: it holds a symbolic link, so files could land elsewhere.
    """
    try:
        files.private_folder(path)
    except OSError as error:
        raise output_error(Path(path), error) from error
    for place, folders, names in os.walk(path):
        for found in (Path(place) / name for name in (*folders, *names)):
            if found.is_symlink():
                raise FileError(
                    f"{found.name} is a symbolic link, and {path} is to be written in",
                    where=str(found.parent),
                    likely="the folder comes from somebody else, or a part of it was moved",
                    hint=f"ls -l {found}; cp -rL FOLDER NEW makes a folder without links",
                )


def check_can_write(path: str | Path) -> None:
    """Find out before any work whether a file of this name can be written.

    Raises:
        OutputError: no such folder, a folder of that name, no permission, a disk that takes nothing.
    """
    final = Path(path).absolute()
    with output_errors(final):
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
        with tempfile.TemporaryFile(dir=final.parent):
            pass


def check_can_fill(path: str | Path) -> None:
    """Find out before any work whether a folder of this name can be made, or is there and takes files.

    Raises:
        OutputError: a file of that name or on the way, no permission, a disk that takes nothing.
    """
    final = Path(path).absolute()
    there = next(folder for folder in (final, *final.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise output_error(final, error) from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes whole or not at all."""
    with new_file(path) as part:
        part.write_bytes(data)


def output_error(path: Path, error: OSError) -> OutputError:
    """An ``OutputError`` for an operating system error while writing ``path``."""
    cause, hint = _CAUSES.get(error.errno or 0, (str(error), "write elsewhere"))
    return OutputError(f"cannot write {path.name}: {cause}", where=str(path.parent.absolute()), hint=hint)


@contextlib.contextmanager
def output_errors(final: Path) -> Iterator[None]:
    """Turn errors of writing below ``final.parent`` into ``OutputError``; ports raise OSError too and pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM or str(final.parent) in str(error):
            raise output_error(final, error) from error
        raise
