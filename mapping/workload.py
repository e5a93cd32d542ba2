"""A network as the cost models take it (``cim.cost.workload``): from a graph, or from a compiled program."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from cim.chip.spec import ChipSpec
from cim.cost.events import executor_of
from cim.cost.workload import INPUT, LayerWork, Tiles, WorkKind, Workload
from mapping.bits import LEAST, BitWidths, LayerBits
from mapping.layout.cutting import Cutting
from mapping.layout.lay_out import Layout, LayoutOptions, idle_copies, needed_macros, with_copies, with_repeated_rows
from mapping.layout.place import Place
from mapping.layout.tile import MatrixShape, Piece
from mapping.network.graph import NetworkGraph
from mapping.operators.fused import MatrixOp
from mapping.operators.node import PassOp, may_be_negative
from mapping.operators.padding import PadMap
from mapping.operators.step import Shape, Span
from mapping.operators.work import as_map
from mapping.program.adapter import adapter_products
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep, TileGroup, shared_reads
from mapping.program.shapes import step_shape
from mapping.quantise.sharing import shared_ops
from mapping.quantise.widths import code_widths
from mapping.tune.low_rank import SUM_BITS, adapter_work

LOGIT_BITS = 32


def network_workload(
    graph: NetworkGraph, spec: ChipSpec, *, weight_bits: int, activation_bits: int, name: str = "network"
) -> Workload:
    """Give the workload of a graph laid out on a chip, without quantising anything.

    Args:
        graph: of the network.
        spec: of the chip.
        weight_bits: of all layers.
        activation_bits: of all input codes.
        name: that the workload carries.

    Returns:
        layers with shapes, bits and tiles, for a cost model.

    Raises:
        CannotMap: too few macros.

    Example:
        >>> ahead = network_workload(graph, cim.load_chip("lab-128"), weight_bits=4, activation_bits=8)
        >>> [layer.name for layer in ahead.layers]
        ['0', '2', '3']
    """
    return placed(unplaced_workload(graph, weight_bits=weight_bits, activation_bits=activation_bits, name=name), spec)


def placed(
    workload: Workload, spec: ChipSpec, options: LayoutOptions | None = None, *, enlarge: bool = False
) -> Workload:
    """Lay the layers of a workload out on a chip, each at its own bits, with the copies that ``options`` ask for.

    Args:
        enlarge: lay a network that is too large on as many macros as it needs, as if the chip had
            them (``highest_macro`` says how many): what would it cost?

    Raises:
        CannotMap: too few macros.
    """
    options = options or LayoutOptions()
    cells = [layer for layer in workload.layers if layer.kind.on_cells and layer.shares is None]
    shapes = [
        MatrixShape(w.name, w.rows * w.groups, w.out_shape[0], w.groups, math.prod(w.kernel), *w.out_shape[1:])
        for w in cells
    ]
    widths = {w.name: LayerBits(w.weight_bits, w.input_bits) for w in cells}
    most = max(cells, key=lambda w: w.weight_bits, default=None)
    bits = BitWidths(most.weight_bits if most else LEAST, most.input_bits if most else LEAST, widths)
    if options.residual:
        from mapping.tune.residual import with_lower_slices  # late: an estimate without them needs no HDF5

        bits = with_lower_slices(bits, spec.macro.max_level)
    if enlarge:
        needed = needed_macros(shapes, spec, Cutting(bits, options.slices), options.placement)
        spec = replace(spec, macros=max(needed, spec.macros))
    again = [layer.shares for layer in workload.layers if layer.shares is not None]
    times, (pieces, places) = with_repeated_rows(shapes, spec, bits, options, again)
    if options.averaged:
        for name, more in idle_copies((pieces, places), spec, options.further_macros).items():
            pieces[name], places[name] = with_copies(pieces[name], places[name], more)
    base = spec.macro.max_level + 1
    tiles = {
        name: _tiles(own, places[name], shared_reads([base**p.slice for p in own], options.mean_reads))
        for name, own in pieces.items()
    }
    if options.residual:
        tiles = _in_residual_slices(workload, (pieces, places), spec, options)
    layers = [
        replace(
            layer,
            tiles=tiles[home],
            weight_bits=bits.weights_of(home),
            in_shape=(times.get(home, 1) * layer.in_shape[0], *layer.in_shape[1:]),
        )
        if home in pieces
        else layer
        for layer in workload.layers
        for home in [layer.shares or layer.name]
    ]
    return replace(workload, layers=tuple(layers))


def _in_residual_slices(workload: Workload, layout: Layout, spec: ChipSpec, options: LayoutOptions) -> dict[str, Tiles]:
    """Tiles by layer with further copies of the highest slices, each read as often as ``with_top_copies`` has it."""
    from mapping.tune.residual import reads_of, top_places  # late: an estimate without them needs no HDF5

    more, pixels, found = top_places(layout, spec, options.residual, options.residual_reads), {INPUT}, {}
    for layer in workload.layers:
        if not layer.kind.on_cells and pixels.issuperset(layer.inputs):
            pixels.add(layer.name)
        if layer.name not in layout[0]:
            continue
        every = list(zip(layout[0][layer.name], layout[1][layer.name], strict=True))
        top = max(piece.slice for piece, _ in every)
        highest, rest = ([part for part in every if (part[0].slice == top) is whether] for whether in (True, False))
        pieces, places = with_copies([p for p, _ in highest], [at for _, at in highest], more.get(layer.name, ()))
        pieces, places = (*pieces, *(p for p, _ in rest)), (*places, *(at for _, at in rest))
        base = spec.macro.max_level + 1
        weights = [base**p.slice * (1 if p.slice == top else options.residual) for p in pieces]
        picture = layer.kind is WorkKind.CONV and pixels.issuperset(layer.inputs)
        reads = shared_reads(weights, reads_of(options.residual_reads, picture=picture))
        found[layer.name] = _tiles(pieces, places, reads)
    return found


def unplaced_workload(
    graph: NetworkGraph,
    *,
    weight_bits: int,
    activation_bits: int,
    layer_bits: Mapping[str, LayerBits] | None = None,
    name: str = "network",
) -> Workload:
    """The workload of a graph without tiles: to be ``placed``, or for a cost model that maps layers by itself.

    Inputs of layers are whole: only stored images say which come in halves (``mapping.quantise.halves``).
    """
    ops = shared_ops(graph)
    bits = BitWidths(weight_bits, activation_bits, layer_bits or {})
    widths = code_widths(ops, bits)
    shapes: dict[str, Shape] = {INPUT: graph.input_shape}
    signed = {INPUT: any(mean > 0 for mean in graph.preprocess.mean)}
    origins: dict[str, str] = {}  # operations that only move codes -> whose codes
    read: dict[str, str] = {}  # whose codes a layer on cells reads first
    layers = []
    for op in ops:
        home = op.shares or op.name if isinstance(op, MatrixOp) else op.name
        source = origins.get(op.inputs[0], op.inputs[0])
        if isinstance(op, PassOp):
            origins[op.name] = source
        other = home in read and read[home] != source  # a layer read again, its input on another scale
        if isinstance(op, MatrixOp) and (other or widths[op.inputs[0]] > bits.inputs_of(home)):
            narrow = _narrowed(op, shapes[op.inputs[0]], widths[op.inputs[0]], bits, signed[op.inputs[0]])
            layers.append(narrow)
            op = replace(op, inputs=(narrow.name,))
            shapes[narrow.name], signed[narrow.name] = shapes[narrow.inputs[0]], narrow.input_signed
            widths[narrow.name] = narrow.output_bits
        if isinstance(op, MatrixOp):
            read.setdefault(home, source)
        sources, after = [shapes[name] for name in op.inputs], op.output_shape
        before, form = sources[0], op.work(sources, after)
        last = op is ops[-1]
        layers.append(
            LayerWork(
                name=op.name,
                kind=form.kind,
                inputs=op.inputs,
                in_shape=as_map(before),
                out_shape=as_map(after),
                kernel=form.kernel,
                stride=form.stride,
                padding=form.padding,
                dilation=form.dilation,
                operations=form.operations,
                groups=op.stored.shape[0] if isinstance(op, MatrixOp) else 1,
                weight_bits=bits.weights_of(home) if isinstance(op, MatrixOp) else 0,
                input_bits=bits.inputs_of(home) if isinstance(op, MatrixOp) else widths[op.inputs[0]],
                output_bits=LOGIT_BITS if last else widths[op.name],
                input_signed=signed[op.inputs[0]],
                shares=op.shares if isinstance(op, MatrixOp) else None,
            )
        )
        shapes[op.name] = after
        signed[op.name] = may_be_negative(op, [signed[name] for name in op.inputs])
    pads = {op.name for op in ops if isinstance(op, PassOp) and isinstance(op.node, PadMap)}
    return Workload(name, graph.input_shape, widths[INPUT], _with_padding(layers, pads))


def _narrowed(op: MatrixOp, shape: Shape, width: int, bits: BitWidths, signed: bool) -> LayerWork:
    """The rescaling of codes that are wider than a layer takes them."""
    return LayerWork(
        name=f"{op.name}.input",
        kind=WorkKind.CLAMP,
        inputs=op.inputs,
        in_shape=as_map(shape),
        out_shape=as_map(shape),
        input_bits=width,
        output_bits=bits.inputs_of(op.shares or op.name),
        input_signed=signed,
    )


def program_workload(program: ConductanceProgram, name: str = "network") -> Workload:
    """Give the workload of a compiled program: its tiles as placed, bits as quantised.

    Args:
        program: as compiled.
        name: that the workload carries.

    Returns:
        layers with shapes, bits and tiles, for a cost model.

    Example:
        >>> round(cim.estimate(program_workload(program), program.spec).latency_ns / 1000)  # µs an image
        41
    """
    shapes: dict[str, Shape] = {INPUT: program.input.shape}
    spans = {INPUT: _span_of(program.input.bits, program.input.signed)}
    layers: list[LayerWork] = []
    ends: dict[str, str] = {}  # layers with an adapter -> the work that gives their codes
    for step in program.steps:
        sources = [shapes[name] for name in step.inputs]
        after = step_shape(step, sources, program.layers)
        given = [spans[name] for name in step.inputs]
        again = program.layers[step.layer] if isinstance(step, AgainStep) else None
        matrix = step if isinstance(step, MatrixStep) else again
        made = (matrix or step).span(given)
        form = (matrix or step).work(sources, after)
        output_bits = LOGIT_BITS if step is program.steps[-1] else _bits_of(made)
        products = adapter_products(matrix) if matrix else 0
        layers.append(
            LayerWork(
                name=step.name,
                kind=form.kind,
                inputs=tuple(ends.get(name, name) for name in step.inputs),
                in_shape=as_map(sources[0]),
                out_shape=as_map(after),
                kernel=form.kernel,
                stride=form.stride,
                padding=form.padding,
                dilation=form.dilation,
                operations=form.operations,
                groups=matrix.group.groups if matrix else 1,
                weight_bits=program.weight_bits_of(matrix.name) if matrix else 0,
                input_bits=matrix.group.input_bits if matrix else _bits_of(given[0]),
                output_bits=SUM_BITS if products else output_bits,
                input_signed=given[0][0] < 0,
                shares=again.name if again else None,
                beyond_chip=matrix is None and step.chip_operation(after) is None,
                tiles=_placed(matrix.group) if matrix else None,
            )
        )
        if products:
            ends[step.name] = f"{step.name} adapter"
            layers.append(adapter_work(layers[-1], ends[step.name], products, output_bits))
        shapes[step.name], spans[step.name] = after, made
    pads = {step.name for step in program.steps if isinstance(step, PadMap)}
    return Workload(name, program.input.shape, program.input.bits, _with_padding(layers, pads))


def executors(program: ConductanceProgram) -> dict[str, tuple[str, str]]:
    """Kind of each layer, and who carries it out (``cim.cost.workload.Executor``), by name."""
    layers, price = program_workload(program).layers, program.spec.cost
    return {layer.name: (layer.kind.value, executor_of(layer, price).value) for layer in layers}


def _with_padding(layers: Sequence[LayerWork], pads: Set[str]) -> tuple[LayerWork, ...]:
    """The layers without paddings that only convolutions read: their windows pad, as others do, and no zero is
    moved."""
    others = {name for layer in layers if layer.kind is not WorkKind.CONV for name in layer.inputs}
    moved = {layer.name: layer for layer in layers if layer.name in pads and layer.name not in others}
    kept = []
    for layer in layers:
        pad = moved.get(layer.inputs[0])
        if pad is not None:
            padding = (layer.padding[0] + pad.padding[0], layer.padding[1] + pad.padding[1])
            layer = replace(layer, inputs=pad.inputs, in_shape=pad.in_shape, padding=padding)
        if layer.name not in moved:
            kept.append(layer)
    return tuple(kept)


def _bits_of(span: Span) -> int:
    """Bits of codes, their sign among them."""
    low, high = span
    return max(1, max(high.bit_length(), (-low).bit_length() - 1) + (low < 0))


def _span_of(bits: int, signed: bool) -> Span:
    """Lowest and highest code of ``bits`` bits."""
    half = 1 << (bits - 1)
    return (-half, half - 1) if signed else (0, 2 * half - 1)


def _placed(group: TileGroup) -> Tiles:
    slices = {m: s for s, m in enumerate(sorted({t.multiplier for t in group.tiles}))}
    return _columns(
        (t.macro, *_extent(t.inputs), *_extent(t.outputs), slices[t.multiplier], t.copy, t.round, reads)
        for t, reads in zip(group.tiles, group.reads, strict=True)
    )


def _tiles(pieces: Sequence[Piece], places: Sequence[Place], reads: Sequence[int] | None = None) -> Tiles:
    return _columns(
        (at.macro, *_extent(p.inputs), *_extent(p.outputs), p.slice, at.copy, at.round, often)
        for p, at, often in zip(pieces, places, reads or [1] * len(pieces), strict=True)
    )


def _extent(part: range) -> tuple[int, int]:
    return part.start, len(part)


def _columns(rows: Iterable[tuple[int, ...]]) -> Tiles:
    return Tiles(*np.array(list(rows), np.int64).T)
