"""A network as data: nodes in execution order, preprocessing before them, and names of the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mapping.network.task import TaskKind, default_task
from mapping.operators.node import INPUT, LARGEST_MAP, GraphError, Node, output_shape
from mapping.operators.step import Shape


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Pixel to network input: (pixel / 255 − mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One of the tensors that a network gives, without the batch axis."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """A network in execution order; the last node gives the logits, a vector.

    ``input_shape`` is (channels, height, width); ``classes`` names the logits. A network that gives maps or
    several tensors lists them as ``outputs`` and has no classes: its last node gives their elements one after
    the other. ``task`` is what it is for, None: what the shapes suggest (``purpose``). A graph that cannot run raises
    ``GraphError`` here.
    """

    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    preprocess: Preprocess
    classes: tuple[str, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    task: TaskKind | None = None

    @property
    def purpose(self) -> TaskKind:
        return self.task or default_task(self.input_shape, [output.shape for output in self.outputs])

    @property
    def width(self) -> int:
        """Number of logits: one a class, or all elements of all outputs."""
        return sum(output.size for output in self.outputs) or len(self.classes)

    def __post_init__(self) -> None:
        shapes = node_shapes(self)
        if not self.nodes:
            raise GraphError("", "a network needs at least one node")
        logits = shapes[self.nodes[-1].name]
        if self.outputs and self.classes:
            raise GraphError("", "a network has classes or outputs, not both")
        if self.task not in (None, TaskKind.CLASSIFY) and not self.outputs:
            raise GraphError("", f"a network that is to {self.task} has outputs, not classes")
        if logits != (self.width,):
            what = f"outputs of {self.width} elements" if self.outputs else f"{len(self.classes)} classes"
            raise GraphError(self.nodes[-1].name, f"logits are {logits}, but there are {what}")
        means, stds, channels = len(self.preprocess.mean), len(self.preprocess.std), self.input_shape[0]
        if not means == stds == channels:
            raise GraphError("", f"preprocess has {means} means and {stds} stds for {channels} channels")
        if not all(map(math.isfinite, self.preprocess.mean + self.preprocess.std)) or min(self.preprocess.std) <= 0:
            raise GraphError("", "preprocess needs finite means and stds above zero")


def node_shapes(graph: NetworkGraph) -> dict[str, Shape]:
    """Give the shape of ``"input"`` and of every node's output, without the batch axis.

    Maps are (channels, height, width), vectors (features,). Raises ``GraphError`` naming the
    first node whose inputs, options or weights do not fit.
    """
    if len(graph.input_shape) != 3 or min(graph.input_shape) < 1:
        raise GraphError("", f"input shape {graph.input_shape} is not (channels, height, width), each at least 1")
    shapes: dict[str, Shape] = {INPUT: tuple(graph.input_shape)}
    for node in graph.nodes:
        if not node.name or node.name in shapes or "/" in node.name or not node.name.isprintable():
            raise GraphError(node.name, "the name is empty, used twice, or holds '/' or a control character")
        for source in node.inputs:
            if source not in shapes:
                raise GraphError(node.name, f"input {source!r} is not an earlier node")
        shape = output_shape(node, [shapes[source] for source in node.inputs])
        if math.prod(shape) > LARGEST_MAP:
            raise GraphError(node.name, f"output {shape} is above {LARGEST_MAP} elements")
        shapes[node.name] = shape
    return shapes
