"""Leaky sums along an axis, yᵢ = decay · yᵢ₋₁ + xᵢ, as in filters of sensor data and in leaky integrators.

The node says how a graph runs in floating point and which integers it becomes; the step says what these are, how a file
of unknown origin is checked, and how codes run; the operation says what such a node is called in a module of torch
(``torch.ops.acme.leaky_sum(input, axis, decay)``) and in ONNX (``LeakySum`` of the domain ``acme``). Golden vectors are
in ``golden.json`` beside this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cim.cost.workload import WorkKind
from mapping.network.compose.composer import Composer
from mapping.network.compose.values import Value, image_axis
from mapping.network.operations.call import Call
from mapping.operators.family import Family, NamedOperation
from mapping.operators.integer.digital_ops import Codes, requantise
from mapping.operators.integer.requantise import Requantise
from mapping.operators.integer.scales import CodeScale, excess_bits, requantise_to
from mapping.operators.integer.tensor_ops import narrowed
from mapping.operators.node import Node, StepNames, Stored, require, require_axes
from mapping.operators.step import Shape, Step, check_axes, check_one_factor, check_shift, need
from mapping.operators.work import WorkForm, of_whole

if TYPE_CHECKING:
    from torch import Tensor

DECAY_BITS = 15  # of the decay as an integer
FRACTION_BITS = 8  # of a sum between two places
MOST_PLACES = 1 << 16  # so that 64 bits hold every product


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakySum(Node):
    """yᵢ = decay · yᵢ₋₁ + xᵢ along ``axis``, counted without the batch."""

    kind = "leaky_sum"

    axis: int
    decay: float

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        require_axes(self, (self.axis,), inputs[0])
        require(self, 0.0 <= self.decay < 1.0, f"decay {self.decay} is not from 0 to below 1")
        require(self, inputs[0][self.axis] <= MOST_PLACES, f"sums over more than {MOST_PLACES} places")
        return inputs[0]

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        import torch

        x, axis = inputs[0], 1 + self.axis
        total, sums = torch.zeros_like(x.select(axis, 0)), []
        for part in x.unbind(axis):
            total = self.decay * total + part
            sums.append(total)
        return torch.stack(sums, axis)

    @property
    def gives_signed(self) -> bool:
        return False

    def integer_step(
        self, names: StepNames, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale
    ) -> Step:
        source = sources[0]
        most = (max(-source.low, source.high) << FRACTION_BITS) * shapes[0][self.axis]
        shift, decay = excess_bits(most), min(round(self.decay * (1 << DECAY_BITS)), (1 << DECAY_BITS) - 1)
        rule = requantise_to(source.scale * 2.0 ** (shift - FRACTION_BITS), out)
        return LeakySumStep(**names, axis=self.axis, decay=decay, shift=shift, requantise=rule)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return _work(inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakySumStep(Step):
    """q = requantise(narrow(s, shift)), sᵢ = x · 2^8 + round(sᵢ₋₁ · decay / 2^15) along ``axis``."""

    kind = "leaky_sum"

    axis: int
    decay: int
    shift: int
    requantise: Requantise

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def check(self, inputs: Sequence[Shape]) -> None:
        check_one_factor(self, self.requantise)
        check_axes(self, (self.axis,), inputs[0])
        check_shift(self, self.shift)
        good = 0 <= self.decay < 1 << DECAY_BITS and inputs[0][self.axis] <= MOST_PLACES
        need(good, self, f"decays by {self.decay} over {inputs[0]}")

    def run(self, codes: Sequence[Codes]) -> Codes:
        sums = codes[0].astype(np.int64) << FRACTION_BITS
        places = np.moveaxis(sums, 1 + self.axis, 0)
        for before, here in itertools.pairwise(places):
            here += _decayed(before, self.decay)
        return requantise(narrowed(sums, self.shift), self.requantise)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return _work(inputs)


def _decayed(sums: Codes, decay: int) -> Codes:
    """round(s · decay / 2^15), halves away from zero."""
    products = sums * decay
    rounded: Codes = np.sign(products) * ((np.abs(products) + (1 << DECAY_BITS - 1)) >> DECAY_BITS)
    return rounded


def _work(inputs: Sequence[Shape]) -> WorkForm:
    """A product and a sum an element, on the chip's logic."""
    elements = int(np.prod(inputs[0]))
    return of_whole(WorkKind.REDUCE, inputs, 2 * elements)


def _composed(c: Composer, a: Call) -> Value:
    """A node for a call, whose axis counts the batch."""
    x = a.value
    node = c.add(LeakySum, [x.node], axis=image_axis(x, a["axis"], c.batch), decay=float(a["decay"]))
    return c.value(node, x)


OPERATORS = Family(
    nodes=(LeakySum,),
    steps=(LeakySumStep,),
    operations=(NamedOperation(_composed, "acme::leaky_sum", "acme:LeakySum(self; axis=-1, decay=0.5)"),),
)
