"""From a network and a chip to a conductance program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm
from cim.chip.spec import ChipSpec
from cim.record.cell_errors import CellErrors, nominal_errors
from mapping.bits import BitWidths, LayerBits
from mapping.errors import CannotMap
from mapping.layout.free_cells import Copies
from mapping.layout.lay_out import Layout, LayoutOptions, idle_copies, lay_out, rounds_of, with_repeated_rows
from mapping.layout.place import macro_targets_us, tiles_by_slot
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.joins import ConcatStep
from mapping.program.conductance import ConductanceProgram
from mapping.program.counts import busiest_reads, tile_counts
from mapping.program.file import program_digest
from mapping.quantise.halves import LEAST_GAIN, gains, halved, halved_bits, halves_name, repeated
from mapping.quantise.lower import input_grid, logits_op, lower, matrix_shape
from mapping.quantise.observe import Progress, observe
from mapping.quantise.quantiser import Quantiser
from mapping.quantise.sharing import shared_ops, together, turns
from mapping.quantise.weight_scales import ScaleRule
from mapping.quantise.widths import code_widths
from mapping.tune.averaged import averaged
from mapping.tune.residual import REACH, top_places, with_lower_slices, with_reads, with_top_copies

__all__ = ["CannotMap", "LayoutOptions", "MappingPlan", "compile_network", "lay_out", "plan"]

READ_AGE_S = 3600.0  # age at which programs are run unless someone says otherwise (hil deploy --age)
CALIBRATION_IMAGES = 512  # of those the network carries, evenly taken,
SPLIT_IMAGES = 192  # or more are stored: every second is left to be judged on (mapping.scale_choice)
CALIBRATION_VALUES = 1 << 25  # and at most so many codes of the largest map: large maps say more each


def compile_network(
    network: NetworkFile,
    spec: ChipSpec,
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    options: LayoutOptions | None = None,
    layer_bits: Mapping[str, LayerBits] | None = None,
    scale_rule: ScaleRule = ScaleRule.ROUNDING,
    weight_form: WeightForm = WeightForm.SIGN,
    copies: Copies | None = None,
    progress: Progress | None = None,
) -> ConductanceProgram:
    """Quantise a network, cut it into tiles, place them, choose converter ranges.

    Args:
        network: with calibration images.
        spec: of the chip.
        weight_bits, activation_bits: 2 to 8; default: what the network file says, of activations what the chip drives.
        options: placement, copies, rounds and bit slices (``mapping.layout.lay_out``).
        layer_bits: layers that have other bits; the others have what the network file says of them.
        scale_rule: how the scale of each output's weights is chosen.
        weight_form: how a pair of cells holds a signed weight.
        copies: further copies of layers, whose sums are added (``mapping.tune.averaged``); None: as ``options`` say.
        progress: called with (done, total, what).

    Returns:
        the program: levels on macros, and integer steps between them.

    Raises:
        CannotMap: the network does not fit the chip; the message says by how much and what would fit.

    Example:
        >>> compile_network(load_network("net.pt"), cim.load_chip("lab-128", macros=2)).macros
        (0,)
    """
    own = network.bits_on(spec.macro.inputs.bits)
    bits = BitWidths(
        own.weight if weight_bits is None else weight_bits,
        own.activation if activation_bits is None else activation_bits,
        {**own.layers, **(layer_bits or {})},
    )
    options = options or LayoutOptions()
    if options.residual:  # cells err little in the end: scales only round, and no layer stands whole a second time
        bits = with_lower_slices(bits, spec.macro.max_level)
        scale_rule = ScaleRule.ROUNDING if scale_rule is ScaleRule.OUTPUT else scale_rule
        copies = {}
    _check_form(weight_form, spec)
    ops = shared_ops(network.graph)
    shapes = [matrix_shape(op) for op in ops if isinstance(op, MatrixOp) and op.shares is None]
    _check_request(network, spec, bits, [shape.layer for shape in shapes])
    pieces, places = lay_out(shapes, spec, bits, options)
    if turns(ops) and rounds_of((pieces, places)) > 1:
        ops = lower(network.graph)  # cells that were written anew cannot be read again
        pieces, places = lay_out([matrix_shape(op) for op in ops if isinstance(op, MatrixOp)], spec, bits, options)
    stored = network.calibration_images
    errors = nominal_errors(spec, READ_AGE_S)
    if options.residual:
        top_places((pieces, places), spec, options.residual, options.residual_reads)
    if options.halves:
        ops, bits, (pieces, places) = _in_halves(
            network.graph, ops, stored, spec, bits, errors, options, (pieces, places)
        )
    if options.repeat > 1:
        shapes = [matrix_shape(op) for op in ops if isinstance(op, MatrixOp) and op.shares is None]
        again = [op.shares for op in ops if isinstance(op, MatrixOp) and op.shares is not None]
        times, (pieces, places) = with_repeated_rows(shapes, spec, bits, options, again)
        ops = repeated(ops, times)
    if copies is None:
        copies = idle_copies((pieces, places), spec, options.further_macros) if options.averaged else {}
    images = stored[:: fitted_step(len(stored), ops)]
    observed = together(observe(network.graph, ops, images, progress), ops)
    quantiser = Quantiser(
        spec, bits, code_widths(ops, bits), observed, logits_op(ops), scale_rule,
        errors if scale_rule is ScaleRule.OUTPUT else None, weight_form, turns=turns(ops),
        averages={name: 1 + len(more) for name, more in copies.items()}, reach=REACH if options.residual else 1.0,
    )  # fmt: skip
    rule = quantiser.input(network.graph.input_shape, network.graph.preprocess, images, input_grid(network.graph))
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
        trained_on=network.trained_on,
        calibration_keys=network.calibration_keys,
        outputs=network.graph.outputs,
        task=network.graph.task,
        preprocess=network.graph.preprocess,
    )
    program = replace(program, digest=program_digest(program))
    if options.residual:
        return with_top_copies(program, options.residual, options.residual_reads)
    program = averaged(program, copies) if copies else program
    return with_reads(program, options) if options.mean_reads > 1 else program


def _in_halves(
    graph: NetworkGraph, ops: tuple[FusedOp, ...], images: NDArray[np.uint8], spec: ChipSpec, bits: BitWidths,
    errors: CellErrors, options: LayoutOptions, layout: Layout,
) -> tuple[tuple[FusedOp, ...], BitWidths, Layout]:  # fmt: skip
    """Operations, bits and layout with the inputs of layers in halves, where that gives much and the chip has room in
    as many rounds: of all such layers, else of those that take no further tiles."""
    wanted = {name for name, gain in gains(graph, ops, images, spec, bits, errors).items() if gain >= LEAST_GAIN}
    rows = {op.name: 2 * op.stored.shape[2] for op in ops if isinstance(op, MatrixOp)}
    narrow = {name for name in wanted if rows[name] <= spec.macro.logical_rows}
    for layers in (wanted, narrow):
        if not layers:
            continue
        own, fewer = halved(ops, layers), halved_bits(bits, layers)
        shapes = [matrix_shape(op) for op in own if isinstance(op, MatrixOp) and op.shares is None]
        try:
            found = lay_out(shapes, spec, fewer, options)
            if options.residual:
                top_places(found, spec, options.residual, options.residual_reads)
        except CannotMap:
            continue
        if rounds_of(found) == rounds_of(layout):
            return own, fewer, found
    return ops, bits, layout


def fitted_step(stored: int, ops: Sequence[FusedOp]) -> int:
    """Every which of the stored images ranges and scales are fitted on; what ideal loses is judged on others."""
    most = max(1, min(CALIBRATION_IMAGES, CALIBRATION_VALUES // max(math.prod(op.output_shape) for op in ops)))
    return max(2 if stored >= SPLIT_IMAGES else 1, -(-stored // most))


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
    copies: int  # for speed: each answers a part of the output map
    averages: int  # for accuracy: their sums are added
    rounds: tuple[int, ...]
    residual_reads: int = 0  # of a product with the highest slice, whose errors lower ones take up; 0: plain slices
    halves: bool = False  # its signed input comes in two halves without signs, on twice the rows


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round: what is written before it runs."""

    number: int
    layers: tuple[str, ...]
    macros: int
    cells: int  # physical cells written


