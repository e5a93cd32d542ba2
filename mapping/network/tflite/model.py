"""A TFLite file as plain data: tensors, constants and operations, every size checked before memory is taken.

The file is a flat buffer; the schema package ``tflite`` only reads numbers at offsets, nothing is run.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.file_check import NetworkFileError
from mapping.network.graph_records import MOST_NODES
from mapping.operators.node import MOST_AXES

IDENTIFIER = b"TFL3"
MOST_ELEMENTS = 2**28
MOST_TENSORS = 4 * MOST_NODES
DTYPES: dict[str, type[np.generic]] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
CODES = ("INT8", "UINT8", "INT16")
_ALONG = {
    "Stride": ("StrideH", "StrideW"),
    "Filter": ("FilterHeight", "FilterWidth"),
    "Dilation": ("DilationHFactor", "DilationWFactor"),
}
MALFORMED = (struct.error, IndexError, ValueError, TypeError, AttributeError, KeyError, OverflowError, MemoryError)
"""What reading at offsets that are not there raises."""


@dataclass(frozen=True, slots=True)
class LiteTensor:
    """``scale`` and ``zero`` (1,) or one for each place of ``axis``; None: not quantised. ``values``: of a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: NDArray[np.float64] | None
    zero: NDArray[np.int64] | None
    axis: int
    values: NDArray[Any] | None

    @property
    def real(self) -> NDArray[Any]:
        """A constant's values, dequantised where they are codes."""
        assert self.values is not None
        if self.scale is None or self.zero is None or self.values.dtype.kind == "f":
            return self.values
        across = [1] * self.values.ndim
        if len(self.scale) > 1:
            across[self.axis] = len(self.scale)
        return (self.values.astype(np.float64) - self.zero.reshape(across)) * self.scale.reshape(across)

    @property
    def code_range(self) -> tuple[int, int] | None:
        """Lowest and highest code, counted from zero; None where the tensor holds no codes of one scale."""
        if (
            self.scale is None
            or self.zero is None
            or len(self.scale) != 1
            or self.dtype not in ("INT8", "UINT8", "INT16")
        ):
            return None
        limits = np.iinfo(DTYPES[self.dtype])  # type: ignore[type-var]
        return int(limits.min) - int(self.zero[0]), int(limits.max) - int(self.zero[0])


@dataclass(frozen=True, slots=True)
class LiteOperation:
    """``kind`` as in the schema: CONV_2D. ``inputs``: tensors, −1 where one is left out. ``table``: its options."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: Any

    def get(self, name: str, default: Any = None) -> Any:
        """An option; ``Stride``, ``Filter`` and ``Dilation`` along both axes, ``Padding`` in ONNX's words."""
        if name in _ALONG:
            found = tuple(self.get(part) for part in _ALONG[name])
            return default if None in found else found
        read = getattr(self.table, name, None)
        if read is None:
            return default
        return ("SAME_UPPER", "VALID")[read()] if name == "Padding" else read()


@dataclass(frozen=True, slots=True)
class LiteModel:
    tensors: tuple[LiteTensor, ...]
    operations: tuple[LiteOperation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(data: bytes, path: str | Path) -> LiteModel:
    """The first graph of a file's bytes; raises ``NetworkFileError``."""
    import tflite

    if data[4:8] != IDENTIFIER:
        raise NetworkFileError(path, "is no TFLite file (it has no identifier TFL3)")
    try:
        return _model(tflite.Model.GetRootAsModel(data, 0))
    except NetworkFileError:
        raise
    except MALFORMED as error:
        raise NetworkFileError(path, f"is cut short or not a valid TFLite file: {error!s:.200}") from error


def _model(model: Any) -> LiteModel:
    import tflite

    names = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(tflite.TensorType).items() if isinstance(value, int)}
    if model.SubgraphsLength() != 1:
        raise ValueError(f"{model.SubgraphsLength()} graphs, not one")
    graph = model.Subgraphs(0)
    counts = (graph.TensorsLength(), graph.OperatorsLength(), model.OperatorCodesLength())
    if counts[0] > MOST_TENSORS or max(counts[1:]) > MOST_NODES:
        raise ValueError(f"{counts[0]} tensors and {counts[1]} operations are too many")
    room = [MOST_ELEMENTS]
    tensors = tuple(_tensor(graph.Tensors(i), model, types, room) for i in range(counts[0]))
    operations = []
    for i in range(counts[1]):
        op = graph.Operators(i)
        code = model.OperatorCodes(op.OpcodeIndex())
        kind = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
        inputs, outputs = _numbers(op.InputsAsNumpy(), len(tensors)), _numbers(op.OutputsAsNumpy(), len(tensors))
        operations.append(LiteOperation(kind, inputs, outputs, _options(op)))
    ends = (_numbers(graph.InputsAsNumpy(), len(tensors)), _numbers(graph.OutputsAsNumpy(), len(tensors)))
    return LiteModel(tensors, tuple(operations), *ends)


