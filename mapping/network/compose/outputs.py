"""Outputs of a network as the one vector that its graph gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mapping.network.compose.chosen_codes import with_chosen_codes
from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import UnsupportedOperation, need
from mapping.network.compose.values import Value, elements_before, image_shape
from mapping.network.graph import NetworkGraph, Output, Preprocess
from mapping.operators.joins import Concat
from mapping.operators.node import Node


@dataclass(frozen=True, slots=True)
class Found:
    """The nodes of a network and its outputs, without the batch."""

    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]

    def graph(
        self,
        image: tuple[int, int, int],
        preprocess: Preprocess,
        classes: Sequence[str],
        provenance: dict[str, str],
    ) -> NetworkGraph:
        """The graph: of logits if there are classes, else of outputs. Raises ``UnsupportedOperation``."""
        lone = self.outputs[0].shape if len(self.outputs) == 1 else ()
        if classes and len(lone) == 1:
            return NetworkGraph(image, self.nodes, preprocess, tuple(classes), provenance)
        if classes:
            shapes = ", ".join(f"{output.name} {output.shape}" for output in self.outputs)
            raise UnsupportedOperation(
                "output",
                "",
                f"the network gives {shapes}, not one logit for each of {len(classes)} classes",
                "classes=() for a network that gives maps or several tensors",
            )
        return NetworkGraph(image, self.nodes, preprocess, (), provenance, self.outputs)


def collected(c: Composer, names: Sequence[str], results: Sequence[Any]) -> Found:
    """All results flattened, one after the other."""
    need(len(results) > 0, "the network gives nothing", "at least one output")
    outputs, flat = [], []
    for name, result in zip(names, results, strict=True):
        need(isinstance(result, Value), f"the output {name!r} does not depend on the input", "leave it out")
        need(
            elements_before(result) == 1,
            f"the images of a batch do not stand first in the output {result.shape}",
            "permute them to the first axis, or split them again where two batches were joined",
        )
        shape = image_shape(result.shape, result.axis, c.batch)
        outputs.append(Output(name, shape))
        flat.append(c.reshape(result.node, (math.prod(c.shape(result.node)),)))
    node = c.add(Concat, flat) if len(flat) > 1 else flat[0]
    return Found(with_chosen_codes(c.finish(node)), tuple(outputs))
