"""Small hand-built networks that between them hold every kind of node, and a slow integer interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import HardTanh, Relu, Relu6, RescaleStep
from mapping.operators.affine import BatchNorm
from mapping.operators.integer.requantise import Requantise
from mapping.operators.joins import Add, AddStep, Concat, ConcatStep
from mapping.operators.moves import Flatten, Slice
from mapping.operators.node import Node
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPool, AvgPoolStep, GlobalAvgPool, MaxPool
from mapping.operators.products import Conv, Linear
from mapping.operators.step import Step
from mapping.program.conductance import AgainStep, ConductanceProgram, MatrixStep

from .tensor_networks import slow_tensor_step


def conv(rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...], **options: Any) -> Conv:
    size = float(np.sqrt(2 / np.prod(shape[1:])))
    weight = rng.normal(0, size, shape).astype(np.float32)
    return Conv(name=name, inputs=(source,), weight=weight, **options)


def norm(rng: np.random.Generator, name: str, source: str, channels: int) -> BatchNorm:
    scale, shift, mean = (rng.normal(m, 0.2, channels).astype(np.float32) for m in (1.0, 0.1, 0.0))
    variance = rng.uniform(0.5, 1.5, channels).astype(np.float32)
    return BatchNorm(name=name, inputs=(source,), scale=scale, shift=shift, mean=mean, variance=variance)


def every_node(rng: np.random.Generator) -> NetworkGraph:
    """8 x 8 RGB to 4 classes through every kind of node, fused and alone."""
    linear = rng.normal(0, 0.2, (4, 36)).astype(np.float32)
    bias = rng.normal(0, 0.1, 8).astype(np.float32)
    grouped = {"padding": (2, 1), "dilation": (2, 1), "groups": 2, "bias": bias}
    nodes: tuple[Node, ...] = (
        conv(rng, "conv1", "input", (8, 3, 3, 3), padding=(1, 1)),
        norm(rng, "bn1", "conv1", 8),
        Relu(name="relu1", inputs=("bn1",)),
        conv(rng, "depthwise", "relu1", (8, 1, 3, 3), padding=(1, 1), groups=8),
        norm(rng, "bn2", "depthwise", 8),
        Relu6(name="relu6", inputs=("bn2",)),
        conv(rng, "grouped", "relu6", (8, 4, 3, 2), **grouped),
        Slice(name="narrow", inputs=("grouped",), stop=8),
        HardTanh(name="tanh", inputs=("narrow",), low=-0.8, high=0.9),
        AvgPool(name="mean", inputs=("tanh",), kernel=(1, 2), stride=(1, 1)),
        Add(name="add", inputs=("relu1", "mean")),
        HardTanh(name="clip", inputs=("add",), low=-1.0, high=2.0),
        norm(rng, "lone_bn", "clip", 8),
        Slice(name="option_a", inputs=("lone_bn",), step=(2, 2), start=2, stop=8),
        PadChannels(name="pad", inputs=("option_a",), before=1, after=1),
        MaxPool(name="max", inputs=("clip",), kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        Relu(name="lone_relu", inputs=("lone_bn",)),
        MaxPool(name="max3", inputs=("lone_relu",), kernel=(2, 2), stride=(2, 2)),
        Concat(name="concat", inputs=("pad", "max", "max3")),
        PadMap(name="shift", inputs=("concat",), top=1, left=1),
        conv(rng, "conv2", "shift", (9, 24, 2, 2)),
        MaxPool(name="max2", inputs=("conv2",), kernel=(2, 2), stride=(2, 2)),
        Relu(name="relu2", inputs=("max2",)),
        Flatten(name="flat", inputs=("relu2",)),
        Linear(name="fc", inputs=("flat",), weight=linear, bias=rng.normal(0, 0.1, 4).astype(np.float32)),
    )  # fmt: skip
    classes = ("a", "b", "c", "d")
    return NetworkGraph((3, 8, 8), nodes, Preprocess((0.5, 0.4, 0.45), (0.25, 0.25, 0.2)), classes)


def pooled_logits(rng: np.random.Generator) -> NetworkGraph:
    """A network whose logits are a mean over positions, not a matrix product."""
    nodes: tuple[Node, ...] = (
        conv(rng, "conv1", "input", (5, 1, 3, 3), stride=(2, 2)),
        Relu(name="relu", inputs=("conv1",)),
        conv(rng, "conv2", "relu", (3, 5, 1, 1)),
        GlobalAvgPool(name="mean", inputs=("conv2",)),
    )
    return NetworkGraph((1, 9, 9), nodes, Preprocess((0.0,), (1.0,)), ("a", "b", "c"))


def network(graph: NetworkGraph, rng: np.random.Generator, weight_bits: int = 8, images: int = 48) -> NetworkFile:
    channels, height, width = graph.input_shape
    smooth = rng.integers(0, 256, (images, 1, 1, channels)) + rng.integers(-60, 60, (images, height, width, channels))
    return NetworkFile(graph, weight_bits, 8, np.clip(smooth, 0, 255).astype(np.uint8))


def slow_run(program: ConductanceProgram, image: NDArray[np.uint8]) -> list[int]:
    """Logit codes of one image, by Python integers and plain loops over the program's tiles."""
    values: dict[str, NDArray[Any]] = {}
    pixels = image.transpose(2, 0, 1)
    table = program.input.table.astype(object)
    values["input"] = np.array([table[c][pixels[c].reshape(-1)].reshape(pixels[c].shape) for c in range(len(pixels))])
    for step in program.steps:
        layer = program.layers[step.layer] if isinstance(step, AgainStep) else step
        values[step.name] = _slow_step(layer, [values[name] for name in step.inputs])
    return [int(v) for v in values[program.steps[-1].name]]


