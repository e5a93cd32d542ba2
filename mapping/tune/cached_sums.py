"""Layer sums of many images, a few images at a time: in memory, or for large networks in temporary files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.program.conductance import ConductanceProgram
from mapping.program.shapes import step_shapes
from mapping.tune.fit_limits import PLACES

IN_MEMORY_BYTES = 1 << 26  # of the images of one array, or of the sums of all layers

Sums = NDArray[np.int32]


class InFile:
    """An array of images in a temporary file, written and read some of them at a time."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self._file = TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self._bytes = math.prod(shape[1:]) * dtype.itemsize  # of one image

    def __setitem__(self, part: slice, values: NDArray[Any]) -> None:
        self._file.seek(part.indices(self.shape[0])[0] * self._bytes)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        start, stop, _ = part.indices(self.shape[0])
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._file.seek(start * self._bytes)
        self._file.readinto(found.data)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


Images = NDArray[Any] | InFile
"""An array of images, taken by slices of them."""


def room_for(first: NDArray[Any], images: int) -> Images:
    """Empty storage for ``images`` arrays like ``first``: in memory, or in a file where they are large."""
    shape = (images, *first.shape[1:])
    if math.prod(shape) * first.itemsize <= IN_MEMORY_BYTES:
        return np.empty_like(first, shape=shape)
    return InFile(shape, first.dtype)


class CachedSums(Mapping[str, Sums]):
    """Level sums (n, outputs, places) by layer, in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Sums]] = {}

    def append(self, layer: str, sums: Sums) -> None:
        """Store the sums of a layer for the next images."""
        self._parts.setdefault(layer, []).append(sums)

    def __getitem__(self, layer: str) -> Sums:
        parts = self._parts[layer]
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


class SumsOnDisk(CachedSums):
    """Sums in a temporary folder, read layer by layer; the folder is removed with the object."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory(prefix="hil-sums-")
        self._shapes: dict[str, tuple[int, ...]] = {}  # of one image

    def append(self, layer: str, sums: Sums) -> None:
        self._shapes[layer] = sums.shape[1:]
        with self._file(layer).open("ab") as file:
            sums.tofile(file)

    def __getitem__(self, layer: str) -> Sums:
        return np.fromfile(self._file(layer), np.int32).reshape(-1, *self._shapes[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __reduce__(self) -> tuple[object, ...]:
        return _on_disk, (dict(self.items()),)  # another process has files of its own

    def _file(self, layer: str) -> Path:
        return Path(self._folder.name) / str(list(self._shapes).index(layer))


def _on_disk(sums: Mapping[str, Sums]) -> SumsOnDisk:
    found = SumsOnDisk()
    for layer, values in sums.items():
        found.append(layer, values)
    return found


def cached_sums(program: ConductanceProgram, images: int) -> CachedSums:
    """Room for the sums of a program's layers for so many images, at ``PLACES`` of each output map at most."""
    shapes = step_shapes(program)
    numbers = sum(shapes[m.name][0] * min(PLACES, math.prod(shapes[m.name][1:])) for m in program.matrices)
    return CachedSums() if images * numbers * np.dtype(np.int32).itemsize <= IN_MEMORY_BYTES else SumsOnDisk()
