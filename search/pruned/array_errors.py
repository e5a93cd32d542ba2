"""What an array adds to the sums of a layer, known before a chip was measured, and integer weights that stand it best.

Cells err, and converters round and hiss, by so many integer steps: a smaller scale clips the largest weights and makes
all of it smaller in the output. ``mapping.quantise.weight_scales`` weighs both, for weights that are not on integers
yet; those of a pruned network are, and a compiler takes them as they are. Cells are those of the chip file's [models].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.cell_errors import CellErrors, nominal_errors
from mapping.bits import BitWidths
from mapping.compile import READ_AGE_S
from mapping.layout.cutting import Cutting
from mapping.layout.tile import Piece, piece_levels, stretch, weight_integers
from mapping.operators.fused import MatrixOp
from mapping.program.conductance import Tile, TileGroup
from mapping.quantise.lower import matrix_shape
from mapping.quantise.ranges import ROUGH_TILES, range_errors
from mapping.quantise.rounding import Correlated, Floats, InputStatistics
from mapping.quantise.weight_scales import output_weights, plane_squares, weight_errors

IMAGES = 16  # whose conversions are looked at
VECTORS = 4096  # whose planes are


@dataclass(frozen=True, slots=True)
class ArrayErrors:
    """Errors of the cells and converters of a chip, as its file says."""

    spec: ChipSpec
    cells: CellErrors

    @classmethod
    def of(cls, spec: ChipSpec) -> ArrayErrors:
        return cls(spec, nominal_errors(spec, READ_AGE_S))


@dataclass(frozen=True, slots=True)
class IntegerWeights:
    """Integers (groups, outputs, inputs), what one of them stands for and the variance that the array adds to the
    output, (groups, outputs)."""

    levels: Floats
    scale: Floats
    added: Floats


@dataclass(frozen=True)
class LayerOnArray:
    """One layer on an array. ``codes``: those that it takes, (images, …), one of which stands for ``step``."""

    op: MatrixOp
    weight_bits: int
    input_bits: int
    signed: bool
    codes: NDArray[np.int16]
    step: float
    array: ArrayErrors

    def weights(self, weight: Floats, covariance: Floats, vectors: NDArray[np.float32]) -> IntegerWeights:
        """Integer weights of least output error.

        Args:
            weight: (groups, outputs, inputs).
            covariance: of the inputs, (groups, inputs, inputs), damped on its diagonal.
            vectors: of inputs, (groups, inputs, vectors).
        """
        macro, cells = self.array.spec.macro, self.array.cells
        integers = weight_integers((1 << (self.weight_bits - 1)) - 1, macro)
        slices = 1 + max(piece.slice for piece in self._pieces)
        errors = weight_errors(macro, cells, integers, self._factor, slices)
        inputs = _statistics(covariance / self.step**2)
        some = np.rint(vectors[:, :, :: -(-vectors.shape[2] // VECTORS) | 1] / self.step).astype(np.float32)
        squares = plane_squares(some, macro, self.input_bits, self.signed)
        levels, scale = output_weights(weight * self.step, inputs, integers, errors, squares, self._converted)
        added = errors.of(levels, inputs.variance, squares) + self._converted(levels, scale)
        return IntegerWeights(levels.astype(np.float64), scale / self.step, added * scale**2)

    @cached_property
    def _factor(self) -> int:
        macro = self.array.spec.macro
        return stretch((1 << (self.weight_bits - 1)) - 1, macro.max_level) if macro.even_levels else 1

    @cached_property
    def _pieces(self) -> tuple[Piece, ...]:
        shape = matrix_shape(self.op)
        bundles = Cutting(BitWidths(self.weight_bits, self.input_bits)).bundles([shape], self.array.spec)
        return tuple(piece for bundle in bundles[shape.layer] for piece in bundle.pieces)

    def _converted(self, levels: NDArray[np.int16], scale: Floats) -> Floats:
        """Mean square error of conversions at the best range, in squared integers, (groups, outputs)."""
        macro, op, shape = self.array.spec.macro, self.op, matrix_shape(self.op)
        held, top = (levels * self._factor).astype(np.int16), max(abs(v) for v in macro.weight_values)
        tiles = tuple(
            Tile(0, 0, 0, piece.inputs, piece.outputs, (top + 1) ** piece.slice, piece_levels(held, piece, top))
            for piece in self._pieces
        )
        group = TileGroup(
            op.name, op.window, shape.inputs, shape.outputs, self.input_bits, self.signed, 0, 0.0, tiles, shape.groups
        )
        found = range_errors(group, macro, self.codes, self.array.cells.conversion_codes, ROUGH_TILES)
        code = found.best(scale.reshape(-1) ** 2).range_code
        squared: Floats = found.squared_us2[code].reshape(scale.shape)
        return squared / (macro.level_step_us * self._factor) ** 2


def _statistics(covariance: Floats) -> InputStatistics:
    """Statistics of inputs, all of which make up for each other, strongest first."""
    variance, parts = np.diagonal(covariance, axis1=1, axis2=2).copy(), []
    for group, damped in enumerate(covariance):
        order = np.argsort(-variance[group], kind="stable")
        sorted_ = np.ascontiguousarray(damped[np.ix_(order, order)])
        factor = np.linalg.cholesky(np.linalg.inv(sorted_)).T
        parts.append(Correlated(group, order, sorted_, np.ascontiguousarray(factor)))
    return InputStatistics(variance, tuple(parts))
