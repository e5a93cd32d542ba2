"""One pass over the operations of a TFLite file: tensor -> value or constant, codes of quantised tensors as grids.

TFLite keeps channels last; values here do so as well, and maps are turned round at each product and pool. The composer
lets neighbouring turns cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mapping.network.compose.composer import Composer, ModulePlace
from mapping.network.compose.inputs import Asked, opened
from mapping.network.compose.moves import permute
from mapping.network.compose.outputs import Found, collected
from mapping.network.compose.refusal import BROKEN, CannotCompose, UnsupportedOperation, need
from mapping.network.compose.values import Constant, Operand, Value, activation
from mapping.network.graph import Preprocess
from mapping.network.tflite.model import LiteModel, LiteOperation, LiteTensor
from mapping.operators.activations import GRID_CODES, Grid
from mapping.operators.step import Shape

BATCH = 2  # images in the tensors while they are read: with one, an axis of size 1 could be taken for the batch
FIRST_CHANNEL, LAST_CHANNEL = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass
class Reading:
    """What is known of the tensors so far; rules get it with their operation."""

    model: LiteModel
    composer: Composer
    values: dict[int, Operand]

    def tensor(self, op: LiteOperation, index: int) -> LiteTensor:
        need(index < len(op.inputs) and op.inputs[index] >= 0, f"input {index} is missing", BROKEN)
        return self.model.tensors[op.inputs[index]]

    def operand(self, op: LiteOperation, index: int) -> Operand:
        """Input ``index``: an activation, or a constant of real numbers."""
        tensor = self.tensor(op, index)
        if op.inputs[index] in self.values:
            return self.values[op.inputs[index]]
        need(tensor.values is not None, f"its input {tensor.name!r:.80} is computed by no operation before", BROKEN)
        return tensor.real

    def activation(self, op: LiteOperation, index: int = 0) -> Value:
        return activation(self.operand(op, index))

    def constant(self, op: LiteOperation, index: int) -> Constant:
        found = self.operand(op, index)
        need(
            not isinstance(found, Value),
            f"input {index} is computed, not stored",
            "a stored tensor (an initializer) in its place",
        )
        assert not isinstance(found, Value)
        return found

    def optional(self, op: LiteOperation, index: int) -> Constant | None:
        given = index < len(op.inputs) and op.inputs[index] >= 0
        return self.constant(op, index) if given else None

    def integers(self, op: LiteOperation, index: int) -> list[int]:
        """A stored vector of whole numbers, as shapes and axes are."""
        return [int(v) for v in np.asarray(self.constant(op, index)).ravel()]

    def maps(self, op: LiteOperation, index: int = 0) -> Value:
        """Input ``index``, (n, height, width, channels), with channels first."""
        x = self.activation(op, index)
        need(
            len(x.shape) == 4,
            f"{x.shape} is not (n, height, width, channels)",
            "a reshape to (1, height, width, channels) before it",
        )
        return activation(permute(self.composer, x, FIRST_CHANNEL))

    def back(self, x: Operand) -> Operand:
        """Maps with channels last, as TFLite has them."""
        return permute(self.composer, x, LAST_CHANNEL)

    def batched(self, shape: Shape) -> Shape:
        """A shape of the file with the batch of this reading; 1 or −1 stands for one image there."""
        need(
            len(shape) > 0 and shape[0] in (1, -1),
            f"the shape {shape} has no batch of one image",
            "a batch as first axis: (1, ...) for one",
        )
        return (BATCH, *shape[1:])

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


Rule = Callable[[Reading, LiteOperation], Operand | list[Operand]]


def read(model: LiteModel, rules: Mapping[str, Rule], channels: int | None) -> tuple[Found, tuple[int, int, int]]:
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
        rule = rules.get(op.kind)
        try:
            need(rule is not None, "there is no node for it", "operations of docs/my-network.md")
            assert rule is not None
            found = rule(reading, op)
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
    shape = reading.batched(tensor.shape)
    need(
        len(shape) in (2, 3, 4) and min(shape) >= 1,
        f"an input of shape {tensor.shape}",
        "one input (1, height, width, channels)",
    )
    first = (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
    asked = Asked.of([first], channels or 1)
    value: Any = reading.grid(opened(c, asked)[0], tensor)
    reading.values[model.inputs[0]] = reading.back(value) if len(shape) == 4 else value
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
