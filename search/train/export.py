"""A trained network of a search as ``net.pt``: weights on their grid, the ends of its codes as clamps.

Compilers find the grid of the weights again (``mapping.quantise.rounding``) and, with the ends as clamps, choose the
scales of codes. Imports torch: import this module late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cim.cost.workload import INPUT, WorkKind
from mapping.bits import LayerBits
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import HardTanh
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add
from mapping.operators.node import Node
from mapping.operators.padding import PadMap
from mapping.operators.pools import GlobalAvgPool
from mapping.operators.products import Conv, Linear
from search.space.operators import Layer
from search.train.modules import LayerNet


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
    pixels = Preprocess((0.0,) * input_shape[0], (1.0,) * input_shape[0])
    graph = NetworkGraph(input_shape, plain_nodes(net), pixels, tuple(classes), dict(provenance))
    common = net.bits.common
    own = {layer.name: net.bits.of(layer) for layer in net.layers if layer.kind.on_cells}
    others = {name: LayerBits(b.weight, b.activation) for name, b in own.items() if b != common}
    return NetworkFile(graph, common.weight, common.activation, images, labels, others)


@torch.no_grad()
def plain_nodes(net: LayerNet) -> tuple[Node, ...]:
    """Ordinary nodes that answer as the module does without errors and without rounding of activations."""
    nodes: list[Node] = []
    made, counts = {net.source: INPUT}, Counter[str]()

    def add(kind: type[Node], inputs: tuple[str, ...], name: str = "", **fields: Any) -> tuple[str, ...]:
        if not name:  # the kind, and a number from the second on
            counts[kind.kind] += 1
            name = kind.kind if counts[kind.kind] == 1 else f"{kind.kind}_{counts[kind.kind]}"
        nodes.append(kind(name=name, inputs=inputs, **fields))
        return (name,)

    for layer in net.layers:
        last = tuple(made[name] for name in layer.inputs)
        unit, ends = net.unit(layer), net.ends(layer)
        if unit.array is None:
            last = add(Add if layer.kind is WorkKind.ADD else GlobalAvgPool, last)
        elif layer.kind is WorkKind.LINEAR:
            weight = _array(unit.array.quantiser(unit.array.weight))
            last = add(Linear, last, layer.name, weight=weight, bias=_array(unit.array.bias))
        else:
            if layer.before != layer.after:
                last = add(PadMap, last, top=layer.before, left=layer.before, bottom=layer.after, right=layer.after)
            last = add(Conv, last, layer.name, weight=_array(unit.array.quantiser(unit.array.weight)), **_window(layer))
        if (norm := unit.norm) is not None:
            parts = {"scale": norm.weight, "shift": norm.bias, "mean": norm.running_mean, "variance": norm.running_var}
            arrays = {name: _array(values) for name, values in parts.items()}
            last = add(BatchNorm, last, f"{layer.name}_norm", eps=norm.eps, **arrays)
        if ends is not None:
            last = add(HardTanh, last, low=0.0 if layer.relu else ends[0], high=ends[1])
        made[layer.name] = last[0]
    return tuple(nodes)


def _window(layer: Layer) -> dict[str, Any]:
    pad = layer.before if layer.before == layer.after else 0
    return {"stride": (layer.stride,) * 2, "padding": (pad,) * 2, "groups": layer.groups}


def _array(values: Tensor | None) -> NDArray[np.float32]:
    assert values is not None
    return np.array(values.detach().cpu().float().numpy(), np.float32, order="C")
