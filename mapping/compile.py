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
from mapping.tile import MatrixShape, Piece, cut, slices_needed
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
    progress: Progress | None = None,
) -> ConductanceProgram:
    """Quantise a network, cut it into tiles, place them, choose converter ranges.

    Args:
        weight_bits, activation_bits: 2 to 8; default: what the network file says.
        layer_bits: layers that have other bits; the others have what the network file says of them.
        scale_rule: how the scale of each output's weights is chosen.
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
    pieces, places = lay_out(shapes, spec, bits.weight, bits.different_weights())
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


def lay_out(
    shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, layers: Mapping[str, int] = SAME
) -> tuple[dict[str, tuple[Piece, ...]], dict[str, tuple[Place, ...]]]:
    """Pieces and places of every layer, by name; raises ``CannotMap`` when there are too few macros.

    Args:
        layers: weight bits of layers that differ.
    """
    pieces = _pieces(shapes, spec, weight_bits, layers)
    places = place([p for layer in pieces.values() for p in layer], spec)
    needed = macros_needed(places)
    if needed > spec.macros:
        raise _too_large(shapes, pieces, spec, weight_bits, layers, needed)
    by_layer, first = {}, 0
    for name, layer in pieces.items():
        by_layer[name] = places[first : first + len(layer)]
        first += len(layer)
    return pieces, by_layer


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


def _pieces(
    shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, layers: Mapping[str, int]
) -> dict[str, tuple[Piece, ...]]:
    pieces = {}
    for shape in shapes:
        bits = layers.get(shape.layer, weight_bits)
        slices = slices_needed((1 << (bits - 1)) - 1, spec.macro.max_level)
        if slices > 1 and not spec.macro.even_levels:
            raise _no_digits(shape.layer, bits, spec, alone=shape.layer in layers)
        pieces[shape.layer] = cut(shape, spec.macro, slices)
    return pieces


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
    pieces: dict[str, tuple[Piece, ...]],
    spec: ChipSpec,
    weight_bits: int,
    layers: Mapping[str, int],
    needed: int,
) -> CannotMap:
    needs = [LayerNeed(s.layer, s.inputs, s.outputs, len(pieces[s.layer])) for s in shapes]
    return CannotMap(
        f"the network needs {needed} macros at {weight_bits}-bit weights, {spec.name} has {spec.macros}",
        chip=spec.name,
        macros_needed=needed,
        macros_available=spec.macros,
        largest=tuple(sorted(needs, key=lambda n: -n.tiles)[:3]),
        would_fit=(
            *_fewer_bits(shapes, spec, weight_bits, layers),
            *_other_chips(shapes, spec, weight_bits, layers),
            f"--macros {needed}, for a chip that has them",
        ),
    )


def _fewer_bits(
    shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, layers: Mapping[str, int]
) -> list[str]:
    for bits in range(weight_bits - 1, 1, -1):
        needed = _needed(shapes, spec, bits, layers)
        if needed <= spec.macros:
            return [f"--weight-bits {bits} ({needed} macros)"]
    return []


def _other_chips(
    shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, layers: Mapping[str, int]
) -> list[str]:
    found = []
    for name in chip_names():
        other = load_chip(name)
        if name != spec.name and (needed := _needed(shapes, other, weight_bits, layers)) <= other.macros:
            found.append(f"--chip {name} ({needed} of {other.macros} macros)")
    return found


def _needed(shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, layers: Mapping[str, int]) -> int:
    pieces = _pieces(shapes, spec, weight_bits, layers)
    return macros_needed(place([p for layer in pieces.values() for p in layer], spec))
