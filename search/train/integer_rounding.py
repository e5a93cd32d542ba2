"""Weights that training left between levels, put on levels: those of an output make up for each other.

As the compiler rounds (``mapping.quantise.rounding``), from what the layers see of training images; the mean of the
error that is left goes into the bias. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapping.operators.fused import MatrixOp
from mapping.quantise.input_sample import input_vectors
from mapping.quantise.rounding import input_statistics, round_weights
from search.train.graph_net import GraphNet, MatrixUnit

Seen = tuple[NDArray[np.int16], Tensor]
"""Input codes of a layer, and what one of them stands for."""


@torch.no_grad()
def make_whole(net: GraphNet, layers: Collection[str], pixels: Tensor, known: Mapping[str, Tensor]) -> None:
    """Round the weights of ``layers``, from their inputs when ``net`` as it is runs training images.

    Args:
        layers: none of them before a result that is ``known``, or equal to another one.
        pixels: 0..1, (n, channels, height, width); known: codes of results that were measured, (n, …).
    """
    seen = _inputs(net, layers, pixels, known)
    for op in net.ops:
        if isinstance(op, MatrixOp) and op.name in seen:
            _round(net.unit(op.name), op, *seen[op.name])


def _inputs(net: GraphNet, layers: Collection[str], pixels: Tensor, known: Mapping[str, Tensor]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}

    def keep(name: str, arguments: tuple[Any, ...]) -> None:
        codes, scale = arguments
        found.setdefault(name, (codes.to("cpu", torch.int16).numpy(), scale))

    hooks = [
        net.unit(name).register_forward_pre_hook(lambda _, arguments, name=name: keep(name, arguments))
        for name in layers
    ]
    try:
        net(pixels, known)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _round(unit: MatrixUnit, op: MatrixOp, codes: NDArray[np.int16], scale: Tensor) -> None:
    array = unit.array
    sample, mean = input_vectors(codes, op)
    levels, step = array.levels_now()
    real = levels.flatten(1).double().cpu().numpy().reshape(op.stored.shape)
    integers = np.arange(array.quantiser.low, array.quantiser.high + 1)
    whole = round_weights(real, input_statistics(sample), np.ones(real.shape[:2]), integers)
    lost = torch.from_numpy(np.einsum("goi,gi->go", real - whole, mean).reshape(-1)).to(step.device)
    unit.shift.add_((scale * step.flatten() * unit.gain * lost / unit.usual).float())
    array.weight.copy_(torch.from_numpy(whole.astype(np.float32)).to(step.device).view_as(array.weight) * step)