@dataclass(frozen=True, slots=True)
class MappingPlan:
    """Demands of a program on its chip, for people and for ``--json``."""

    chip: str
    layers: tuple[LayerPlan, ...]
    macros_used: int
    macros_available: int
    utilisation: float  # weight positions taken, of those in the macros used (in every round)
    busiest_reads: int  # reads of one image on the busiest macro
    rounds: tuple[RoundPlan, ...]

    @property
    def tiles(self) -> int:
        return sum(layer.tiles for layer in self.layers)

    def lines(self) -> list[str]:
        """The plan in lines: tiles and macros in use, reads of the busiest macro, what was done to layers."""
        total = (
            f"{self.tiles} tiles on {self.macros_used} of {self.macros_available} macros of {self.chip}, "
            f"{self.utilisation:.1%} of their weight positions in use"
        )
        busiest = f"busiest macro: {self.busiest_reads} reads an image"
        residual = [p for p in self.layers if p.residual_reads]
        taken = (
            f"residual slices of {len(residual)} layers: highest slices averaged, each product with them the mean of "
            f"{max(p.residual_reads for p in residual)} reads; lower slices take up what they miss"
        ) if residual else ""  # fmt: skip
        more = [*self.halves_lines(), *([taken] if taken else ())]
        more += self.round_lines() if len(self.rounds) > 1 else []
        return [total, busiest, *more]

    def halves_lines(self) -> list[str]:
        """Cells of inputs in halves; only where there are some."""
        wide = [p for p in self.layers if p.halves]
        names = ", ".join([p.layer for p in wide[:3]] + ["…"][: len(wide) > 3])
        more = sum(p.cells for p in wide) // 2
        said = f"signed inputs of {names} in halves above and below zero, read with less noise: {more} cells more"
        return [said] if wide else []

    def round_lines(self) -> list[str]:
        """Writes of each round; only of a network that takes several."""
        said = [f"{len(self.rounds)} rounds: the chip is written {len(self.rounds)} times for every run of the network"]
        for r in self.rounds:
            layers = r.layers[0] if len(r.layers) == 1 else f"{r.layers[0]} to {r.layers[-1]}"
            said.append(f"  round {r.number}: {layers}, {r.macros} macros, {r.cells} cells")
        return said

    def to_json(self) -> dict[str, Any]:
        return {
            "chip": self.chip,
            "tiles": self.tiles,
            "macros": {"used": self.macros_used, "available": self.macros_available},
            "utilisation": self.utilisation,
            "busiest_reads": self.busiest_reads,
            "rounds": [dataclasses.asdict(r) for r in self.rounds],
            "layers": [{k: getattr(p, k) for k in LayerPlan.__dataclass_fields__} for p in self.layers],
        }


