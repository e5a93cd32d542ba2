"""Weights of AIHWKit as cells: of a saved model, or of its states before and after programming.

Read are files of ``torch.save``: of a whole analog model, whose tiles hold the weights that were meant and those that
were programmed, or of a ``state_dict``, which holds the weights of now alone, so that a second file says what was
meant. Nothing of AIHWKit is imported and nothing in a file is run: its objects become plain bags of their fields.

A weight stands for the cell that carries it. With the file's converter (one pair of cells a weight),

    G = g_min + s w r,    r = (g_max − g_min) / max |w_meant| of the tile,    s the sign of w_meant

so that the error of the other cell of the pair, which is meant to be g_min, is in G too.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import FileError
from mapping.errors import MappingFileError
from mapping.network.file_check import check_archive, read_bytes

SUFFIXES = (".pt", ".pth")
WEIGHTS, MEANT, PROGRAMMED = "analog_tile_weights", "reference_combined_weights", "programmed_weights"
ONE_PAIR = "SinglePairConductanceConverter"
EXPORTED = "MeasuredCells"  # class of the noise models that hil export writes, in a module of any name
FIRST_READ_S = 1.0  # of noise models that do not say when they read first
MOST_DEPTH = 64
SAVED = "torch.save(model.state_dict(), FILE)"
Floats = NDArray[np.float64]
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8", "IntStorage": "<i4", "BoolStorage": "?"}
_REBUILT = {"_rebuild_parameter", "_rebuild_parameter_with_state"}


class Bag:
    """An object of a file: its class by name, and its fields."""

    kind = ""

    def __new__(cls, *_: Any, **__: Any) -> Bag:
        return super().__new__(cls)

    def __init__(self, *values: Any, **__: Any) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(name): value for name, value in state.items()})


def aihwkit_columns(path: Path, meant: Path | None, age_s: float | None) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """Columns ``cell``, ``time_s``, ``conductance_us`` and ``target_us``, and notes.

    Args:
        meant: a state before programming, where ``path`` does not hold what was meant.
        age_s: of the weights of now, which no file says.

    Raises:
        FileError: no file of AIHWKit, one that names anything else, or cells that cannot be told.
    """
    tiles = dict(_tiles(_loaded(path), path))
    if not tiles:
        raise FileError(f"no {WEIGHTS} in it", where=str(path), likely="a model that was not converted to analog")
    before = dict(_tiles(_loaded(meant), meant)) if meant else {}
    parts: list[tuple[Floats, float, Floats]] = []
    notes: list[str] = []
    for name, tile in tiles.items():
        own = before.get(name, tile)
        wanted = own.get(MEANT) if own is tile or MEANT in own else own.get(WEIGHTS)
        if wanted is None:
            raise FileError(
                f"tile {name} does not hold what its weights were meant to be", where=str(path),
                likely="a state_dict has the weights of now alone", hint=f"hil fit {path} --ideal BEFORE.pt --age 1d",
            )  # fmt: skip
        model, now = _field(tile.get("rpu_config"), "noise_model"), _numbers(tile.get(WEIGHTS), name, path)
        target, to_us = _scale(_numbers(wanted, name, path), model, name, path)
        if now.shape != target.shape:
            raise FileError(f"tile {name} has {now.shape} weights, meant are {target.shape}", where=str(path))
        found = []
        if (programmed := tile.get(PROGRAMMED)) is not None:
            first = _field(model, "t_0")
            found.append((float(first) if isinstance(first, float) else FIRST_READ_S, programmed))
        if age_s is not None:
            found.append((age_s, now))
        elif not found:
            raise FileError(
                f"how old the weights of {path.name} are is not in it", where=str(path), hint=f"hil fit {path} --age 1d"
            )
        elif not np.allclose(now, _numbers(programmed, name, path)):
            notes.append("weights have changed since programming; --age says how old they are, and takes them too")
        parts += [(target, time_s, to_us(_numbers(weights, name, path))) for time_s, weights in found]
    first_cell = np.cumsum([0, *(target.size for target, _, _ in parts)])
    numbers: dict[int, int] = {}  # readings of one tile are of the same cells
    cells = []
    for at, (target, _, _) in enumerate(parts):
        start = numbers.setdefault(id(target), int(first_cell[at]))
        cells.append(start + np.arange(target.size, dtype=np.float64))
    columns = {
        "cell": np.concatenate(cells),
        "time_s": np.concatenate([np.full(target.size, time_s) for target, time_s, _ in parts]),
        "conductance_us": np.concatenate([readings.ravel() for _, _, readings in parts]),
        "target_us": np.concatenate([target.ravel() for target, _, _ in parts]),
    }
    told = f"read as AIHWKit: {len(tiles)} tiles, {len(set(columns['cell']))} weights, each as the cell that carries it"
    return columns, (told, *dict.fromkeys(notes))


def _scale(meant: Floats, model: Any, name: str, path: Path) -> tuple[Floats, Any]:
    """Targets in µS, and what makes weights of this tile µS."""
    converter = _field(model, "g_converter")
    ends = [_field(converter, end) for end in ("g_min", "g_max")]
    kind = getattr(converter, "kind", "")
    if kind != ONE_PAIR or not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
        what = f"its converter is {kind:.60}" if kind else "it names no converter to conductances"
        raise FileError(f"tile {name}: {what}", where=str(path), hint=f"a model with {ONE_PAIR}, one pair a weight")
    low, high = map(float, ends)
    largest = float(np.abs(meant).max(initial=0.0))
    if not (0 <= low < high <= 1e6 and largest > 0):
        raise FileError(f"tile {name}: weights up to {largest:g} on {low:g} to {high:g} µS", where=str(path))
    ratio, sign = (high - low) / largest, np.where(meant < 0, -1.0, 1.0)

    def to_us(weights: Floats) -> Floats:
        return low + sign * weights * ratio

    return to_us(meant), to_us


def _tiles(found: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and state dictionaries of all analog tiles in a loaded file, however deep they are nested."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any, int]] = [("", found, 0)]
    while waiting:
        name, value, depth = waiting.pop(0)
        inside = value.__dict__ if isinstance(value, Bag) else value
        if isinstance(inside, list | tuple):
            inside = dict(enumerate(inside))
        if not isinstance(inside, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        if depth > MOST_DEPTH:
            raise FileError(f"nested deeper than {MOST_DEPTH}", where=str(path))
        if inside.get(WEIGHTS) is not None:
            yield name, inside
            continue
        waiting += [(f"{name}.{key}".strip("."), part, depth + 1) for key, part in inside.items()]


def _field(value: Any, name: str) -> Any:
    return value.__dict__.get(name) if isinstance(value, Bag) else None


def _numbers(value: Any, name: str, path: Path) -> Floats:
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not np.isfinite(value).all():
        raise FileError(f"tile {name}: weights that are no finite matrix", where=str(path))
    return value.astype(np.float64)


# --- the file ---------------------------------------------------------------------------------


def _loaded(path: Path) -> Any:
    try:
        data = read_bytes(path)
        pickled = check_archive(data, path)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _Plain(pickled, archive, path).load()
    except MappingFileError as error:
        raise FileError(str(error).splitlines()[0], where=str(path), hint=SAVED) from error
    except FileError:
        raise
    except Exception as error:  # a broken pickle raises whatever its bytes say
        raise FileError(f"cannot be read: {str(error)[:120]}", where=str(path)) from error


class _Plain(pickle.Unpickler):
    """Tensors as arrays, objects of AIHWKit, torch's modules and ``hil export`` as bags; other names are refused."""

    def __init__(self, pickled: bytes, archive: zipfile.ZipFile, path: Path) -> None:
        super().__init__(io.BytesIO(pickled))
        self.archive, self.path = archive, path
        self.top = archive.namelist()[0].split("/")[0]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if name == "set" and module in ("builtins", "__builtin__"):
            return set
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _array
        if module == "torch._utils" and name in _REBUILT:
            return lambda data, *_: data
        ours = name == EXPORTED or module.partition(".")[0] in ("numpy", "_codecs")  # with the generator of its draws
        if (ours or module.startswith(("aihwkit.", "torch.nn.modules."))) and "." not in name:
            return type(name, (Bag,), {"kind": name})
        raise FileError(
            f"its pickle names {module:.60}.{name:.60}, which no state of AIHWKit does", where=str(self.path),
            hint=SAVED,
        )  # fmt: skip

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or not str(key).isdecimal():
            raise pickle.UnpicklingError("a storage that torch does not write")
        values = np.frombuffer(self.archive.read(f"{self.top}/data/{key}"), dtype)
        if len(values) < count:
            raise pickle.UnpicklingError(f"storage {key} holds {len(values)} of {count} numbers")
        return values


def _array(storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> NDArray[Any]:
    """A tensor of a storage; whatever lies outside of it is refused."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True) if n > 0)
    good = (
        offset >= 0 and all(n >= 0 for n in size) and all(step >= 0 for step in stride) and last < max(len(storage), 1)
    )
    if not good or math.prod(size) > len(storage):
        raise pickle.UnpicklingError(f"a tensor {size} of {len(storage)} numbers")
    bytes_each = storage.dtype.itemsize
    strides = [step * bytes_each for step in stride]
    view = np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)
    return np.array(view)
