"""Bits that travel between macros when a placed network runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import CostSpec
from cim.cost.events import executor_of
from cim.cost.mesh import HOST, Transfers
from cim.cost.workload import INPUT, Executor, LayerWork, WorkKind, Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Home = tuple[Ints, Ints, Ints]
"""Where a layer's outputs are: macros, their first channels, their numbers of channels."""


JOINING = (WorkKind.ADD, WorkKind.ELEMENT, WorkKind.MATMUL)
"""Kinds whose further inputs come to where their first one is."""


def transfers(workload: Workload, price: CostSpec) -> Transfers:
    """All messages between macros of one image.

    Codes go from the macro that finished them to every macro that multiplies them (each copy gets
    its share of positions); partial sums go to the macro of the first tile of their outputs.
    """
    homes: dict[str, Home] = {  # macro, first channel, channels
        INPUT: (np.array([HOST]), np.array([0]), np.array([workload.input_shape[0]]))
    }
    shapes = {INPUT: workload.input_shape, **{layer.name: layer.out_shape for layer in workload.layers}}
    parts: list[tuple[Ints, Ints, Ints, Floats]] = []

    def send(i: int, source: Ints, target: Ints, bits: NDArray[np.floating] | Ints) -> None:
        parts.append((np.full(len(bits), i), source, target, np.ceil(bits).astype(np.float64)))

    for i, layer in enumerate(workload.layers):
        if layer.tiles is None:
            homes[layer.name] = _joined(layer, homes, shapes)
            first = homes[layer.inputs[0]][0][0]
            joined = layer.kind in JOINING and executor_of(layer, price) is Executor.LOGIC
            for name in layer.inputs[1:] if joined else ():
                macro, _, channels = homes[name]
                bits = channels * float(math.prod(shapes[name][1:]) * layer.input_bits)
                send(i, macro, np.full(len(macro), first), bits)
            continue
        tiles = layer.tiles
        kernel = math.prod(layer.kernel)
        low, high = tiles.input0 // kernel, -(-(tiles.input0 + tiles.rows) // kernel)
        macro, first_channel, channels = homes[layer.inputs[0]]
        shared = np.minimum(high, (first_channel + channels)[:, None]) - np.maximum(low, first_channel[:, None])
        a, b = np.nonzero(shared > 0)
        pixels = layer.in_shape[1] * layer.in_shape[2] / tiles.copies
        send(i, macro[a], tiles.macro[b], shared[a, b] * (pixels * layer.input_bits))
        order = np.lexsort((np.arange(len(tiles.macro)), tiles.output0, tiles.copy))
        groups, head, member = np.unique(
            tiles.copy[order] * (layer.out_shape[0] + 1) + tiles.output0[order], return_index=True, return_inverse=True
        )
        leader = tiles.macro[order][head]
        adds = np.ones(len(order), bool)
        adds[head] = False
        sums = tiles.outputs[order][adds] * (layer.positions / tiles.copies) * price.partial_sum_bits
        send(i, tiles.macro[order][adds], leader[member[adds]], sums)
        own = groups <= layer.out_shape[0]  # of the first copy
        homes[layer.name] = (leader[own], tiles.output0[order][head][own], tiles.outputs[order][head][own])
    out = homes[workload.layers[-1].name]
    bits = out[2] * float(math.prod(workload.layers[-1].out_shape[1:]) * workload.layers[-1].output_bits)
    send(len(workload.layers) - 1, out[0], np.full(len(bits), HOST), bits)
    layer_of, source, target, moved = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Transfers(layer_of, source, target, moved)


def _joined(layer: LayerWork, homes: Mapping[str, Home], shapes: Mapping[str, tuple[int, int, int]]) -> Home:
    """Place of the outputs of a layer off the cells: that of its (first) input."""
    if layer.kind is WorkKind.CONCAT:
        offset, columns = 0, []
        for name in layer.inputs:
            macro, first, channels = homes[name]
            columns.append((macro, first + offset, channels))
            offset += shapes[name][0]
        macro, first, channels = (np.concatenate(c) for c in zip(*columns, strict=True))
        return macro, first, channels
    macro, first, channels = homes[layer.inputs[0]]
    before, after = shapes[layer.inputs[0]][0], layer.out_shape[0]
    if before == after:
        return macro, first, channels
    if after % before == 0 and math.prod(layer.in_shape) == math.prod(layer.out_shape):  # flattened
        return macro, first * (after // before), channels * (after // before)
    return macro[:1], np.zeros(1, np.int64), np.array([after])  # padded or cut: from one place
