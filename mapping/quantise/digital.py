"""Integer steps of digital operations: weights, tables and shifts from real numbers and the scales of codes.

Integer rules are in docs/digital_ops.md; the steps in ``mapping.operators``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from mapping.operators.activations import TableStep, Unary
from mapping.operators.affine import Affine, AffineStep, PRelu
from mapping.operators.functions import FUNCTIONS
from mapping.operators.integer.digital_ops import INT32_HIGH
from mapping.operators.integer.limits import (
    AFFINE_BITS,
    EXACT_BITS,
    EXP_BITS,
    LARGEST_TABLE,
    NORM_BITS,
    OFFSET_BITS,
    SHARE_BITS,
    SQUARE_BITS,
)
from mapping.operators.integer.requantise import Ints, Requantise
from mapping.operators.joins import Product, ProductStep
from mapping.operators.moves import (
    FlattenStep,
    Permute,
    PermuteStep,
    Reshape,
    ReshapeStep,
    Slice,
    SliceStep,
    Take,
    TakeStep,
)
from mapping.operators.node import Shape
from mapping.operators.norms import Norm, NormStep, Softmax, SoftmaxStep
from mapping.operators.padding import PadChannels, PadChannelsStep, PadMap, PadMapStep
from mapping.operators.pools import MaxPool, MaxPoolStep, Reduce, ReduceStep
from mapping.operators.products import MatMul, MatMulStep
from mapping.operators.resampling import Resample, ResampleStep
from mapping.operators.step import Step
from mapping.quantise.lower import DigitalOp, PassOp
from mapping.quantise.scales import CodeScale, requantise_by

LARGEST_FACTOR = float(1 << 31) * (1.0 - 1e-9)
FRACTION_BITS = 8  # of a mean in a norm, at most
RESAMPLE_BITS = 12
TINY = 1e-30


class _Names(TypedDict):
    name: str
    inputs: tuple[str, ...]


def digital_step(op: DigitalOp, sources: Sequence[CodeScale], shapes: Sequence[Shape], out: CodeScale) -> Step:
    """The step of an operation.

    Args:
        sources, shapes: scale and shape of each input's codes.
        out: scale of the output's codes.
    """
    names: _Names = {"name": op.name, "inputs": op.inputs}
    first, shape = sources[0], shapes[0]
    match op.node:
        case Unary() as node:
            return TableStep(**names, first=first.low, table=_table(node, first, out))
        case PRelu(slope=slope):
            unit = max(1.0, _largest(slope)) * first.scale / (1 << AFFINE_BITS)
            one = np.full([1] * slope.ndim, 1.0)
            above, below = (np.rint(a * (first.scale / unit)).astype(np.int32) for a in (one, slope))
            rule, nothing = _rule(unit, out), np.zeros(one.shape, np.int32)
            return AffineStep(**names, weight=above, offset=nothing, below=below, requantise=rule)
        case Affine(scale=scale, shift=shift):
            unit = max(_largest(scale) * first.scale / (1 << AFFINE_BITS), _largest(shift) / (1 << OFFSET_BITS), TINY)
            weight, offset = _integers(scale, unit / first.scale), _integers(shift, unit)
            return AffineStep(**names, weight=weight, offset=offset, requantise=_rule(unit, out))
        case Product():
            return ProductStep(**names, requantise=_rule(first.scale * sources[1].scale, out))
        case MatMul():
            most = shape[-1] * math.prod(max(-s.low, s.high) for s in sources)
            bits = _shift(most)
            real = first.scale * sources[1].scale * 2.0**bits
            return MatMulStep(**names, shift=bits, requantise=_rule(real, out))
        case Reduce() as node:
            count = math.prod(shape[axis] for axis in node.axes)
            bits = _shift(count * max(-first.low, first.high))
            real = first.scale * 2.0**bits / (count if node.operation == "mean" else 1)
            rule = _rule(real, out)
            return ReduceStep(**names, axes=node.axes, keep=node.keep, least=False, shift=bits, requantise=rule)
        case Resample() as node:
            return _resample(names, node, first, out)
        case Norm() as node:
            return _norm(names, node, first, shape, out)
        case Softmax(axis=axis):
            size = min(math.ceil((EXP_BITS + 1) * math.log(2) / first.scale) + 1, LARGEST_TABLE)
            table = np.rint(2.0**EXP_BITS * np.exp(-np.arange(size) * first.scale)).astype(np.int32)
            return SoftmaxStep(**names, axis=axis, table=table, requantise=_rule(2.0**-SHARE_BITS, out))
    raise TypeError(f"{op.name}: {type(op.node).__name__} has no digital step")


def moving_step(op: PassOp, scale: float, low: int, high: int) -> Step:
    """The step of an operation that moves codes of a scale between ``low`` and ``high``."""
    names: _Names = {"name": op.name, "inputs": op.inputs}
    node = op.node
    match node:
        case MaxPool():
            return MaxPoolStep(**names, kernel=node.kernel, stride=node.stride, padding=node.padding)
        case PadChannels():
            return PadChannelsStep(**names, before=node.before, after=node.after)
        case PadMap():
            return PadMapStep(**names, top=node.top, left=node.left, bottom=node.bottom, right=node.right)
        case Slice():
            stop = INT32_HIGH if node.stop is None else node.stop
            return SliceStep(**names, step=node.step, start=node.start, stop=stop)
        case Reshape():
            return ReshapeStep(**names, shape=node.shape)
        case Permute():
            return PermuteStep(**names, order=node.order)
        case Take():
            fill = int(np.clip(np.rint(node.fill / scale), low, high))
            return TakeStep(**names, index=np.array(node.index, np.int32), axis=node.axis, fill=fill)
        case Reduce():
            return ReduceStep(**names, axes=node.axes, keep=node.keep, least=node.operation == "min", shift=0)
    return FlattenStep(**names)


def moved_codes(name: str, source: str, rank: int, by: int, low: int, high: int) -> AffineStep:
    """Codes moved by a number to between ``low`` and ``high``."""
    ones = (1,) * rank
    return AffineStep(
        name=name,
        inputs=(source,),
        weight=np.ones(ones, np.int32),
        offset=np.full(ones, by, np.int32),
        requantise=requantise_by(1.0, low, high),
    )


def _table(node: Unary, source: CodeScale, out: CodeScale) -> Ints:
    """The function at every code of its input, as codes: 0 where it has no value, the end where it is infinite."""
    import torch

    codes = torch.arange(source.low, source.high + 1, dtype=torch.float64)
    values = FUNCTIONS[node.function].apply(codes * source.scale, node.alpha, node.beta).numpy()
    rounded = np.rint(np.nan_to_num(values / out.scale, nan=0.0, posinf=INT32_HIGH, neginf=-INT32_HIGH))
    table: Ints = np.clip(rounded, out.low, out.high).astype(np.int32)
    return table


def _resample(names: _Names, node: Resample, source: CodeScale, out: CodeScale) -> ResampleStep:
    rows, columns = (a.astype(np.float64) for a in (node.rows, node.columns))
    for bits in range(RESAMPLE_BITS, 0, -1):
        units = [max(_largest(a), TINY) / (1 << bits) for a in (rows, columns)]
        whole = [_integers(a, unit) for a, unit in zip((rows, columns), units, strict=True)]
        most = math.prod(int(np.abs(a.astype(np.int64)).sum(1).max()) for a in whole)
        if most << (SQUARE_BITS // 2) < 1 << EXACT_BITS:
            break
    shift = _shift(most * max(-source.low, source.high))
    rule = _rule(math.prod(units) * source.scale * 2.0**shift, out)
    return ResampleStep(**names, rows=whole[0], columns=whole[1], shift=shift, requantise=rule)


def _norm(names: _Names, node: Norm, source: CodeScale, shape: Shape, out: CodeScale) -> NormStep:
    count = math.prod(shape[axis] for axis in node.axes)
    fraction = min(FRACTION_BITS, (62 - SQUARE_BITS - (count - 1).bit_length()) // 2)
    eps = min(round(node.eps / source.scale**2 * 4.0**fraction), 1 << 61)
    eps_shift = max(0, eps.bit_length() - 31)
    most = max(_largest(node.scale), _largest(node.shift) * 2.0 ** (NORM_BITS + AFFINE_BITS - OFFSET_BITS), TINY)
    unit = most / (1 << AFFINE_BITS)
    return NormStep(
        **names,
        axes=node.axes,
        centre=node.centre,
        fraction=fraction,
        eps=eps >> eps_shift,
        eps_shift=eps_shift,
        weight=_integers(node.scale, unit),
        offset=_integers(node.shift, unit / (1 << NORM_BITS)),
        requantise=_rule(unit / (1 << NORM_BITS), out),
    )


def _shift(most: int) -> int:
    """Bits by which sums of at most ``most`` in magnitude leave the range of 32 bits."""
    return max(0, most.bit_length() - 31)


def _rule(real: float, out: CodeScale) -> Requantise:
    return requantise_by(min(real / out.scale, LARGEST_FACTOR), out.low, out.high)


def _integers(values: NDArray[np.floating], unit: float) -> Ints:
    return np.rint(values.astype(np.float64) / unit).astype(np.int32)


def _largest(values: NDArray[np.floating]) -> float:
    return float(np.abs(values).max())
