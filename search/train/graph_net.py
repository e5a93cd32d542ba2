"""Any network graph as a torch module that trains under the errors of its chip, and back.

    net = graph_net(network, program, noise)     # layers on arrays, every tensor quantised once
    nodes = net.nodes()                          # weights on their grid, ends of codes as clamps

Batch norms are folded (``mapping.quantise.lower``). A layer on cells is y = s_x s_w g Σ code · level + b: s_x and
s_w are learned steps, of the input and of each output's weights, g and b a gain and a bias of each output, which
requantisation holds on the chip. It begins as a compiled program of the network: its integers, steps and biases.
In training weights leave their integers and lie between them, which lets a slow training move them a little; who
takes them to a chip rounds them again so that those of an output make up for each other.
Without errors and with bits enough the module answers as its graph does.
Imports torch: import this module late.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cim.simulator.training_errors import ArrayNoise
from mapping.bits import BitWidths, LayerBits
from mapping.layout.tile import stretch
from mapping.network.file import NO_KEYS, NetworkFile
from mapping.network.float_run import stored
from mapping.network.graph import Preprocess
from mapping.operators.activations import ClampOp, Grid, HardTanh, Relu
from mapping.operators.fused import ChosenCodes, FusedOp, MatrixOp
from mapping.operators.moves import Take
from mapping.operators.node import INPUT, DigitalOp, Node, NodeOp, PassOp, may_be_negative
from mapping.operators.products import Conv, Linear
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.quantise.lower import input_grid, logits_op
from mapping.quantise.sharing import shared_ops
from mapping.quantise.widths import code_widths
from search.space.genes import Bits
from search.train.arrays import ArrayLinear, WindowConv2d, set_strength
from search.train.graph_part import PixelModule
from search.train.lsq import LearnedStep, activation_step

Codes = tuple[Tensor, Tensor]


class MatrixUnit(nn.Module):
    """A layer on cells with the gain and the bias of each output.

    Weights are kept at the size that new ones have, and biases at the size of their sums: a learning rate means the
    same in every layer. ``usual``: standard deviation of the sums. ``copies`` of it are averaged on the chip.
    """

    size: Tensor
    bias0: Tensor

    def __init__(self, op: MatrixOp, bits: Bits, signed: bool, noise: ArrayNoise | None, usual: float) -> None:
        super().__init__()
        groups, per_group, inputs = op.stored.shape
        outputs = groups * per_group
        self.array: WindowConv2d | ArrayLinear
        if op.window is None:
            self.array = ArrayLinear(inputs, outputs, bits, signed, noise)
            nn.init.zeros_(self.array.bias)
            self.array.bias.requires_grad_(False)
        else:
            self.array = WindowConv2d(outputs, op.window, groups, bits, signed, noise)
        self.array.rounded = False
        self.register_buffer("size", torch.ones(outputs))
        self.register_buffer("bias0", torch.zeros(outputs))
        self.copies = 1
        self.log_gain = nn.Parameter(torch.zeros(outputs))
        self.shift = nn.Parameter(torch.zeros(outputs))
        self.usual = usual

    @torch.no_grad()
    def start(self, levels: NDArray[np.float64], step: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """Begin with integers of a compiler.

        Args:
            levels: the integers, (outputs, rows).
            step: what one level stands for, (outputs,); bias: (outputs,).
        """
        real = torch.tensor(levels * step[:, None])
        rms = real.square().mean(1).sqrt()
        size = torch.where(rms > 0, rms * math.sqrt(3 * real.shape[1]), 1.0)
        self.size.copy_(size)
        self.bias0.copy_(torch.tensor(bias))
        self.array.weight.copy_((real / size[:, None]).view_as(self.array.weight))
        quantiser = self.array.quantiser
        quantiser.start_at((torch.tensor(step) / size).float().view_as(quantiser.log_step))

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
        sums, step = self.array(codes)
        nothing, one = torch.zeros_like(self.bias0), torch.ones_like(self.bias0)
        # addcmul takes twice as long
        return functional.batch_norm(sums, nothing, one, scale * step * self.gain, self.bias, eps=0.0)

    @torch.no_grad()
    def in_levels(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Weights in levels (outputs, rows), what one level stands for and the bias, each (outputs,)."""
        levels, step = self.array.levels_now()
        unit = step.double().flatten() * self.gain.double()
        return levels.flatten(1).double().cpu().numpy(), unit.cpu().numpy(), self.bias.double().cpu().numpy()

    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights (outputs, …) and the bias of each output."""
        levels, unit, bias = self.in_levels()
        real = (levels * unit[:, None]).reshape(self.array.weight.shape)
        return np.ascontiguousarray(real, np.float32), bias.astype(np.float32)


class GraphNet(PixelModule):
    """Operations in order; pixels 0..1 (n, channels, height, width) to logits.

    ``seen``, where there is one, gets what every operation of a pass gives, before it becomes codes.
    """

    seen: dict[str, Tensor] | None

    def __init__(
        self, ops: Sequence[FusedOp], preprocess: Preprocess, bits: BitWidths, program: ConductanceProgram,
        noise: ArrayNoise | None, grid: Grid | None,
    ) -> None:  # fmt: skip
        super().__init__(preprocess)
        self.ops, self.logits, self.seen = tuple(ops), logits_op(ops), None
        self.units, self.steps = nn.ModuleDict(), nn.ModuleDict()
        self.names: dict[int, str] = {}  # of buffers, by the array that they hold
        widths, scales = code_widths(ops, bits), program.scales
        made = {step.name: step for step in program.matrices}
        self.signed, self.input_grid = {INPUT: program.input.signed}, grid
        self.grids: dict[str, ChosenCodes] = {} if grid is None else {INPUT: grid}
        self._add_step(INPUT, widths[INPUT], scales, trained=False)
        for op in self.ops:
            if isinstance(op, PassOp):
                self.signed[op.name] = self.signed[op.inputs[0]]
                if op.inputs[0] in self.grids:
                    self.grids[op.name] = self.grids[op.inputs[0]]
                continue
            self.signed[op.name] = may_be_negative(op, [self.signed[name] for name in op.inputs])
            if op.grid is not None:
                self.signed[op.name], self.grids[op.name] = op.grid.low < 0, op.grid
            if isinstance(op, DigitalOp):
                self._hold(op.node)
            if isinstance(op, MatrixOp):
                home = _home(op)
                own, source = Bits(bits.weights_of(home), bits.inputs_of(home)), op.inputs[0]
                signed = self.signed[source]
                if self._too_wide(
                    source, widths[source], own.activation
                ):  # a rescaling of its own, as the compiler makes it
                    source = _narrow(op.name)
                    self.signed[source] = signed
                    self._add_step(source, own.activation, scales, trained=False)
                if op.shares is not None:
                    continue
                top = 1 << 20 if op.name == self.logits else (1 << widths[op.name]) - 1
                unit = MatrixUnit(op, own, signed, noise, scales[op.name] * top / 8)
                _begin(unit, op, made[op.name], scales[source], scales[op.name], program.spec.macro.max_level)
                self.units[_key(op.name)] = unit
            if op.name != self.logits:
                self._add_step(op.name, widths[op.name], scales, trained=True)

    def forward(self, pixels: Tensor, known: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (n, classes).

        Args:
            known: codes of some results as a chip has measured them: they are not computed, nor what only they need.
        """
        values: dict[str, Codes] = {INPUT: self._step(INPUT).codes(self.standardised(pixels))}
        for name, codes in (known or {}).items():
            values[name] = _in_order(codes), self._scale_of(name)
        needed = self._needed(values) if known else None
        for op in self.ops:
            if needed is not None and op.name not in needed:
                continue
            inputs = [values[name] for name in op.inputs]
            if isinstance(op, PassOp):
                codes, step = inputs[0]
                node = op.node
                if isinstance(node, Take) and node.fill:
                    node = replace(node, fill=node.fill / float(step.detach()))
                values[op.name] = _in_order(node.forward([codes], stored)), step
                continue
            y = self._real(op, inputs)
            last = op.name == self.logits
            low, high = self._clamp(op)
            if low is not None or high is not None:
                y = y.clamp(low, high)
            y = _in_order(y)
            if self.seen is not None:
                self.seen[op.name] = y
            values[op.name] = (y, y.new_ones(())) if last else self._step(_home(op)).codes(y)
        codes, step = values[self.ops[-1].name]
        return codes * step

    def _needed(self, known: Collection[str]) -> set[str]:
        """Operations between what is known and the logits."""
        wanted, found = {self.ops[-1].name}, set[str]()
        for op in reversed(self.ops):
            if op.name in wanted and op.name not in known:
                found.add(op.name)
                wanted.update(op.inputs)
        return found

    def _scale_of(self, name: str) -> Tensor:
        """What one code of a result stands for."""
        by_name = {op.name: op for op in self.ops}
        while name != INPUT and isinstance(by_name[name], PassOp):
            name = by_name[name].inputs[0]
        return self._step(name if name == INPUT else _home(by_name[name])).log_step.exp()

    def _clamp(self, op: FusedOp) -> tuple[float | None, float | None]:
        """Where a result ends before its codes do; None: nowhere."""
        ends_itself = op.name != self.logits and self._step(_home(op)).low == 0  # no code is below zero
        low = None if math.isinf(op.low) or (ends_itself and op.low <= 0) else op.low
        return low, None if math.isinf(op.high) else op.high

    def _real(self, op: FusedOp, inputs: Sequence[Codes]) -> Tensor:
        codes, step = inputs[0]
        if isinstance(op, MatrixOp):
            if _key(_narrow(op.name)) in self.steps:
                codes, step = self._step(_narrow(op.name)).codes(codes * step)
            y: Tensor = self.units[_key(_home(op))](codes, step)
            return y
        if isinstance(op, ClampOp):
            return codes * step
        assert isinstance(op, NodeOp)
        return op.as_node(op.inputs).forward([c * s for c, s in inputs], self._held)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphNet:
        memo[id(self.ops)] = self.ops  # they do not change, and their arrays are known by identity
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def _hold(self, node: Node) -> None:
        """Arrays of a node as buffers, so that they go where the module goes."""
        for item in fields(node):
            values = getattr(node, item.name)
            if isinstance(values, np.ndarray):
                name = f"{_key(node.name)}/{item.name}"
                self.register_buffer(name, torch.tensor(values), persistent=False)
                self.names[id(values)] = name

    def _held(self, values: NDArray[np.float32]) -> Tensor:
        return self.get_buffer(self.names[id(values)])

    def set_errors(self, strength: float, chips: int = 1, chip_batches: int = 1) -> None:
        """Set the strength of errors of all layers; it is smaller by √n in a layer with n copies."""
        set_strength(self, strength, chips, chip_batches)
        for unit in self.units.values():
            assert isinstance(unit, MatrixUnit)
            unit.array.strength = strength / unit.copies**0.5

    def unit(self, name: str) -> MatrixUnit:
        found = self.units[_key(name)]
        assert isinstance(found, MatrixUnit)
        return found

    def ends(self, op: FusedOp) -> Ends | None:
        """Least and largest value of an operation's result before codes that the network says; None where codes only
        move."""
        if isinstance(op, PassOp):
            return None
        if op.name == self.logits or op.grid is not None:
            return op.low, op.high
        step = self._step(_home(op))
        size = float(step.log_step.detach().exp())
        return max(op.low, step.low * size), min(op.high, step.high * size)

    def nodes(self) -> tuple[Node, ...]:
        """Ordinary nodes that answer as the module does, without errors and without rounding of activations."""
        weights = {op.name: self.unit(_home(op)).weights() for op in self.ops if isinstance(op, MatrixOp)}
        return nodes_of(self.ops, weights, {op.name: self.ends(op) for op in self.ops}, self.input_grid)

    def _step(self, name: str) -> LearnedStep:
        found = self.steps[_key(name)]
        assert isinstance(found, LearnedStep)
        return found

    def _too_wide(self, source: str, width: int, bits: int) -> bool:
        """Whether a layer of so many bits takes no codes of ``source`` as they are."""
        grid = self.grids.get(source)
        return width > bits if grid is None else grid.high - grid.low >= 1 << bits

    def _add_step(self, name: str, bits: int, scales: Mapping[str, float], *, trained: bool) -> None:
        """A step that starts where the compiler put it; untrained ones it will choose again. Codes that the network
        itself says keep their step and their ends."""
        grid = self.grids.get(name)
        step = activation_step(bits, self.signed[name]) if grid is None else LearnedStep(grid.low, grid.high)
        step.start_at(torch.tensor(scales[name]))
        step.log_step.requires_grad_(trained and grid is None)
        self.steps[_key(name)] = step


