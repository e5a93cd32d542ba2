"""Functions of one number: activations that only clamp, any other function, and codes that a network chose itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cim.cost.workload import WorkKind
from mapping.bits import TABLE_BITS
from mapping.operators.family import Family
from mapping.operators.functions import FUNCTIONS
from mapping.operators.fused import FusedOp, OpFields, Scales
from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.digital_ops import INT32_HIGH, Codes
from mapping.operators.integer.limits import LARGEST_TABLE
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.integer.scales import CodeScale, requantise_by
from mapping.operators.node import DigitalOp, Node, StepNames, Stored, require
from mapping.operators.step import ChipOperation, Shape, Span, Step, check_rule, need
from mapping.operators.work import WorkForm, of_each

if TYPE_CHECKING:
    from torch import Tensor

GRID_CODES = (1 << 15) - 1
"""The largest code of a ``Grid`` in magnitude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClampOp(FusedOp):
    """A lone activation."""

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.CLAMP)

    def integer_steps(self, around: Scales) -> tuple[Step, ...]:
        rule = requantise_by(around.inputs[0].scale / around.out.scale, around.out.low, around.out.high)
        return (RescaleStep(name=self.name, inputs=self.inputs, requantise=rule),)


class Clamp(Node):
    """An activation that only clamps, and so joins the operation before it."""

    __slots__ = ()
    by_channel = True
    by_value = True

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].clamp(*self.clamp)

    @property
    def clamp(self) -> tuple[float, float]:
        raise NotImplementedError(self.kind)

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        low, high = self.clamp
        return ClampOp(**op, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(Clamp):
    """y = max(x, 0)."""

    kind = "relu"

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return inputs[0].relu()

    @property
    def clamp(self) -> tuple[float, float]:
        return 0.0, math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu6(Clamp):
    """y = clamp(x, 0, 6)."""

    kind = "relu6"

    @property
    def clamp(self) -> tuple[float, float]:
        return 0.0, 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HardTanh(Clamp):
    """y = clamp(x, low, high)."""

    kind = "hard_tanh"

    low: float = -1.0
    high: float = 1.0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require(self, self.low < self.high, f"low {self.low} is not below high {self.high}")
        return inputs[0]

    @property
    def clamp(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Node):
    """y = f(x) element by element; ``function`` is one of ``mapping.operators.functions``; it takes both numbers."""

    kind = "unary"
    by_value = True
    reads_bits = TABLE_BITS

    function: str
    alpha: float = 0.0
    beta: float = 0.0

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require(self, self.function in FUNCTIONS, f"function {self.function!r} is none of {', '.join(FUNCTIONS)}")
        return inputs[0]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return FUNCTIONS[self.function].apply(inputs[0], self.alpha, self.beta)

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        return DigitalOp(**op, low=FUNCTIONS[self.function].least, node=self)

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        """The function at every code of its input, as codes: 0 where it has no value, the end where it is infinite."""
        import torch

        source = sources[0]
        codes = torch.arange(source.low, source.high + 1, dtype=torch.float64)
        values = FUNCTIONS[self.function].apply(codes * source.scale, self.alpha, self.beta).numpy()
        rounded = np.rint(np.nan_to_num(values / out.scale, nan=0.0, posinf=INT32_HIGH, neginf=-INT32_HIGH))
        table: Ints = np.clip(rounded, out.low, out.high).astype(np.int32)
        return TableStep(**names, first=source.low, table=table)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.TABLE, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid(Node):
    """y = scale · clamp(round(x / scale), low, high): values as codes, chosen by whoever quantised the network.

    ``low`` and ``high`` count from zero: 8-bit codes with zero point −128 are 0 to 255.
    """

    kind = "grid"
    by_value = True

    scale: float
    low: int
    high: int

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        good = self.scale > 0 and -GRID_CODES <= self.low <= 0 <= self.high <= GRID_CODES and self.low < self.high
        require(self, good, f"scale {self.scale} and codes {self.low} to {self.high} are no grid around zero")
        return inputs[0]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return (inputs[0] / self.scale).round().clamp(self.low, self.high) * self.scale

    def lower(self, op: OpFields, inputs: Sequence[Shape]) -> FusedOp:
        return ClampOp(**op, grid=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RescaleStep(Step):
    """q = requantise(x): a lone activation, or another scale."""

    kind = "rescale"
    takes_wide = True

    requantise: Requantise

    def check(self, inputs: Sequence[Shape]) -> None:
        check_rule(self, self.requantise, inputs[0])

    def run(self, codes: Sequence[Codes]) -> Codes:
        return digital_ops.requantise(codes[0], self.requantise)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("RescaleCodes", rescale=self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return WorkForm(WorkKind.CLAMP)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStep(Step):
    """q = table[clamp(x, first, first + n − 1) − first]: any function of one number."""

    kind = "table"

    first: int
    table: Ints

    def check(self, inputs: Sequence[Shape]) -> None:
        size = self.table.shape
        need(len(size) == 1 and 1 <= size[0] <= LARGEST_TABLE, self, f"has a table of {size}")
        need(abs(self.first) <= 1 << 15, self, f"has a table from code {self.first}")

    def run(self, codes: Sequence[Codes]) -> Codes:
        return tensor_ops.table(codes[0], self.first, self.table)

    def span(self, inputs: Sequence[Span]) -> Span:
        return int(self.table.min()), int(self.table.max())

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        return ChipOperation("LookUpCodes", first=self.first, entries=self.table)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return of_each(WorkKind.TABLE, after)


OPERATORS = Family(
    nodes=(Relu, Relu6, HardTanh, Unary, Grid),
    steps=(
        RescaleStep,
        TableStep,
    ),
)
