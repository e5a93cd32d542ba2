"""Ranges and means of the float network on its calibration images, before anything is rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapping.network.float_run import float_activations
from mapping.network.graph import NetworkGraph
from mapping.network.nodes import INPUT
from mapping.quantise.lower import FusedOp, MatrixOp, PassOp

Progress = Callable[[int, int, str], None]
"""Called with how many are done, how many there are, and what is being done."""

BATCH = 32  # images whose activations are in memory at once
VALUES_PER_IMAGE = 1024  # of each operation's output, evenly taken


@dataclass(frozen=True, slots=True)
class Observations:
    """Float values on the calibration images.

    ``values`` maps each operation and ``"input"`` to a sample of its outputs; ``largest`` to the
    largest magnitude over all of them; ``means`` maps each matrix product to the mean of its
    sum by channel, (outputs,).
    """

    values: dict[str, NDArray[np.float32]]
    largest: dict[str, float]
    means: dict[str, NDArray[np.float64]]


def observe(
    graph: NetworkGraph, ops: tuple[FusedOp, ...], images: NDArray[np.uint8], progress: Progress | None = None
) -> Observations:
    """Run the float network on ``images``, uint8 (n, height, width, channels), and note what it does."""
    nodes = {INPUT: INPUT} | {op.name: op.output_node for op in ops if not isinstance(op, PassOp)}
    sums = {op.name: op.sum_node for op in ops if isinstance(op, MatrixOp)}
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in nodes}
    largest = dict.fromkeys(nodes, 0.0)
    totals: dict[str, NDArray[np.float64]] = {}
    for first in range(0, len(images), BATCH):
        batch = images[first : first + BATCH]
        found = float_activations(graph, batch)
        for name, node in nodes.items():
            values[name].append(_sample(found[node], len(batch) * VALUES_PER_IMAGE))
            largest[name] = max(largest[name], float(np.abs(found[node]).max()))
        for name, node in sums.items():
            channels = found[node].reshape(*found[node].shape[:2], -1).mean(2, dtype=np.float64).sum(0)
            totals[name] = totals.get(name, 0.0) + channels
        if progress is not None:
            progress(first + len(batch), len(images), "float network on calibration images")
    return Observations(
        {name: np.concatenate(parts) for name, parts in values.items()},
        largest,
        {name: total / len(images) for name, total in totals.items()},
    )


def _sample(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    flat = values.reshape(-1)
    return flat[:: -(-len(flat) // most) | 1].copy()  # an odd step visits every column of a map