def plan(program: ConductanceProgram) -> MappingPlan:
    """Sum up a program: layers, tiles, macros, utilisation.

    Args:
        program: as compiled.

    Returns:
        sizes of the layers, and shares of macros and cells that are in use.

    Example:
        >>> plan(program).macros_used
        1
    """
    macro = program.spec.macro
    joined = {step.name for step in program.steps if isinstance(step, ConcatStep)}
    layers = []
    for step in program.matrices:
        group = step.group
        cells = sum(t.levels.size for t in group.tiles)
        slices = len({t.multiplier for t in group.tiles})
        range_us = macro.adc.full_scales_us[group.range_code]
        layers.append(
            LayerPlan(
                layer=step.name,
                inputs=group.inputs,
                outputs=group.outputs,
                weight_bits=program.weight_bits_of(step.name),
                input_bits=group.input_bits,
                tiles=len(group.tiles),
                slices=slices,
                cells=cells,
                range_us=range_us,
                saturated_share=group.saturated_share,
                copies=group.copies,
                averages=group.averages,
                rounds=tuple(sorted({t.round for t in group.tiles})),
                residual_reads=group.residual_reads,
                halves=step.inputs == (halves_name(step.name),) and step.inputs[0] in joined,
            )
        )
    positions = len(program.slots) * len(macro.word_lines) * macro.outputs
    return MappingPlan(
        chip=program.spec.name,
        layers=tuple(layers),
        macros_used=len(program.macros),
        macros_available=program.spec.macros,
        utilisation=sum(layer.cells for layer in layers) / positions if positions else 0.0,
        busiest_reads=busiest_reads(tile_counts(program), program.spec),
        rounds=tuple(_round_plan(program, layers, number) for number in range(program.rounds)),
    )


def _round_plan(program: ConductanceProgram, layers: Sequence[LayerPlan], number: int) -> RoundPlan:
    slots = [slot for slot in program.slots if slot // program.spec.macros == number]
    tiles = tiles_by_slot(program)
    cells = sum(int(np.isfinite(macro_targets_us(program, slot, tiles[slot])).sum()) for slot in slots)
    return RoundPlan(number, tuple(p.layer for p in layers if number in p.rounds), len(slots), cells)


def _check_form(form: WeightForm, spec: ChipSpec) -> None:
    if form is WeightForm.SIGN or (spec.macro.paired and spec.macro.even_levels):
        return
    lacks = "has none" if not spec.macro.paired else "has uneven ones"
    raise CannotMap(
        f"{form} weights need pairs of cells with evenly spaced levels; {spec.name} {lacks}", chip=spec.name
    )


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
                would_fit=(f"hil compile --{f'layer-bits {layer}=A' if own else 'activation-bits '}{drives}",),
            )
    if len(network.calibration_images) == 0:
        raise CannotMap(
            "the network carries no calibration images, so no range can be chosen",
            chip=spec.name,
            would_fit=("hil import FILE --data NAME, whose training images it stores",),
        )
