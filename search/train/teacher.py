"""The teacher of phase A: a float network, cut into stem, the stages of a space, and head; never changed.

It may be any ``NetworkGraph``: a ``net.pt``, imported weights, or one trained here (``search.train.teacher_training``).
Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cim.cost.workload import INPUT
from mapping.network.graph import NetworkGraph, Preprocess, node_shapes
from mapping.operators.activations import Relu
from mapping.operators.joins import Concat
from search.errors import SearchMismatch
from search.space.genes import Space
from search.train.graph_part import GraphPart, PixelModule, merged, single_maps
from search.train.images import Images, Symmetry, batches, symmetric

ANSWERED = 500  # images at a time


class TeacherError(SearchMismatch):
    """A network cannot teach the stages of a space."""


class StagedTeacher(PixelModule):
    """``parts``: stem, one a stage, head; ``channels`` and ``rectified`` (never negative) are of their maps.

    Pixels come as 0..1. It stays in evaluation mode and has no gradients of its own.
    """

    def __init__(self, parts: Sequence[GraphPart], channels: Sequence[int], preprocess: Preprocess) -> None:
        super().__init__(preprocess)
        self.parts, self.channels = nn.ModuleList(parts), tuple(channels)
        self.rectified = tuple(isinstance(part.nodes[-1], Relu) for part in parts[:-1])
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> StagedTeacher:
        return self

    def features(self, pixels: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Features that enter a stage (from 0) and features that leave it."""
        with torch.no_grad():
            x: Tensor = self.standardised(pixels)
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
            x: Tensor = self.standardised(pixels)
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
    places = [i for i in single_maps(graph.nodes, INPUT) if len(shapes[graph.nodes[i].name]) == 3]
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
