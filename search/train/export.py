"""A trained network of a search as ``net.pt``: weights on their grid, the ends of its codes as clamps.

The graph is captured from an ordinary torch module (``PlainNet``), so what is written answers as
that module does. Compilers find the grid of the weights again (``mapping.quantise.rounding``) and, with the
ends as clamps, choose the scales of codes. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cim.cost.workload import WorkKind
from mapping.bits import LayerBits
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.graph import Preprocess
from search.space.operators import Layer
from search.train.modules import LayerNet


class PlainNet(nn.Module):
    """A trained ``LayerNet`` in ordinary layers, without rounding of activations; in evaluation mode."""

    def __init__(self, net: LayerNet) -> None:
        super().__init__()
        self.layers = net.layers
        self.ends = {layer.name: net.ends(layer) for layer in net.layers}
        self.norms: dict[str, str] = {}
        for layer in net.layers:
            unit = net.unit(layer)
            if unit.array is None:
                continue
            with torch.no_grad():
                weight = unit.array.quantiser(unit.array.weight)
            plain = _conv(layer, weight) if layer.kind is WorkKind.CONV else _linear(weight, unit.array.bias)
            place(self, layer.name, plain)
            if unit.norm is not None:
                self.norms[layer.name] = f"{layer.name}_norm"
                place(self, self.norms[layer.name], _copy(unit.norm))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        values = {self.layers[0].inputs[0]: x}
        for layer in self.layers:
            inputs = [values[name] for name in layer.inputs]
            if layer.kind is WorkKind.ADD:
                y = inputs[0] + inputs[1]
            elif layer.kind is WorkKind.AVG_POOL:
                y = inputs[0].mean((2, 3))
            else:
                y = self.get_submodule(layer.name)(_padded(layer, inputs[0]))
            if layer.name in self.norms:
                y = self.get_submodule(self.norms[layer.name])(y)
            ends = self.ends[layer.name]
            if ends is not None:
                y = y.clamp(0.0 if layer.relu else ends[0], ends[1])
            values[layer.name] = y
        return y


def network_file(
    net: LayerNet,
    input_shape: tuple[int, int, int],
    *,
    classes: Sequence[str],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    provenance: Mapping[str, str],
) -> NetworkFile:
    """``images`` (n, height, width, channels) are training images that calibrate; pixels count as 0..1."""
    channels = input_shape[0]
    graph = capture(
        PlainNet(net).cpu(),
        torch.zeros(1, *input_shape),
        preprocess=Preprocess((0.0,) * channels, (1.0,) * channels),
        classes=classes,
        provenance=provenance,
    )
    common = net.bits.common
    own = {layer.name: net.bits.of(layer) for layer in net.layers if layer.kind.on_cells}
    others = {name: LayerBits(b.weight, b.activation) for name, b in own.items() if b != common}
    return NetworkFile(graph, common.weight, common.activation, images, labels, others)


def place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where a dotted name says."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)


def _conv(layer: Layer, weight: Tensor) -> nn.Conv2d:
    padding = layer.before if layer.before == layer.after else 0
    inputs = weight.shape[1] * layer.groups
    conv = nn.Conv2d(inputs, layer.outputs, layer.kernel, layer.stride, padding, groups=layer.groups, bias=False)
    conv.weight = nn.Parameter(weight.float(), requires_grad=False)
    return conv


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    assert bias is not None
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.float(), requires_grad=False)
    linear.bias = nn.Parameter(bias.detach().clone().float(), requires_grad=False)
    return linear


def _copy(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    copy = nn.BatchNorm2d(norm.num_features, norm.eps)
    copy.load_state_dict(norm.state_dict())
    return copy


def _padded(layer: Layer, x: Tensor) -> Tensor:
    if layer.kind is not WorkKind.CONV or layer.before == layer.after:
        return x
    return nn.functional.pad(x, (layer.before, layer.after, layer.before, layer.after))
