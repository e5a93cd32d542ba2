"""Networks of a search as torch modules: layers on arrays (``search.train.arrays``), norms, codes between them.

Every tensor is quantised once, by a learned step (``search.train.lsq``), and all its readers see those codes,
as in a compiled network. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cim.cost.workload import INPUT, WorkKind
from cim.simulator.training_errors import ArrayNoise
from search.space.architecture import Architecture
from search.space.genes import Bits, Space
from search.space.operators import Layer
from search.space.precision import Precision, precision
from search.train.arrays import ArrayConv2d, ArrayLinear, with_adc_bits
from search.train.lsq import LearnedStep, activation_step

NORM_SHARE = 0.02  # of a batch in kept statistics: virtual chips stay for some batches, and those of many count


class Unit(nn.Module):
    """One layer with its batch norm; inputs are codes with their steps.

    Its ReLU is the lower end of the codes that its result is quantised to.
    """

    def __init__(
        self,
        layer: Layer,
        inputs: int,
        bits: Bits,
        signed: bool,
        noise: ArrayNoise | None,
    ) -> None:
        super().__init__()
        self.kind = layer.kind
        self.array: ArrayConv2d | ArrayLinear | None = None
        self.norm: nn.BatchNorm2d | None = None
        if layer.kind is WorkKind.CONV:
            self.array = ArrayConv2d(inputs, layer, bits, signed, noise)
            self.norm = nn.BatchNorm2d(layer.outputs, momentum=NORM_SHARE)
        elif layer.kind is WorkKind.LINEAR:
            self.array = ArrayLinear(inputs, layer.outputs, bits, signed, noise)

    def forward(self, inputs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        codes, scale = inputs[0]
        if isinstance(self.array, ArrayLinear):
            logits: Tensor = self.array(codes, scale)
            return logits
        if self.array is not None and self.norm is not None:
            sums, size = self.array(codes)
            return normalised(self.norm, sums, scale * size)
        return codes * scale + inputs[1][0] * inputs[1][1] if self.kind is WorkKind.ADD else codes.mean((2, 3)) * scale


def normalised(norm: nn.BatchNorm2d, sums: Tensor, size: Tensor) -> Tensor:
    """``norm(sums · size)``, ``size`` (channels,), without a pass over the maps for the product.

    Statistics of a batch do not see the size of what they are of: its gradient is 0 then. Those that are kept are
    the mean of all batches at first, so that what they start from does not count.
    """
    running, spread, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert running is not None
    assert spread is not None
    assert count is not None
    if not norm.training:
        factor = norm.weight * (spread + norm.eps).rsqrt()
        scale, shift = factor * size, norm.bias - factor * running
        nothing, one = torch.zeros_like(running), torch.ones_like(spread)
        return functional.batch_norm(sums, nothing, one, scale, shift, eps=0.0)  # addcmul takes twice as long
    mean, variance = torch.zeros_like(running), torch.zeros_like(spread)
    y = functional.batch_norm(sums, mean, variance, norm.weight, norm.bias, True, 1.0, norm.eps)
    with torch.no_grad():
        count += 1
        share = max(norm.momentum or 0.0, 1.0 / float(count))
        running.lerp_(mean * size, share)
        spread.lerp_(variance * size**2, share)
    return y


class LayerNet(nn.Module):
    """Layers in order: a network, or an operator in its slot. Every tensor is quantised once, logits are not.

    Args:
        layers: at least one, from ``Space.layers`` or an operator; the last gives the result.
        channels: of what comes in; ``signed``: whether it may be negative.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        channels: int,
        bits: Precision,
        noise: ArrayNoise | None,
        *,
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.layers, self.source, self.bits = tuple(layers), layers[0].inputs[0], bits
        self.units, self.steps = nn.ModuleDict(), nn.ModuleDict()
        widths, signs = {self.source: channels}, {self.source: signed}
        self.codes = bits.codes(layers)
        for layer in layers:
            first = layer.inputs[0]
            self.units[key(layer.name)] = Unit(layer, widths[first], bits.of(layer), signs[first], noise)
            widths[layer.name] = layer.outputs
            signs[layer.name] = not layer.relu and (layer.kind is not WorkKind.AVG_POOL or signs[first])
        self.channels = widths[layers[-1].name]
        for name in (self.source, *(layer.name for layer in layers)):
            if name != layers[-1].name or layers[-1].kind is not WorkKind.LINEAR:
                self.steps[key(name)] = activation_step(self.codes[name], signs[name])
        if self.source == INPUT:  # pixels 0..1: one code a grey level, at 8 bits
            step = self._step(INPUT)
            step.start_at(torch.tensor(1.0 / step.high))
            step.log_step.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y, values = x, {self.source: self._step(self.source).codes(x)}
        for layer in self.layers:
            y = self.units[key(layer.name)]([values[name] for name in layer.inputs])
            if key(layer.name) in self.steps:
                values[layer.name] = self._step(layer.name).codes(y)
        last = values.get(self.layers[-1].name)
        return y if last is None else last[0] * last[1]

    def unit(self, layer: Layer) -> Unit:
        found = self.units[key(layer.name)]
        assert isinstance(found, Unit)
        return found

    def _step(self, name: str) -> LearnedStep:
        step = self.steps[key(name)]
        assert isinstance(step, LearnedStep)
        return step

    def ends(self, layer: Layer) -> tuple[float, float] | None:
        """Least and largest value of a layer's quantised result; None for logits."""
        if key(layer.name) not in self.steps:
            return None
        step = self._step(layer.name)
        size = float(step.log_step.detach().exp())
        return step.low * size, step.high * size


def key(name: str) -> str:
    """A layer's name as torch takes it."""
    return name.replace(".", "/")


def network(space: Space, architecture: Architecture, noise: ArrayNoise | None) -> LayerNet:
    """The whole network, pixels 0..1 (n, channels, height, width) to logits, on the architecture's converters."""
    own = None if noise is None else with_adc_bits(noise, architecture.adc_bits)
    return LayerNet(space.layers(architecture), space.input_shape[0], precision(space, architecture), own)
