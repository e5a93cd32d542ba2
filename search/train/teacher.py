"""The teacher of phase A: a float network, cut into stem, the stages of a space, and head; never changed.

It may be any ``NetworkGraph``: a ``net.pt``, imported weights, or one trained here. That one is of
densely connected stages (Huang et al., doi 10.1109/CVPR.2017.243), a family that no space offers: a
teacher built of the candidates would only find itself again. Imports torch: import this module late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from cim.cost.workload import INPUT
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.float_run import apply
from mapping.network.graph import NetworkGraph, Preprocess, node_shapes
from mapping.network.nodes import Array, BatchNorm, Concat, Conv, Node, Relu
from mapping.quantise.lower import affine
from search.errors import SearchMismatch
from search.space.genes import Space
from search.train.images import Images, Symmetry, batches, symmetric
from search.train.training import At, Batch, Machine, Told, TrainingSchedule, TrainingTask, accuracy, fit

CALIBRATION_IMAGES = 128
ANSWERED = 500  # images at a time
ARRAYS = ("weight", "bias", "scale", "shift", "mean", "variance")  # fields of nodes


class TeacherError(SearchMismatch):
    """A network cannot teach the stages of a space."""


class GraphPart(nn.Module):
    """Consecutive nodes of a graph as a module: the arrays are buffers, or parameters where they are ``trained``.

    Statistics of batch norms are buffers always.
    """

    def __init__(self, nodes: Sequence[Node], source: str, *, trained: bool = False) -> None:
        super().__init__()
        self.nodes, self.source = tuple(nodes), source
        for number, node in enumerate(nodes):
            for field in ARRAYS:
                if getattr(node, field, None) is not None:
                    held = torch.tensor(getattr(node, field))
                    held = held.contiguous(memory_format=torch.channels_last) if held.ndim == 4 else held
                    if trained and field not in ("mean", "variance"):
                        self.register_parameter(f"{field}{number}", nn.Parameter(held))
                    else:
                        self.register_buffer(f"{field}{number}", held)

    def forward(self, x: Tensor) -> Tensor:
        values = {self.source: x}
        for number, node in enumerate(self.nodes):

            def held(array: Array, number: int = number, node: Node = node) -> Tensor:
                found: Tensor = getattr(self, _field(node, array) + str(number))
                return found

            x = apply(node, [values[name] for name in node.inputs], held)
            if x.ndim == 4:  # a convolution of one channel leaves it open
                x = x.contiguous(memory_format=torch.channels_last)
            values[node.name] = x
        return x

    def graph_nodes(self) -> tuple[Node, ...]:
        """The nodes with the arrays of now."""
        state: dict[str, Any] = {
            name: np.asarray(t.detach().cpu().contiguous().float()) for name, t in self.state_dict().items()
        }
        return tuple(
            replace(node, **{field: state[f"{field}{i}"] for field in ARRAYS if f"{field}{i}" in state})
            for i, node in enumerate(self.nodes)
        )


def _field(node: Node, array: Array) -> str:
    """Name of the field that holds an array."""
    return next(field for field in ARRAYS if getattr(node, field, None) is array)


class StagedTeacher(nn.Module):
    """``parts``: stem, one a stage, head; ``channels`` and ``rectified`` (never negative) are of their maps.

    Pixels come as 0..1. It stays in evaluation mode and has no gradients of its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, parts: Sequence[GraphPart], channels: Sequence[int], preprocess: Preprocess) -> None:
        super().__init__()
        self.parts, self.channels = nn.ModuleList(parts), tuple(channels)
        self.rectified = tuple(isinstance(part.nodes[-1], Relu) for part in parts[:-1])
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1))
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> StagedTeacher:
        return self

    def features(self, pixels: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Features that enter a stage (from 0) and features that leave it."""
        with torch.no_grad():
            x = (pixels - self.mean) / self.std
            for part in self.parts[: stage + 1]:
                x = part(x)
            return x, self.parts[stage + 1](x)

    def suffix(self, stage: int, x: Tensor) -> Tensor:
        """Logits from the output of a stage; gradients reach ``x``."""
        for part in self.parts[stage + 2 :]:
            x = part(x)
        return x

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits."""
        with torch.no_grad():
            x = (pixels - self.mean) / self.std
            for part in self.parts:
                x = part(x)
            return x


def answers(teacher: StagedTeacher, images: Images, symmetry: Symmetry, device: torch.device) -> Tensor:
    """Logits (n, classes) of whole images, the mean of all ways that ``symmetry`` may turn each."""
    found = []
    for pixels, _ in batches(images, ANSWERED, device):
        ways = [teacher(x.contiguous(memory_format=torch.channels_last)) for x in symmetric(pixels, symmetry)]
        found.append(torch.stack(ways).mean(0))
    return torch.cat(found)


def split_graph(graph: NetworkGraph, space: Space) -> StagedTeacher:
    """Cut a network where a single map is alive and as large as a stage of the space leaves it.

    The stem ends at the first such map of its size, each stage at the last one of its own; stages of one
    size share them evenly. Raises ``TeacherError`` when there is none.
    """
    if graph.input_shape != space.input_shape or len(graph.classes) != space.classes:
        raise TeacherError(
            f"a teacher of {graph.input_shape} images and {len(graph.classes)} classes; "
            f"space {space.name} has {space.input_shape} and {space.classes}"
        )
    graph = replace(graph, nodes=merged(graph.nodes))
    shapes, sizes = node_shapes(graph), stage_sizes(space)
    places = [i for i in _single_maps(graph.nodes, INPUT) if len(shapes[graph.nodes[i].name]) == 3]
    cuts: list[int] = []
    for size in dict.fromkeys(sizes):
        wanted = sizes.count(size)
        at = [i for i in places if shapes[graph.nodes[i].name][1:] == size and i > (cuts[-1] if cuts else -1)]
        rectified = [i for i in at if isinstance(graph.nodes[i], Relu | Concat)]
        at = rectified if len(rectified) >= wanted else at
        if len(at) < wanted:
            found = sorted({shapes[graph.nodes[i].name][1:] for i in places}, reverse=True)
            raise TeacherError(
                f"the teacher has {len(at)} single maps of {size[0]} x {size[1]}, space {space.name} needs {wanted}; "
                f"its maps are {', '.join(f'{h} x {w}' for h, w in found)}"
            )
        first = not cuts  # the stem is the first of its size
        step = (len(at) - 1) / max(wanted - 1, 1)
        cuts += [at[round(k * step)] for k in range(wanted)] if first and wanted > 1 else []
        cuts += [] if first and wanted > 1 else [at[round((k + 1) * len(at) / wanted) - 1] for k in range(wanted)]
    ends = [*cuts, len(graph.nodes) - 1]
    parts, source, start = [], INPUT, 0
    for end in ends:
        parts.append(GraphPart(graph.nodes[start : end + 1], source))
        source, start = graph.nodes[end].name, end + 1
    return StagedTeacher(parts, [shapes[graph.nodes[i].name][0] for i in cuts], graph.preprocess)


def merged(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Batch norms in the convolutions before them, where nothing else reads those: half the passes over the maps."""
    readers = Counter(name for node in nodes for name in node.inputs)
    made: dict[str, Node] = {}
    for node in nodes:
        before = made.get(node.inputs[0])
        if isinstance(node, BatchNorm) and isinstance(before, Conv) and readers[before.name] == 1:
            gain, shift = affine(node)
            bias = shift if before.bias is None else before.bias * gain + shift
            weight = (before.weight * gain[:, None, None, None]).astype(np.float32)
            del made[before.name]
            node = replace(before, name=node.name, weight=weight, bias=bias.astype(np.float32))
        made[node.name] = node
    return tuple(made.values())


def stage_sizes(space: Space) -> list[tuple[int, int]]:
    """Height and width after the stem and after each stage."""
    height, width = (-(-n // space.stem.stride) for n in space.input_shape[1:])
    sizes = [(height, width)]
    for stage in range(len(space.stages)):
        for place in space.positions:
            if place.stage == stage:
                height, width = -(-height // place.stride), -(-width // place.stride)
        sizes.append((height, width))
    return sizes


def _single_maps(nodes: Sequence[Node], source: str) -> list[int]:
    """Indices of nodes after which nothing else is alive."""
    last = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    alive_to, found = last.get(source, -1), []
    for i, node in enumerate(nodes):
        if alive_to <= i:
            found.append(i)
        alive_to = max(alive_to, last.get(node.name, -1))
    return found


def blocks_of(part: GraphPart) -> list[tuple[Node, ...]]:
    """A part cut after every ReLU where nothing else is alive: residual blocks of a ResNet, single layers elsewhere."""
    single = _single_maps(part.nodes, part.source)
    ends = [i + 1 for i in single if isinstance(part.nodes[i], Relu)]
    ends += [len(part.nodes)] if not ends or ends[-1] < len(part.nodes) else []
    return [part.nodes[start:end] for start, end in zip([0, *ends], ends, strict=False)]


class DenseTeacher(nn.Module):
    """Stages of convolutions that read all earlier maps of the stage, joined by 1x1 convolutions and max pooling.

    ``growth`` channels a convolution in the first stage, as many more times as the space's stages are wider.
    """

    def __init__(self, space: Space, growth: int = 16, layers: int = 2) -> None:
        super().__init__()
        inputs = growth
        self.stem = _block(space.input_shape[0], inputs, 3, space.stem.stride)
        self.strides, self.depth = [], layers
        self.dense, self.joins = nn.ModuleList(), nn.ModuleList()
        for number, stage in enumerate(space.stages):
            wide = max(growth * stage.channels // space.stages[0].channels, 4)
            self.strides.append(max(p.stride for p in space.positions if p.stage == number))
            self.dense.append(nn.ModuleList(_block(inputs + i * wide, wide, 3) for i in range(layers)))
            self.joins.append(_block(inputs + layers * wide, 2 * wide, 1))
            inputs = 2 * wide
        self.classifier = nn.Linear(inputs, space.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stride, dense, join in zip(self.strides, self.dense, self.joins, strict=True):
            if stride > 1:
                x = functional.max_pool2d(x, stride, ceil_mode=bool(x.shape[2] % stride))
            for layer in dense if isinstance(dense, nn.ModuleList) else ():
                x = torch.cat([x, layer(x)], 1)
            x = join(x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class _Teaching(TrainingTask):
    def __init__(self, model: nn.Module, validation: Images, device: torch.device) -> None:
        self.model, self.validation, self.device = model, validation, device

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        return functional.cross_entropy(model(batch.pixels), batch.labels, label_smoothing=0.05)

    def score(self, model: nn.Module) -> float:
        return accuracy(model, self.validation, self.device)


def train_teacher(
    space: Space,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    *,
    classes: Sequence[str],
    growth: int = 16,
    layers: int = 2,
    checkpoint: Path | None = None,
    machine: Machine | None = None,
    told: Told | None = None,
) -> NetworkFile:
    """A dense teacher of our own for a space; its validation accuracy stands in the provenance."""
    machine = machine or Machine()
    return machine.run(
        _train, space, images, validation, schedule, tuple(classes), growth, layers, checkpoint, machine.precision,
        told=told,
    )  # fmt: skip


def refine_teacher(
    network: NetworkFile,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    *,
    checkpoint: Path | None = None,
    machine: Machine | None = None,
    told: Told | None = None,
) -> NetworkFile:
    """Go on training a network that was trained elsewhere, on the images of now; batch norms are merged, then fixed.

    Raises:
        TeacherError: its input or its classes are others than those of the images.
    """
    graph, most = network.graph, int(images.labels.max())
    height, width, channels = images.pixels.shape[1:]
    if graph.input_shape != (channels, height, width) or most >= len(graph.classes):
        raise TeacherError(
            f"a teacher of {graph.input_shape} images and {len(graph.classes)} classes; "
            f"the training images are {(channels, height, width)}, with labels up to {most}"
        )
    machine = machine or Machine()
    return machine.run(_refine, network, images, validation, schedule, checkpoint, machine.precision, told=told)


def _refine(
    fabric: Fabric,
    network: NetworkFile,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    checkpoint: Path | None,
    precision: str,
    told: Told | None,
) -> NetworkFile:
    torch.manual_seed(schedule.seed)
    graph = network.graph
    model = PixelGraph(GraphPart(merged(graph.nodes), INPUT, trained=True), graph.preprocess)
    task = _Teaching(model, validation, fabric.device)
    key = f"given teacher {network.digest} {validation.digest} {precision}"
    trained, records = fit(fabric, task, images, schedule, checkpoint=checkpoint, key=key, told=told)
    assert isinstance(trained, PixelGraph)
    provenance = {
        **graph.provenance,
        "trained further by": f"hil search, {schedule.epochs} epochs, seed {schedule.seed}",
        "training images": images.digest,
        "validation accuracy": f"{records[-1].score:.2f} % of {len(validation)} images kept out of that training",
    }
    few = images.pixels[: min(CALIBRATION_IMAGES, len(images))]
    graph = replace(graph, nodes=trained.part.graph_nodes(), provenance=provenance)
    return replace(network, graph=graph, calibration_images=few, calibration_labels=images.labels[: len(few)])


class PixelGraph(nn.Module):
    """A graph that takes pixels 0..1."""

    mean: Tensor
    std: Tensor

    def __init__(self, part: GraphPart, preprocess: Preprocess) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.part((pixels - self.mean) / self.std)
        return logits


def _train(
    fabric: Fabric,
    space: Space,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    classes: tuple[str, ...],
    growth: int,
    layers: int,
    checkpoint: Path | None,
    precision: str,
    told: Told | None,
) -> NetworkFile:
    torch.manual_seed(schedule.seed)
    model = DenseTeacher(space, growth, layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = _Teaching(model, validation, fabric.device)
    key = f"teacher {space.skeleton} {growth} {layers} {validation.digest} {precision}"
    trained, records = fit(fabric, task, images, schedule, checkpoint=checkpoint, key=key, told=told)
    channels = space.input_shape[0]
    graph = capture(
        trained.cpu().eval(),
        torch.zeros(1, *space.input_shape),
        preprocess=Preprocess((0.0,) * channels, (1.0,) * channels),
        classes=classes,
        provenance={
            "trained by": f"hil search, dense teacher, growth {growth}, {schedule.epochs} epochs, seed {schedule.seed}",
            "training images": images.digest,
            "validation accuracy": f"{records[-1].score:.2f} % of {len(validation)} training images kept out",
        },
    )
    few = images.pixels[: min(CALIBRATION_IMAGES, len(images))]
    return NetworkFile(graph, 8, 8, few, images.labels[: len(few)])