def graph_net(network: NetworkFile, program: ConductanceProgram, noise: ArrayNoise | None) -> GraphNet:
    """The module of a network, beginning as a program of it that was compiled at its own bits."""
    bits = BitWidths(network.weight_bits, network.activation_bits, network.layer_bits)
    net = GraphNet(shared_ops(network.graph), network.graph.preprocess, bits, program, noise, input_grid(network.graph))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _begin(
    unit: MatrixUnit, op: MatrixOp, step: MatrixStep, input_scale: float, output_scale: float, max_level: int
) -> None:
    """The integers, steps and biases of a compiled layer."""
    group = step.group
    held = np.zeros((group.inputs, group.outputs))
    for tile in group.matrix_tiles:
        held[tile.inputs.start : tile.inputs.stop, tile.outputs.start : tile.outputs.stop] += (
            float(tile.multiplier) * tile.levels
        )
    groups, outputs, inputs = op.stored.shape
    blocks = held.reshape(groups, inputs, groups, outputs)
    copies = unit.copies = group.averages
    levels = np.stack([blocks[g, :, g].T for g in range(groups)]).reshape(groups * outputs, inputs) / copies
    wide = stretch(unit.array.quantiser.high, max_level)  # narrow weights stand stretched in their cells
    factor = math.gcd(wide, int(np.gcd.reduce(levels.astype(np.int64), axis=None)))
    real = step.requantise.multiplier / 2.0**step.requantise.shift * copies * output_scale / input_scale
    real = np.broadcast_to(real, len(levels))
    unit.start(levels / factor, real * factor, step.bias / copies * real * input_scale)


