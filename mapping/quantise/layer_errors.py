"""Errors that rounding adds to the sums of each layer, by bits, as shares of their power; nothing is run for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec, SignedInput
from mapping.layout.tile import weight_integers
from mapping.network.graph import NetworkGraph
from mapping.operators.fused import MatrixOp
from mapping.operators.node import PassOp
from mapping.quantise.observe import observe
from mapping.quantise.rounding import Floats, nearest_integers, weighted_scale
from mapping.quantise.scales import best_scale, code_limits
from mapping.quantise.sharing import shared_ops, together

WEIGHTS, CODES = tuple(range(3, 9)), tuple(range(4, 9))
OUTPUTS = 64  # of a layer whose rounding is looked at, evenly taken,
VALUES = 1 << 16  # and values of its input


def layer_errors(graph: NetworkGraph, images: NDArray[np.uint8], spec: ChipSpec) -> dict[str, tuple[Floats, Floats]]:
    """Error shares of every layer on cells, by bits of its weights (``WEIGHTS``) and of its input codes (``CODES``)."""
    ops = shared_ops(graph)
    observed = together(observe(graph, ops, images), ops)
    moved = {op.name: op.inputs[0] for op in ops if isinstance(op, PassOp)}
    found = {}
    for op in ops:
        if isinstance(op, MatrixOp) and op.shares is None:
            source = op.inputs[0]
            while source in moved:
                source = moved[source]
            codes = _code_errors(observed.values[source], observed.largest[source], spec)
            found[op.name] = (_weight_errors(op, spec), codes)
    return found


def _weight_errors(op: MatrixOp, spec: ChipSpec) -> Floats:
    """Share of the weights' power that nearest rounding leaves, by ``WEIGHTS``, of some outputs."""
    groups, outputs, _ = op.stored.shape
    some = replace(op, stored=op.stored[:: -(-groups // OUTPUTS), :: -(-outputs // OUTPUTS)], gain=np.ones(1))
    weight = some.stored.astype(np.float64)  # the gain of an output scales its integers, too
    power = max(float((weight**2).sum()), 1e-30)
    found = []
    for bits in WEIGHTS:
        integers = weight_integers((1 << (bits - 1)) - 1, spec.macro)
        scale = weighted_scale(weight, np.ones((weight.shape[0], weight.shape[2])), integers)[:, :, None]
        found.append(float(((weight - scale * nearest_integers(weight / scale, integers)) ** 2).sum()) / power)
    return np.array(found)


def _code_errors(values: NDArray[np.float32], largest: float, spec: ChipSpec) -> Floats:
    """Share of the values' power that rounding to codes takes, by ``CODES``."""
    some = values[:: -(-len(values) // VALUES)].astype(np.float64)
    power, signed = max(float(some.var()), 1e-30), bool((some < 0).any())
    found = []
    for bits in CODES:
        low, high = code_limits(bits, signed, spec.macro.inputs.signed is SignedInput.TERNARY)
        scale = best_scale(values, largest, low, high)
        found.append(float(((some - scale * np.clip(np.rint(some / scale), low, high)) ** 2).mean()) / power)
    return np.array(found)
