"""Adapters of layers: a low-rank term that the host adds to a layer's level sums, in integers (docs/file-formats.md).

    h = narrow(down · x)        16 bits, one number a rank
    acc = sat32(sums + wide(up · h))

``narrow`` and ``wide`` are requantisations, x is the layer's unfolded input. No cell holds any of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer.digital_ops import INT32_HIGH, INT32_LOW, requantise
from mapping.program.conductance import Adapter, ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.exact_product import ExactProduct


def adapted(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> NDArray[np.int32]:
    """Level sums plus the step's adapter, saturated to int32; without an adapter the level sums.

    Args:
        codes: inputs of the layer in the order of its places, (n, C, H, W) or (n, features).
        sums: (n, outputs, …).
    """
    return sums if step.adapter is None else sums_with(sums, adapter_sums(step.adapter, step.group, codes))


def sums_with(sums: NDArray[np.int32], term: NDArray[np.int32]) -> NDArray[np.int32]:
    """Level sums with the term of an adapter, saturating at the ends of int32."""
    total = sums.astype(np.int64) + term
    clipped: NDArray[np.int32] = np.clip(total, INT32_LOW, INT32_HIGH).astype(np.int32)
    return clipped


def adapter_sums(adapter: Adapter, group: TileGroup, codes: NDArray[np.int16]) -> NDArray[np.int32]:
    """The term of an adapter, int32 (n, outputs, OH, OW) of maps, (n, outputs) of vectors."""
    hidden = requantise(_down(adapter, group)(codes), adapter.narrow)
    flat = hidden.reshape(*hidden.shape[:2], -1).astype(np.float64)
    found = np.matmul(adapter.up.astype(np.float64), flat)  # exact: sums stay within 32 bits (``largest_on_the_way``)
    found = found.reshape(len(hidden), group.outputs, *hidden.shape[2:])
    return requantise(found.astype(np.int32), adapter.wide).astype(np.int32)


def largest_on_the_way(adapter: Adapter, group: TileGroup) -> int:
    """A bound of the sums of both of its products."""
    first = int(np.abs(adapter.down.astype(np.int64)).sum(1).max()) << (group.input_bits - group.input_signed)
    inside = max(abs(adapter.narrow.low), abs(adapter.narrow.high))
    return max(first, int(np.abs(adapter.up.astype(np.int64)).sum(1).max()) * inside)


def adapter_products(step: MatrixStep) -> int:
    """Multiplications of a step's adapter for one image, by the host; 0 without one."""
    if step.adapter is None:
        return 0
    positions = 1 if step.group.window is None else step.group.window.positions
    return positions * len(step.adapter.down) * (step.group.inputs + step.group.outputs)


def adapter_share(program: ConductanceProgram) -> float:
    """Multiplications of all adapters, as a share of those of the layers."""
    positions = [1 if m.group.window is None else m.group.window.positions for m in program.matrices]
    layers = sum(n * m.group.weights for n, m in zip(positions, program.matrices, strict=True))
    return sum(map(adapter_products, program.matrices)) / layers


def _down(adapter: Adapter, group: TileGroup) -> ExactProduct:
    """The exact product with the adapter's first matrix, ``down``, laid out as a layer with as many outputs as its
    rank."""
    rank, inputs = adapter.down.shape
    tile = Tile(0, 0, 0, range(inputs), range(rank), 1, np.ascontiguousarray(adapter.down.T))
    return ExactProduct(replace(group, outputs=rank, groups=1, tiles=(tile,)))
