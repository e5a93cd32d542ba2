"""Networks that begin with the weights of the blocks that they have in common with their teacher.

A block of the teacher is what lies between two single maps: of a ResNet, one residual block; of a plain network, one
convolution. The operator at the i-th position of a stage takes the weights of the i-th block of the teacher's
stage where its layers are that block's: kinds, wiring, kernels, strides and channels. Stem and classifier take theirs
likewise; all else begins as always. A network whose layers are all its teacher's can be had as it is
(``truncated_teacher``). Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cim.cost.workload import WorkKind
from mapping.bits import LayerBits
from mapping.network.file import NetworkFile
from mapping.network.float_run import forward, network_input
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten
from mapping.operators.node import Node
from mapping.operators.pools import GlobalAvgPool
from mapping.operators.products import Conv, Linear
from search.space.architecture import Architecture
from search.space.genes import Space
from search.space.operators import Layer
from search.train.arrays import ArrayConv2d, ArrayLinear
from search.train.graph_part import GraphPart, blocks_of
from search.train.images import Images
from search.train.modules import LayerNet, network
from search.train.teacher import TeacherError, split_graph

SEEN = 128  # images from which the sizes of maps are known
CLIP = 2.0  # root mean squares; trained weights have longer tails than new ones


def inherit(
    net: LayerNet, space: Space, teacher: NetworkGraph, images: Images, *, clip: float = CLIP
) -> tuple[str, ...]:
    """Give a new network of a space what it has in common with its teacher; gives the names of those layers.

    Batch norms start at the mean and the spread that the teacher's maps have for some of ``images``. So a network
    that is all inherited answers as the teacher does, but for rounding and for the borders of images: what lies
    beyond them is black here, where pixels come as 0..1, and the mean of all images to many a teacher.

    Args:
        clip: root mean squares of its weights at which the codes of an output end at first.

    Raises:
        TeacherError: the teacher cannot teach the space.
    """
    parts = _parts(teacher, space)
    found = _common(net, space, parts)
    graph = replace(teacher, nodes=tuple(node for part in parts for node in part.nodes))
    with torch.no_grad():
        maps = forward(graph, network_input(graph.preprocess, images.spread(SEEN).pixels), keep_all=True)
        for layer in net.layers:
            if (node := found.get(layer.name)) is not None:
                _give(net, layer, node, maps[node.name], graph.preprocess, clip)
    return tuple(found)


def truncated_teacher(space: Space, architecture: Architecture, teacher: NetworkFile) -> NetworkFile:
    """The teacher without the blocks that a network of the space skips, with that network's bits and nothing trained.

    Raises:
        SpaceError: the network is not of the space.
        TeacherError: the teacher cannot teach the space, or has not all layers of the network.
    """
    space.encode(architecture)
    net, (stem, *stages, head) = network(space, architecture, None), _parts(teacher.graph, space)
    found = _common(net, space, [stem, *stages, head])
    bits = {layer.name: net.bits.of(layer) for layer in net.layers if layer.kind.on_cells}
    if missing := [name for name in bits if name not in found]:
        raise TeacherError(
            f"the teacher has not all layers of this network of {space.name}: {len(missing)} are others, "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    nodes, instead = list(stem.nodes), dict[str, str]()
    for place, block in _placed(space, stages):
        if _layers(net, f"{place}."):
            nodes += block
        else:
            source = block[0].inputs[0]
            instead[block[-1].name] = instead.get(source, source)
    nodes = [replace(n, inputs=tuple(instead.get(name, name) for name in n.inputs)) for n in (*nodes, *head.nodes)]
    common = net.bits.common
    return replace(
        teacher,
        graph=replace(teacher.graph, nodes=tuple(nodes)),
        weight_bits=common.weight,
        activation_bits=common.activation,
        layer_bits={found[k].name: LayerBits(b.weight, b.activation) for k, b in bits.items() if b != common},
    )


def check_inheritance(space: Space, teacher: NetworkGraph) -> None:
    """Raises ``TeacherError`` where the teacher cannot teach the space, or where networks that have one operator
    everywhere, at one width, inherit nothing."""
    parts = _parts(teacher, space)
    for k in range(max(space.choices)):
        genome = [min(k, count - 1) for count in space.choices]
        if _common(network(space, space.decode(genome), None), space, parts):
            return
    raise TeacherError(
        f"networks of {space.name} have nothing to inherit: no block of the teacher is one of their operators with as "
        "many channels"
    )


def _parts(teacher: NetworkGraph, space: Space) -> list[GraphPart]:
    """Stem, stages and head of the teacher; their nodes together are its nodes, batch norms merged."""
    return [part for part in split_graph(teacher, space).parts if isinstance(part, GraphPart)]


def _common(net: LayerNet, space: Space, parts: Sequence[GraphPart]) -> dict[str, Node]:
    """The teacher's node of each layer that it has too."""
    stem, *stages, head = parts
    pairs = [(_layers(net, "stem"), stem.nodes)]
    pairs += [(_layers(net, f"{place}."), block) for place, block in _placed(space, stages)]
    found = {name: node for layers, nodes in pairs for name, node in _same_block(net, layers, nodes).items()}
    return found | _same_classifier(net, head.nodes)


