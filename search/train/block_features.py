"""Features of blocks that a student and its teacher have in common, whatever their widths: where their maps are strong.

For a map x, a = Σ_c x_c² over its places, brought to the length 1; two maps of equal size differ by |a_s − a_t|²
(Zagoruyko and Komodakis, arXiv:1612.03928). So a network of fewer channels can be shown where its teacher looks.
Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mapping.network.graph import NetworkGraph
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.joins import Add
from mapping.operators.node import NodeOp
from mapping.operators.products import Conv
from mapping.quantise.lower import lower


def shared_blocks(ops: Sequence[FusedOp], teacher: NetworkGraph) -> dict[str, str]:
    """Operations of a student, and the node of its teacher that gives what they give.

    These are additions at the ends of blocks; of networks without any, convolutions. They have the same names and maps
    of the same size in both.
    """
    sums = [op for op in ops if isinstance(op, NodeOp) and isinstance(op.node, Add)]
    ends, node_kind = (sums, Add) if sums else ([op for op in ops if isinstance(op, MatrixOp)], Conv)
    named = {node.name for node in teacher.nodes if isinstance(node, node_kind)}
    theirs = {op.name: op for op in lower(teacher) if op.name in named and len(op.output_shape) == 3}
    return {
        op.name: theirs[op.name].output_node
        for op in ends
        if op.name in theirs and op.output_shape[1:] == theirs[op.name].output_shape[1:]
    }


def feature_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], blocks: Mapping[str, str]) -> Tensor:
    """Mean over blocks and images of |a_s − a_t|²."""
    each = [(_strength(student[own]) - _strength(teacher[node])).square().sum(1).mean() for own, node in blocks.items()]
    return torch.stack(each).mean()


def _strength(x: Tensor) -> Tensor:
    return functional.normalize(x.float().square().sum(1).flatten(1), dim=1)
