"""Untrusted HDF5 files: opened only if they hold plain data, link to no other file, and fit a memory limit.

A small file can promise terabytes (fill values, compression), name other files (external and
virtual data sets, links), and hold types that run long or allocate. ``open_hdf5`` looks at every
link, data set and attribute before any is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cim.errors import CimFileError
from cim.files import check_regular

SMALL_BYTES = 1 << 28  # of all data sets, unpacked: what any file may hold
MOST_RATIO = 64  # unpacked bytes of a larger file by stored byte
MOST_CHUNK_BYTES = 1 << 28
MOST_OBJECTS = 1 << 15
MOST_ATTRIBUTE_BYTES = 1 << 22
MOST_ATTRIBUTES = 1 << 10
_PLAIN = "iufbS"


class UnsafeHdf5(CimFileError, OSError):
    """A file links to other files, holds data other than plain numbers, or exceeds a limit; field ``reason``."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@contextlib.contextmanager
def open_hdf5(
    path: str | Path,
    most_bytes: int,
    most_unpacked: int | None = None,
    most_objects: int = MOST_OBJECTS,
    *,
    records: bool = False,
) -> Iterator[Any]:
    """Open a file for reading after all its links, data sets and attributes have been checked.

    Args:
        most_bytes: largest size of the file.
        most_unpacked: largest sum of unpacked bytes of all data sets; None: ``SMALL_BYTES`` or ``MOST_RATIO`` times the
            stored bytes, whichever is more.
        most_objects: largest number of links to groups and data sets.
        records: data sets may be tables whose fields are plain numbers.

    Raises:
        UnsafeHdf5: the file links to other files, holds data other than plain numbers, or exceeds a limit.
        OSError: missing, not regular, too large, no HDF5.
    """
    check_regular(path, most_bytes)
    with h5py.File(path, "r") as file:
        try:
            _check(file, most_unpacked, most_objects, records)
        except UnsafeHdf5:
            raise
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, OverflowError, SystemError) as error:
            raise UnsafeHdf5(path, f"is damaged: {error!s:.200}") from error
        yield file


def _check(file: Any, most_unpacked: int | None, most_objects: int, records: bool) -> None:
    sizes = {"objects": 0, "unpacked": 0, "stored": 0}

    def link(name: bytes | str, found: Any) -> str | None:  # h5py takes no exception here; a text ends the visit
        sizes["objects"] += 1
        if sizes["objects"] > most_objects:
            return f"holds more than {most_objects} objects"
        if found.type == h5py.h5l.TYPE_HARD:
            return None
        return f"{_shown(name)} is a soft or external link, which may lead anywhere"

    def item(name: str, found: Any) -> None:
        _check_attributes(file, name, found)
        if isinstance(found, h5py.Dataset):
            unpacked, stored = _check_data(file, name, found, records)
            sizes["unpacked"] += unpacked
            sizes["stored"] += stored
        elif not isinstance(found, h5py.Group):
            raise UnsafeHdf5(file.filename, f"{_shown(name)} is no group and no data set")

    if (wrong := file.id.links.visit(link, info=True)) is not None:  # follows none
        raise UnsafeHdf5(file.filename, wrong)
    _check_attributes(file, "/", file)
    file.visititems(item)
    most = max(SMALL_BYTES, MOST_RATIO * sizes["stored"]) if most_unpacked is None else most_unpacked
    if sizes["unpacked"] > most:
        text = f"promises {sizes['unpacked']:,} bytes of data in {sizes['stored']:,} stored ones; {most:,} are read"
        raise UnsafeHdf5(file.filename, text)


def _check_data(file: Any, name: str, data: Any, records: bool) -> tuple[int, int]:
    """Unpacked and stored bytes of data set ``data``; ``UnsafeHdf5`` where it is not plain."""
    kind = data.id.get_type()
    if data.dtype.kind not in _PLAIN or data.dtype.subdtype is not None or isinstance(kind, h5py.h5t.TypeEnumID):
        plain_bool = data.dtype == np.bool_  # an enumeration of two to HDF5
        fields = [data.dtype[n] for n in data.dtype.names or ()]
        table = records and bool(fields) and all(f.kind in "iuf" and f.subdtype is None for f in fields)
        if not (plain_bool or table):
            raise UnsafeHdf5(file.filename, f"{_shown(name)} holds {data.dtype!s:.60}, not plain numbers")
    if data.is_virtual or data.external:
        raise UnsafeHdf5(file.filename, f"the data of {_shown(name)} lies in another file")
    if data.shape is None:
        raise UnsafeHdf5(file.filename, f"{_shown(name)} is empty")
    item = data.dtype.itemsize
    unpacked = item
    for length in data.shape:  # whole numbers of Python: no overflow
        unpacked *= int(length)
    chunk = item
    for length in data.chunks or ():
        chunk *= int(length)
    if chunk > MOST_CHUNK_BYTES:
        raise UnsafeHdf5(file.filename, f"{_shown(name)} is packed in chunks of {chunk:,} bytes")
    stored = int(data.id.get_storage_size())
    if unpacked > 1 << 16 and stored == 0:
        raise UnsafeHdf5(file.filename, f"{_shown(name)} promises {unpacked:,} bytes and stores none")
    return unpacked, stored


def _check_attributes(file: Any, name: str, owner: Any) -> None:
    if len(owner.attrs) > MOST_ATTRIBUTES:
        raise UnsafeHdf5(file.filename, f"{_shown(name)} has {len(owner.attrs)} attributes")
    for key in owner.attrs:
        about = owner.attrs.get_id(key)
        size = about.dtype.itemsize * int(np.prod(about.shape or (0,), dtype=np.float64))
        if size > MOST_ATTRIBUTE_BYTES or about.dtype.kind not in "iufbSO":
            text = f"attribute {_shown(key)} of {_shown(name)} is {size:,} bytes of {about.dtype!s:.60}"
            raise UnsafeHdf5(file.filename, text)
        if about.dtype.kind == "O" and h5py.check_string_dtype(about.dtype) is None:
            raise UnsafeHdf5(file.filename, f"attribute {_shown(key)} of {_shown(name)} holds {about.dtype!s:.60}")


def _shown(name: bytes | str) -> str:
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return repr(text[:80])
