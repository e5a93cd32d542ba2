"""Inputs of both signs as two halves without: what lies above zero, and what lies below it.

Small codes below zero drive nearly all planes of two's complement (−1 is 11111111), and raised by half of their range
(an offset) all codes near zero do so or drive the highest plane. Read noise is new in every plane and counts with its
weight, so an input of signed codes about zero, as behind a linear layer or a norm, is read with ten to twenty times
the noise variance of the same input without signs. So the layer takes its input twice,

    W x = W max(x, 0) − W max(−x, 0)

its rows once with W and once with −W. It is the same integer, in one plane less, on twice the rows.

It is done where the noise of single reads that goes away is a share ``LEAST_GAIN`` of the power of the layer's sums, on
stored images and by the chip file's [models]; not where the chip lacks the macros, and not to pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec, SignedInput
from cim.cost.workload import WorkKind
from cim.record.cell_errors import CellErrors
from mapping.bits import LEAST, BitWidths, LayerBits
from mapping.layout.tile import slices_needed, stretch, weight_integers
from mapping.network.float_run import forward, network_input
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.affine import AffineStep
from mapping.operators.fused import FusedOp, MatrixOp, Scales
from mapping.operators.integer.scales import requantise_by
from mapping.operators.joins import Concat, ConcatStep
from mapping.operators.node import INPUT, PassOp, may_be_negative
from mapping.operators.step import Shape, Step
from mapping.operators.work import WorkForm
from mapping.quantise.rounding import Floats, largest_scale, nearest_integers
from mapping.quantise.scales import code_limits
from mapping.quantise.weight_scales import plane_squares, weight_errors

if TYPE_CHECKING:
    from torch import Tensor

LEAST_GAIN = 0.01  # of the power of a layer's sums: linear bottlenecks lose 0.04 to 0.07 by it, pixels 0.004
IMAGES = 16  # of the stored ones, that tell how much it is
VALUES = 1 << 24  # and at most so many values of their largest map
PLACES = 256  # of the map of an image, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvesOp(FusedOp):
    """Codes above zero, then those below it with the other sign, one behind the other along the first axis."""

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.CONCAT)

    def integer_steps(self, around: Scales) -> tuple[Step, ...]:
        ones = (1,) * len(around.shapes[0])
        rule = requantise_by(around.inputs[0].scale / around.out.scale, 0, around.out.high)
        below = AffineStep(
            name=f"{self.name}.below", inputs=self.inputs, weight=np.full(ones, -1, np.int32),
            offset=np.zeros(ones, np.int32), requantise=rule,
        )  # fmt: skip
        same = requantise_by(1.0, 0, around.out.high)
        return below, ConcatStep(name=self.name, inputs=(*self.inputs, below.name), rescale=(rule, same))


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatOp(PassOp):
    """Codes repeated several times along the first axis."""

    node: Concat = field(default_factory=lambda: Concat(name="repeat", inputs=(INPUT,)))

    def integer_steps(self, around: Scales) -> tuple[Step, ...]:
        same = requantise_by(1.0, around.out.low, around.out.high)
        return (ConcatStep(name=self.name, inputs=self.inputs, rescale=(same,) * len(self.inputs)),)


def halved(ops: Sequence[FusedOp], layers: Collection[str]) -> tuple[FusedOp, ...]:
    """The operations with the inputs of these layers in halves."""
    found: list[FusedOp] = []
    for op in ops:
        if isinstance(op, MatrixOp) and op.name in layers:
            name, source, size = halves_name(op.name), op.inputs[0], _input_shape(op, 2)
            found.append(HalvesOp(name=name, inputs=(source,), output_node=source, output_shape=size, low=0.0))
            op = _wider(op, name, (op.stored, -op.stored))
        found.append(op)
    return tuple(found)


def repeated(ops: Sequence[FusedOp], times: Mapping[str, int]) -> tuple[FusedOp, ...]:
    """The operations with rows of layers so many times, each with its share of the weight."""
    found: list[FusedOp] = []
    for op in ops:
        if isinstance(op, MatrixOp) and op.name in times:
            n, name, source = times[op.name], f"{op.name}.repeated", op.inputs[0]
            size = _input_shape(op, n)
            found.append(RepeatOp(name=name, inputs=(source,) * n, output_node=source, output_shape=size))
            op = _wider(op, name, (op.stored / n,) * n)
        found.append(op)
    return tuple(found)


def _input_shape(op: MatrixOp, times: int) -> Shape:
    window = op.window
    return (times * op.stored.shape[2],) if window is None else (times * window.channels, window.height, window.width)


def _wider(op: MatrixOp, source: str, parts: Sequence[NDArray[np.floating]]) -> MatrixOp:
    window = op.window and replace(op.window, channels=len(parts) * op.window.channels)
    return replace(op, inputs=(source,), window=window, stored=np.concatenate(parts, axis=2))


def halves_name(layer: str) -> str:
    """Name of the step that gives a layer its input in halves."""
    return f"{layer}.input"


def halved_bits(bits: BitWidths, layers: Collection[str]) -> BitWidths:
    """Bit widths of halved inputs: one bit less for unsigned codes."""
    own = {name: replace(bits.layers.get(name, LayerBits()), activation=bits.inputs_of(name) - 1) for name in layers}
    return replace(bits, layers={**bits.layers, **own})


def gains(
    graph: NetworkGraph, ops: Sequence[FusedOp], images: NDArray[np.uint8], spec: ChipSpec, bits: BitWidths,
    errors: CellErrors,
) -> dict[str, float]:  # fmt: skip
    """By layer, what halves would take away of the noise of single reads, as a share of the power of its sums; without
    end on a chip that drives nothing below zero.

    Layers whose input has no sign, or that are no candidates for another reason, are left out.
    """
    signed, pixels = _signed_layers(graph, ops, bits)
    if spec.macro.inputs.signed is SignedInput.NONE:
        return {op.name: math.inf for op in signed}
    layers = [op for op in signed if op.inputs[0] not in pixels]
    if not layers or not errors.read_us2.any():
        return {}
    import torch

    outputs = {op.name: op for op in ops}
    wanted = {outputs[op.inputs[0]].output_node for op in layers} | {op.sum_node for op in layers}
    seen: dict[str, NDArray[np.float32]] = {}

    def note(node: str, output: Tensor) -> None:
        if node in wanted:
            seen[node] = _some_places(output.numpy())

    largest = max(math.prod(shape) for shape in node_shapes(graph).values())
    few = images[:: -(-len(images) // max(1, min(IMAGES, VALUES // largest)))]
    with torch.inference_mode():
        forward(graph, network_input(graph.preprocess, few), seen=note)
    found = {}
    for op in layers:
        source = outputs[op.inputs[0]]
        values = seen[source.output_node].reshape(len(few), source.output_shape[0], -1)
        found[op.name] = _gain(op, values, seen[op.sum_node], spec, bits, errors)
    return found


def _signed_layers(
    graph: NetworkGraph, ops: Sequence[FusedOp], bits: BitWidths
) -> tuple[list[MatrixOp], frozenset[str]]:
    """Dense layers of signed inputs, whose cells are not read again elsewhere, and operations that give pixels."""
    if any(op.grid is not None for op in ops):  # whose codes are not ours to choose
        return [], frozenset()
    signed = {INPUT: any(mean > 0 for mean in graph.preprocess.mean)}
    pixels, found = {INPUT}, []
    homes = {op.shares for op in ops if isinstance(op, MatrixOp)}
    for op in ops:
        signed[op.name] = may_be_negative(op, [signed[name] for name in op.inputs])
        if isinstance(op, PassOp) and op.inputs[0] in pixels:
            pixels.add(op.name)
        if not isinstance(op, MatrixOp) or op.shares is not None or op.name in homes:
            continue
        if len(op.stored) == 1 and signed[op.inputs[0]] and bits.inputs_of(op.name) > LEAST:
            found.append(op)
    return found, frozenset(pixels)


def _gain(
    op: MatrixOp, values: NDArray[np.float32], sums: NDArray[np.float32], spec: ChipSpec, bits: BitWidths,
    errors: CellErrors,
) -> float:  # fmt: skip
    """The gain of one layer; ``values`` of its input (n, channels, places), ``sums`` (n, outputs, places)."""
    wide, macro = bits.inputs_of(op.name), spec.macro
    low, high = code_limits(wide, True, False)
    scale = float(np.abs(values).max()) / high or 1.0
    codes = np.clip(np.rint(values / scale), low, high).transpose(1, 0, 2).reshape(1, values.shape[1], -1)
    kernel = op.stored.shape[2] // values.shape[1]

    def squares(some: NDArray[np.float32], bits: int, signed: bool) -> Floats:
        return plane_squares(some, macro, bits, signed).repeat(kernel, axis=1)

    plain = squares(codes, wide, True)
    above, below = (squares(np.clip(half, 0, high), wide - 1, False) for half in (codes, -codes))
    weight_max = (1 << (bits.weights_of(op.name) - 1)) - 1
    integers = weight_integers(weight_max, macro)
    slices = slices_needed(weight_max, macro.max_level) if macro.even_levels else 1
    factor = stretch(weight_max, macro.max_level) if macro.even_levels else 1
    read = weight_errors(macro, errors, integers, factor, slices)
    unit = largest_scale(op.weight, integers)
    levels = nearest_integers(op.weight / unit[:, :, None], integers)
    nothing = np.zeros_like(plain)
    noise = (unit * scale) ** 2 * read.of(levels, nothing, plain - above - below)
    power = sums.astype(np.float64).var(axis=(0, 2))
    return float(noise.sum() / power.sum()) if power.sum() > 0 else 0.0


def _some_places(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most ``PLACES`` places of maps (n, channels, …), as (n, channels, places)."""
    flat = found.reshape(*found.shape[:2], -1)
    return flat[:, :, :: -(-flat.shape[2] // PLACES) | 1].copy()
