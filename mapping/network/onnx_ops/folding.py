"""Operations of ONNX on constants: computed at once by ONNX's reference, after a bound on the size of their result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.compose.refusal import BROKEN, need, refuse
from mapping.network.operations.codes import dequantised
from mapping.operators.step import Shape

Inputs = Sequence[Any]


def _together(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    return math.prod(np.broadcast_shapes(*(x.shape for x in inputs if x is not None)))


def _all(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    return sum(x.size for x in inputs if x is not None)


def _filled(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    return _size(inputs[0])


def _size(dims: NDArray[Any]) -> int:
    return math.prod(int(d) for d in dims.ravel())


def _counted(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    start, limit, delta = (float(x.ravel()[0]) for x in inputs)
    return 0 if delta == 0 else max(math.ceil((limit - start) / delta), 0)


def _expanded(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    shape: tuple[int, ...] = np.broadcast_shapes(inputs[0].shape, tuple(int(d) for d in inputs[1].ravel()))
    return int(math.prod(shape))


def _tiled(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    return int(inputs[0].size) * _size(inputs[1])


def _gathered(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    return int(inputs[0].size) * max(int(inputs[1].size), 1)


def _multiplied(inputs: Inputs, attributes: Mapping[str, Any]) -> int:
    return int(inputs[0].size) * int(inputs[1].shape[-1] if inputs[1].ndim else 1)


_BROADCAST = (
    "Add Sub Mul Div Pow Mod Max Min Where Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Sum Mean Clip "
    "PRelu LayerNormalization RMSNormalization"
)
_SAME = (
    "Not Neg Abs Sqrt Exp Log Floor Ceil Round Reciprocal Sin Cos Sign Erf Tanh Sigmoid Relu Cast CastLike Identity "
    "Shape Size Reshape Squeeze Unsqueeze Flatten Transpose Concat Slice Split ReduceProd ReduceSum ReduceMean "
    "ReduceMax ReduceMin ReduceL2 ScatterND ScatterElements Trilu CumSum NonZero QuantizeLinear DequantizeLinear "
    "Softmax LogSoftmax Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Gelu LeakyRelu Elu Selu Softplus Softsign "
    "HardSigmoid HardSwish Mish Dropout ReduceL1 ReduceSumSquare ReduceLogSumExp IsNaN IsInf ArgMax ArgMin "
    "GatherElements"
)
_BOUNDS: dict[str, Callable[[Inputs, Mapping[str, Any]], int]] = {
    **dict.fromkeys(_BROADCAST.split(), _together),
    **dict.fromkeys(_SAME.split(), _all),
    "ConstantOfShape": _filled,
    "Range": _counted,
    "Expand": _expanded,
    "Tile": _tiled,
    "Gather": _gathered,
    "GatherND": _gathered,
    "MatMul": _multiplied,
}


def foldable(op: Any) -> bool:
    return op.op_type in _BOUNDS and op.domain in ("", "ai.onnx")


def fold(
    op: Any, inputs: Inputs, attributes: Mapping[str, Any], opset: int, most: int
) -> tuple[Shape, list[NDArray[Any]]]:
    """The shape of the first result and all results of one operation; ``most`` elements, else ``CannotCompose``."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    try:
        size = _BOUNDS[op.op_type](inputs, attributes)
    except (ValueError, IndexError, AttributeError, OverflowError) as error:
        refuse(f"its constants do not fit each other: {error!s:.120}", BROKEN)
    if size < 0 or size > most:
        refuse(f"a constant of {size} elements, more than {most}", "a smaller constant")
    if op.op_type == "ConstantOfShape":
        fill = attributes.get("value")
        values = np.zeros(1, np.float32) if fill is None else numpy_helper.to_array(fill)
        made = np.full([int(d) for d in inputs[0]], values.ravel()[0], values.dtype)
        return made.shape, [made]
    if op.op_type == "DequantizeLinear":
        need(not attributes.get("block_size", 0), "scales of blocks", "one scale, or one for each channel")
        made = dequantised(inputs, int(attributes.get("axis", 1)))
        return made.shape, [made]
    if len({x.dtype for x in inputs if x is not None and x.dtype.kind == "f"}) > 1:  # double, where rules computed it
        inputs = [x.astype(np.float32) if x is not None and x.dtype.kind == "f" else x for x in inputs]
    named = {name: x for name, x in zip(op.input, inputs, strict=True) if name}
    graph = helper.make_graph(
        [op],
        "constant",
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in named],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in op.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            results = [np.asarray(found) for found in ReferenceEvaluator(model).run(None, named)]
    except Exception as error:  # the reference raises what numpy raises, and kinds of its own
        refuse(f"cannot be computed from its constants: {error!s:.120}", "the result as an initializer")
    return results[0].shape, results
