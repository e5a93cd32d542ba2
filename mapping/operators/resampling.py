"""Maps of another size by weights of rows and columns: bilinear upsampling, adaptive pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cim.cost.workload import WorkKind
from mapping.operators.channels import ChannelClasses, Channels
from mapping.operators.family import Family
from mapping.operators.integer import tensor_ops
from mapping.operators.integer.digital_ops import Codes
from mapping.operators.integer.limits import EXACT_BITS, SQUARE_BITS
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.integer.scales import TINY, CodeScale, excess_bits, in_units, largest, requantise_to
from mapping.operators.node import Array, Node, StepNames, Stored, require
from mapping.operators.step import ChipOperation, Shape, Step, check_one_factor, check_shift, need
from mapping.operators.work import WorkForm, of_whole

if TYPE_CHECKING:
    from torch import Tensor
RESAMPLE_BITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Resample(Node):
    """Maps (…, H, W) as rows · map · columnsᵀ: bilinear upsampling, adaptive pooling, averages of unequal windows.

    ``rows`` (new H, H), ``columns`` (new W, W).
    """

    kind = "resample"
    arrays: ClassVar = {"rows": "rows", "columns": "columns"}

    rows: Array
    columns: Array

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        require(self, len(first) >= 2 and self.rows.ndim == self.columns.ndim == 2, f"needs maps, not {first}")
        sizes = (self.rows.shape[1], self.columns.shape[1])
        require(self, sizes == first[-2:], f"weights for {sizes} places do not fit {first}")
        return (*first[:-2], len(self.rows), len(self.columns))

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return stored(self.rows) @ inputs[0] @ stored(self.columns).T

    @property
    def gives_signed(self) -> bool:
        return min(float(self.rows.min()), float(self.columns.min())) < 0

    def channels(self, inputs: Sequence[Channels], shapes: Sequence[Shape], classes: ChannelClasses) -> Channels | None:
        return inputs[0] if len(shapes[0]) > 2 else None

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        source, real = sources[0], [a.astype(np.float64) for a in (self.rows, self.columns)]
        for bits in range(RESAMPLE_BITS, 0, -1):
            units = [max(largest(a), TINY) / (1 << bits) for a in real]
            rows, columns = (in_units(a, unit) for a, unit in zip(real, units, strict=True))
            most = math.prod(int(np.abs(a.astype(np.int64)).sum(1).max()) for a in (rows, columns))
            if most << (SQUARE_BITS // 2) < 1 << EXACT_BITS:
                break
        shift = excess_bits(most * max(-source.low, source.high))
        rule = requantise_to(math.prod(units) * source.scale * 2.0**shift, out)
        return ResampleStep(**names, rows=rows, columns=columns, shift=shift, requantise=rule)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return _work(self, inputs, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampleStep(Step):
    """q = requantise(narrow(rows · x · columnsᵀ, shift)) of every map (…, H, W).

    ``rows`` (new H, H), ``columns`` (new W, W).
    """

    kind = "resample"

    rows: Ints
    columns: Ints
    shift: int
    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return (*inputs[0][:-2], len(self.rows), len(self.columns))

    def check(self, inputs: Sequence[Shape]) -> None:
        first = inputs[0]
        check_one_factor(self, self.requantise)
        sizes = (self.rows.shape, self.columns.shape)
        good = len(first) >= 2 and all(len(s) == 2 and s[0] >= 1 for s in sizes)
        need(good and tuple(s[1] for s in sizes) == first[-2:], self, f"resamples {first} by {sizes}")
        check_shift(self, self.shift)
        most = math.prod(int(np.abs(a.astype(np.int64)).sum(1).max()) for a in (self.rows, self.columns))
        need(most << (SQUARE_BITS // 2) < 1 << EXACT_BITS, self, "has sums beyond 53 bits")

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.resample(codes[0], self.rows, self.columns, self.shift, self.requantise)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation(
            "ResampleMaps", rows=self.rows, columns=self.columns, shift=self.shift, rescale=self.requantise
        )

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return _work(self, inputs, after)


def _work(part: Resample | ResampleStep, inputs: Sequence[Shape], after: Shape) -> WorkForm:
    height, (new_width, width) = part.rows.shape[1], part.columns.shape
    maps = math.prod(inputs[0]) // (height * width)
    operations = maps * height * new_width * width + math.prod(after) * height
    return of_whole(WorkKind.RESAMPLE, inputs, operations)


OPERATORS = Family(nodes=(Resample,), steps=(ResampleStep,))
