"""Bits of the codes of every operation, by what reads them."""

from __future__ import annotations

from collections.abc import Sequence

from mapping.bits import MOST, BitWidths
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.node import PassOp


def code_widths(ops: Sequence[FusedOp], bits: BitWidths) -> dict[str, int]:
    """Bits of the codes of every operation and of ``"input"``: the most that one of its readers takes.

    Sums, joins and pools take the network's width, or that of their own codes where other digital operations read
    them (``mapping.bits``). What only moves codes has those of its input.
    """
    widths: dict[str, int] = {}
    for op in reversed(ops):
        own = widths.setdefault(op.name, bits.activation)
        if isinstance(op, MatrixOp):
            taken = bits.inputs_of(op.shares or op.name)
        elif isinstance(op, PassOp):
            taken = own
        else:
            taken = op.reads_bits or (own if own > MOST else bits.activation)
        for source in op.inputs:
            widths[source] = max(widths.get(source, 0), taken)
    shared = [(op.name, op.shares) for op in ops if isinstance(op, MatrixOp) and op.shares is not None]
    for name, home in shared:
        widths[home] = max(widths[home], widths[name])
    widths.update({name: widths[home] for name, home in shared})
    for op in ops:
        if isinstance(op, PassOp):  # its codes are those of its input, which others may read too
            widths[op.name] = widths[op.inputs[0]]
    return widths