def tuned_file(
    net: GraphNet,
    network: NetworkFile,
    *,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    provenance: dict[str, str],
    trained_on: NDArray[np.int64],
) -> NetworkFile:
    """What was trained, as a file; ``images`` are training images that a compiler calibrates with, ``trained_on``
    keys of all that it learned from."""
    old = network.graph
    graph = replace(old, nodes=net.nodes(), provenance={**old.provenance, **provenance})
    on_cells = {op.name for op in net.ops if isinstance(op, MatrixOp)}
    bits: dict[str, LayerBits] = {name: b for name, b in network.layer_bits.items() if name in on_cells}
    return replace(
        network,
        graph=graph,
        calibration_images=images,
        calibration_labels=labels,
        calibration_keys=network.calibration_keys if images is network.calibration_images else NO_KEYS,
        layer_bits=bits,
        trained_on=trained_on,
    )


def _home(op: FusedOp) -> str:
    """The operation whose weights and output scale it has: its own, or those of the layer that it reads again."""
    return op.name if not isinstance(op, MatrixOp) or op.shares is None else op.shares


def _narrow(name: str) -> str:
    return f"{name}.input"


def _key(name: str) -> str:
    """A name as torch takes it for a module."""
    return name.replace(".", "/")


def _in_order(x: Tensor) -> Tensor:
    """Maps with channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


Array = NDArray[np.float32]
Ends = tuple[float, float]
"""Least and largest value of a result; infinite where nothing bounds it."""


def nodes_of(
    ops: Sequence[FusedOp],
    weights: Mapping[str, tuple[Array, Array]],
    ends: Mapping[str, Ends | None],
    grid: Grid | None = None,
) -> tuple[Node, ...]:
    """Nodes under the names of the operations, so that bits of single layers still find theirs. Codes that the network
    itself says stay as it says them.

    Args:
        weights: by matrix product, (outputs, …) and the bias of each output.
        ends: by operation; None: its codes only move.
        grid: codes of the input, where the network says them.
    """
    nodes: list[Node] = []
    made = {INPUT: INPUT}  # operation -> node that gives its result
    taken = {op.name for op in ops}
    if grid is not None:
        nodes.append(replace(grid, name=_free(grid.name, taken)))
        made[INPUT] = nodes[0].name
    for op in ops:
        sources = tuple(made[name] for name in op.inputs)
        low, high = ends[op.name] or (-math.inf, math.inf)
        if isinstance(op, MatrixOp):
            nodes.append(_matrix(op, sources, *weights[op.name]))
        elif isinstance(op, NodeOp):
            nodes.append(op.as_node(sources))
        source = sources[0] if isinstance(op, ClampOp) else op.name
        if (low, high) != (-math.inf, math.inf):
            name = op.name if isinstance(op, ClampOp) else _free(f"{op.name}_ends", taken)
            nodes.append(_clamp(name, (source,), low, high))
            source = name
        if op.grid is not None:
            name = op.name if source == sources[0] else _free(f"{op.name}_codes", taken)
            codes = op.grid
            nodes.append(Grid(name=name, inputs=(source,), scale=codes.scale, low=codes.low, high=codes.high))
            source = name
        made[op.name] = source
    return tuple(nodes)


def _matrix(op: MatrixOp, sources: tuple[str, ...], weight: Array, bias: Array) -> Node:
    if op.window is None:
        return Linear(name=op.name, inputs=sources, weight=weight, bias=bias)
    window = op.window
    return Conv(
        name=op.name,
        inputs=sources,
        weight=weight,
        bias=bias,
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=op.stored.shape[0],
    )


def _clamp(name: str, sources: tuple[str, ...], low: float, high: float) -> Node:
    if math.isinf(high):
        if low != 0.0:
            raise ValueError(f"{name}: an activation with the lower end {low} and no upper end is unknown")
        return Relu(name=name, inputs=sources)
    return HardTanh(name=name, inputs=sources, low=low, high=high)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
