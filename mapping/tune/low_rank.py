"""Low-rank adapters: what the line of a channel leaves of a layer's error, predicted from the layer's inputs.

With x the layer's inputs, y its level sums on the chip and z the ideal ones, all without their means over images and
places, and a the gain of each output, what the chip's sums lack is r = z / a − y, and

    B = E[r xᵀ] (C + λ I)⁻¹,   C = E[x xᵀ],   λ = (RIDGE + inputs / vectors) · tr C / inputs

its ridge regression. With C + λ I = L Lᵀ and w the requantisation factor of each output times a, so that errors count
as codes,

    diag(w) B L = U Σ Vᵀ,     A = up · down,     up = diag(w)⁻¹ U_r Σ_r,     down = V_rᵀ L⁻¹

is its best approximation of rank r (reduced-rank regression, Izenman 1975, doi 10.1016/0047-259X(75)90042-1). The gains
are then those of y + A x, a = cov(y + A x, z) / var(y + A x), and so on in turns. Errors of cells have full rank, but
the inputs of a layer do not vary alike in all directions: a few carry most of what is missing. Means are left to the
channel's offset.

Example: cells that lost 5 % of one input's weight in every output are an error of rank 1, which rank 1 takes away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cost.workload import LayerWork, WorkKind, Workload
from mapping.operators.integer.scales import requantise_by
from mapping.program.conductance import Adapter, ConductanceProgram, MatrixStep, TileGroup
from mapping.program.exact_product import unfold_columns
from mapping.program.limits import MOST_RANK
from mapping.tune.fit_limits import GAINS, some_places

RIDGE = 0.01
TURNS = 4  # of adapter and gains
SUM_BITS = 32  # of level sums that the host adds an adapter's term to
MOST_INPUTS = 4096  # of a layer that gets an adapter: its covariance is inverted
BATCH = 32  # images unfolded together
LARGEST = 127  # of both matrices
INSIDE = (1 << 15) - 1
LEAST = 2.0**-24  # level sums for one: an output that needs less gets nothing
WIDE = (1 << 30) - 1

Floats = NDArray[np.float64]


def fit_adapter(
    step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32], wanted: NDArray[np.int32], rank: int
) -> Adapter | None:
    """The adapter of a layer; None for a layer of groups or of many inputs, and where nothing is missing.

    Args:
        codes: inputs for the images of the tune, in the order of the layer's places.
        sums, wanted: the chip's level sums and the ideal ones, (n, outputs, places of ``some_places``).
        rank: at most; no more than the layer has inputs or outputs.

    Raises:
        ValueError: a rank below 1 or beyond ``MOST_RANK``.
    """
    if not 1 <= rank <= MOST_RANK:
        raise ValueError(f"rank {rank}, not from 1 to {MOST_RANK}")
    group = step.group
    if group.groups > 1 or group.inputs > MOST_INPUTS or np.array_equal(sums, wanted):
        return None
    m = _moments(group, codes, sums, wanted)
    ridge = (RIDGE + group.inputs / m.count) * max(float(np.trace(m.xx)), 1e-12) / group.inputs
    lower = np.linalg.cholesky(m.xx + ridge * np.eye(group.inputs))
    wanted_by, there_by = (np.linalg.solve(lower, part.T).T for part in (m.zx, m.yx))
    factor = np.broadcast_to(step.requantise.multiplier / np.exp2(step.requantise.shift), (group.outputs,))
    factor = np.maximum(factor, 1e-9 * factor.max(initial=1e-30))
    gain = _gains(m.yz, m.yy)
    for _ in range(TURNS):
        weight = (factor * gain)[:, None]
        outer, size, inner = np.linalg.svd(weight * (wanted_by / gain[:, None] - there_by), full_matrices=False)
        kept = slice(min(rank, len(size)))
        up, down = outer[:, kept] * size[kept] / weight, np.linalg.solve(lower.T, inner[kept].T).T
        term = up @ down
        squares = m.yy + 2.0 * (term * m.yx).sum(1) + ((term @ m.xx) * term).sum(1)
        gain = _gains(m.yz + (term * m.zx).sum(1), squares)
    return in_integers(up, down, group)


def _gains(both: Floats, squares: Floats) -> Floats:
    still = squares <= 0.0
    return np.where(still, 1.0, np.clip(both / np.where(still, 1.0, squares), *GAINS))


def in_integers(up: Floats, down: Floats, group: TileGroup) -> Adapter:
    """An adapter nearest to up · down, (outputs, rank) and (rank, inputs) in level sums for a code."""
    rows = np.maximum(np.abs(down).max(1), 1e-30)
    first = np.rint(down / rows[:, None] * LARGEST)
    most = np.abs(first).sum(1) * (1 << (group.input_bits - group.input_signed))
    narrow = np.minimum(1.0, INSIDE / np.maximum(most, 1.0))  # so that no sum is clipped
    left = up * (rows / LARGEST / narrow)
    columns = np.maximum(np.abs(left).max(1), LEAST)
    second = np.rint(left / columns[:, None] * LARGEST)
    return Adapter(
        first.astype(np.int8),
        second.astype(np.int8),
        requantise_by(narrow, -INSIDE, INSIDE),
        requantise_by(columns / LARGEST, -WIDE, WIDE),
    )


def with_blank_adapters(program: ConductanceProgram, rank: int) -> ConductanceProgram:
    """The program with an adapter that adds nothing wherever ``fit_adapter`` may give one: for what it costs."""
    return replace(
        program, steps=tuple(_blank(step, rank) if isinstance(step, MatrixStep) else step for step in program.steps)
    )


def _blank(step: MatrixStep, rank: int) -> MatrixStep:
    group = step.group
    if group.groups > 1 or group.inputs > MOST_INPUTS:
        return step
    kept = min(rank, group.inputs, group.outputs)
    return replace(step, adapter=in_integers(np.zeros((group.outputs, kept)), np.zeros((kept, group.inputs)), group))


def with_adapters(workload: Workload, rank: int) -> Workload:
    """The workload with an adapter of this rank wherever ``with_blank_adapters`` gives a program one; 0: none."""
    layers: list[LayerWork] = []
    ends: dict[str, str] = {}
    for layer in workload.layers if rank else ():
        layer = replace(layer, inputs=tuple(ends.get(name, name) for name in layer.inputs))
        if not layer.kind.on_cells or layer.groups > 1 or layer.rows > MOST_INPUTS:
            layers.append(layer)
            continue
        inputs, outputs, ends[layer.name] = layer.rows, layer.out_shape[0], f"{layer.name} adapter"
        products = math.prod(layer.out_shape[1:]) * min(rank, inputs, outputs) * (inputs + outputs)
        layers.append(replace(layer, output_bits=SUM_BITS))
        layers.append(adapter_work(layers[-1], ends[layer.name], products, layer.output_bits))
    return replace(workload, layers=tuple(layers)) if rank else workload


def adapter_work(layer: LayerWork, name: str, products: int, output_bits: int) -> LayerWork:
    """The host's part of a layer with an adapter: sums come, codes go back; it has the layer's inputs already."""
    return LayerWork(
        name=name,
        kind=WorkKind.MATMUL,
        inputs=(layer.name,),
        in_shape=layer.out_shape,
        out_shape=layer.out_shape,
        operations=products,
        input_bits=layer.output_bits,
        output_bits=output_bits,
        input_signed=True,
        beyond_chip=True,
    )


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments about the means, over ``count`` vectors: of inputs x, the chip's sums y and the ideal ones z.

    ``xx`` (inputs, inputs), ``yx`` and ``zx`` (outputs, inputs), ``yy`` and ``yz`` (outputs,).
    """

    count: int
    xx: Floats
    yx: Floats
    zx: Floats
    yy: Floats
    yz: Floats


