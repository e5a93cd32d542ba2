"""From a network and a chip to a conductance program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cim.chipfile import chip_names, load_chip
from cim.spec import ChipSpec
from mapping.errors import CannotMap, LayerNeed
from mapping.graph import INPUT
from mapping.lower import MatrixOp, Op, PassOp, lower
from mapping.netfile import LayerBits, NetworkFile
from mapping.observe import Progress, observe
from mapping.place import Place, macros_needed, place
from mapping.program import ConductanceProgram
from mapping.program_file import program_digest
from mapping.quantise import Quantiser
from mapping.tile import MatrixShape, Piece, cut, slices_needed

__all__ = ["CannotMap", "Plan", "compile_network", "plan"]

CALIBRATION_IMAGES = 512  # of those the network carries, evenly taken


def compile_network(
    network: NetworkFile,
    spec: ChipSpec,
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    progress: Progress | None = None,
) -> ConductanceProgram:
    """Quantise a network, cut it into tiles, place them, choose converter ranges.

    Args:
        weight_bits, activation_bits: 2 to 8, of all layers; default: what the network file says of each.
        progress: called with (done, total, what).

    Raises:
        CannotMap: the network does not fit the chip; the message says by how much and what would fit.
    """
    own = network.layer_bits if weight_bits is None and activation_bits is None else {}
    weight_bits = network.weight_bits if weight_bits is None else weight_bits
    activation_bits = network.activation_bits if activation_bits is None else activation_bits
    _check_request(network, spec, weight_bits, activation_bits, own)
    ops = lower(network.graph)
    shapes = [op.shape for op in ops if isinstance(op, MatrixOp)]
    pieces, places = lay_out(shapes, spec, weight_bits, {name: bits.weight for name, bits in own.items()})
    images = network.calibration_images[:: -(-len(network.calibration_images) // CALIBRATION_IMAGES)]
    observed = observe(network.graph, ops, images, progress)
    quantiser = Quantiser(
        spec,
        {shape.layer: own[shape.layer].weight if shape.layer in own else weight_bits for shape in shapes},
        code_bits(ops, own, activation_bits),
        observed,
        _logits_op(ops),
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
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        scales={name: scale.scale for name, scale in quantiser.scales.items()},
        calibration_images=network.calibration_images,
        calibration_digest=network.calibration_digest,
        network_digest=network.digest,
        digest="",
    )
    return replace(program, digest=program_digest(program))


def lay_out(
    shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, own: Mapping[str, int] | None = None
) -> tuple[dict[str, tuple[Piece, ...]], dict[str, tuple[Place, ...]]]:
    """Pieces and places of every layer, by name; raises ``CannotMap`` when there are too few macros.

    ``own``: weight bits of layers that have others than ``weight_bits``.
    """
    pieces = _pieces(shapes, spec, weight_bits, own or {})
    places = place([p for layer in pieces.values() for p in layer], spec)
    needed = macros_needed(places)
    if needed > spec.macros:
        raise _too_large(shapes, pieces, spec, weight_bits, needed)
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
        head = f"{'layer':<{width}}  {'matrix':>12}  tiles  slices  range µS  saturated"
        rows = [
            f"{p.layer:<{width}}  {f'{p.inputs} x {p.outputs}':>12}  {p.tiles:>5}  {p.slices:>6}"
            f"  {p.range_us:>8.0f}  {p.saturated_share:>8.3%}"
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
                step.name, group.inputs, group.outputs, len(group.tiles), slices, cells, range_us, group.saturated_share
            )
        )
    positions = len(program.macros) * len(macro.word_lines) * macro.outputs
    used = sum(layer.cells for layer in layers) / positions if positions else 0.0
    return Plan(program.spec.name, tuple(layers), len(program.macros), program.spec.macros, used)


def _pieces(
    shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int, own: Mapping[str, int]
) -> dict[str, tuple[Piece, ...]]:
    def slices(layer: str) -> int:
        return slices_needed((1 << (own.get(layer, weight_bits) - 1)) - 1, spec.macro.max_level)

    return {shape.layer: cut(shape, spec.macro, slices(shape.layer)) for shape in shapes}


def code_bits(ops: Sequence[Op], own: Mapping[str, LayerBits], activation_bits: int) -> dict[str, int]:
    """Bits of the codes of the input and of every operation: the most that a layer with bits of its own asks for."""
    asked: dict[str, int] = {}
    for op in reversed(ops):
        bits = own[op.name].activation if op.name in own else asked.get(op.name, 0) if isinstance(op, PassOp) else 0
        for source in op.inputs:
            asked[source] = max(asked.get(source, 0), bits)
    return {name: asked.get(name) or activation_bits for name in (INPUT, *(op.name for op in ops))}


def _logits_op(ops: Sequence[Op]) -> str:
    """The operation that gives the logits their scale: the last one before operations that only move codes."""
    by_name = {op.name: op for op in ops}
    op = ops[-1]
    while isinstance(op, PassOp) and op.inputs[0] in by_name:
        op = by_name[op.inputs[0]]
    return op.name


def _check_request(
    network: NetworkFile, spec: ChipSpec, weight_bits: int, activation_bits: int, own: Mapping[str, LayerBits]
) -> None:
    for name, bits in (("weight", weight_bits), ("activation", activation_bits)):
        if not 2 <= bits <= 8:
            raise CannotMap(f"{name} bits must be 2 to 8, not {bits}", chip=spec.name)
    activation_bits = max([activation_bits, *(bits.activation for bits in own.values())])
    if activation_bits > spec.macro.inputs.bits:
        raise CannotMap(
            f"{activation_bits}-bit activations, but {spec.name} drives at most {spec.macro.inputs.bits}-bit inputs",
            chip=spec.name,
            would_fit=(f"--activation-bits {spec.macro.inputs.bits}",),
        )
    if len(network.calibration_images) == 0:
        raise CannotMap(
            "the network carries no calibration images, so no range can be chosen",
            chip=spec.name,
            would_fit=("hil import with --calibration and training images",),
        )


def _too_large(
    shapes: Sequence[MatrixShape], pieces: dict[str, tuple[Piece, ...]], spec: ChipSpec, weight_bits: int, needed: int
) -> CannotMap:
    needs = [LayerNeed(s.layer, s.inputs, s.outputs, len(pieces[s.layer])) for s in shapes]
    return CannotMap(
        f"the network needs {needed} macros at {weight_bits}-bit weights, {spec.name} has {spec.macros}",
        chip=spec.name,
        macros_needed=needed,
        macros_available=spec.macros,
        largest=tuple(sorted(needs, key=lambda n: -n.tiles)[:3]),
        would_fit=(
            *_fewer_bits(shapes, spec, weight_bits),
            *_other_chips(shapes, spec, weight_bits),
            f"--macros {needed}, for a chip that has them",
        ),
    )


def _fewer_bits(shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int) -> list[str]:
    for bits in range(weight_bits - 1, 1, -1):
        needed = _needed(shapes, spec, bits)
        if needed <= spec.macros:
            return [f"--weight-bits {bits} ({needed} macros)"]
    return []


def _other_chips(shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int) -> list[str]:
    found = []
    for name in chip_names():
        other = load_chip(name)
        if name != spec.name and (needed := _needed(shapes, other, weight_bits)) <= other.macros:
            found.append(f"--chip {name} ({needed} of {other.macros} macros)")
    return found


def _needed(shapes: Sequence[MatrixShape], spec: ChipSpec, weight_bits: int) -> int:
    pieces = _pieces(shapes, spec, weight_bits, {})
    return macros_needed(place([p for layer in pieces.values() for p in layer], spec))
