"""Any network graph as a torch module that trains under the errors of its chip, and back.

    net = graph_net(network, noise)      # layers on arrays, every tensor quantised once
    tuned = net.graph()                  # weights on their grid, ends of codes as clamps

Batch norms are folded (``mapping.quantise.lower``). A layer on cells is y = s_x s_w g Σ code · level + b: s_x and
s_w are learned steps, of the input and of each output's weights, g and b a gain and a bias of each output, which
requantisation holds on the chip. Without errors and with bits enough the module answers as its graph does.
Imports torch: import this module late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cim.chip.windows import Window
from cim.simulator.training_layers import ArrayNoise
from mapping.bits import BitWidths, LayerBits
from mapping.compile import logits_op
from mapping.network.file import NetworkFile
from mapping.network.float_run import apply, stored
from mapping.network.graph import INPUT, NetworkGraph, Node, Preprocess
from mapping.quantise.lower import AddOp, AvgPoolOp, ConcatOp, FusedOp, MatrixOp, PassOp, lower
from mapping.quantise.observe import Observations, observe
from mapping.quantise.quantiser import code_widths
from mapping.quantise.scales import best_scale
from search.space.genes import Bits
from search.train.arrays import ArrayLinear, WindowConv2d
from search.train.graph_nodes import Ends, nodes_of
from search.train.lsq import LearnedStep, activation_step

CLIP = 2.0  # root mean squares of its weights at which the codes of an output end at first
RANGE_IMAGES = 512  # most of them that steps start from, as a compiler takes them
Codes = tuple[Tensor, Tensor]


class MatrixUnit(nn.Module):
    """A layer on cells with the gain and the bias of each output.

    Weights are kept at the size that new ones have, and biases at the size of their sums: a learning rate means the
    same in every layer. ``usual``: standard deviation of the sums.
    """

    size: Tensor
    bias0: Tensor

    def __init__(self, op: MatrixOp, bits: Bits, signed: bool, noise: ArrayNoise | None, usual: float) -> None:
        super().__init__()
        groups, per_group, inputs = op.weight.shape
        outputs = groups * per_group
        self.array: WindowConv2d | ArrayLinear
        if op.window is None and groups == 1:
            self.array = ArrayLinear(inputs, outputs, bits, signed, noise)
            nn.init.zeros_(self.array.bias)
            self.array.bias.requires_grad_(False)
            shape: tuple[int, ...] = (outputs, inputs)
        else:
            window = op.window or Window(groups, 1, 1)  # a norm of a vector: one weight a channel
            self.array = WindowConv2d(outputs, window, groups, bits, signed, noise)
            shape = (outputs, window.channels // groups, *window.kernel)
        weight = torch.tensor(op.weight, dtype=torch.float64).view(shape)
        rms = weight.flatten(1).square().mean(1).sqrt()
        size = torch.where(rms > 0, rms * math.sqrt(3 * inputs), 1.0)
        self.register_buffer("size", size.float())
        self.register_buffer("bias0", torch.tensor(op.bias, dtype=torch.float32))
        self.log_gain = nn.Parameter(torch.zeros(outputs))
        self.shift = nn.Parameter(torch.zeros(outputs))
        self.usual = usual
        scaled = (weight / size.view(-1, *(1,) * (weight.dim() - 1))).float()
        self.array.begin_with(scaled, CLIP)
        self._unclipped()

    @torch.no_grad()
    def _unclipped(self) -> None:
        """No step wider than the largest weight needs: then every code is in use."""
        step = self.array.quantiser
        largest = self.array.weight.flatten(1).abs().amax(1).view_as(step.log_step) / step.high
        step.start_at(torch.where(largest > 0, torch.minimum(step.log_step.exp(), largest), 1.0))

    @property
    def gain(self) -> Tensor:
        return self.size * self.log_gain.exp()

    @property
    def bias(self) -> Tensor:
        return self.bias0 + self.usual * self.shift

    def forward(self, codes: Tensor, scale: Tensor) -> Tensor:
        if isinstance(self.array, ArrayLinear):
            y: Tensor = self.array(codes, scale * self.gain.view(1, -1))
            return y + self.bias
        flat = codes.dim() == 2
        sums, step = self.array(codes[:, :, None, None] if flat else codes)
        nothing, one = torch.zeros_like(self.bias0), torch.ones_like(self.bias0)
        # addcmul takes twice as long
        y = functional.batch_norm(sums, nothing, one, scale * step * self.gain, self.bias, eps=0.0)
        return y.flatten(1) if flat else y

    @torch.no_grad()
    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights on their grid, (outputs, …), and the bias of each output."""
        levels, step = self.array.quantiser.codes(self.array.weight.float())
        unit = (step.double().flatten() * self.gain.double()).view(-1, *(1,) * (levels.dim() - 1))
        return _plain(levels.double() * unit), _plain(self.bias)


