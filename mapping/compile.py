"""From a network and a chip to a conductance program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from cim.cell_errors import nominal_errors
from cim.chipfile import chip_names, load_chip
from cim.spec import ChipSpec
from mapping.bits import BitWidths, LayerBits
from mapping.errors import CannotMap, LayerNeed
from mapping.lower import MatrixOp, Op, PassOp, lower
from mapping.netfile import NetworkFile
from mapping.observe import Progress, observe
from mapping.place import Place, macros_needed, place
from mapping.program import ConductanceProgram
from mapping.program_file import program_digest
from mapping.quantise import Quantiser, code_widths
from mapping.tile import Bundle, MatrixShape, Piece, SlicePlacement, cut_bundles, slices_needed
from mapping.weight_scales import ScaleRule

__all__ = ["CannotMap", "Plan", "compile_network", "plan"]

SAME: Mapping[str, int] = MappingProxyType({})  # no layer differs
READ_AGE_S = 3600.0  # age at which programs are run unless someone says otherwise (hil deploy --age)
CALIBRATION_IMAGES = 512  # of those the network carries, evenly taken


def compile_network(
    network: NetworkFile,
    spec: ChipSpec,
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    layer_bits: Mapping[str, LayerBits] | None = None,
    scale_rule: ScaleRule = ScaleRule.OUTPUT,
    slices: SlicePlacement = SlicePlacement.MACROS,
    progress: Progress | None = None,
) -> ConductanceProgram:
    """Quantise a network, cut it into tiles, place them, choose converter ranges.

    Args:
        weight_bits, activation_bits: 2 to 8; default: what the network file says.
        layer_bits: layers that have other bits; the others have what the network file says of them.
        scale_rule: how the scale of each output's weights is chosen.
        slices: where the bit slices of one weight lie.
        progress: called with (done, total, what).

    Raises:
        CannotMap: the network does not fit the chip; the message says by how much and what would fit.
    """
    bits = BitWidths(
        network.weight_bits if weight_bits is None else weight_bits,
        network.activation_bits if activation_bits is None else activation_bits,
        {**network.layer_bits, **(layer_bits or {})},
    )
    ops = lower(network.graph)
    shapes = [op.shape for op in ops if isinstance(op, MatrixOp)]
    _check_request(network, spec, bits, [shape.layer for shape in shapes])
    pieces, places = lay_out(shapes, spec, bits.weight, bits.different_weights(), slices)
    images = network.calibration_images[:: -(-len(network.calibration_images) // CALIBRATION_IMAGES)]
    observed = observe(network.graph, ops, images, progress)
    quantiser = Quantiser(
        spec, bits, code_widths(ops, bits), observed, _logits_op(ops), scale_rule, nominal_errors(spec, READ_AGE_S)
    )
    rule = quantiser.input(network.graph.input_shape, network.graph.preprocess, images)
    last_use = {name: i for i, op in enumerate(ops) for name in op.inputs}
    for i, op in enumerate(ops):
        quantiser.add(op, pieces.get(op.name, ()), places.get(op.name, ()))
        for name in set(op.inputs):
            if last_use[name] == i:
                quantiser.forget(name)
        if progress is not None:
            progress(i + 1, len(ops), "integer network, layer by layer")
    program = ConductanceProgram(
        spec=spec,
        input=rule,
        steps=tuple(quantiser.steps),
        classes=network.graph.classes,
        weight_bits=bits.weight,
        activation_bits=bits.activation,
        scales={name: scale.scale for name, scale in quantiser.scales.items()},
        calibration_images=network.calibration_images,
        calibration_digest=network.calibration_digest,
        network_digest=network.digest,
        digest="",
        layer_weight_bits=bits.different_weights(),
    )
    return replace(program, digest=program_digest(program))


@dataclass(frozen=True, slots=True)
class Cutting:
    """How weights become pieces: their bits (``layers`` that differ) and where bit slices lie."""

    weight_bits: int
    layers: Mapping[str, int]
    slices: SlicePlacement

    def bundles(self, shapes: Sequence[MatrixShape], spec: ChipSpec) -> dict[str, tuple[Bundle, ...]]:
        """What lies together, by layer."""
        found = {}
        for shape in shapes:
            bits = self.layers.get(shape.layer, self.weight_bits)
            slices = slices_needed((1 << (bits - 1)) - 1, spec.macro.max_level)
            if slices > 1 and not spec.macro.even_levels:
                raise _no_digits(shape.layer, bits, spec, alone=shape.layer in self.layers)
            if slices > spec.macro.outputs and self.slices is SlicePlacement.COLUMNS:
                raise CannotMap(
                    f"{shape.layer}: {slices} slices do not fit side by side on {spec.macro.outputs} outputs",
                    chip=spec.name,
                    would_fit=("--slices macros",),
                )
            found[shape.layer] = cut_bundles(shape, spec.macro, slices, self.slices)
        return found

    def needed(self, shapes: Sequence[MatrixShape], spec: ChipSpec) -> int:
        """Macros of such a chip that the layers take."""
        return macros_needed(place(_footprints(self.bundles(shapes, spec)), spec))


def lay_out(
    shapes: Sequence[MatrixShape],
    spec: ChipSpec,
    weight_bits: int,
    layers: Mapping[str, int] = SAME,
    slices: SlicePlacement = SlicePlacement.MACROS,
) -> tuple[dict[str, tuple[Piece, ...]], dict[str, tuple[Place, ...]]]:
    """Pieces and places of every layer, by name; raises ``CannotMap`` when there are too few macros.

    Args:
        layers: weight bits of layers that differ.
        slices: whether bit slices of a weight lie on columns of one macro or each where there is room.
    """
    cutting = Cutting(weight_bits, layers, slices)
    bundles = cutting.bundles(shapes, spec)
    places = place(_footprints(bundles), spec)
    needed = macros_needed(places)
    if needed > spec.macros:
        raise _too_large(shapes, bundles, spec, cutting, needed)
    pieces, by_layer, left = {}, {}, iter(places)
    for name, layer in bundles.items():
        pieces[name] = tuple(piece for bundle in layer for piece in bundle.pieces)
        by_layer[name] = tuple(
            replace(at, output0=bundle.first_output(number, at.output0))
            for bundle, at in zip(layer, left, strict=False)
            for number in range(len(bundle.pieces))
        )
    return pieces, by_layer


def _footprints(bundles: Mapping[str, tuple[Bundle, ...]]) -> list[Piece]:
    return [bundle.footprint for layer in bundles.values() for bundle in layer]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer on the chip. ``saturated_share``: simulated conversions at the end of the ADC range."""

    layer: str
    inputs: int
    outputs: int
    weight_bits: int
    input_bits: int
    tiles: int
    slices: int
    cells: int  # weight positions taken
    range_us: float
    saturated_share: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a program asks of its chip, for people and for ``--json``."""

    chip: str
    layers: tuple[LayerPlan, ...]
    macros_used: int
    macros_available: int
    utilisation: float  # weight positions taken, of those in the macros used

    @property
    def tiles(self) -> int:
        return sum(layer.tiles for layer in self.layers)

    def lines(self) -> list[str]:
        """A table and a summary, one line each."""
        width = max([5, *(len(layer.layer) for layer in self.layers)])
        head = f"{'layer':<{width}}  {'matrix':>12}  bits  tiles  slices  range µS  saturated"
        rows = [
            f"{p.layer:<{width}}  {f'{p.inputs} x {p.outputs}':>12}  W{p.weight_bits}A{p.input_bits}"
            f"  {p.tiles:>5}  {p.slices:>6}  {p.range_us:>8.0f}  {p.saturated_share:>8.3%}"
            for p in self.layers
        ]
        total = (
            f"{self.tiles} tiles on {self.macros_used} of {self.macros_available} macros of {self.chip}, "
            f"{self.utilisation:.1%} of their weight positions in use"
        )
        return [head, *rows, total]

    def to_json(self) -> dict[str, Any]:
        return {
            "chip": self.chip,
            "tiles": self.tiles,
            "macros": {"used": self.macros_used, "available": self.macros_available},
            "utilisation": self.utilisation,
            "layers": [{k: getattr(p, k) for k in LayerPlan.__dataclass_fields__} for p in self.layers],
        }


def plan(program: ConductanceProgram) -> Plan:
    """Sum up a program: layers, tiles, macros, utilisation."""
    macro = program.spec.macro
    layers = []
    for step in program.matrices:
        group = step.group
        cells = sum(t.levels.size for t in group.tiles)
        slices = len({t.multiplier for t in group.tiles})
        range_us = macro.adc.full_scales_us[group.range_code]
        layers.append(
            LayerPlan(
                step.name,
                group.inputs,
                group.outputs,
                program.weight_bits_of(step.name),
                group.input_bits,
                len(group.tiles),
                slices,
                cells,
                range_us,
                group.saturated_share,
            )
        )
    positions = len(program.macros) * len(macro.word_lines) * macro.outputs
    used = sum(layer.cells for layer in layers) / positions if positions else 0.0
    return Plan(program.spec.name, tuple(layers), len(program.macros), program.spec.macros, used)


def _no_digits(layer: str, bits: int, spec: ChipSpec, *, alone: bool) -> CannotMap:
    values, most = spec.macro.values, (spec.macro.max_level + 1).bit_length()
    return CannotMap(
        f"{bits}-bit weights of {layer} need bit slices, and slices need evenly spaced levels: those of {spec.name} "
        f"are {', '.join(map(str, values.values))} of {values.unit_us:.4g} µS",
        chip=spec.name,
        would_fit=(f"--layer-bits {layer}=W{most}" if alone else f"--weight-bits {most}",),
    )


def _logits_op(ops: Sequence[Op]) -> str:
    """The operation that gives the logits their scale: the last one before operations that only move codes."""
    by_name = {op.name: op for op in ops}
    op = ops[-1]
    while isinstance(op, PassOp) and op.inputs[0] in by_name:
        op = by_name[op.inputs[0]]
    return op.name


def _check_request(network: NetworkFile, spec: ChipSpec, bits: BitWidths, layers: Sequence[str]) -> None:
    for name, width in (("weight", bits.weight), ("activation", bits.activation)):
        if not 2 <= width <= 8:
            raise CannotMap(f"{name} bits must be 2 to 8, not {width}", chip=spec.name)
    unknown = [name for name in bits.layers if name not in layers]
    if unknown:
        raise CannotMap(
            f"bits for {', '.join(unknown)}, but the network has no such layer on cells",
            chip=spec.name,
            would_fit=(f"one of {', '.join(layers)}",),
        )
    drives = spec.macro.inputs.bits
    for layer in layers:
        if (wanted := bits.inputs_of(layer)) > drives:
            own = bits.activation <= drives  # then only this layer asks for too many
            raise CannotMap(
                f"{wanted}-bit activations{f' of {layer}' if own else ''}, "
                f"but {spec.name} drives at most {drives}-bit inputs",
                chip=spec.name,
                would_fit=(f"--layer-bits {layer}=A{drives}" if own else f"--activation-bits {drives}",),
            )
    if len(network.calibration_images) == 0:
        raise CannotMap(
            "the network carries no calibration images, so no range can be chosen",
            chip=spec.name,
            would_fit=("hil import with --calibration and training images",),
        )


def _too_large(
    shapes: Sequence[MatrixShape],
    bundles: dict[str, tuple[Bundle, ...]],
    spec: ChipSpec,
    cutting: Cutting,
    needed: int,
) -> CannotMap:
    tiles = {name: sum(len(bundle.pieces) for bundle in layer) for name, layer in bundles.items()}
    needs = [LayerNeed(s.layer, s.inputs, s.outputs, tiles[s.layer]) for s in shapes]
    return CannotMap(
        f"the network needs {needed} macros at {cutting.weight_bits}-bit weights, {spec.name} has {spec.macros}",
        chip=spec.name,
        macros_needed=needed,
        macros_available=spec.macros,
        largest=tuple(sorted(needs, key=lambda n: -n.tiles)[:3]),
        would_fit=(
            *_fewer_bits(shapes, spec, cutting),
            *_other_chips(shapes, spec, cutting),
            f"--macros {needed}, for a chip that has them",
        ),
    )


def _fewer_bits(shapes: Sequence[MatrixShape], spec: ChipSpec, cutting: Cutting) -> list[str]:
    for bits in range(cutting.weight_bits - 1, 1, -1):
        needed = replace(cutting, weight_bits=bits).needed(shapes, spec)
        if needed <= spec.macros:
            return [f"--weight-bits {bits} ({needed} macros)"]
    return []


def _other_chips(shapes: Sequence[MatrixShape], spec: ChipSpec, cutting: Cutting) -> list[str]:
    found = []
    for name in chip_names():
        other = load_chip(name)
        if name != spec.name and (needed := cutting.needed(shapes, other)) <= other.macros:
            found.append(f"--chip {name} ({needed} of {other.macros} macros)")
    return found