def _slow_step(step: Step, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    x = inputs[0]
    match step:
        case MatrixStep():
            return _rescale(_slow_matrix(step, x), step.requantise)
        case RescaleStep():
            return _rescale(x, step.requantise)
        case AddStep():
            first, second = (_rescale(v, r) for v, r in zip(inputs, step.rescale, strict=True))
            return _rescale(first - second if step.subtract else first + second, step.requantise)
        case ConcatStep():
            return np.concatenate([_rescale(v, r) for v, r in zip(inputs, step.rescale, strict=True)], step.axis)
        case MaxPool():
            return _pool(x, step.kernel, step.stride, step.padding, max, -(10**9))
        case AvgPoolStep():
            means = _rescale(_pool(x, step.kernel, step.stride, step.padding, sum, 0), step.requantise)
            return means.reshape(-1) if step.flatten else means
        case Flatten():
            return x.reshape(-1)
        case PadChannels():
            return np.pad(x, ((step.before, step.after), (0, 0), (0, 0)))
        case PadMap():
            return np.pad(x, ((0, 0), (step.top, step.bottom), (step.left, step.right)))
        case Slice():
            return x[step.start : step.stop, :: step.step[0], :: step.step[1]]
    return slow_tensor_step(step, inputs)


def _slow_matrix(step: MatrixStep, x: NDArray[Any]) -> NDArray[Any]:
    group = step.group
    window = group.window
    if window is None:
        vectors = {(): x}
        shape: tuple[int, ...] = ()
    else:
        shape = (window.out_height, window.out_width)
        (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
        padded = np.pad(x, ((0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        places = [(c, *k) for c in range(window.channels) for k in np.ndindex(window.kernel)]
        vectors = {
            (i, j): np.array([padded[c, i * step_h + y * gap_h, j * step_w + z * gap_w] for c, y, z in places], object)
            for i, j in np.ndindex(shape)
        }
    sums = np.empty((group.outputs, *shape), object)
    for at, vector in vectors.items():
        total = np.array([int(b) for b in step.bias], object)
        for tile in group.tiles:
            part = np.asarray(vector[tile.inputs.start : tile.inputs.stop], object) @ tile.levels.astype(object)
            total[tile.outputs.start : tile.outputs.stop] += tile.multiplier * part
        sums[(slice(None), *at)] = total
    return sums


def _rescale(x: NDArray[Any], rule: Requantise) -> NDArray[Any]:
    out = np.empty(x.shape, object)
    for index in np.ndindex(x.shape):
        i = index[0] % len(rule.multiplier)
        product, shift = int(x[index]) * int(rule.multiplier[i]), int(rule.shift[i])
        size = (abs(product) + (1 << shift >> 1)) >> shift
        out[index] = max(rule.low, min(rule.high, size if product >= 0 else -size))
    return out


def _pool(x: NDArray[Any], kernel: Any, stride: Any, padding: Any, best: Any, fill: int) -> NDArray[Any]:
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=fill)
    height, width = ((n - k) // s + 1 for n, k, s in zip(padded.shape[1:], kernel, stride, strict=True))
    out = np.empty((len(x), height, width), object)
    for c, i, j in np.ndindex(out.shape):
        block = padded[c, i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]]
        out[c, i, j] = best(int(v) for v in block.reshape(-1))
    return out
