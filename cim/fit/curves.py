"""INL curves of converters, solved together with the lines of the columns that share them.

A curve of a converter and the lines of its columns can stand in for each other: a straight
part of the curve is a gain and an offset of all its columns, and over the codes that one
column has seen any curve looks partly straight. So both are solved together, and the errors
of the lines hold what the curve leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.record.inl import inl_nodes

Floats = NDArray[np.float64]

CURVE_SD = (0.05, 2.0)  # codes, narrowest and widest prior of an INL node
CURVE_REACH = 0.25  # of the scale, over which a curve forgets itself (prior)


@dataclass(frozen=True, slots=True)
class Converters:
    """What is known of the converters before any fit: µS per code, code limits, and which
    converter each conversion uses, (conversions,)."""

    lsb_us: float
    limits: tuple[int, int]
    adc: NDArray[np.int64]
    nodes: int = 17

    @classmethod
    def of(cls, lsb_us: float, bits: int, limits: tuple[int, int], adc: NDArray[np.int64]) -> Converters:
        """Converters whose INL curves have a node every four codes, 17 to 65 nodes in all; a step of one bit is
        steeper."""
        return cls(lsb_us, limits, adc, min(max((1 << bits) // 4, 16), 64) + 1)


@dataclass(frozen=True, slots=True)
class Curves:
    """``curves`` and ``curve_se`` (adcs, nodes) codes; ``line_se`` (2, columns): what the
    curves leave open of each column's gain (per unit of x) and offset (codes)."""

    curves: Floats
    curve_se: Floats
    line_se: Floats

    @classmethod
    def of(cls, curves: Floats, covariance: Floats, lever: Floats, adc: NDArray[np.int64]) -> Curves:
        """INL curves with standard errors, from the covariance of the nodes (adcs, nodes, nodes); ``lever`` is
        d(line)/d(node), (columns, 2, nodes)."""
        line = (lever @ covariance[adc] @ lever.transpose(0, 2, 1)).diagonal(axis1=1, axis2=2)
        own = covariance.diagonal(axis1=1, axis2=2)
        return cls(curves, np.sqrt(np.maximum(own, 0.0)), np.sqrt(np.maximum(line, 0.0)).T)


@dataclass(frozen=True, slots=True)
class ReadingErrors:
    """Errors of the cell readings, which recur in every vector: units (vectors, rows) as driven, and variance (rows,
    columns) of t per unit on a cell, codes²."""

    units: Floats
    variance: Floats


