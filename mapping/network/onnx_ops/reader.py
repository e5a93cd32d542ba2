"""One pass over an ONNX graph: each value becomes an activation or a constant, with weights inside the file only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim import files
from mapping.network.compose.composer import Composer, ModulePlace
from mapping.network.compose.inputs import Asked, opened
from mapping.network.compose.outputs import Found, collected
from mapping.network.compose.refusal import BROKEN, ELSEWHERE, CannotCompose, Unfit, UnsupportedOperation, need, refuse
from mapping.network.compose.values import Operand, Value
from mapping.network.file_check import NetworkFileError
from mapping.network.graph_records import MOST_OUTPUTS
from mapping.network.operations.call import Call, Form
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


MOST_ELEMENTS = 2**28
"""Of all stored and computed constants together."""
BATCH = 2
"""Images where the file leaves their number open."""
_HINTS = {
    "com.microsoft.nchwc": "a file optimised for any processor: ORT_ENABLE_EXTENDED at most",
    "Loop": "a fixed number of steps, written out",
    "NonMaxSuppression": "outputs before it: the choice among boxes is no part of the network",
    "TopK": "outputs before it: the order of results is left to the program that reads them",
    "ArgMax": "the logits as output: the largest is found from them",
    "ArgMin": "the values as output: the least is found from them",
    "NonZero": "stored places, or a product with a mask",
    "Compress": "Gather with stored places",
    "Unique": "outputs before it: values that differ are left to the program that reads them",
    "OneHot": "a stored table, or comparisons",
    "RandomNormal": "an export in evaluation mode: a network that runs is not random",
    "RandomUniform": "an export in evaluation mode: a network that runs is not random",
    "RandomNormalLike": "an export in evaluation mode: a network that runs is not random",
    "RandomUniformLike": "an export in evaluation mode: a network that runs is not random",
    "Scan": "the steps written out",
    "RoiAlign": "outputs before it: regions that are found are left to the program that reads them",
    "MaxUnpool": "ConvTranspose or Resize",
    "DFT": "a product with stored cosines and sines",
    "STFT": "a convolution with stored windows of cosines and sines",
    "RotaryEmbedding": "products with stored cosines and sines, and Split, Neg, Concat",
}


class OnnxReader:
    """The values of an ONNX graph by their names, as far as it was read: activations of the network that is being
    composed, or constant arrays."""

    def __init__(self, model: Any, path: str | Path, channels: int | None) -> None:
        self.graph, self.path, self.channels = model.graph, path, channels
        versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
        self.opset = max(versions, default=1)
        self.seen: dict[str, Operand] = {}
        self.elements = 0

    def run(self, forms: Mapping[str, Form]) -> tuple[Found, Asked]:
        """The nodes and outputs, and what the network takes; ``forms`` by the names of operations."""
        self._store(self.graph.initializer)
        inputs = [value for value in self.graph.input if value.name not in self.seen]
        if not 1 <= len(self.graph.output) <= MOST_OUTPUTS:
            raise NetworkFileError(self.path, f"has {len(self.graph.output)} outputs")
        asked = self._asked(inputs)
        self.composer = Composer(asked.batch)
        for value, begun in zip(inputs, opened(self.composer, asked), strict=True):
            self.seen[value.name] = begun
        self._pass(self.graph, forms)
        results = [self._known(output.name) for output in self.graph.output]
        names = [output.name for output in self.graph.output] if len(results) > 1 else ["output"]
        self.composer.begin(ModulePlace("outputs"))
        try:
            return collected(self.composer, names, results), asked
        except CannotCompose as refused:
            raise UnsupportedOperation("ONNX output", "", refused.reason, refused.hint) from None

    def _asked(self, inputs: Sequence[Any]) -> Asked:
        shapes = [self._shape(value) for value in inputs]
        try:
            return Asked.of(shapes, self.channels)
        except CannotCompose as refused:
            hint = refused.hint or "one input (n, channels, height, width), (n, channels, length) or (n, features)"
            raise NetworkFileError(self.path, f"has {len(inputs)} inputs: {refused.reason}", hint) from None

    def _shape(self, value: Any) -> Shape:
        dims = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if len(dims) < 2 or min(dims[1:]) < 1 or max(dims) > 2**31:
            raise NetworkFileError(
                self.path,
                f"its input {value.name!r:.80} {dims} has open sizes beyond the batch",
                "export it with fixed sizes: (n, channels, height, width)",
            )
        return (dims[0] if dims[0] > 0 else BATCH, *dims[1:])

    def _store(self, tensors: Sequence[Any]) -> None:
        from onnx import TensorProto, numpy_helper

        for tensor in tensors:
            name = tensor.name
            self._count(name, tuple(tensor.dims))
            try:
                if tensor.data_location == TensorProto.EXTERNAL:
                    values = external(tensor, self.path)
                else:
                    values = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError, NotImplementedError) as error:
                raise NetworkFileError(self.path, f"{name!r:.80} cannot be read: {error!s:.120}") from error
            if values.dtype.kind == "f" and (np.isnan(values) | np.isposinf(values)).any():  # below zero: a mask
                raise NetworkFileError(self.path, f"{name!r:.80} holds values that are not finite")
            self.seen[name] = values

    def _count(self, name: str, shape: Shape) -> None:
        if min(shape, default=0) < 0:
            raise NetworkFileError(self.path, f"{name!r:.80} {list(shape)} is negative or too large")
        self.elements += math.prod(shape)
        if self.elements > MOST_ELEMENTS:
            raise NetworkFileError(self.path, f"{name!r:.80} {list(shape)} is negative or too large")

    def _pass(self, graph: Any, forms: Mapping[str, Form], depth: int = 0) -> None:
        from onnx import helper

        for op in self._ordered(graph.node):
            if not op.output or (not op.input and op.op_type != "Constant"):
                raise NetworkFileError(self.path, f"is not a valid network: {op.op_type} without inputs or outputs")
            attributes = {a.name: helper.get_attribute_value(a) for a in op.attribute}
            if op.op_type == "If" and op.domain in ("", "ai.onnx") and depth < 8:
                self._branch(op, attributes, forms, depth)
                continue
            inputs = [self._known(name) if name else None for name in op.input]
            if op.op_type == "Constant":
                self._constant(op, attributes)
            elif not any(isinstance(x, Value) for x in inputs) and foldable(op):
                self._folded(op, inputs, attributes)
            else:
                self._by_rule(op, inputs, attributes, forms)

    def _ordered(self, ops: Sequence[Any]) -> list[Any]:
        """Operations in execution order: each after those that give its inputs; a cycle is refused."""
        maker = {name: number for number, op in enumerate(ops) for name in op.output if name}
        found, begun, done = list[Any](), set[int](), set[int]()
        for first in range(len(ops)):
            waiting = [first]
            while waiting:
                number = waiting[-1]
                before = {maker[name] for name in _inputs(ops[number]) if name in maker} - done
                if number in done or not before:
                    waiting.pop()
                    if number not in done:
                        done.add(number)
                        found.append(ops[number])
                elif number in begun:
                    raise NetworkFileError(self.path, f"is not a valid network: {ops[number].op_type} needs itself")
                else:
                    begun.add(number)
                    waiting += sorted(before, reverse=True)
        return found

    def _branch(self, op: Any, attributes: Mapping[str, Any], forms: Mapping[str, Form], depth: int) -> None:
        """The branch of an ``If`` with a stored condition."""
        condition = self._known(op.input[0])
        if isinstance(condition, Value):
            raise self.refusal(op, "its condition is computed from the image", "one path for every image")
        branch = attributes["then_branch" if bool(condition.any()) else "else_branch"]
        self._store(branch.initializer)
        self._pass(branch, forms, depth + 1)
        for name, inner in zip(op.output, branch.output, strict=False):
            self.seen[name] = self._known(inner.name)

    def _constant(self, op: Any, attributes: Mapping[str, Any]) -> None:
        if "value" in attributes:
            tensor = attributes["value"]
            tensor.name = op.output[0]
            self._store([tensor])
            return
        name, found = next(iter(attributes.items()))
        if name not in ("value_float", "value_floats", "value_int", "value_ints"):
            raise self.refusal(op, f"a constant given as {name}", "a constant as a tensor (value)")
        self.seen[op.output[0]] = np.array(found, np.float32 if "float" in name else np.int64)

    def _folded(self, op: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        """Results of constants alone, computed now after a look at their size."""
        try:
            shape, results = fold(op, inputs, attributes, self.opset, MOST_ELEMENTS - self.elements)
        except CannotCompose as refused:
            raise NetworkFileError(self.path, f"is not a valid network: {op.op_type}: {refused.reason}") from None
        self._count(op.output[0], shape)
        for name, result in zip(op.output, results, strict=False):
            if name:
                self.seen[name] = result

    def _by_rule(
        self, op: Any, inputs: Sequence[Any], attributes: Mapping[str, Any], forms: Mapping[str, Form]
    ) -> None:
        form = forms.get(op.op_type if op.domain in ("", "ai.onnx") else f"{op.domain}:{op.op_type}")
        if form is None:
            domain = f" of {op.domain}" if op.domain not in ("", "ai.onnx") else ""
            hint = _HINTS.get(op.domain) or _HINTS.get(op.op_type, ELSEWHERE)
            raise self.refusal(op, f"there is no node for it{domain}", hint)
        path = op.name.strip("/").replace("/", ".")
        self.composer.begin(ModulePlace(path, bool(path)))
        keys = zip(form.inputs, op.input, strict=False)
        owners = {name: key.removesuffix(".weight") for name, key in keys if key.endswith(".weight")}
        given = form.arguments(inputs, attributes)
        call = Call(given, owners=owners, outputs=len(op.output), opset=self.opset)
        try:
            found = form.rule(self.composer, call)
        except Unfit as broken:
            raise NetworkFileError(self.path, f"is not a valid network: {op.op_type} {path}: {broken.reason}") from None
        except CannotCompose as refused:
            raise self.refusal(op, refused.reason, refused.hint) from None
        results = found if isinstance(found, list) else [found]
        for name, result in zip(op.output, results, strict=False):
            if name and result is not None:
                self.seen[name] = result

    def _known(self, name: str) -> Operand:
        found = self.seen.get(name)
        if found is None:
            raise UnsupportedOperation("ONNX", f"{name!r:.80}", "no operation before gives this value", BROKEN)
        return found

    def refusal(self, op: Any, reason: str, hint: str) -> UnsupportedOperation:
        where = op.name or (op.output[0] if op.output else "")
        return UnsupportedOperation(f"ONNX {op.op_type}", where, reason, hint)


def _inputs(op: Any, depth: int = 0) -> list[str]:
    """Names that an operation reads, also in its branches."""
    found = list(op.input)
    for attribute in op.attribute if depth < 8 else ():
        for inner in attribute.g.node if attribute.HasField("g") else ():
            found += _inputs(inner, depth + 1)
    return found


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
