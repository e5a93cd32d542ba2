"""Post-training quantisation: float operations become integer steps, one after the other.

Every layer is rounded for the inputs it will really get: codes that the layers before it,
already integer, make of the calibration images. Its bias then makes up for the mean error
that is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm
from cim.chip.spec import ChipSpec, SignedInput
from cim.record.cell_errors import CellErrors
from mapping.bits import BitWidths
from mapping.errors import CannotMap
from mapping.layout.place import Place
from mapping.layout.tile import Piece
from mapping.network.graph import Preprocess
from mapping.operators.activations import Grid, RescaleStep
from mapping.operators.affine import moved_codes
from mapping.operators.fused import FusedOp, MatrixOp, Scales
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.scales import CodeScale, requantise_by
from mapping.operators.node import INPUT, DigitalOp, PassOp, may_be_negative
from mapping.operators.padding import PadMap
from mapping.operators.step import Shape, Step
from mapping.program.conductance import AgainStep, InputCodes, MatrixStep
from mapping.program.exact_product import ExactProduct
from mapping.program.execute import apply, input_codes
from mapping.quantise.halves import HalvesOp
from mapping.quantise.matrix_layer import MatrixLayer
from mapping.quantise.observe import Observations
from mapping.quantise.scales import best_scale, code_limits, wide_scale
from mapping.quantise.weight_scales import ScaleRule

LOGIT_BITS, OUTPUT_BITS = 20, 28  # of the largest logit seen; of several outputs each keeps its own bits
APPLIED_VALUES = 1 << 22  # of output maps whose sums stand at once


@dataclass(slots=True)
class Quantiser:
    """Turns operations into steps in order; ``steps`` and ``scales`` grow.

    ``codes`` are the integer values of the calibration images, by operation, (n, …).
    ``widths`` are the bits of each operation's output codes (``code_widths``). ``errors`` of the cells are asked for
    by the rule that goes by them (``ScaleRule.OUTPUT``) alone.
    """

    spec: ChipSpec
    bits: BitWidths
    widths: Mapping[str, int]
    observed: Observations
    logits: str  # the operation whose output is wide: the last that changes scale
    rule: ScaleRule
    errors: CellErrors | None
    weight_form: WeightForm = WeightForm.SIGN
    averages: Mapping[str, int] = field(default_factory=dict)  # copies of layers whose sums will be added
    turns: Mapping[str, int] = field(default_factory=dict)  # of layers that are read again (``sharing``)
    reach: float = 1.0  # share of what slices of wide weights hold that weights take; the rest is for cells' errors
    layers: dict[str, MatrixStep] = field(default_factory=dict)
    codes: dict[str, Codes] = field(default_factory=dict)
    scales: dict[str, CodeScale] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)  # operations that only move codes -> whose codes
    given: set[str] = field(default_factory=set)  # whose codes the network itself says
    offsets: dict[str, int] = field(default_factory=dict)  # layers whose input codes are so much above their values

    def input(
        self, shape: Shape, preprocess: Preprocess, images: NDArray[np.uint8], grid: Grid | None = None
    ) -> InputCodes:
        """Choose the input scale, unless the network says it, and fill in the table from pixel to code."""
        mean, std = (np.array(v, np.float64)[:, None] for v in (preprocess.mean, preprocess.std))
        values = (np.arange(256) / 255.0 - mean) / std
        signed = bool(values.min() < 0)
        bits = self.widths[INPUT]
        if grid is None:
            scale = self._narrow(INPUT, signed, bits)
        else:
            scale = CodeScale(grid.scale, grid.low, grid.high, grid.low < 0)
            signed, bits = scale.signed, scale.bits
            self.given.add(INPUT)
        table = np.clip(np.rint(values / scale.scale), scale.low, scale.high).astype(np.int16)
        rule = InputCodes((shape[0], shape[1], shape[2]), bits, signed, table)
        self.scales[INPUT] = scale
        self.codes[INPUT] = input_codes(images, rule)
        return rule

    def add(self, op: FusedOp, pieces: tuple[Piece, ...], places: tuple[Place, ...]) -> None:
        """Append the step of one operation (with its tiles, for a matrix product)."""
        match op:
            case MatrixOp(shares=str() as home):
                step: Step = self._again(op, home)
            case MatrixOp():
                step = self._matrix(self._narrowed(op), pieces, places)
                self.layers[op.name] = step
            case HalvesOp():
                step = self._halves(op)
            case PassOp():
                scale = self.scales[op.inputs[0]]
                shapes = [self.codes[op.inputs[0]].shape[1:]]
                step = op.integer_steps(Scales([scale], shapes, scale, given=False, logits=False))[-1]
                self.scales[op.name] = scale
                self.origins[op.name] = self.origins.get(op.inputs[0], op.inputs[0])
                if op.inputs[0] in self.given:
                    self.given.add(op.name)
            case _:
                step = self._digital(op)
        self.codes[op.name] = self._applied(step, math.prod(op.output_shape))
        self.steps.append(step)

    def _applied(self, step: Step, values: int) -> Codes:
        """Output codes of a step, ``values`` an image; large maps go a few images at a time, as their sums take more
        memory than codes."""
        given = {name: self.codes[name] for name in step.inputs}
        images, each = len(given[step.inputs[0]]), max(1, APPLIED_VALUES // values)

        def applied(first: int) -> Codes:
            part = {name: codes[first : first + each] for name, codes in given.items()}
            return apply(step, part, _Exact(), layers=self.layers)

        found = applied(0)
        if images <= each:
            return found
        every = np.empty_like(found, shape=(images, *found.shape[1:]))
        every[:each] = found
        for first in range(each, images, each):
            every[first : first + each] = applied(first)
        return every

    def forget(self, name: str) -> None:
        """Drop the codes of an operation that no later one reads."""
        del self.codes[name]

    def _narrowed(self, op: MatrixOp) -> MatrixOp:
        """The layer with a rescaling before it, where its input has more bits than the layer takes."""
        source, bits = op.inputs[0], self.bits.inputs_of(op.name)
        if source in self.given and self.scales[source].codes <= 1 << bits:
            return self._shifted(op)
        if source not in self.given and self.widths[source] <= bits:
            return op
        name, wide = f"{op.name}.input", self.scales[source]
        scale = self._narrow(self.origins.get(source, source), wide.signed, bits)
        rule = requantise_by(wide.scale / scale.scale, scale.low, scale.high)
        step = RescaleStep(name=name, inputs=(source,), requantise=rule)
        self.scales[name], self.codes[name] = scale, apply(step, self.codes, _Exact(), layers={})
        self.steps.append(step)
        return replace(op, inputs=(name,))

    def _again(self, op: MatrixOp, home: str) -> AgainStep:
        """One more use of a layer, its input on the scale of the first."""
        source, wanted = op.inputs[0], self.layers[home].inputs[0]
        moved = self.origins.get(source, source) == self.origins.get(wanted, wanted)  # the same codes
        if not moved:
            given, scale = self.scales[source], self.scales[wanted]
            rule = requantise_by(given.scale / scale.scale, scale.low, scale.high)
            rescale = RescaleStep(name=f"{op.name}.input", inputs=(source,), requantise=rule)
            self._append(rescale, scale)
            source = rescale.name
        self.scales[op.name] = self.scales[home]
        return AgainStep(name=op.name, inputs=(source,), layer=home, turn=self.turns[op.name])

    def _shifted(self, op: MatrixOp) -> MatrixOp:
        """The layer on codes from 0 on where its own, around a zero point, are not the array's of as many bits.

        Padded places hold the code of zero then, so rows and columns are put around the map before.
        """
        source, scale = op.inputs[0], self.scales[op.inputs[0]]
        low, high = code_limits(self.bits.inputs_of(op.name), scale.signed, self._symmetric)
        if low <= scale.low and scale.high <= high:
            return op
        window = op.window
        if window is not None and any(window.padding):
            (rows, columns), name = window.padding, f"{op.name}.padded"
            pad = PadMap(name=name, inputs=(source,), top=rows, left=columns, bottom=rows, right=columns)
            self._append(pad, scale)
            source = name
            size = (window.height + 2 * rows, window.width + 2 * columns)
            window = replace(window, height=size[0], width=size[1], padding=(0, 0))
        name = f"{op.name}.input"
        up = moved_codes(name, source, self.codes[source].ndim - 1, -scale.low, 0, scale.high - scale.low)
        self._append(up, CodeScale(scale.scale, 0, scale.high - scale.low, False))
        self.offsets[op.name] = -scale.low
        return replace(op, inputs=(name,), window=window)

    def _matrix(self, op: MatrixOp, pieces: tuple[Piece, ...], places: tuple[Place, ...]) -> MatrixStep:
        source, codes = self.scales[op.inputs[0]], self.codes[op.inputs[0]].astype(np.int16, copy=False)
        if source.signed and self.spec.macro.inputs.signed is SignedInput.NONE:
            raise CannotMap(f"{op.name} takes inputs below zero, and {self.spec.name} drives none", chip=self.spec.name)
        layer = MatrixLayer(
            op, pieces, places, self.spec, self.bits, source, codes, self.rule, self.errors, self.weight_form,
            self.averages.get(op.name, 1), self.reach, self.observed.sums.pop(op.name),
        )  # fmt: skip
        return layer.step(self.observed.means[op.name], self.offsets.get(op.name, 0), self._output(op))

    def _halves(self, op: HalvesOp) -> Step:
        """Codes without signs on the scale of the signed ones, or on one of as few bits as the layer takes."""
        source, bits = op.inputs[0], self.widths[op.name] + 1
        given = scale = self.scales[source]
        if self.widths[source] > bits:
            scale = self._narrow(self.origins.get(source, source), True, bits)
        own = self.scales[op.name] = replace(scale, low=0, signed=False)
        around = Scales([given], [self.codes[source].shape[1:]], own, given=False, logits=False)
        *before, step = op.integer_steps(around)
        for other in before:
            self._append(other, own)
        return step

    def _digital(self, op: FusedOp) -> Step:
        sources = [self.scales[name] for name in op.inputs]
        shapes = [self.codes[name].shape[1:] for name in op.inputs]
        around = Scales(sources, shapes, self._output(op), op.inputs[0] in self.given, op.name == self.logits)
        *before, step = op.integer_steps(around)
        for other in before:
            self._append(other, sources[0])
        return step

    def _append(self, step: Step, scale: CodeScale) -> None:
        """Add a step that an operation needs before its own, with its scale and its codes of the calibration images."""
        self.scales[step.name], self.codes[step.name] = scale, apply(step, self.codes, _Exact(), layers={})
        self.steps.append(step)

    def _output(self, op: FusedOp) -> CodeScale:
        """Choose and note the scale of an operation's output; its clamp becomes the lowest and highest code."""
        if op.grid is not None:
            scale = CodeScale(op.grid.scale, op.grid.low, op.grid.high, op.grid.low < 0)
            self.given.add(op.name)
        elif op.name == self.logits:
            bits = OUTPUT_BITS if isinstance(op, DigitalOp) and op.outputs else LOGIT_BITS
            scale = wide_scale(self.observed.largest[op.name], bits)
        else:
            signed = may_be_negative(op, [self.scales[name].signed for name in op.inputs])
            scale = self._narrow(op.name, signed, self.widths[op.name])
        low = max(float(scale.low), float(np.rint(op.low / scale.scale)))
        high = min(float(scale.high), float(np.rint(op.high / scale.scale)))
        self.scales[op.name] = replace(scale, low=int(min(low, high)), high=int(max(low, high)))
        return self.scales[op.name]

    @property
    def _symmetric(self) -> bool:
        """Whether the chip sends sign and magnitude."""
        return self.spec.macro.inputs.signed is SignedInput.TERNARY

    def _narrow(self, name: str, signed: bool, bits: int) -> CodeScale:
        low, high = code_limits(bits, signed, self._symmetric)
        scale = best_scale(self.observed.values[name], self.observed.largest[name], low, high)
        return CodeScale(scale, low, high, signed)


class _Exact:
    """Exact products of the layers that are quantised so far."""

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return ExactProduct(step.group)(codes)
