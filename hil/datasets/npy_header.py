"""What an array of an .npz file promises, read without its data and checked before memory is taken."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from hil.errors import FileError

SMALL_BYTES = 1 << 28  # what a small file may unpack to
MOST_RATIO = 64  # unpacked bytes of a larger one by packed byte


def npy_header(
    archive: zipfile.ZipFile, member: str, path: Path, dimensions: Collection[int] = (3, 4)
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that a member promises, read without its data."""
    if archive.namelist().count(member) != 1:
        raise FileError(f"no array {member.removesuffix('.npy')!r}, or several", where=str(path))
    info = archive.getinfo(member)
    if info.file_size > max(SMALL_BYTES, MOST_RATIO * info.compress_size):
        what = f"{member} unpacks from {info.compress_size:,} bytes to {info.file_size:,}"
        raise FileError(what, where=str(path), likely="a file that is made to fill the memory")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    promised = dtype.itemsize
    for length in shape:
        promised *= length
    if promised > info.file_size:
        what = f"{member.removesuffix('.npy')}: shape {shape} of {dtype!s:.40} in {info.file_size:,} bytes"
        raise FileError(what, where=str(path), likely="a broken header")
    if len(shape) not in dimensions or dtype.hasobject:
        raise FileError(f"{member.removesuffix('.npy')}: shape {shape} of {dtype}", where=str(path))
    return shape, dtype