def _placed(space: Space, stages: Sequence[GraphPart]) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """Blocks of the teacher's stages, each with the position of the space that has its place; "" beyond the last."""
    for number, part in enumerate(stages):
        places = [place.name for place in space.positions if place.stage == number]
        yield from ((places[k] if k < len(places) else "", block) for k, block in enumerate(blocks_of(part)))


def _layers(net: LayerNet, prefix: str) -> list[Layer]:
    return [layer for layer in net.layers if layer.name.startswith(prefix)]


def _same_block(net: LayerNet, layers: Sequence[Layer], nodes: Sequence[Node]) -> dict[str, Node]:
    """The node that is each layer; empty where the block is another than the layers make."""
    own = {layer.name for layer in layers}
    values = {name: nodes[0].inputs[0] for layer in layers for name in layer.inputs if name not in own}
    rectified = {node.inputs[0]: node.name for node in nodes if isinstance(node, Relu)}
    found: dict[str, Node] = {}
    for layer in layers:
        wanted, taken = sorted(values[name] for name in layer.inputs), {node.name for node in found.values()}
        same = (n for n in nodes if n.name not in taken and sorted(n.inputs) == wanted and _is(net, layer, n))
        node = next((n for n in same if (n.name in rectified) == layer.relu), None)
        if node is None:
            return {}
        found[layer.name] = node
        values[layer.name] = rectified.get(node.name, node.name)
    return found if layers and values[layers[-1].name] == nodes[-1].name else {}


def _is(net: LayerNet, layer: Layer, node: Node) -> bool:
    if layer.kind is WorkKind.ADD:
        return isinstance(node, Add)
    array = net.unit(layer).array
    return (
        isinstance(node, Conv)
        and isinstance(array, ArrayConv2d)
        and layer.before == layer.after
        and node.weight.shape == tuple(array.weight.shape)
        and (node.stride, node.padding) == ((layer.stride,) * 2, (layer.before,) * 2)
        and (node.dilation, node.groups) == ((1, 1), layer.groups)
    )


def _same_classifier(net: LayerNet, nodes: Sequence[Node]) -> dict[str, Node]:
    """The classifier, where it reads the pooled map of the last stage in both."""
    (pool, last), array = net.layers[-2:], net.unit(net.layers[-1]).array
    linear = nodes[-1]
    pooled = [type(node) for node in nodes[:-1] if not isinstance(node, Flatten)] == [GlobalAvgPool]
    if not pooled or pool.inputs[0] == "head" or not isinstance(linear, Linear) or array is None:
        return {}
    return {last.name: linear} if linear.weight.shape == tuple(array.weight.shape) else {}


def _give(net: LayerNet, layer: Layer, node: Node, found: Tensor, pixels: Preprocess, clip: float) -> None:
    """``found`` is what the node makes of some images; pixels come to it by ``pixels``, to the layer as 0..1.

    Weights are brought to the size that new ones have, which the batch norm takes back: a learning rate means the same.
    """
    if not isinstance(node, Conv | Linear):
        return
    weight = torch.tensor(node.weight)
    bias = torch.zeros(len(weight)) if node.bias is None else torch.tensor(node.bias)
    if layer is net.layers[0]:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (pixels.mean, pixels.std))
        weight = weight / std
        bias = bias - (weight * mean).sum((1, 2, 3))
    unit = net.unit(layer)
    assert unit.array is not None
    if isinstance(unit.array, ArrayLinear):
        unit.array.begin_with(weight, clip)
        unit.array.bias.copy_(bias)
        return
    middle, spread = found.mean((0, 2, 3)), found.var((0, 2, 3), correction=0)
    new = (3 * weight[0].numel()) ** -0.5  # root mean square of torch's new weights
    factor = new / weight.square().mean((1, 2, 3)).sqrt().clamp_min(1e-8)
    unit.array.begin_with(weight * factor.view(-1, 1, 1, 1), clip)
    norm = unit.norm
    assert norm is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_((middle - bias) * factor)
    norm.running_var.copy_(spread * factor**2)
    norm.weight.copy_(spread.sqrt())
    norm.bias.copy_(middle)
