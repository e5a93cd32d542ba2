"""Layers that are one on cells: the same weights and bias on several inputs, as in the steps of a recurrent network.

The first of them stands on cells; the others read it again (``mapping.program.conductance.AgainStep``), so that their
inputs and outputs have one scale each: that of all of them together.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mapping.network.graph import NetworkGraph
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.node import INPUT, PassOp, may_be_negative
from mapping.quantise.lower import logits_op, lower

if TYPE_CHECKING:
    from mapping.quantise.observe import Observations


def shared_ops(graph: NetworkGraph) -> tuple[FusedOp, ...]:
    """The operations of a graph (``lower``); layers equal to an earlier one name it in ``shares``.

    A network that says its own codes keeps every layer for itself: their scales are not ours to unite.
    """
    ops = lower(graph)
    if any(op.grid is not None for op in ops):
        return ops
    signed = {INPUT: any(mean > 0 for mean in graph.preprocess.mean)}
    homes: dict[tuple[object, ...], str] = {}
    alike = Counter(_outline(op) for op in ops if isinstance(op, MatrixOp))
    wide, found = logits_op(ops), []
    for op in ops:
        before = [signed[name] for name in op.inputs]
        signed[op.name] = may_be_negative(op, before)
        if isinstance(op, MatrixOp) and op.name != wide and alike[_outline(op)] > 1:
            home = homes.setdefault((*_key(op), before[0]), op.name)
            op = op if home == op.name else replace(op, shares=home)
        found.append(op)
    return tuple(found)


def together(observed: Observations, ops: Sequence[FusedOp]) -> Observations:
    """Observations with inputs and outputs of a shared layer pooled over all its uses."""
    origins: dict[str, str] = {}  # operations that only move codes -> whose codes
    uses: dict[str, list[MatrixOp]] = {}
    for op in ops:
        if isinstance(op, PassOp):
            origins[op.name] = origins.get(op.inputs[0], op.inputs[0])
        if isinstance(op, MatrixOp):
            uses.setdefault(op.shares or op.name, []).append(op)
    values, largest = dict(observed.values), dict(observed.largest)
    for same in uses.values():
        if len(same) > 1:
            sources = [origins.get(op.inputs[0], op.inputs[0]) for op in same]
            for names in (sources, [op.name for op in same]):
                values[names[0]] = np.concatenate([observed.values[name] for name in dict.fromkeys(names)])
                largest[names[0]] = max(observed.largest[name] for name in names)
    return replace(observed, values=values, largest=largest)


def turns(ops: Sequence[FusedOp]) -> Mapping[str, int]:
    """Number of each use of a shared layer beyond the first, from 1, by operation."""
    counts: dict[str, int] = {}
    found = {}
    for op in ops:
        if isinstance(op, MatrixOp) and op.shares is not None:
            counts[op.shares] = found[op.name] = counts.get(op.shares, 0) + 1
    return found


def _outline(op: MatrixOp) -> tuple[object, ...]:
    """All but the weights, equal for layers that may be one."""
    return op.stored.shape, op.gain.tobytes(), op.bias.tobytes(), op.window, op.low, op.high


def _key(op: MatrixOp) -> tuple[object, ...]:
    """Key that is equal for layers with the same weights and rescaling, which share their tiles."""
    return hashlib.blake2b(np.ascontiguousarray(op.stored).tobytes(), digest_size=16).hexdigest(), *_outline(op)