def _moments(group: TileGroup, codes: NDArray[np.int16], sums: NDArray[np.int32], wanted: NDArray[np.int32]) -> Moments:
    xx: Floats = np.zeros((group.inputs, group.inputs))
    yx, zx = np.zeros((2, group.outputs, group.inputs))
    mean_x, count = np.zeros(group.inputs), 0
    y, z = (part.transpose(1, 0, 2).reshape(group.outputs, -1).astype(np.float64) for part in (sums, wanted))
    y -= y.mean(1, keepdims=True)
    z -= z.mean(1, keepdims=True)
    for first in range(0, len(codes), BATCH):
        part = codes[first : first + BATCH]
        vectors = part[:, :, None].astype(np.float32) if group.window is None else unfold_columns(part, group.window)
        x = some_places(vectors).transpose(1, 0, 2).reshape(group.inputs, -1)
        here = slice(count, count + x.shape[1])
        xx += x @ x.T
        yx += y[:, here].astype(np.float32) @ x.T
        zx += z[:, here].astype(np.float32) @ x.T
        mean_x, count = mean_x + x.sum(1), here.stop
    mean_x /= count
    return Moments(
        count, xx / count - np.outer(mean_x, mean_x), yx / count, zx / count, (y * y).mean(1), (y * z).mean(1)
    )
