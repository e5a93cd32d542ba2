"""A matrix layer in integers: weights rounded for the inputs that it will really get, tiles, bias, converter range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm, form_cells
from cim.chip.spec import ChipSpec
from cim.record.cell_errors import CellErrors
from mapping.bits import BitWidths
from mapping.errors import CannotMap
from mapping.layout.place import Place
from mapping.layout.tile import Piece, piece_levels, stretch, weight_integers
from mapping.operators.fused import MatrixOp
from mapping.operators.integer.digital_ops import INT32_HIGH
from mapping.operators.integer.scales import CodeScale, requantise_by
from mapping.program.conductance import MatrixStep, Tile, TileGroup
from mapping.program.exact_product import largest_sum
from mapping.quantise.input_sample import input_vectors, sum_step
from mapping.quantise.lower import matrix_shape
from mapping.quantise.ranges import ROUGH_TILES, TILES, RangeErrors, range_errors
from mapping.quantise.rounding import (
    Floats,
    InputStatistics,
    grid_scale,
    input_statistics,
    largest_scale,
    round_weights,
    weighted_scale,
)
from mapping.quantise.scale_trials import MOST_DOUBLE
from mapping.quantise.weight_scales import ScaleRule, output_weights, plane_squares, weight_errors

SHARE = 0.5  # α: a chip's errors are not those that Δ mends; half of it keeps most of ideal and of the chip
RIDGE = 0.1  # λ: the sample is finite
GAINS = (0.3, 1.5)  # γ beyond these are accidents of the sample
SEEN = 64  # vectors at least that a sample has; fewer say nothing of covariances


def mended_weights(
    weight: Floats, inputs: InputStatistics, sample: NDArray[np.float32], sums: NDArray[np.float32], scale: float
) -> Floats:
    """W + α Δ, (groups, outputs, inputs), in the place of ``weight``: of the largest layers two would stand at once.

    Args:
        sample: input codes, (groups, inputs, vectors), of ``scale``.
        sums: of the float network for the same vectors, (outputs of all groups, vectors).
    """
    vectors = sample.shape[2]
    if vectors < SEEN:
        return weight
    wanted = sums.reshape(*weight.shape[:2], vectors) / scale  # as sums of codes
    rest = [_about_mean(wanted[g] - weight[g].astype(np.float32) @ sample[g]) for g in range(len(weight))]
    for part in inputs.parts:
        codes = _about_mean(sample[part.group, part.inputs])
        ridge = RIDGE * float(np.diagonal(part.covariance).mean())
        covariance = codes @ codes.T / vectors + ridge * np.eye(len(codes), dtype=np.float32)
        move = np.linalg.solve(covariance, codes @ rest[part.group].T / vectors).T
        rest[part.group] -= (move @ codes).astype(np.float32)
        weight[part.group][:, part.inputs] += SHARE * move
    return weight


def gains(
    levels: NDArray[np.int16], unit: Floats, sample: NDArray[np.float32], sums: NDArray[np.float32], scale: float
) -> Floats:
    """γ, by which the scale of each output is divided, (groups, outputs); 1 where the sample is too small to say.

    Args:
        levels: rounded weights, (groups, outputs, inputs), whose steps are ``unit``, (groups, outputs).
        sample: input codes, (groups, inputs, vectors), of ``scale``.
        sums: of the float network for the same vectors, (outputs of all groups, vectors).
    """
    vectors = sample.shape[2]
    if vectors < SEEN:
        return np.ones_like(unit)
    mine = np.stack([_about_mean(q.astype(np.float32) @ x) for q, x in zip(levels, sample, strict=True)])
    theirs = _about_mean(sums).reshape(mine.shape)
    along = np.einsum("gov,gov->go", mine, theirs, dtype=np.float64) * unit * scale
    power = np.einsum("gov,gov->go", theirs, theirs, dtype=np.float64)
    good = (along > 0) & (power > 0)
    return np.where(good, np.clip(along / np.where(good, power, 1.0), *GAINS), 1.0)


def _about_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(values - values.mean(axis=-1, keepdims=True), np.float32)


BIAS_ROOM = 1 << 28  # largest bias in units of the accumulator


@dataclass(frozen=True, slots=True)
class RoundedWeights:
    """Integer weights (groups, outputs, inputs) and their scale, (groups, outputs).

    ``mean`` of the input codes, (groups, inputs). ``seen``: what converters make of these weights, where it is known
    by now.
    """

    levels: NDArray[np.int16]
    unit: Floats
    mean: Floats
    seen: RangeErrors | None = None


@dataclass(frozen=True)
class MatrixLayer:
    """One layer and all that its integers depend on.

    ``codes`` (n, …) are the layer's inputs for the calibration images, on the scale ``source``. ``copies`` of it will
    be added. ``errors`` of the cells are asked for by the rule that goes by them (``ScaleRule.OUTPUT``) alone.
    ``reach``: share of what slices of wide weights hold that weights take. ``sums``: of the float network
    (``Observations.sums``).
    """

    op: MatrixOp
    pieces: tuple[Piece, ...]
    places: tuple[Place, ...]
    spec: ChipSpec
    bits: BitWidths
    source: CodeScale
    codes: NDArray[np.int16]
    rule: ScaleRule
    errors: CellErrors | None
    weight_form: WeightForm
    copies: int
    reach: float
    sums: NDArray[np.float32]

    def step(self, wanted: Floats, offset: int, out: CodeScale) -> MatrixStep:
        """The step of the layer.

        Args:
            wanted: Σ W x + b of the float network, by output.
            offset: by which codes stand above what they stand for.
            out: scale of its output.

        Raises:
            CannotMap: sums could leave 32 bits.
        """
        op, source = self.op, self.source
        rounded = self._weights()
        weights, unit = rounded.levels, rounded.unit
        held = (unit[:, :, None] * weights).reshape(len(wanted), -1)
        if op.grid is not None and np.allclose(held, op.weight.reshape(held.shape), rtol=1e-5, atol=0.0):
            bias = op.bias - source.scale * offset * held.sum(1)  # what was quantised already is taken as it is
        else:
            means = np.einsum("goi,gi->go", weights.astype(np.float64), rounded.mean)
            bias = wanted - source.scale * (unit * means).reshape(-1)
        unit = np.maximum(unit.reshape(-1) / self.factor, np.abs(bias) / (source.scale * BIAS_ROOM))
        group = self._group(weights)
        if largest_sum(group) > INT32_HIGH:
            raise CannotMap(
                f"{op.name}: sums of {group.inputs} inputs could leave 32 bits",
                chip=self.spec.name,
                would_fit=("hil compile with fewer --weight-bits or --activation-bits",),
            )
        return MatrixStep(
            name=op.name,
            inputs=op.inputs,
            group=self._with_range(group, rounded.seen, (unit * source.scale) ** 2),
            bias=np.rint(bias / (unit * source.scale)).astype(np.int32),
            requantise=requantise_by(unit * source.scale / out.scale, out.low, out.high),
        )

    @property
    def weight_max(self) -> int:
        return (1 << (self.bits.weights_of(self.op.name) - 1)) - 1

    @property
    def input_bits(self) -> int:
        return self.bits.inputs_of(self.op.name)

    @cached_property
    def factor(self) -> int:
        """Factor that stretches rounded weights over the levels of a cell; no sum can leave 32 bits with it."""
        macro = self.spec.macro
        bits = self.input_bits - self.source.signed
        room: int = INT32_HIGH // (self.weight_max * self.op.stored.shape[2] << bits)
        wanted: int = stretch(self.weight_max, macro.max_level) if macro.even_levels else 1
        return max(1, min(int(wanted * self.reach), room))

    def _weights(self) -> RoundedWeights:
        """Integer weights before they are stretched.

        Outputs whose weights lie on a grid, of trained steps, keep it; the others go by the rule.
        """
        weight = self.op.weight
        grid = grid_scale(weight, self.weight_max) if self.spec.macro.even_levels else np.zeros(weight.shape[:2])
        trained = grid > 0
        on_grid = np.rint(weight / np.where(trained, grid, np.inf)[:, :, None]).astype(np.int16)
        if trained.all():
            return RoundedWeights(on_grid, grid, input_vectors(self.codes, self.op)[1])
        sample, mean = input_vectors(self.codes, self.op)
        some = sample[:, :, :: sum_step(len(self.codes), self.op)].astype(np.int16)  # codes, of half the size
        inputs = input_statistics(sample, single=weight.size > MOST_DOUBLE)
        squares = None
        if self.errors is not None:
            squares = plane_squares(sample, self.spec.macro, self.input_bits, self.source.signed)
        del sample  # of all that trials stand beside, the largest
        if self.op.grid is None:  # whose steps are not ours to choose
            weight = mended_weights(weight, inputs, some.astype(np.float32), self.sums, self.source.scale)
        if self.errors is None or squares is None:
            rounded = self._by_rule(weight, inputs, mean)
        else:
            rounded = self._by_errors(weight, inputs, squares, mean, self.errors)
        if self.op.grid is None:
            gain = gains(rounded.levels, rounded.unit, some.astype(np.float32), self.sums, self.source.scale)
            rounded = replace(rounded, unit=rounded.unit / gain)
        if not trained.any():
            return rounded
        levels = np.where(trained[:, :, None], on_grid, rounded.levels)
        return RoundedWeights(levels, np.where(trained, grid, rounded.unit), rounded.mean)

    def _by_rule(self, weight: Floats, inputs: InputStatistics, mean: Floats) -> RoundedWeights:
        integers = weight_integers(self.weight_max, self.spec.macro)
        widest = self.rule in (ScaleRule.LARGEST, ScaleRule.LAYER)
        scale = largest_scale(weight, integers) if widest else weighted_scale(weight, inputs.variance, integers)
        if self.rule is ScaleRule.LAYER:
            scale = np.full_like(scale, scale.max())
        return RoundedWeights(round_weights(weight, inputs, scale, integers), scale, mean)

    def _by_errors(
        self, weight: Floats, inputs: InputStatistics, squares: Floats, mean: Floats, cells: CellErrors
    ) -> RoundedWeights:
        """Scales by the errors that cells and converters will add to the outputs."""
        macro = self.spec.macro
        integers = weight_integers(self.weight_max, macro)
        tried: list[tuple[NDArray[np.int16], RangeErrors]] = []

        def converter(levels: NDArray[np.int16], scale: Floats, tiles: int = TILES) -> Floats:
            found = range_errors(self._group(levels), macro, self.codes, cells.conversion_codes, tiles)
            if tiles == TILES:
                tried.append((levels, found))
            code = found.best(scale.reshape(-1) ** 2).range_code
            squared: Floats = found.squared_us2[code].reshape(scale.shape)
            return squared / (macro.level_step_us * self.factor) ** 2

        slices = 1 + max(piece.slice for piece in self.pieces)
        errors = weight_errors(macro, cells, integers, self.factor, slices).averaged(self.copies)
        rough = partial(converter, tiles=ROUGH_TILES)
        levels, scale = output_weights(weight, inputs, integers, errors, squares, converter, rough)
        return RoundedWeights(levels, scale, mean, next((found for given, found in tried if given is levels), None))

    def _group(self, weights: NDArray[np.int16]) -> TileGroup:
        """Tiles of rounded weights, after stretching them over the levels of a cell."""
        stretched = (weights * self.factor).astype(np.int16)
        top = max(abs(v) for v in self.spec.macro.weight_values)  # max_level, where digits are cut
        tiles = tuple(
            self._formed(
                Tile(
                    at.macro,
                    at.row0,
                    at.output0,
                    piece.inputs,
                    piece.outputs,
                    (top + 1) ** piece.slice,
                    piece_levels(stretched, piece, top),
                    at.copy,
                    at.round,
                )
            )
            for piece, at in zip(self.pieces, self.places, strict=True)
        )
        op, shape = self.op, matrix_shape(self.op)
        return TileGroup(
            op.name, op.window, shape.inputs, shape.outputs, self.input_bits, self.source.signed, 0, 0.0, tiles,
            shape.groups,
        )  # fmt: skip

    def _formed(self, tile: Tile) -> Tile:
        """A tile with the conductance levels of its cells; the sign form needs no conversion."""
        if self.weight_form is WeightForm.SIGN:
            return tile
        return replace(tile, cells=form_cells(tile.levels, self.weight_form, self.spec.macro.max_level))

    def _with_range(self, group: TileGroup, seen: RangeErrors | None, squared: Floats) -> TileGroup:
        """The tiles with the converter range that errs least; ``squared``: value² of one level sum, by output."""
        if self.errors is not None:
            seen = seen or range_errors(group, self.spec.macro, self.codes, self.errors.conversion_codes)
            choice = seen.best(squared)
        else:
            choice = range_errors(group, self.spec.macro, self.codes).best()
        return replace(group, range_code=choice.range_code, saturated_share=choice.saturated_share)