class GraphNet(nn.Module):
    """Operations in order; pixels 0..1 (n, channels, height, width) to logits."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, ops: Sequence[FusedOp], preprocess: Preprocess, bits: BitWidths, seen: Observations,
        noise: ArrayNoise | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.ops, self.logits = tuple(ops), logits_op(ops)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1))
        self.units, self.steps = nn.ModuleDict(), nn.ModuleDict()
        widths, origin = code_widths(ops, bits), {INPUT: INPUT}
        self.signed = {INPUT: any(m > 0 for m in preprocess.mean)}
        self._add_step(INPUT, widths[INPUT], seen, INPUT, trained=False)
        for op in self.ops:
            origin[op.name] = origin[op.inputs[0]] if isinstance(op, PassOp) else op.name
            never = isinstance(op, AddOp | ConcatOp | AvgPoolOp) and not any(self.signed[i] for i in op.inputs)
            self.signed[op.name] = (
                self.signed[op.inputs[0]] if isinstance(op, PassOp) else op.low < 0 and not never
            )
            if isinstance(op, MatrixOp):
                own = Bits(bits.weights_of(op.name), bits.inputs_of(op.name))
                source = origin[op.inputs[0]]
                if widths[op.inputs[0]] > own.activation:  # a rescaling of its own, as the compiler makes it
                    self.signed[_narrow(op.name)] = self.signed[op.inputs[0]]
                    self._add_step(_narrow(op.name), own.activation, seen, source, trained=False)
                usual = float(np.std(seen.values[op.name])) or 1.0
                self.units[_key(op.name)] = MatrixUnit(op, own, self.signed[op.inputs[0]], noise, usual)
            if not isinstance(op, PassOp) and op.name != self.logits:
                self._add_step(op.name, widths[op.name], seen, op.name, trained=True)

    def forward(self, pixels: Tensor) -> Tensor:
        values: dict[str, Codes] = {INPUT: self._step(INPUT).codes((pixels - self.mean) / self.std)}
        last = self.ops[-1].name
        for op in self.ops:
            inputs = [values[name] for name in op.inputs]
            if isinstance(op, PassOp):
                codes, step = inputs[0]
                values[op.name] = _in_order(apply(op.node, [codes], stored)), step
                continue
            y = self._real(op, inputs)
            if not (math.isinf(op.low) and math.isinf(op.high)):
                y = y.clamp(None if math.isinf(op.low) else op.low, None if math.isinf(op.high) else op.high)
            y = _in_order(y)
            values[op.name] = (y, y.new_ones(())) if op.name == self.logits else self._step(op.name).codes(y)
        codes, step = values[last]
        return codes * step

    def _real(self, op: FusedOp, inputs: Sequence[Codes]) -> Tensor:
        codes, step = inputs[0]
        match op:
            case MatrixOp():
                if _key(_narrow(op.name)) in self.steps:
                    codes, step = self._step(_narrow(op.name)).codes(codes * step)
                y: Tensor = self.units[_key(op.name)](codes, step)
                return y
            case AddOp():
                return codes * step + inputs[1][0] * inputs[1][1]
            case ConcatOp():
                return torch.cat([c * s for c, s in inputs], 1)
            case AvgPoolOp():
                if op.flatten:
                    return codes.mean((2, 3)) * step
                return functional.avg_pool2d(codes, op.kernel, op.stride, op.padding) * step
        return codes * step

    def unit(self, name: str) -> MatrixUnit:
        found = self.units[_key(name)]
        assert isinstance(found, MatrixUnit)
        return found

    def ends(self, op: FusedOp) -> Ends | None:
        """Least and largest value of an operation's result; None where codes only move."""
        if isinstance(op, PassOp):
            return None
        if op.name == self.logits:
            return op.low, op.high
        step = self._step(op.name)
        size = float(step.log_step.detach().exp())
        return max(op.low, step.low * size), min(op.high, step.high * size)

    def nodes(self) -> tuple[Node, ...]:
        """Ordinary nodes that answer as the module does, without errors and without rounding of activations."""
        weights = {op.name: self.unit(op.name).weights() for op in self.ops if isinstance(op, MatrixOp)}
        return nodes_of(self.ops, weights, {op.name: self.ends(op) for op in self.ops})

    def _step(self, name: str) -> LearnedStep:
        found = self.steps[_key(name)]
        assert isinstance(found, LearnedStep)
        return found

    def _add_step(self, name: str, bits: int, seen: Observations, origin: str, *, trained: bool) -> None:
        """A step that starts where a compiler would choose it; untrained ones it will choose again."""
        step = activation_step(bits, self.signed[name])
        step.start_at(torch.tensor(best_scale(seen.values[origin], seen.largest[origin], step.low, step.high)))
        step.log_step.requires_grad_(trained)
        self.steps[_key(name)] = step


def graph_net(network: NetworkFile, noise: ArrayNoise | None, images: NDArray[np.uint8] | None = None) -> GraphNet:
    """The module of a network at its own bits.

    Args:
        images: uint8 (n, height, width, channels), training images from which steps start; None: those that the
            file calibrates with, of which there must be some.
    """
    ops = lower(network.graph)
    some = network.calibration_images if images is None else images
    seen = observe(network.graph, ops, some[:: -(-len(some) // RANGE_IMAGES)])
    bits = BitWidths(network.weight_bits, network.activation_bits, network.layer_bits)
    net = GraphNet(ops, network.graph.preprocess, bits, seen, noise)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def tuned_file(
    net: GraphNet,
    network: NetworkFile,
    *,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    provenance: dict[str, str],
) -> NetworkFile:
    """What was trained, as a file; ``images`` are training images that a compiler calibrates with."""
    old = network.graph
    graph = NetworkGraph(old.input_shape, net.nodes(), old.preprocess, old.classes, {**old.provenance, **provenance})
    on_cells = {op.name for op in net.ops if isinstance(op, MatrixOp)}
    bits: dict[str, LayerBits] = {name: b for name, b in network.layer_bits.items() if name in on_cells}
    return replace(
        network, graph=graph, calibration_images=images, calibration_labels=labels, layer_bits=bits
    )


def _narrow(name: str) -> str:
    return f"{name}.input"


def _key(name: str) -> str:
    """A name as torch takes it for a module."""
    return name.replace(".", "/")


def _in_order(x: Tensor) -> Tensor:
    """Maps with channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _plain(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())
