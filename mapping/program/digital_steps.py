"""Steps of a program that no array multiplies, beyond pools and plain additions; integer rules in docs/digital_ops.md.

Axes count without the batch: 0 is the first axis of a shape, channels of a map. Arrays are int32 unless a
docstring says otherwise. ``shift`` of a step takes 64-bit sums into the range of 32 bits before they are requantised.
"""

from __future__ import annotations

from dataclasses import dataclass

from mapping.program.conductance import Ints, Requantise, Step

AFFINE_BITS = 14
"""The largest weight of an ``AffineStep`` or ``NormStep`` is 2^14 in magnitude."""
OFFSET_BITS = 30
"""Their largest offset is 2^30 in magnitude."""
NORM_BITS = 10
"""A norm gives 2^10 for one standard deviation, and ends at ±(2^15 − 1)."""
ROOT_HIGH = 24  # a variance is brought to 2^22 … 2^24 − 1 before its root is taken
ROOT_BITS = 31  # R = √(2^62 / w) is 2^31 / √w
CODE_HIGH = (1 << 15) - 1  # the largest result of a norm before its weights
SHARE_BITS = 30
"""A softmax gives 2^30 for one, before it is requantised."""
EXP_BITS = 16
"""The largest entry of the table of a softmax is 2^16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStep(Step):
    """code = table[clamp(x, first, first + len(table) − 1) − first]: any function of one number."""

    first: int
    table: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineStep(Step):
    """requantise(x · weight + offset); where x < 0 with ``below`` instead of ``weight``, if there is one.

    Arrays have the rank of x, their axes of size 1 repeated; |weight| <= 2^14, |offset| <= 2^30.
    """

    weight: Ints
    offset: Ints
    requantise: Requantise
    below: Ints | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductStep(Step):
    """requantise(x · y), axes of size 1 repeated, missing ones before the first."""

    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulStep(Step):
    """requantise(sat(round(Σ_k x[…, m, k] · y[…, k, n] / 2^shift))), leading axes as in ``ProductStep``."""

    shift: int
    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceStep(Step):
    """Sum over ``axes``, / 2^shift, requantised; the axes stay as size 1 if ``keep``. A multiplier may hold 1 / n.

    Without ``requantise`` the largest or, if ``least``, the least code.
    """

    axes: tuple[int, ...]
    keep: bool
    least: bool
    shift: int
    requantise: Requantise | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshapeStep(Step):
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteStep(Step):
    """Axis i of the output is axis ``order[i]`` of the input."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeStep(Step):
    """y[…, i, …] = x[…, index[i], …] along ``axis``; an index of −1 gives the code ``fill``."""

    index: Ints
    axis: int
    fill: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampleStep(Step):
    """requantise(sat(round(rows · x · columnsᵀ / 2^shift))) of each map (…, H, W).

    ``rows`` (new H, H), ``columns`` (new W, W).
    """

    rows: Ints
    columns: Ints
    shift: int
    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class NormStep(Step):
    """requantise(z · weight + offset), z = round(2^10 · d / √(Σ d² / n + eps · 2^eps_shift)) over ``axes``.

    d = x · 2^fraction − mean if ``centre``, else without the mean, in units of 2^−fraction codes; eps in squares of
    such units. Arrays as in ``AffineStep``.
    """

    axes: tuple[int, ...]
    centre: bool
    fraction: int
    eps: int
    eps_shift: int
    weight: Ints
    offset: Ints
    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxStep(Step):
    """requantise(2^30 · e / Σ e) along ``axis``, e = table[largest − x], and 0 beyond the table."""

    axis: int
    table: Ints
    requantise: Requantise