def solve_curves(
    x: Floats,
    y: Floats,
    t: Floats,
    w: Floats,
    setup: Converters,
    zero_codes: Floats,
    cells: ReadingErrors | None = None,
) -> Curves:
    """Weighted least squares of t = g x + o + Σ_k c_k b_k(y), one (g, o) per column, one c per converter.

    b_k are hat functions on nodes evenly over the scale. With X = (x, 1) and B of one column,

        A = Xᵀ W X,  S = Bᵀ W X,  N = Σ_columns (Bᵀ W B − S A⁻¹ Sᵀ),  r = Σ_columns (Bᵀ W t − S A⁻¹ Xᵀ W t)
        c = Z (Zᵀ (N + K⁻¹) Z)⁻¹ Zᵀ r,     cov(g, o) = A⁻¹ + A⁻¹ Sᵀ cov(c) S A⁻¹

    Z spans the curves without slope over the whole scale, all nodes alike, that are 0 at zero input:
    that is what gain and offset mean. K is the prior, K_kl = σ² exp(−|k − l| / reach): unseen nodes stay
    near 0, known within σ. σ starts wide and narrows to the size of what was found.

    Args:
        x, y, t, w: (vectors, columns) regressor, codes at which the curves are taken, codes found, weights.
        zero_codes: (columns,) codes of zero input; a converter's curve is 0 at the mean of its columns.
        cells: errors of the readings behind x, which are added to the standard errors of the curves.
    """
    from cim.fit.curve_sums import node_sums  # numba is large

    nodes = setup.nodes
    left, share = inl_nodes(y, nodes, setup.limits)
    near, beside, far, slope, level, right = node_sums(
        left, share, *(np.ascontiguousarray(v) for v in (x, t, w)), nodes
    )
    s = np.stack([slope, level], 2)  # (columns, nodes, 2)
    cross = (w * x).sum(0)
    a = np.stack([np.stack([(w * x * x).sum(0), cross], 1), np.stack([cross, w.sum(0)], 1)], 1)  # (columns, 2, 2)
    lever = np.linalg.solve(a, s.transpose(0, 2, 1))  # A⁻¹ Sᵀ, (columns, 2, nodes)
    xt = np.stack([(w * x * t).sum(0), (w * t).sum(0)], 1)
    right = right - (xt[:, :, None] * lever).sum(1)

    count = int(setup.adc.max()) + 1
    k = np.arange(nodes)
    normal = np.zeros((count, nodes, nodes))
    found = np.zeros((count, nodes))
    members = [np.flatnonzero(setup.adc == adc) for adc in range(count)]
    for adc, mine in enumerate(members):
        normal[adc, k, k] = near[mine].sum(0) + np.append(0.0, far[mine, :-1].sum(0))
        normal[adc, k[:-1], k[1:]] = normal[adc, k[1:], k[:-1]] = beside[mine, :-1].sum(0)
        normal[adc] -= s[mine].transpose(1, 0, 2).reshape(nodes, -1) @ lever[mine].reshape(-1, nodes)
        found[adc] = right[mine].sum(0)
    z = _free_curves(zero_codes, setup)
    forget = np.exp(-np.abs(k[:, None] - k) / (CURVE_REACH * (nodes - 1)))
    prior = np.linalg.inv(forget)
    whole = z @ z.transpose(0, 2, 1)
    usual = np.mean((whole @ forget @ whole).diagonal(axis1=1, axis2=2))  # mean square of such curves for σ = 1
    across = z.transpose(0, 2, 1)
    free, held, pull = across @ normal @ z, across @ prior @ z, across @ found[:, :, None]
    width = CURVE_SD[1]
    for _ in range(8):
        half = z @ np.linalg.inv(free + held / width**2)
        curves = (half @ pull)[:, :, 0]
        seen = np.mean(curves**2 + (half * z).sum(2))  # with the variances of the nodes
        width = float(np.clip(np.sqrt(seen / usual), *CURVE_SD))
    spread = half @ across
    if cells is not None:
        spread = spread + _cell_part(spread, lever, cells, x, y, w, setup)
    return Curves.of(curves, spread, lever, setup.adc)


def _free_curves(zero_codes: Floats, setup: Converters) -> Floats:
    """Bases (adcs, nodes, nodes − 2) of the curves without slope that are 0 at zero input."""
    k = np.arange(setup.nodes)
    count = np.bincount(setup.adc)
    zero = np.bincount(setup.adc, zero_codes) / np.maximum(count, 1)
    left, share = inl_nodes(zero, setup.nodes, setup.limits)
    bases = []
    for at, part in zip(left, share, strict=True):
        hat = np.zeros(setup.nodes)
        hat[at], hat[at + 1] = 1.0 - part, part
        held = np.stack([k - k.mean(), hat], 1)
        bases.append(np.linalg.qr(held, mode="complete")[0][:, 2:])
    return np.stack(bases)


def _cell_part(
    spread: Floats, lever: Floats, cells: ReadingErrors, x: Floats, y: Floats, w: Floats, setup: Converters
) -> Floats:
    """Covariance of the nodes (adcs, nodes, nodes) from errors δ of the cells, with U the units:

    dc/dδ = cov(c) (Bᵀ W − S A⁻¹ Xᵀ W) U
    """
    left, share = inl_nodes(y, setup.nodes, setup.limits)
    vector, nodes = np.arange(len(x)), setup.nodes
    units = cells.units.astype(np.float32)  # errors need no more digits
    moved = np.zeros_like(spread)
    for adc in range(len(spread)):
        mine = np.flatnonzero(setup.adc == adc)
        free = np.empty((len(x), len(mine), nodes), np.float32)  # (B − X lever) W of all its columns
        for at, j in enumerate(mine):
            hats = np.outer(x[:, j], -lever[j, 0]) - lever[j, 1]
            hats[vector, left[:, j]] += 1.0 - share[:, j]
            hats[vector, left[:, j] + 1] += share[:, j]
            free[:, at] = hats * w[:, j, None]
        pull = (free.reshape(len(x), -1).T @ units).reshape(len(mine), nodes, -1)  # (columns, nodes, rows)
        moved[adc] = np.einsum("jkr,rj,jlr->kl", pull, cells.variance[:, mine], pull, optimize=True)
    result: Floats = spread @ moved @ spread
    return result