def _options(op: Any) -> Any:
    """The options of an operation in the table that it says they are; None: it has none."""
    import tflite

    kinds = {value: name for name, value in vars(tflite.BuiltinOptions).items() if isinstance(value, int)}
    table, kind = op.BuiltinOptions(), getattr(tflite, kinds.get(op.BuiltinOptionsType(), ""), None)
    if table is None or kind is None:
        return None
    found = kind()
    found.Init(table.Bytes, table.Pos)
    return found


def _numbers(found: Any, tensors: int) -> tuple[int, ...]:
    numbers = () if isinstance(found, int) else tuple(int(n) for n in found)  # an empty vector is 0
    if len(numbers) > MOST_NODES or not all(-1 <= n < tensors for n in numbers):
        raise ValueError("an operation names a tensor that is not there")
    return numbers


def _tensor(tensor: Any, model: Any, types: dict[int, str], room: list[int]) -> LiteTensor:
    shape = () if tensor.ShapeIsNone() else tuple(int(n) for n in tensor.ShapeAsNumpy())
    if len(shape) > MOST_AXES or min(shape, default=1) < 0 or math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"a tensor of shape {shape[:16]}")
    name = (tensor.Name() or b"").decode("utf-8", "replace")[:256]
    quantised = tensor.Quantization()
    scale = zero = None
    if quantised is not None and quantised.ScaleLength():
        scale = np.array(quantised.ScaleAsNumpy(), np.float64)
        zero = (
            np.array(quantised.ZeroPointAsNumpy(), np.int64) if quantised.ZeroPointLength() else np.zeros(1, np.int64)
        )
        zero = np.broadcast_to(zero, scale.shape) if len(zero) == 1 else zero
        axis = quantised.QuantizedDimension()
        fits = len(scale) == len(zero) and (len(scale) == 1 or (0 <= axis < len(shape) and len(scale) == shape[axis]))
        if not fits or not np.isfinite(scale).all() or (scale <= 0).any() or (np.abs(zero) > 1 << 16).any():
            raise ValueError(f"scales of {name!r:.80} that are no scales")
    buffer = model.Buffers(tensor.Buffer())
    values = None
    dtype = types.get(tensor.Type(), "unknown")
    if buffer is not None and buffer.DataLength():
        if dtype not in DTYPES:
            raise ValueError(f"{name!r:.80} holds {dtype}")
        room[0] -= math.prod(shape)
        if room[0] < 0:
            raise ValueError(f"constants of more than {MOST_ELEMENTS} numbers")
        kind = np.dtype(DTYPES[dtype])
        if buffer.DataLength() != math.prod(shape) * kind.itemsize:
            raise ValueError(f"{name!r:.80} has {buffer.DataLength()} bytes for {shape} of {dtype}")
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), kind.newbyteorder("<")).reshape(shape)
        if kind.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name!r:.80} holds values that are not finite")
    return LiteTensor(name, shape, dtype, scale, zero, 0 if scale is None else quantised.QuantizedDimension(), values)
