"""A network as the cost models take it (``cim.workload``): from a graph, or from a compiled program."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cim.spec import ChipSpec
from cim.windows import Window
from cim.workload import INPUT, LayerWork, Shape3, Tiles, WorkKind, Workload
from mapping.compile import code_bits, lay_out
from mapping.graph import Flatten, MaxPool, NetworkGraph, PadChannels, PadMap, Shape, Slice, node_shapes
from mapping.lower import AddOp, AvgPoolOp, ClampOp, ConcatOp, MatrixOp, Op, PassOp, lower
from mapping.netfile import LayerBits
from mapping.place import Place, macros_needed, place
from mapping.program import (
    AddStep,
    AvgPoolStep,
    ConcatStep,
    ConductanceProgram,
    FlattenStep,
    MatrixStep,
    MaxPoolStep,
    PadChannelsStep,
    PadMapStep,
    RescaleStep,
    SliceStep,
    Step,
    Tile,
    TileGroup,
)
from mapping.tile import MatrixShape, Piece, cut, slices_needed

LOGIT_BITS = 32


def network_workload(
    graph: NetworkGraph, spec: ChipSpec, *, weight_bits: int, activation_bits: int, name: str = "network"
) -> Workload:
    """Give the workload of a graph laid out on a chip, without quantising anything.

    Raises:
        CannotMap: too few macros.
    """
    return placed(unplaced_workload(graph, weight_bits=weight_bits, activation_bits=activation_bits, name=name), spec)


def placed(workload: Workload, spec: ChipSpec, *, enlarge: bool = False) -> Workload:
    """Lay the layers of a workload out on a chip, each at its own weight bits.

    Args:
        enlarge: lay a network that is too large on as many macros as it needs, as if the chip had
            them (``highest_macro`` says how many): what would it cost?

    Raises:
        CannotMap: too few macros.
    """
    cells = [layer for layer in workload.layers if layer.kind.on_cells]
    shapes = [MatrixShape(w.name, w.rows * w.groups, w.out_shape[0], w.groups, math.prod(w.kernel)) for w in cells]
    pieces = [
        cut(shape, spec.macro, slices_needed((1 << (w.weight_bits - 1)) - 1, spec.macro.max_level))
        for shape, w in zip(shapes, cells, strict=True)
    ]
    places = place([p for own in pieces for p in own], spec)
    if macros_needed(places) > spec.macros and not enlarge:
        lay_out(shapes, spec, max(w.weight_bits for w in cells))  # raises, and says what would fit
    found, first = {}, 0
    for layer, own in zip(cells, pieces, strict=True):
        found[layer.name] = _tiles(own, places[first : first + len(own)])
        first += len(own)
    layers = [replace(layer, tiles=found.get(layer.name)) for layer in workload.layers]
    return replace(workload, layers=tuple(layers))


def unplaced_workload(
    graph: NetworkGraph,
    *,
    weight_bits: int,
    activation_bits: int,
    layer_bits: Mapping[str, LayerBits] | None = None,
    name: str = "network",
) -> Workload:
    """The workload of a graph without tiles: to be ``placed``, or for a cost model that maps layers by itself.

    ``layer_bits``: of layers that have others (``NetworkFile.layer_bits``).
    """
    ops, own = lower(graph), layer_bits or {}
    codes = code_bits(ops, own, activation_bits)
    nodes = node_shapes(graph)
    shapes: dict[str, Shape] = {INPUT: graph.input_shape}
    signed = {INPUT: True}
    layers = []
    for op in ops:
        before, after = shapes[op.inputs[0]], nodes[op.output_node]
        form = _form(op, before)
        last = op is ops[-1]
        layers.append(
            LayerWork(
                name=op.name,
                kind=form.kind,
                inputs=op.inputs,
                in_shape=_three(before),
                out_shape=_three(after),
                kernel=form.kernel,
                stride=form.stride,
                padding=form.padding,
                dilation=form.dilation,
                groups=op.weight.shape[0] if isinstance(op, MatrixOp) else 1,
                weight_bits=_weight_bits(op, own, weight_bits),
                input_bits=codes[op.inputs[0]],
                output_bits=LOGIT_BITS if last else codes[op.name],
                input_signed=signed[op.inputs[0]],
            )
        )
        shapes[op.name] = after
        signed[op.name] = op.low < 0 if not isinstance(op, PassOp) else signed[op.inputs[0]]
    return Workload(name, graph.input_shape, codes[INPUT], tuple(layers))


def _weight_bits(op: Op, own: Mapping[str, LayerBits], weight_bits: int) -> int:
    if not isinstance(op, MatrixOp):
        return 0
    return own[op.name].weight if op.name in own else weight_bits


def program_workload(program: ConductanceProgram, name: str = "network") -> Workload:
    """Give the workload of a compiled program: its tiles as placed, bits as quantised."""
    shapes: dict[str, Shape] = {INPUT: program.input.shape}
    codes = {INPUT: (program.input.bits, program.input.signed)}
    layers = []
    for step in program.steps:
        sources = [shapes[name] for name in step.inputs]
        after = step_shape(step, sources)
        bits, signed = codes[step.inputs[0]]
        matrix = step if isinstance(step, MatrixStep) else None
        made = _codes_of(step, codes)
        form = _form(step, sources[0])
        layers.append(
            LayerWork(
                name=step.name,
                kind=form.kind,
                inputs=step.inputs,
                in_shape=_three(sources[0]),
                out_shape=_three(after),
                kernel=form.kernel,
                stride=form.stride,
                padding=form.padding,
                dilation=form.dilation,
                weight_bits=program.weight_bits if matrix else 0,
                input_bits=bits,
                output_bits=LOGIT_BITS if step is program.steps[-1] else made[0],
                input_signed=signed,
                tiles=_placed(matrix.group.tiles) if matrix else None,
            )
        )
        shapes[step.name], codes[step.name] = after, made
    return Workload(name, program.input.shape, program.input.bits, tuple(layers))


def step_shape(step: Step, inputs: Sequence[Shape]) -> Shape:
    """Shape of a step's output, without the batch axis."""
    first = inputs[0]
    match step:
        case MatrixStep(group=group):
            w = group.window
            return (group.outputs,) if w is None else (group.outputs, w.out_height, w.out_width)
        case MaxPoolStep() | AvgPoolStep():
            w = Window(first[0], first[1], first[2], step.kernel, step.stride, step.padding)
            return (
                first[:1] if isinstance(step, AvgPoolStep) and step.flatten else (first[0], w.out_height, w.out_width)
            )
        case FlattenStep():
            return (math.prod(first),)
        case ConcatStep():
            return (sum(shape[0] for shape in inputs), *first[1:])
        case PadChannelsStep():
            return (step.before + first[0] + step.after, *first[1:])
        case PadMapStep():
            return (first[0], step.top + first[1] + step.bottom, step.left + first[2] + step.right)
        case SliceStep():
            return (min(step.stop, first[0]) - step.start, -(-first[1] // step.step[0]), -(-first[2] // step.step[1]))
    return first


def _codes_of(step: Step, codes: Mapping[str, tuple[int, bool]]) -> tuple[int, bool]:
    """Bits and sign of a step's output codes."""
    rule = getattr(step, "requantise", None)
    if rule is None:
        return codes[step.inputs[0]]
    return max(int(rule.high).bit_length(), int(-rule.low).bit_length() - 1) + (rule.low < 0), rule.low < 0


def _placed(tiles: Sequence[Tile]) -> Tiles:
    place_of = {m: s for s, m in enumerate(sorted({t.multiplier for t in tiles}))}
    return _columns(
        (t.macro, t.inputs.start, len(t.inputs), t.outputs.start, len(t.outputs), place_of[t.multiplier], 0, 0)
        for t in tiles
    )


def _tiles(pieces: Sequence[Piece], places: Sequence[Place]) -> Tiles:
    return _columns(
        (place.macro, p.inputs.start, len(p.inputs), p.outputs.start, len(p.outputs), p.slice, 0, 0)
        for p, place in zip(pieces, places, strict=True)
    )


def _columns(rows: Iterable[tuple[int, ...]]) -> Tiles:
    return Tiles(*np.array(list(rows), np.int64).T)


def _three(shape: Shape) -> Shape3:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


class _Form(NamedTuple):
    """What a layer does, and the window that it moves over its input."""

    kind: WorkKind
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


def _form(part: object, before: Shape) -> _Form:
    """The form of an operation or step whose input has the shape ``before``."""
    match part:
        case PassOp():
            return _form(part.node, before)
        case MatrixOp(window=w) | MatrixStep(group=TileGroup(window=w)):
            if w is None:
                return _Form(WorkKind.LINEAR)
            return _Form(WorkKind.CONV, w.kernel, w.stride, w.padding, w.dilation)
        case MaxPool() | MaxPoolStep():
            return _Form(WorkKind.MAX_POOL, part.kernel, part.stride, part.padding)
        case AvgPoolOp() | AvgPoolStep():
            return _Form(WorkKind.AVG_POOL, part.kernel, part.stride, part.padding)
        case AddOp() | AddStep():
            return _Form(WorkKind.ADD)
        case ConcatOp() | ConcatStep():
            return _Form(WorkKind.CONCAT)
        case ClampOp() | RescaleStep():
            return _Form(WorkKind.CLAMP)
        case Slice() | SliceStep():
            return _Form(WorkKind.MOVE, stride=part.step)
        case Flatten() | FlattenStep():
            return _Form(WorkKind.MOVE, _three(before)[1:], _three(before)[1:])
        case PadChannels() | PadChannelsStep() | PadMap() | PadMapStep():
            return _Form(WorkKind.MOVE)
    raise TypeError(f"{type(part).__name__} is no operation")
