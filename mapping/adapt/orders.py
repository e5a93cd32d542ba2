"""Channels and outputs of a layer in another order of places: the same integers, other cells.

The order that harms least is found by linear assignment, in turn for outputs and inputs. Each
place (row r, output column j) with a stuck cell costs, for the weight level k that stands there,

    w_j · m² · x_r · loss(k)²          in squared output codes

with x_r the mean square of the input code of that row, m the multiplier of the bit slice, w_j the square of
output codes per level sum, and loss(k) how far the pair stays from k (``mapping.adapt.compensation``).
An output at column j costs, besides, w · m² times the variance that the column's converter adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mapping.operators.integer.requantise import Requantise
from mapping.program.conductance import MatrixStep, Tile, TileGroup

TURNS = 6  # of outputs and inputs at most; the cost never rises, three settle it

Floats = NDArray[np.float64]
Order = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PlaceLosses:
    """Pairs of one tile that cannot hold every level, and noise of its columns.

    ``rows``, ``columns`` (pairs,) inside the tile; ``loss2`` (pairs, 2 k_max + 1): squared distance
    to level k at index k + k_max, roles of the two cells as they are; ``noise`` (outputs,): variance
    of one level sum that the converter adds, without the multiplier.
    """

    tile: Tile
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    loss2: Floats
    noise: Floats


def permutes(group: TileGroup) -> bool:
    """Whether the tiles of every bit slice cover the whole matrix, so that any order fits them."""
    return all(bool(covered.all()) for covered in _assembled(group, [np.ones_like(t.levels) for t in group.tiles]))


def channel_rows(group: TileGroup, order: Order) -> Order:
    """Rows of the unfolded input in an order of channels (of features, for a vector)."""
    area = group.window.kernel[0] * group.window.kernel[1] if group.window else 1
    return np.asarray((order[:, None] * area + np.arange(area)).reshape(-1))


def permuted_step(step: MatrixStep, inputs: Order, outputs: Order) -> MatrixStep:
    """A step whose place c holds what stood at place ``inputs[c]``, and column j what stood at ``outputs[j]``.

    Raises:
        ValueError: the layer's tiles leave places out, or columns are swapped already.
    """
    group = step.group
    if not permutes(group) or any(t.signs is not None for t in group.tiles):
        raise ValueError(f"{group.layer}: only a whole matrix without swapped columns can be put in another order")
    at = np.ix_(channel_rows(group, inputs), outputs)
    slices = {t.multiplier: n for n, t in enumerate(_first_of_slices(group))}
    levels = [matrix[at] for matrix in _assembled(group, [t.levels for t in group.tiles])]
    halves: list[list[NDArray[np.int8]]] = []
    if all(t.cells is not None for t in group.tiles):
        parts = [np.asarray(t.cells) for t in group.tiles]
        halves = [[matrix[at] for matrix in _assembled(group, [p[half] for p in parts])] for half in (0, 1)]

    def moved(tile: Tile) -> Tile:
        number = slices[tile.multiplier]
        here = (slice(tile.inputs.start, tile.inputs.stop), slice(tile.outputs.start, tile.outputs.stop))
        cells = np.stack([half[number][here] for half in halves]) if halves else None
        return replace(tile, levels=np.ascontiguousarray(levels[number][here]), cells=cells)

    def composed(old: NDArray[np.int32] | None, order: Order) -> NDArray[np.int32]:
        return (order if old is None else old[order]).astype(np.int32)

    rule = step.requantise
    many = len(rule.multiplier) > 1
    return replace(
        step,
        group=replace(group, tiles=tuple(moved(t) for t in group.tiles)),
        bias=step.bias[outputs],
        requantise=Requantise(rule.multiplier[outputs], rule.shift[outputs], rule.low, rule.high) if many else rule,
        input_order=composed(step.input_order, inputs),
        output_order=composed(step.output_order, outputs),
    )


def best_orders(
    step: MatrixStep, losses: Sequence[PlaceLosses], input_squares: Floats, output_weights: Floats
) -> tuple[Order, Order]:
    """Orders of channels and outputs with the least expected squared error, by alternating assignment.

    Args:
        losses: one a tile.
        input_squares: mean square of each entry of the unfolded input vector, (inputs,).
        output_weights: squared output codes per squared level sum, (outputs,).
    """
    group = step.group
    area = group.inputs // (group.window.channels if group.window else group.inputs)
    inputs, outputs = np.arange(group.inputs // area), np.arange(group.outputs)
    slices = {t.multiplier: n for n, t in enumerate(_first_of_slices(group))}
    weights = [matrix.astype(np.int64) for matrix in _assembled(group, [t.levels for t in group.tiles])]
    layer = _Layer(losses, [weights[slices[p.tile.multiplier]] for p in losses], input_squares, output_weights, area)
    best = layer.output_costs(inputs).trace()
    for _ in range(TURNS):
        _, tried_outputs = linear_sum_assignment(layer.output_costs(inputs))
        _, tried_inputs = linear_sum_assignment(layer.input_costs(inputs, tried_outputs))
        costs = layer.output_costs(tried_inputs)
        cost = costs[np.arange(len(outputs)), tried_outputs].sum()
        if cost >= best * (1.0 - 1e-9):
            break
        best, inputs, outputs = cost, tried_inputs, tried_outputs
    return inputs, outputs


@dataclass(frozen=True, slots=True)
class _Layer:
    losses: Sequence[PlaceLosses]
    weights: Sequence[NDArray[np.int64]]  # of each tile's slice: the whole matrix (inputs, outputs), as it stood
    input_squares: Floats
    output_weights: Floats
    area: int

    def output_costs(self, inputs: Order) -> Floats:
        """Cost of each output at each place, (places, outputs); every column takes its better sign."""
        rows = (inputs[:, None] * self.area + np.arange(self.area)).reshape(-1)
        total = np.zeros((len(self.output_weights), len(self.output_weights)))
        for part, weights in zip(self.losses, self.weights, strict=True):
            both = self._tile_costs(part, weights, rows)
            columns = slice(part.tile.outputs.start, part.tile.outputs.stop)
            here = both.min(0) + part.noise[:, None]
            total[columns] += here * (part.tile.multiplier**2 * self.output_weights)[None]
        return total

    def input_costs(self, inputs: Order, outputs: Order) -> Floats:
        """Cost of each channel at each place, (places, channels), with the signs that suit ``inputs`` now."""
        rows = (inputs[:, None] * self.area + np.arange(self.area)).reshape(-1)
        channels = len(inputs)
        total = np.zeros((channels, channels))
        for part, weights in zip(self.losses, self.weights, strict=True):
            there = outputs[part.tile.outputs.start : part.tile.outputs.stop]
            both = self._tile_costs(part, weights, rows)[:, np.arange(len(there)), there]
            sign = np.where(both[1] < both[0], -1, 1)[part.columns]
            place, within = np.divmod(part.tile.inputs.start + part.rows, self.area)
            entries = np.arange(channels)[None] * self.area + within[:, None]  # (pairs, channels)
            k = weights[entries, there[part.columns][:, None]] * sign[:, None]
            loss2 = np.take_along_axis(part.loss2, k + part.loss2.shape[1] // 2, 1)
            scale = part.tile.multiplier**2 * self.output_weights[there[part.columns]]
            np.add.at(total, place, loss2 * self.input_squares[entries] * scale[:, None])
        return total

    def _tile_costs(self, part: PlaceLosses, weights: NDArray[np.int64], rows: Order) -> Floats:
        """Σ_rows x · loss² of each output at each column of a tile, with either sign: (2, columns, outputs)."""
        entries = rows[part.tile.inputs.start + part.rows]
        k, middle = weights[entries], part.loss2.shape[1] // 2
        costs = np.zeros((2, len(part.tile.outputs), weights.shape[1]))
        for number, sign in enumerate((1, -1)):
            loss2 = np.take_along_axis(part.loss2, sign * k + middle, 1) * self.input_squares[entries][:, None]
            np.add.at(costs[number], part.columns, loss2)
        return costs


def _first_of_slices(group: TileGroup) -> list[Tile]:
    return list({t.multiplier: t for t in reversed(group.tiles)}.values())


def _assembled(group: TileGroup, parts: Sequence[NDArray[np.int8]]) -> list[NDArray[np.int8]]:
    """Arrays of the tiles (rows, outputs) put together, one matrix (inputs, outputs) a slice, zeros elsewhere."""
    numbers = {t.multiplier: n for n, t in enumerate(_first_of_slices(group))}
    whole = [np.zeros((group.inputs, group.outputs), np.int8) for _ in numbers]
    for tile, part in zip(group.tiles, parts, strict=True):
        there = whole[numbers[tile.multiplier]]
        there[tile.inputs.start : tile.inputs.stop, tile.outputs.start : tile.outputs.stop] = part
    return whole
