"""Weights beside an ONNX file: read from its own folder only, their size checked before memory is taken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim import files
from mapping.network.file_check import NetworkFileError

LARGEST_BESIDE = 2**32
_INSIDE = "save it with its weights inside, or beside it in one folder"


def external(tensor: Any, path: str | Path) -> NDArray[Any]:
    """The values of a tensor that lies in a file beside ``path``."""
    from onnx import helper

    said = {entry.key: entry.value for entry in tensor.external_data}
    folder, name = Path(path).resolve().parent, said.get("location", "")
    beside = (folder / name).resolve() if name and "\0" not in name else folder
    if beside.parent != folder and folder not in beside.parents:
        raise NetworkFileError(path, f"keeps {tensor.name!r:.80} in another file, outside of its folder", _INSIDE)
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    wanted = math.prod(tensor.dims) * kind.itemsize
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", wanted))
        files.check_regular(beside, LARGEST_BESIDE)
        size = beside.stat().st_size
        if offset < 0 or length != wanted or offset + wanted > size:
            what = f"{tensor.name!r:.80} {list(tensor.dims)} is {wanted} bytes: not {length} from {offset} of {size}"
            raise NetworkFileError(path, f"{what} in {beside.name}", "the file that was written with it")
        with beside.open("rb") as file:
            file.seek(offset)
            data = file.read(wanted)
    except OSError as error:
        what = f"keeps {tensor.name!r:.80} in another file, {name!r:.80}: {error.strerror}"
        raise NetworkFileError(path, what, _INSIDE) from error
    return np.frombuffer(data, kind.newbyteorder("<")).astype(kind).reshape(tuple(tensor.dims))
