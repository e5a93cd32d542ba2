"""TFLite to a ``NetworkGraph`` in one pass over its operations; codes of quantised tensors are grids.

TFLite keeps channels last; values here do so as well, and maps are turned round at each product and pool. The composer
lets neighbouring turns cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mapping.network.compose.arithmetic import clamp, function
from mapping.network.compose.composer import Composer, ModulePlace
from mapping.network.compose.inputs import Asked, opened
from mapping.network.compose.moves import permute
from mapping.network.compose.outputs import Found, collected
from mapping.network.compose.refusal import BROKEN, CannotCompose, UnsupportedOperation, need, refuse
from mapping.network.compose.values import Operand, Value
from mapping.network.file_check import NetworkFileError
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.onnx_import import MissingExtra
from mapping.network.operations.call import Call, Form, forms
from mapping.network.operations.table import operations
from mapping.network.operations.windows import LAST_CHANNEL
from mapping.network.tflite.model import MALFORMED, LiteModel, LiteOperation, LiteTensor, read_model
from mapping.operators.activations import GRID_CODES, Grid
from mapping.operators.node import GraphError

NONE, RELU, RELU_1, RELU6, TANH = range(5)  # fused activation functions
_BOUNDS = {RELU: (0, None), RELU_1: (-1, 1), RELU6: (0, 6)}
_HINTS = {
    "LOG_SOFTMAX": "end with the logits: the loss, not the network, takes their logarithm",
    "ARG_MAX": "end with the logits: the largest is found from them",
    "EMBEDDING_LOOKUP": "one-hot inputs and a fully connected layer",
}
BATCH = 2  # images in the tensors while they are read: with one, an axis of size 1 could be taken for the batch


@dataclass
class Reading:
    """Values of the tensors that were read so far."""

    model: LiteModel
    composer: Composer
    values: dict[int, Operand]

    def operand(self, number: int) -> Operand:
        """A tensor of the file: an activation, or a constant of real numbers."""
        tensor = self.model.tensors[number]
        if number in self.values:
            return self.values[number]
        need(tensor.values is not None, f"its input {tensor.name!r:.80} is computed by no operation before", BROKEN)
        return tensor.real

    def result(self, form: Form, op: LiteOperation) -> Any:
        """What an operation gives, with the activation function that it ends with."""
        need(bool(op.inputs and op.outputs), "an input or output is missing", BROKEN)
        given = [self.operand(number) if number >= 0 else None for number in op.inputs]
        if form.attributes and op.table is None:
            raise ValueError(f"{op.kind} has no options")
        shape = self.model.tensors[op.outputs[0]].shape
        if any(isinstance(x, Value) for x in given) and shape[:1] in ((1,), (-1,)):
            shape = (BATCH, *shape[1:])
        found = form.rule(self.composer, Call(form.arguments(given, op), shape))
        code = op.get("FusedActivationFunction", NONE)
        return found if isinstance(found, list) else _finished(self.composer, found, code)

    def grid(self, x: Operand, tensor: LiteTensor) -> Operand:
        """``x`` rounded to the codes of a quantised tensor."""
        limits = tensor.code_range
        if limits is None or not isinstance(x, Value):
            return x
        assert tensor.scale is not None
        low, high = max(limits[0], -GRID_CODES), min(limits[1], GRID_CODES)
        need(low <= 0 <= high, f"the zero point of {tensor.name!r:.80} is none of its codes", BROKEN)
        node = self.composer.add(Grid, [x.node], scale=float(tensor.scale[0]), low=low, high=high)
        return replace(x, node=node)


def _finished(c: Composer, x: Operand, code: int) -> Operand:
    """The activation function that a TFLite operation ends with."""
    if code in _BOUNDS:
        return clamp(c, x, *_BOUNDS[code])
    if code == TANH:
        return function(c, x, "tanh")
    need(code == NONE, f"fused activation {code}", "an activation as an operation of its own")
    return x


@cache
def _forms() -> Mapping[str, Form]:
    return {form.name: form for form in forms(operations(), "lite")}


def read(model: LiteModel, channels: int | None) -> tuple[Found, tuple[int, int, int]]:
    """The nodes of a model and the shape of its input image.

    Args:
        channels: means of a preprocessing that was given; None: as many as the input has channels.

    Raises:
        UnsupportedOperation: no node for an operation, or several inputs.
    """
    reading = Reading(model, Composer(BATCH), {})
    try:
        image = _opened(reading, channels)
    except CannotCompose as refused:
        raise UnsupportedOperation("TFLite input", "", refused.reason, refused.hint) from None
    for number, op in enumerate(model.operations):
        place = model.tensors[op.outputs[0]].name.split(";")[0].strip("/").replace("/", ".") if op.outputs else ""
        reading.composer.begin(ModulePlace(place))
        form = _forms().get(op.kind)
        try:
            if form is None:
                refuse("there is no node for it", _HINTS.get(op.kind, "operations of docs/my-network.md"))
            found = reading.result(form, op)
            results = found if isinstance(found, list) else [found]
            for tensor, value in zip(op.outputs, results, strict=False):
                about = model.tensors[tensor]
                kept = op.kind in MOVES and _same_codes(model.tensors[op.inputs[0]], about)
                reading.values[tensor] = value if kept else reading.grid(value, about)
        except CannotCompose as refused:
            where = place or f"operation {number}"
            raise UnsupportedOperation(f"TFLite {op.kind}", where, refused.reason, refused.hint) from None
    names = [model.tensors[i].name or f"output{n}" for n, i in enumerate(model.outputs)]
    try:
        return collected(reading.composer, names, [reading.values.get(i) for i in model.outputs]), image
    except CannotCompose as refused:
        raise UnsupportedOperation("TFLite output", "", refused.reason, refused.hint) from None


MOVES = {"RESHAPE", "MAX_POOL_2D", "TRANSPOSE", "PAD", "MIRROR_PAD", "SQUEEZE", "EXPAND_DIMS", "STRIDED_SLICE", "SLICE",
         "SPLIT", "GATHER", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "TILE"}  # fmt: skip
"""Operations that move codes and change none."""


def _same_codes(a: LiteTensor, b: LiteTensor) -> bool:
    if a.code_range is None or b.code_range is None:
        return False
    assert a.scale is not None
    assert b.scale is not None
    return (a.code_range, float(a.scale[0])) == (b.code_range, float(b.scale[0]))


def _opened(reading: Reading, channels: int | None) -> tuple[int, int, int]:
    """Begin with the model's one input; its pixels become codes at once where it is quantised."""
    model, c = reading.model, reading.composer
    need(len(model.inputs) == 1, f"{len(model.inputs)} inputs, not one", "one input with all of them side by side")
    tensor = model.tensors[model.inputs[0]]
    shape = (BATCH, *tensor.shape[1:])
    need(
        len(shape) in (2, 3, 4) and min(shape) >= 1 and tensor.shape[0] in (1, -1),
        f"an input of shape {tensor.shape}",
        "one input (1, height, width, channels)",
    )
    first = (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
    asked = Asked.of([first], channels or 1)
    value: Any = reading.grid(opened(c, asked)[0], tensor)
    reading.values[model.inputs[0]] = permute(c, value, LAST_CHANNEL) if len(shape) == 4 else value
    return asked.image


def own_preprocess(model: LiteModel, channels: int) -> Preprocess | None:
    """What a quantised input says of pixels 0 to 255: they are its codes, the lowest first. None: it has none."""
    tensor = model.tensors[model.inputs[0]]
    limits = tensor.code_range
    if limits is None or limits[1] - limits[0] != 255:
        return None
    assert tensor.scale is not None
    scale = float(tensor.scale[0])  # value = (pixel + limits[0]) · scale
    return Preprocess((-limits[0] / 255.0,) * channels, (1.0 / (255.0 * scale),) * channels)


def graph_from_tflite(
    data: bytes,
    path: str | Path,
    *,
    preprocess: Preprocess | None,
    classes: Sequence[str],
    provenance: Mapping[str, str] | None = None,
    shapes_only: bool = False,
) -> NetworkGraph:
    """Give the graph of a TFLite file's bytes; ``path`` is for messages.

    Args:
        preprocess: pixels to input; None takes what a quantised input says: pixels are its codes.
        shapes_only: any preprocessing will do.
        classes: names of the logits; none for a network that gives maps or several tensors.

    Raises ``NetworkFileError``, ``UnsupportedOperation``, ``MissingExtra``, or ``ValueError`` without ``preprocess``.
    """
    try:
        import tflite  # noqa: F401
    except ImportError as error:
        raise MissingExtra("reading TFLite needs a package more\n  try     pip install 'rram-hil[tflite]'") from error
    model = read_model(data, path)
    try:
        found, image = read(model, None if preprocess is None else len(preprocess.mean))
        chosen = preprocess or own_preprocess(model, image[0])
        if chosen is None and shapes_only:
            chosen = Preprocess((0.0,) * image[0], (1.0,) * image[0])
        if chosen is None:
            raise NetworkFileError(path, "takes floats and does not say how pixels become them", "--mean and --std")
        return found.graph(image, chosen, classes, dict(provenance or {}))
    except NetworkFileError:
        raise
    except (GraphError, *MALFORMED) as error:  # options missing or mistyped
        raise NetworkFileError(path, f"is not a valid network: {error!s:.300}") from error
