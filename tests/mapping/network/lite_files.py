"""TFLite files made on the spot: a small convolutional network, float or int8, with operations of the usual kinds."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

Array = NDArray[Any]


class LiteBuilder:
    """Tensors and operations of one graph; ``finished`` gives the bytes of a file."""

    def __init__(self) -> None:
        self.b = flatbuffers.Builder(1024)
        self.tensors: list[int] = []
        self.buffers: list[Array | None] = [None]
        self.operations: list[tuple[int, list[int], list[int], int, int]] = []
        self.codes: list[int] = []

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: str, values: Array | None = None,
        scale: Any = None, zero: Any = None, axis: int = 0,
    ) -> int:  # fmt: skip
        b = self.b
        quantised = None
        if scale is not None:
            scales = b.CreateNumpyVector(np.atleast_1d(np.asarray(scale, np.float32)))
            zeros = b.CreateNumpyVector(np.atleast_1d(np.asarray(zero, np.int64)))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, zeros)
            tflite.QuantizationParametersAddQuantizedDimension(b, axis)
            quantised = tflite.QuantizationParametersEnd(b)
        label, dims = b.CreateString(name), b.CreateNumpyVector(np.array(shape, np.int32))
        buffer = 0
        if values is not None:
            self.buffers.append(values)
            buffer = len(self.buffers) - 1
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, dims)
        tflite.TensorAddType(b, getattr(tflite.TensorType, kind))
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, label)
        if quantised is not None:
            tflite.TensorAddQuantization(b, quantised)
        self.tensors.append(tflite.TensorEnd(b))
        return len(self.tensors) - 1

    def operation(self, kind: str, inputs: list[int], outputs: list[int], options: str = "", **values: Any) -> None:
        b, table, union = self.b, 0, 0
        if options:
            getattr(tflite, f"{options}Start")(b)
            for name, value in values.items():
                getattr(tflite, f"{options}Add{name}")(b, value)
            table = getattr(tflite, f"{options}End")(b)
            union = getattr(tflite.BuiltinOptions, options)
        code = getattr(tflite.BuiltinOperator, kind)
        if code not in self.codes:
            self.codes.append(code)
        self.operations.append((self.codes.index(code), inputs, outputs, union, table))

    def finished(self, inputs: list[int], outputs: list[int]) -> bytes:
        b = self.b
        made = []
        for code, taken, given, union, table in self.operations:
            vectors = [b.CreateNumpyVector(np.array(v, np.int32)) for v in (taken, given)]
            tflite.OperatorStart(b)
            tflite.OperatorAddOpcodeIndex(b, code)
            tflite.OperatorAddInputs(b, vectors[0])
            tflite.OperatorAddOutputs(b, vectors[1])
            if union:
                tflite.OperatorAddBuiltinOptionsType(b, union)
                tflite.OperatorAddBuiltinOptions(b, table)
            made.append(tflite.OperatorEnd(b))
        ends = [b.CreateNumpyVector(np.array(v, np.int32)) for v in (inputs, outputs)]
        operations, tensors = self._offsets(made), self._offsets(self.tensors)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, ends[0])
        tflite.SubGraphAddOutputs(b, ends[1])
        tflite.SubGraphAddOperators(b, operations)
        graphs = self._offsets([tflite.SubGraphEnd(b)])
        codes = []
        for code in self.codes:
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(b, code)
            tflite.OperatorCodeAddVersion(b, 1)
            codes.append(tflite.OperatorCodeEnd(b))
        kept = []
        for values in self.buffers:
            data = None if values is None else b.CreateNumpyVector(np.frombuffer(values.tobytes(), np.uint8))
            tflite.BufferStart(b)
            if data is not None:
                tflite.BufferAddData(b, data)
            kept.append(tflite.BufferEnd(b))
        operator_codes, buffers = self._offsets(codes), self._offsets(kept)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, operator_codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _offsets(self, tables: list[int]) -> int:
        self.b.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.b.PrependUOffsetTRelative(table)
        return int(self.b.EndVector())


def float_file(rng: np.random.Generator) -> bytes:
    """(1, 8, 8, 3): convolution, depthwise one of stride 2, bilinear enlargement, pool, product, softmax of 5."""
    m = LiteBuilder()
    x = m.tensor("x", (1, 8, 8, 3), "FLOAT32")

    def stored(name: str, *shape: int) -> int:
        return m.tensor(name, shape, "FLOAT32", rng.standard_normal(shape).astype(np.float32) * 0.5)

    def whole(name: str, *values: int) -> int:
        return m.tensor(name, (len(values),), "INT32", np.array(values, np.int32))

    a, d, up, p, s, y, z = (
        m.tensor(n, shape, "FLOAT32")
        for n, shape in (
            ("a", (1, 8, 8, 6)), ("d", (1, 4, 4, 6)), ("up", (1, 6, 6, 6)), ("p", (1, 3, 3, 6)), ("s", (1, 6)),
            ("y", (1, 5)), ("z", (1, 5)),
        )
    )  # fmt: skip
    conv, deep = [stored("w1", 6, 3, 3, 3), stored("b1", 6)], [stored("w2", 1, 3, 3, 6), stored("b2", 6)]
    size, axes = whole("size", 6, 6), whole("axes", 1, 2)
    last = [stored("w3", 5, 6), stored("b3", 5)]
    m.operation("CONV_2D", [x, *conv], [a], "Conv2DOptions", StrideH=1, StrideW=1, DilationHFactor=1,
                DilationWFactor=1, FusedActivationFunction=1)  # fmt: skip
    m.operation("DEPTHWISE_CONV_2D", [a, *deep], [d], "DepthwiseConv2DOptions", StrideH=2, StrideW=2,
                DilationHFactor=1, DilationWFactor=1, DepthMultiplier=1, FusedActivationFunction=3)  # fmt: skip
    m.operation("RESIZE_BILINEAR", [d, size], [up], "ResizeBilinearOptions", HalfPixelCenters=True)
    m.operation("MAX_POOL_2D", [up], [p], "Pool2DOptions", StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2)
    m.operation("MEAN", [p, axes], [s], "ReducerOptions", KeepDims=False)
    m.operation("FULLY_CONNECTED", [s, *last], [y], "FullyConnectedOptions")
    m.operation("SOFTMAX", [y], [z], "SoftmaxOptions", Beta=1.0)
    return m.finished([x], [z])


def int8_file(rng: np.random.Generator) -> bytes:
    """(1, 6, 6, 2) int8 around zero point 20, padded: convolution, sum with another, mean, product."""
    m = LiteBuilder()
    x = m.tensor("x", (1, 6, 6, 2), "INT8", None, 0.02, 20)

    def layer(name: str, shape: tuple[int, ...], axis: int, source: float) -> list[int]:
        outputs = shape[axis]
        scale = rng.uniform(0.002, 0.01, outputs)
        codes = rng.integers(-127, 128, shape).astype(np.int8)
        bias = rng.integers(-500, 500, outputs).astype(np.int32)
        weight = m.tensor(f"{name}.w", shape, "INT8", codes, scale, np.zeros(outputs), axis)
        return [weight, m.tensor(f"{name}.b", (outputs,), "INT32", bias, scale * source, np.zeros(outputs))]

    first, second, last = (
        layer("c1", (4, 3, 3, 2), 0, 0.02),
        layer("c2", (4, 1, 1, 2), 0, 0.02),
        layer("f", (3, 4), 0, 0.05),
    )
    a, c, s, p, f, y = (
        m.tensor(n, shape, "INT8", None, scale, zero)
        for n, shape, scale, zero in (
            ("a", (1, 6, 6, 4), 0.04, -128), ("c", (1, 6, 6, 4), 0.06, 5), ("s", (1, 6, 6, 4), 0.05, -128),
            ("p", (1, 1, 1, 4), 0.05, -128), ("f", (1, 4), 0.05, -128), ("y", (1, 3), 0.1, 3),
        )
    )  # fmt: skip
    shape = m.tensor("shape", (2,), "INT32", np.array([1, 4], np.int32))
    plain = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    m.operation("CONV_2D", [x, *first], [a], "Conv2DOptions", **plain, FusedActivationFunction=1)
    m.operation("CONV_2D", [x, *second], [c], "Conv2DOptions", **plain)
    m.operation("ADD", [a, c], [s], "AddOptions", FusedActivationFunction=1)
    m.operation(
        "AVERAGE_POOL_2D", [s], [p], "Pool2DOptions", StrideH=6, StrideW=6, FilterHeight=6, FilterWidth=6, Padding=1
    )
    m.operation("RESHAPE", [p, shape], [f], "ReshapeOptions")
    m.operation("FULLY_CONNECTED", [f, *last], [y], "FullyConnectedOptions")
    return m.finished([x], [y])
