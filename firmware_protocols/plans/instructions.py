"""Instructions of a plan: what one step does to the values before it, in integers (docs/file-formats.md).

Each class is one kind of step; its fields, in this order, are the step's arguments on the wire
(``firmware_protocols.plans.plan``). Axes count without the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

Ints = Annotated[NDArray[np.int32], "count, numbers"]
"""Numbers in a row; on the wire after their count."""
Tensor = Annotated[NDArray[np.int32], "rank, lengths, numbers"]
"""Numbers with axes, those of length 1 repeated; on the wire after rank and lengths. Rank 0: none."""

PART = 5  # numbers of one part of a product
TURN = 1 << 28
"""Samples between two uses of a layer in one run of a network."""


@dataclass(frozen=True, slots=True, eq=False)
class RescaleRule:
    """q = clamp(round(x · multiplier / 2^shift), low, high); multiplier and shift of all channels, or of each."""

    multiplier: Ints
    shift: Ints
    low: int
    high: int


class Instruction:
    """Base of the instructions of a plan: what one of its steps computes."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class RunLayers(Instruction):
    """Loaded layers on a map or a vector.

    ``window``: kernel, stride, padding and dilation, each vertical and horizontal; none for a vector. ``parts``: five
    numbers for each layer that answers a block of the output map: layer, first row, rows, first column, columns (of a
    vector: layer, 0, 1, 0, 1). ``raised`` is added to all codes, padding too. Place c of the layers' inputs is channel
    ``input_order[c]``, place j of their outputs channel ``output_order[j]``; empty: as they come. The samples are
    ``turn`` · ``TURN`` further on. Positions of a part count row by row, from its first.
    """

    range_code: int
    input_bits: int
    input_signed: int
    raised: int
    turn: int
    window: Ints
    input_order: Ints
    output_order: Ints
    parts: Ints


@dataclass(frozen=True, slots=True, eq=False)
class RescaleCodes(Instruction):
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class AddCodes(Instruction):
    """Both inputs rescaled, added or subtracted, then rescaled."""

    subtract: int
    first: RescaleRule
    second: RescaleRule
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class JoinCodes(Instruction):
    """Each input rescaled by its rule, joined along ``axis``."""

    axis: int
    rescale: tuple[RescaleRule, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PoolLargest(Instruction):
    """``window``: kernel, stride and padding, each vertical and horizontal."""

    window: Ints


@dataclass(frozen=True, slots=True, eq=False)
class PoolMean(Instruction):
    window: Ints
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class ReshapeCodes(Instruction):
    """The same codes under the output's shape."""


@dataclass(frozen=True, slots=True, eq=False)
class PadCodes(Instruction):
    """Codes 0 before and after each axis; ``before`` of each, the output's shape says the rest."""

    before: Ints


@dataclass(frozen=True, slots=True, eq=False)
class SliceCodes(Instruction):
    """Every ``step``-th code of each axis from ``start``, as many as the output has."""

    start: Ints
    step: Ints


@dataclass(frozen=True, slots=True, eq=False)
class LookUpCodes(Instruction):
    first: int
    entries: Ints


@dataclass(frozen=True, slots=True, eq=False)
class ScaleCodes(Instruction):
    """``below`` instead of ``weight`` where x < 0, if there is one."""

    weight: Tensor
    offset: Tensor
    below: Tensor
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class MultiplyCodes(Instruction):
    """Both inputs multiplied, number by number."""

    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class MultiplyMatrices(Instruction):
    shift: int
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class SumCodes(Instruction):
    """Σ over ``axes``, the output's shape with or without them."""

    axes: Ints
    shift: int
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class ExtremeCodes(Instruction):
    """The largest or, if ``least``, the least code over ``axes``."""

    axes: Ints
    least: int


@dataclass(frozen=True, slots=True, eq=False)
class PermuteAxes(Instruction):
    """Axis i of the output is axis ``order[i]`` of the input."""

    order: Ints


@dataclass(frozen=True, slots=True, eq=False)
class TakeCodes(Instruction):
    """x[…, index[i], …] along ``axis``; an index of −1 gives ``fill``."""

    axis: int
    fill: int
    index: Ints


@dataclass(frozen=True, slots=True, eq=False)
class ResampleMaps(Instruction):
    """rows · x · columnsᵀ of each map, / 2^shift, rescaled; ``rows`` (new height, height), ``columns`` likewise."""

    rows: Tensor
    columns: Tensor
    shift: int
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class NormaliseCodes(Instruction):
    axes: Ints
    centre: int
    fraction: int
    eps: int
    eps_shift: int
    weight: Tensor
    offset: Tensor
    rescale: RescaleRule


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCodes(Instruction):
    axis: int
    entries: Ints
    rescale: RescaleRule


KINDS: dict[int, type[Instruction]] = {
    1: RunLayers,
    2: RescaleCodes,
    3: AddCodes,
    4: JoinCodes,
    5: PoolLargest,
    6: PoolMean,
    7: ReshapeCodes,
    8: PadCodes,
    9: SliceCodes,
    10: LookUpCodes,
    11: ScaleCodes,
    12: MultiplyCodes,
    13: MultiplyMatrices,
    14: SumCodes,
    15: ExtremeCodes,
    16: PermuteAxes,
    17: TakeCodes,
    18: ResampleMaps,
    19: NormaliseCodes,
    20: SoftmaxCodes,
}
"""Instructions by their number on the wire."""
