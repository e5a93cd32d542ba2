"""Ranges and means of the float network on its calibration images, before anything is rounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapping.network.float_run import forward, network_input
from mapping.network.graph import NetworkGraph, node_shapes
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.node import INPUT, PassOp
from mapping.quantise.halves import HalvesOp
from mapping.quantise.input_sample import sum_step, vector_step

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int, str], None]
"""Called with how many are done, how many there are, and what is being done."""

BATCH = 32  # images that run together,
BATCH_VALUES = 1 << 23  # and at most so many values of their largest map
VALUES_PER_IMAGE = 1024  # of each operation's output, evenly taken


@dataclass(frozen=True, slots=True)
class Observations:
    """Float values on the calibration images.

    ``values`` maps each operation and ``"input"`` to a sample of its outputs; ``largest`` to the
    largest magnitude over all of them; ``means`` maps each matrix product to the mean of its
    sum by channel, (outputs,); ``sums`` to a sample of them, (outputs, vectors), for every ``sum_step``-th vector that
    ``input_sample.input_vectors`` gives.
    """

    values: dict[str, NDArray[np.float32]]
    largest: dict[str, float]
    means: dict[str, NDArray[np.float64]]
    sums: dict[str, NDArray[np.float32]]


def observe(
    graph: NetworkGraph, ops: tuple[FusedOp, ...], images: NDArray[np.uint8], progress: Progress | None = None
) -> Observations:
    """Run the float network on ``images``, uint8 (n, height, width, channels), and note what it does.

    A value is let go after its last use: memory goes with the largest maps of the network, not with all of them.
    """
    import torch

    given = {INPUT: [INPUT]}  # operations by the node that gives their outputs
    sums = {op.sum_node: op.name for op in ops if isinstance(op, MatrixOp)}
    for op in ops:
        if not isinstance(op, PassOp | HalvesOp):
            given.setdefault(op.output_node, []).append(op.name)
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for names in given.values() for name in names}
    largest = dict.fromkeys(values, 0.0)
    totals: dict[str, NDArray[np.float64]] = {}
    steps = {
        op.name: vector_step(len(images), op) * sum_step(len(images), op) for op in ops if isinstance(op, MatrixOp)
    }
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in sums.values()}
    first = 0  # image of the batch

    def note(node: str, output: Tensor) -> None:
        if node not in given and node not in sums:
            return
        found = output.contiguous().numpy()
        for name in given.get(node, ()):
            values[name].append(_sample(found, len(found) * VALUES_PER_IMAGE))
            largest[name] = max(largest[name], -float(found.min()), float(found.max()))
        if node in sums:
            channels = found.reshape(*found.shape[:2], -1).mean(2, dtype=np.float64).sum(0)
            totals[sums[node]] = totals.get(sums[node], 0.0) + channels
            kept[sums[node]].append(_every(found, first, steps[sums[node]]))

    size = max(math.prod(shape) for shape in node_shapes(graph).values())
    each = max(1, min(BATCH, BATCH_VALUES // size))
    with torch.inference_mode():
        for first in range(0, len(images), each):
            batch = images[first : first + each]
            forward(graph, network_input(graph.preprocess, batch), seen=note)
            if progress is not None:
                progress(first + len(batch), len(images), "float network on calibration images")
    return Observations(
        {name: np.concatenate(parts) for name, parts in values.items()},
        largest,
        {name: total / len(images) for name, total in totals.items()},
        {name: np.concatenate(kept.pop(name), axis=1) for name in tuple(kept)},  # one layer's stands twice, not all
    )


def _every(found: NDArray[np.float32], first: int, step: int) -> NDArray[np.float32]:
    """Sums (n, outputs, …) at every ``step``-th place of all images, of which these begin at ``first``."""
    flat = found.reshape(*found.shape[:2], -1)
    places = flat.shape[2]
    image, place = np.divmod(np.arange(-first * places % step, len(found) * places, step), places)
    return flat[image, :, place].T.copy()


def _sample(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    flat = values.reshape(-1)
    return flat[:: -(-len(flat) // most) | 1].copy()  # an odd step visits every column of a map
