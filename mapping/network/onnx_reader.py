"""Parts of an ONNX file as a network needs them: values, constants and shapes, with weights inside the file only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.capture import UnsupportedOperation
from mapping.network.file_check import NetworkFileError
from mapping.network.graph_records import KINDS
from mapping.network.nodes import INPUT, Node, Shape
from mapping.network.shapes import output_shape

MOST_ELEMENTS = 2**28
_KIND_NAMES = {kind: name for name, kind in KINDS.items()}


class OnnxReader:
    """One pass over the ONNX nodes: value name -> our node, or a constant."""

    def __init__(self, graph: Any, path: str | Path) -> None:
        self.graph, self.path = graph, path
        self.nodes: dict[str, Node] = {}
        self.names: dict[str, str] = {}  # ONNX value -> our node
        self.shapes: dict[str, Shape] = {}  # our node -> shape of its value in ONNX, batch axis left out
        self.constants: dict[str, NDArray[Any]] = {}
        self.readers: dict[str, list[Any]] = {}  # ONNX value -> ONNX nodes
        for op in graph.node:
            for value in op.input:
                self.readers.setdefault(value, []).append(op)

    def run(self, rules: Mapping[str, Rule]) -> tuple[tuple[Node, ...], tuple[int, int, int]]:
        """Nodes that the output needs, in order, and the input's shape; ``rules`` by operation (``onnx_rules``).

        A rule appends the nodes of one operation, given its attributes, and returns the name of the last one.
        """
        from onnx import helper

        self._read_constants()
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise NetworkFileError(
                self.path, f"has {len(inputs)} inputs and {len(self.graph.output)} outputs, not 1 and 1"
            )
        dims = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
        if len(dims) != 4 or min(dims[1:]) < 1:
            raise NetworkFileError(self.path, f"its input {dims} is not (n, channels, height, width) with fixed sizes")
        shape = (dims[1], dims[2], dims[3])
        self.names[inputs[0].name], self.shapes[INPUT] = INPUT, shape
        for op in self.graph.node:
            if op.op_type == "Constant":
                continue
            rule = rules.get(op.op_type) if op.domain in ("", "ai.onnx") else None
            if rule is None:
                raise self.refusal(op, "there is no node for it")
            self.names[op.output[0]] = rule(self, op, {a.name: helper.get_attribute_value(a) for a in op.attribute})
        result = self.names.get(self.graph.output[0].name, INPUT)
        needed = {result}
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        return tuple(node for node in self.nodes.values() if node.name in needed), shape

    def _read_constants(self) -> None:
        from onnx import TensorProto, numpy_helper

        tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        for op in self.graph.node:
            if op.op_type == "Constant":
                values = [a.t for a in op.attribute if a.name == "value"]
                tensors |= dict(zip(op.output[:1], values, strict=False))
        elements = 0
        for name, tensor in tensors.items():
            elements += math.prod(tensor.dims)
            if tensor.data_location == TensorProto.EXTERNAL:
                raise NetworkFileError(
                    self.path, f"keeps {name!r:.80} in another file", "save it with its weights inside"
                )
            if min(tensor.dims, default=0) < 0 or elements > MOST_ELEMENTS:
                raise NetworkFileError(self.path, f"{name!r:.80} {list(tensor.dims)} is negative or too large")
            try:
                values = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError, NotImplementedError) as error:
                raise NetworkFileError(self.path, f"{name!r:.80} cannot be read: {error!s:.120}") from error
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise NetworkFileError(self.path, f"{name!r:.80} holds values that are not finite")
            self.constants[name] = values

    def add(self, op: Any, kind: type[Node], sources: Sequence[str], *, key: str = "", **fields: Any) -> str:
        """Append a node reading the ONNX values ``sources``; ``key`` names its weights. Give its unique name."""
        inputs = tuple(self.source(op, value) for value in sources)
        stem = key.removesuffix(".weight") if key.endswith(".weight") else op.name
        stem = stem.strip("/").replace("/", ".") or _KIND_NAMES[kind]
        unique, count = stem, 1
        while unique in self.nodes or unique == INPUT:
            count += 1
            unique = f"{stem}_{count}"
        node = kind(name=unique, inputs=inputs, **fields)
        self.shapes[unique] = output_shape(node, [self.shapes[source] for source in inputs])
        self.nodes[unique] = node
        return unique

    def source(self, op: Any, value: str) -> str:
        if value not in self.names:
            raise self.refusal(op, f"its input {value!r:.80} is not a feature map of this network")
        return self.names[value]

    def weights(self, op: Any, index: int) -> NDArray[np.float32] | None:
        """Constant input ``index`` as float32; None if it is left out."""
        if index >= len(op.input) or not op.input[index]:
            return None
        values = self.constants.get(op.input[index])
        if values is None:
            raise self.refusal(op, f"input {op.input[index]!r:.80} is computed, not a stored weight")
        return np.ascontiguousarray(values, dtype=np.float32)

    def needed(self, op: Any, index: int) -> NDArray[np.float32]:
        values = self.weights(op, index)
        if values is None:
            raise self.refusal(op, f"input {index} is missing")
        return values

    def integers(self, op: Any, index: int, attribute: Any = None) -> list[int] | None:
        """Integers from constant input ``index`` (later opsets) or from an attribute (earlier ones)."""
        given = index < len(op.input) and op.input[index]
        if given and given not in self.constants:
            raise self.refusal(op, f"input {given!r:.80} is computed, not stored")
        chosen = self.constants[given].ravel().tolist() if given else attribute
        return None if chosen is None else [int(v) for v in chosen]

    def shape(self, op: Any, index: int = 0) -> Shape:
        """Shape of the feature map at input ``index``, without the batch axis."""
        return self.shapes[self.source(op, op.input[index])]

    def refusal(self, op: Any, reason: str) -> UnsupportedOperation:
        return UnsupportedOperation(f"ONNX {op.op_type}", op.name or (op.output[0] if op.output else ""), reason)

    def need(self, op: Any, good: bool, reason: str) -> None:
        if not good:
            raise self.refusal(op, reason)


Rule = Callable[[OnnxReader, Any, dict[str, Any]], str]
