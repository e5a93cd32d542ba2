"""Small networks whose parts no array multiplies, and a slow interpreter of their steps in Python integers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.graph import NetworkGraph, Output, Preprocess
from mapping.operators.activations import Relu, TableStep, Unary
from mapping.operators.affine import Affine, AffineStep, PRelu
from mapping.operators.integer.requantise import Requantise
from mapping.operators.joins import Add, Concat, Product, ProductStep, Subtract
from mapping.operators.moves import Flatten, Permute, Reshape, Take, TakeStep
from mapping.operators.node import Node
from mapping.operators.norms import Norm, NormStep, Softmax, SoftmaxStep
from mapping.operators.pools import MaxPool, Reduce, ReduceStep
from mapping.operators.products import Conv, Linear, MatMul, MatMulStep
from mapping.operators.resampling import Resample, ResampleStep
from mapping.operators.step import Step

PIXELS = Preprocess((0.5, 0.4, 0.45), (0.25, 0.25, 0.2))
CLASSES = ("a", "b", "c", "d")


def floats(rng: np.random.Generator, *shape: int, mean: float = 0.0, size: float = 1.0) -> NDArray[np.float32]:
    return rng.normal(mean, size, shape).astype(np.float32)


def conv(rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...], **options: Any) -> Conv:
    weight = floats(rng, *shape, size=math.sqrt(2 / math.prod(shape[1:])))
    return Conv(name=name, inputs=(source,), weight=weight, **options)


def gated(rng: np.random.Generator) -> NetworkGraph:
    """Functions of one number, squeeze and excite, slopes, padding by reflection, resampling."""
    nodes: tuple[Node, ...] = (
        conv(rng, "conv1", "input", (6, 3, 3, 3), padding=(1, 1)),
        Unary(name="silu", inputs=("conv1",), function="silu"),
        Reduce(name="squeeze", inputs=("silu",), operation="mean", axes=(1, 2)),
        Linear(name="fc1", inputs=("squeeze",), weight=floats(rng, 3, 6), bias=floats(rng, 3)),
        PRelu(name="slope", inputs=("fc1",), slope=np.array([0.3, -0.2, 0.1], np.float32)),
        Linear(name="fc2", inputs=("slope",), weight=floats(rng, 6, 3)),
        Unary(name="gate", inputs=("fc2",), function="sigmoid"),
        Reshape(name="maps", inputs=("gate",), shape=(6, 1, 1)),
        Product(name="excite", inputs=("silu", "maps")),
        Take(name="rows", inputs=("excite",), index=(1, 0, *range(8), 6), axis=1),
        Take(name="columns", inputs=("rows",), index=(-1, *range(8), -1), axis=2, fill=0.7),
        conv(rng, "conv2", "columns", (8, 6, 3, 3), stride=(2, 2)),
        Reduce(name="mean", inputs=("conv2",), operation="mean", axes=(0,), keep=True),
        Subtract(name="less", inputs=("conv2", "mean")),
        Affine(name="lone", inputs=("less",), scale=floats(rng, 8, 1, 1), shift=floats(rng, 8, 1, 4)),
        Relu(name="relu", inputs=("lone",)),
        Resample(
            name="grow",
            inputs=("relu",),
            rows=np.array([[1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0, 0, 0.25, 0.75, 0]], np.float32),
            columns=floats(rng, 2, 4),
        ),
        Reduce(name="most", inputs=("grow",), operation="max", axes=(2,)),
        Reduce(name="sum", inputs=("grow",), operation="sum", axes=(1, 2)),
        Reshape(name="flat", inputs=("most",), shape=(24,)),
        Concat(name="join", inputs=("flat", "sum")),
        Linear(name="fc", inputs=("join",), weight=floats(rng, 4, 32, size=0.2), bias=floats(rng, 4)),
    )
    return NetworkGraph((3, 8, 8), nodes, PIXELS, CLASSES)


def attention(rng: np.random.Generator) -> NetworkGraph:
    """A transformer block on patches: two heads, class token, positions, norms, a GELU between two layers."""
    tokens, width, heads = 17, 8, 2

    def linear(name: str, source: str, outputs: int, inputs: int) -> list[Node]:
        """A layer on (tokens, inputs), as the front end writes it."""
        return [
            Permute(name=f"{name}_t", inputs=(source,), order=(1, 0)),
            Reshape(name=f"{name}_m", inputs=(f"{name}_t",), shape=(inputs, tokens, 1)),
            conv(rng, f"{name}_c", f"{name}_m", (outputs, inputs, 1, 1), bias=floats(rng, outputs, size=0.1)),
            Reshape(name=f"{name}_r", inputs=(f"{name}_c",), shape=(outputs, tokens)),
            Permute(name=name, inputs=(f"{name}_r",), order=(1, 0)),
        ]

    def layer_norm(name: str, source: str) -> Norm:
        scale, shift = floats(rng, 1, width, mean=1.0, size=0.2), floats(rng, 1, width, size=0.2)
        return Norm(name=name, inputs=(source,), axes=(1,), scale=scale, shift=shift, eps=1e-6)

    def heads_of(name: str, start: int, order: tuple[int, int, int]) -> list[Node]:
        return [
            Take(name=f"{name}_part", inputs=("qkv",), index=tuple(range(start, start + width)), axis=1),
            Reshape(name=f"{name}_heads", inputs=(f"{name}_part",), shape=(tokens, heads, width // heads)),
            Permute(name=name, inputs=(f"{name}_heads",), order=order),
        ]

    shift, one = floats(rng, tokens, width, size=0.5), np.ones((1, 1, 1), np.float32)
    nodes: list[Node] = [
        conv(rng, "patches", "input", (width, 3, 2, 2), stride=(2, 2)),
        Reshape(name="row", inputs=("patches",), shape=(width, 16)),
        Permute(name="sequence", inputs=("row",), order=(1, 0)),
        Take(name="class", inputs=("sequence",), index=(-1, *range(16)), axis=0),
        Affine(name="positions", inputs=("class",), scale=np.ones((1, 1), np.float32), shift=shift),
        layer_norm("norm1", "positions"),
        *linear("qkv", "norm1", 3 * width, width),
        *heads_of("q", 0, (1, 0, 2)),
        *heads_of("k", width, (1, 2, 0)),
        *heads_of("v", 2 * width, (1, 0, 2)),
        MatMul(name="scores", inputs=("q", "k")),
        Affine(name="scaled", inputs=("scores",), scale=one / 2, shift=0 * one),
        Softmax(name="weights", inputs=("scaled",), axis=2),
        MatMul(name="seen", inputs=("weights", "v")),
        Permute(name="together", inputs=("seen",), order=(1, 0, 2)),
        Reshape(name="joined", inputs=("together",), shape=(tokens, width)),
        *linear("projected", "joined", width, width),
        Add(name="residual", inputs=("positions", "projected")),
        layer_norm("norm2", "residual"),
        *linear("wide", "norm2", 2 * width, width),
        Unary(name="gelu", inputs=("wide",), function="gelu"),
        *linear("narrow", "gelu", width, 2 * width),
        Add(name="residual2", inputs=("residual", "narrow")),
        layer_norm("norm3", "residual2"),
        Take(name="first", inputs=("norm3",), index=(0,), axis=0),
        Reshape(name="vector", inputs=("first",), shape=(width,)),
        Linear(name="head", inputs=("vector",), weight=floats(rng, 4, width), bias=floats(rng, 4)),
    ]  # fmt: skip
    return NetworkGraph((3, 8, 8), tuple(nodes), PIXELS, CLASSES)


def two_outputs(rng: np.random.Generator) -> NetworkGraph:
    """Boxes beside scores: a map and a vector of other sizes of number."""
    nodes: tuple[Node, ...] = (
        conv(rng, "conv1", "input", (5, 3, 3, 3), padding=(1, 1)),
        Relu(name="relu", inputs=("conv1",)),
        MaxPool(name="pool", inputs=("relu",), kernel=(2, 2), stride=(2, 2)),
        conv(rng, "boxes", "pool", (4, 5, 1, 1), bias=floats(rng, 4, size=20.0)),
        Reduce(name="mean", inputs=("pool",), operation="mean", axes=(1, 2)),
        Linear(name="scores", inputs=("mean",), weight=floats(rng, 3, 5, size=0.2)),
        Softmax(name="softmax", inputs=("scores",), axis=0),
        Flatten(name="flat", inputs=("boxes",)),
        Concat(name="all", inputs=("flat", "softmax")),
    )
    outputs = (Output("boxes", (4, 4, 4)), Output("scores", (3,)))
    return NetworkGraph((3, 8, 8), nodes, PIXELS, (), {}, outputs)


def slow_tensor_step(step: Step, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    """Output codes of one step by Python integers and fractions, element by element."""
    x = inputs[0]
    match step:
        case TableStep():
            last = len(step.table) - 1
            return _each(x, lambda v: int(step.table[min(max(v - step.first, 0), last)]))
        case AffineStep():
            below = step.weight if step.below is None else step.below
            weight, offset = (np.broadcast_to(a, x.shape).astype(object) for a in (step.weight, step.offset))
            slope = np.broadcast_to(below, x.shape).astype(object)
            return _rescaled(np.where(x < 0, x * slope, x * weight) + offset, step.requantise)
        case ProductStep():
            return _rescaled(x * inputs[1], step.requantise)
        case MatMulStep():
            return _rescaled(_shifted(np.matmul(x, inputs[1]), step.shift), step.requantise)
        case ReduceStep(requantise=None):
            pick = np.min if step.least else np.max
            return _kept(pick(x, axis=step.axes, keepdims=True), step)
        case ReduceStep(requantise=Requantise() as rule):
            return _kept(_rescaled(_shifted(x.sum(step.axes, keepdims=True), step.shift), rule), step)
        case Reshape():
            return x.reshape(step.shape)
        case Permute():
            return x.transpose(step.order)
        case TakeStep():
            taken = x.take(np.maximum(step.index, 0), step.axis)
            at = np.expand_dims(step.index, [a for a in range(x.ndim) if a != step.axis])
            return np.where(at < 0, step.fill, taken)
        case ResampleStep():
            sums = np.matmul(np.matmul(step.rows.astype(object), x), step.columns.T.astype(object))
            return _rescaled(_shifted(sums, step.shift), step.requantise)
        case NormStep():
            return _norm(step, x)
        case SoftmaxStep():
            return _softmax(step, x)
    raise TypeError(step)


def nearest(value: Fraction) -> int:
    """Halves away from zero."""
    size = abs(value) + Fraction(1, 2)
    return size.numerator // size.denominator * (1 if value >= 0 else -1)


def _each(x: NDArray[Any], rule: Any) -> NDArray[Any]:
    out = np.empty(x.shape, object)
    for at in np.ndindex(x.shape):
        out[at] = rule(int(x[at]))
    return out


def _rescaled(x: NDArray[Any], rule: Requantise) -> NDArray[Any]:
    factor = Fraction(int(rule.multiplier[0]), 1 << int(rule.shift[0]))
    return _each(x, lambda v: min(max(nearest(v * factor), rule.low), rule.high))


def _shifted(x: NDArray[Any], shift: int) -> NDArray[Any]:
    return _each(x, lambda v: min(max(nearest(Fraction(v, 1 << shift)), -(1 << 31)), (1 << 31) - 1))


def _kept(x: NDArray[Any], step: ReduceStep) -> NDArray[Any]:
    if step.keep:
        return x
    left = [size for axis, size in enumerate(x.shape) if axis not in step.axes]
    return x.reshape(left or [1])


def _norm(step: NormStep, x: NDArray[Any]) -> NDArray[Any]:
    kept = [range(1) if a in step.axes else range(size) for a, size in enumerate(x.shape)]
    z = np.empty(x.shape, object)
    for corner in np.ndindex(*map(len, kept)):
        part = tuple(slice(None) if a in step.axes else slice(i, i + 1) for a, i in enumerate(corner))
        codes = [int(v) for v in x[part].reshape(-1)]
        n = len(codes)
        mean = nearest(Fraction(sum(codes) << step.fraction, n)) if step.centre else 0
        d = [(v << step.fraction) - mean for v in codes]
        variance = max(sum(v * v for v in d) // n + (step.eps << step.eps_shift), 1)
        half = (24 - variance.bit_length()) // 2
        w = variance << 2 * half if half >= 0 else variance >> -2 * half
        root = math.isqrt((1 << 62) // w)
        values = [min(max(nearest(Fraction(v * root, 1 << (21 - half))), -32767), 32767) for v in d]
        z[part] = np.array(values, object).reshape(x[part].shape)
    weight, offset = (np.broadcast_to(a, x.shape).astype(object) for a in (step.weight, step.offset))
    return _rescaled(z * weight + offset, step.requantise)


def _softmax(step: SoftmaxStep, x: NDArray[Any]) -> NDArray[Any]:
    moved = np.moveaxis(x, step.axis, -1)
    shares = np.empty(moved.shape, object)
    for at in np.ndindex(moved.shape[:-1]):
        codes = [int(v) for v in moved[at]]
        gaps = [max(codes) - v for v in codes]
        e = [int(step.table[g]) if g < len(step.table) else 0 for g in gaps]
        reciprocal = (1 << 46) // sum(e)
        shares[at] = np.array([nearest(Fraction(v * reciprocal, 1 << 16)) for v in e], object)
    return np.moveaxis(_rescaled(shares, step.requantise), -1, step.axis)


def recurrent(rng: np.random.Generator) -> NetworkGraph:
    """Four rows of an image one after the other, h = tanh(U x + W h + b): W is one layer, read three times."""
    hidden, weight, bias = 6, floats(rng, 6, 6, size=0.6), floats(rng, 6, size=0.3)
    inputs = floats(rng, hidden, 12, size=0.4)
    nodes: list[Node] = [Permute(name="rows", inputs=("input",), order=(1, 0, 2))]
    for step in range(4):
        given, state = f"given{step}", f"h{step}"
        nodes += [
            Take(name=f"row{step}", inputs=("rows",), index=(step,), axis=0),
            Reshape(name=f"flat{step}", inputs=(f"row{step}",), shape=(12,)),
            Linear(name=given, inputs=(f"flat{step}",), weight=inputs, bias=bias),
        ]
        before = given
        if step:
            before = f"sum{step}"
            nodes += [
                Linear(name=f"again{step}", inputs=(f"h{step - 1}",), weight=weight),
                Add(name=before, inputs=(given, f"again{step}")),
            ]
        nodes.append(Unary(name=state, inputs=(before,), function="tanh"))
    head = Linear(name="head", inputs=("h3",), weight=floats(rng, 4, hidden), bias=floats(rng, 4))
    return NetworkGraph((3, 4, 4), (*nodes, head), PIXELS, CLASSES)
