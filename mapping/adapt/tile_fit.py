"""Tiles of one layer fitted to the cells of one chip: order, signs and cell levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import input_planes
from cim.chip.encoding import WeightForm
from cim.chip.spec import MacroSpec
from mapping.adapt.compensation import Choices, column_errors, loss_table, pair_choices, rebalanced
from mapping.adapt.defects import Defects, tile_stuck_us
from mapping.adapt.orders import PlaceLosses, best_orders, permuted_step, permutes
from mapping.program.conductance import MatrixStep, Tile, TileGroup
from mapping.program.driven import tile_vectors

VECTORS = 4096  # input vectors of a tile that its moments are taken over
HELD = 0.5  # levels: a weight farther from its cells than this is not held

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """Measures that may be taken to adapt a program.

    ``balance``: good pairs of a column make up for what others cannot hold.
    """

    permute: bool = True
    swap: bool = True
    balance: bool = True


@dataclass(frozen=True, slots=True)
class TileFit:
    """One tile on its cells.

    ``errors`` (rows, outputs): what the cells hold, with the signs of the columns, minus the levels;
    ``moments`` (rows, rows): mean of x xᵀ over input vectors; ``weights`` (outputs,): squared output
    codes per squared sum of this tile. ``lost``: weights whose pair cannot come within half a level.
    """

    tile: Tile
    errors: Floats
    moments: Floats
    weights: Floats
    lost: int

    @property
    def costs(self) -> Floats:
        """Expected squared error in output codes, (outputs,)."""
        return np.asarray(column_errors(self.errors, self.moments) * self.weights)


@dataclass(frozen=True, slots=True)
class LayerFit:
    """One layer on its cells. ``codes``: its input codes in the order of its places; ``power``: Σ of the outputs'
    squared codes; ``blind``: the same tiles where they lay, as if every cell were good."""

    step: MatrixStep
    codes: NDArray[np.int16]
    tiles: tuple[TileFit, ...]
    blind: tuple[TileFit, ...]
    stuck: int
    power: float

    @property
    def moved(self) -> bool:
        return self.step.output_order is not None or self.step.input_order is not None


def fit_layer(
    step: MatrixStep, spec: MacroSpec, defects: Defects, codes: NDArray[np.int16], options: AdaptOptions
) -> LayerFit:
    """Choose order, signs and cells of a layer; never with more expected error than where it lay."""
    group = step.group
    stuck = [tile_stuck_us(defects, spec, tile) for tile in group.tiles]
    weights = np.broadcast_to((step.requantise.multiplier / np.exp2(step.requantise.shift)) ** 2, (group.outputs,))
    here = [
        _Site(tile, us, _moments(codes, group, tile), _of_tile(weights, tile))
        for tile, us in zip(group.tiles, stuck, strict=True)
    ]
    blind = tuple(site.blind(spec) for site in here)
    fits = [(step, codes, tuple(site.fit(spec, options) for site in here))]
    if options.permute and permutes(group) and any(np.isfinite(us).any() for us in stuck):
        losses = [_losses(step, tile, us, spec, defects) for tile, us in zip(group.tiles, stuck, strict=True)]
        inputs, outputs = best_orders(step, losses, _mean_squares(codes, group), weights)
        moved, in_order = permuted_step(step, inputs, outputs), codes[:, inputs]
        there = [
            _Site(tile, us, _moments(in_order, group, tile), _of_tile(weights[outputs], tile))
            for tile, us in zip(moved.group.tiles, stuck, strict=True)
        ]
        fits.append((moved, in_order, tuple(site.fit(spec, options) for site in there)))
    chosen, in_order, tiles = min(fits, key=lambda fit: total_cost(fit[2]))
    return LayerFit(
        replace(chosen, group=replace(chosen.group, tiles=tuple(t.tile for t in tiles))),
        in_order,
        tiles,
        blind,
        stuck=sum(int(np.isfinite(us).sum()) for us in stuck),
        power=sum(float((column_errors(s.tile.levels.astype(np.float64), s.moments) * s.weights).sum()) for s in here),
    )


@dataclass(frozen=True, slots=True)
class _Site:
    """A tile and the cells under it: what is stuck, what drives it, how much its outputs matter."""

    tile: Tile
    stuck_us: NDArray[np.float32]
    moments: Floats
    weights: Floats

    @property
    def form(self) -> WeightForm:
        return WeightForm.SIGN if self.tile.cells is None else WeightForm.BALANCED

    def blind(self, spec: MacroSpec) -> TileFit:
        """The tile as compiled, on cells of which some are stuck."""
        choices, index = self._blind(spec)
        errors = choices.held_at(index) - self.tile.levels
        return TileFit(self.tile, errors, self.moments, self.weights, int((np.abs(errors) > HELD).sum()))

    def fit(self, spec: MacroSpec, options: AdaptOptions) -> TileFit:
        """The tile with signs and cells that lose least."""
        if not np.isfinite(self.stuck_us).any():
            return self.blind(spec)
        levels = self.tile.levels.astype(np.float64)
        fits = [self._with_signs(spec, np.ones(levels.shape[1], np.int8), options)]
        if options.swap:
            fits.append(self._with_signs(spec, np.full(levels.shape[1], -1, np.int8), options))
        errors = np.stack([column_errors(errors, self.moments) for _, errors, _ in fits])
        best = errors.argmin(0)
        at = np.arange(levels.shape[1])
        cells = np.stack([cells for cells, _, _ in fits])[best, :, :, at].transpose(1, 2, 0)
        left = np.stack([errors for _, errors, _ in fits])[best, :, at].T
        lost = int(np.stack([lost for _, _, lost in fits])[best, at].sum())
        signs = np.where(best == 1, -1, 1).astype(np.int8)
        tile = replace(self.tile, cells=np.ascontiguousarray(cells), signs=signs if (signs < 0).any() else None)
        return TileFit(tile, left, self.moments, self.weights, lost)

    def _with_signs(
        self, spec: MacroSpec, signs: NDArray[np.int8], options: AdaptOptions
    ) -> tuple[NDArray[np.int8], Floats, NDArray[np.intp]]:
        """Cells, errors (in the sense of the levels) and lost weights of each column."""
        wanted = self.tile.levels.astype(np.float64) * signs
        choices, start = self._blind(spec)
        index = choices.nearest(wanted)
        lost = (np.abs(choices.held_at(index) - wanted) > HELD).sum(0)
        if options.balance:
            index = rebalanced(choices, index, wanted, self.moments)
        errors = choices.held_at(index) - wanted
        if (signs > 0).all():  # errors of a column may have cancelled: then it stays as it was
            blind = choices.held_at(start) - wanted
            worse = column_errors(errors, self.moments) > column_errors(blind, self.moments)
            index = np.where(worse, start, index)
            errors = np.where(worse, blind, errors)
        return choices.cells_at(index), errors * signs, lost

    def _blind(self, spec: MacroSpec) -> tuple[Choices, NDArray[np.intp]]:
        """Choices of every pair, and those that the tile's own cells are."""
        choices = pair_choices(self.stuck_us, spec, self.form)
        plain = pair_choices(np.full_like(self.stuck_us, np.nan), spec, self.form)
        own = plain.cells_at(plain.nearest(self.tile.levels.astype(np.float64)))
        stuck = np.isfinite(self.stuck_us)
        free = np.where(stuck[0], own[1], own[0])  # the level of the partner is its number among the choices
        index = np.where(
            stuck.all(0), 0, np.where(stuck.any(0), free, choices.nearest(self.tile.levels.astype(np.float64)))
        )
        return choices, index


def _losses(
    step: MatrixStep, tile: Tile, stuck_us: NDArray[np.float32], spec: MacroSpec, defects: Defects
) -> PlaceLosses:
    rows, columns = np.nonzero(np.isfinite(stuck_us).any(0))
    group, outputs = step.group, len(tile.outputs)
    noise = np.zeros(outputs)
    if tile.macro in defects:
        planes = input_planes(spec.inputs, group.input_bits, group.input_signed)
        codes2 = defects[tile.macro].column_codes2[tile.output0 : tile.output0 + outputs]
        noise = codes2 * (spec.lsb_us(group.range_code) / spec.level_step_us) ** 2 * sum(p.weight**2 for p in planes)
    return PlaceLosses(tile, rows, columns, loss_table(stuck_us[:, rows, columns], spec), noise)


def _moments(codes: NDArray[np.int16], group: TileGroup, tile: Tile) -> Floats:
    """Mean of x xᵀ over the input vectors of a tile, (rows, rows)."""
    vectors = tile_vectors(codes, group.window, tile, VECTORS).astype(np.float64)
    return np.asarray(vectors.T @ vectors / len(vectors))


def _mean_squares(codes: NDArray[np.int16], group: TileGroup) -> Floats:
    """Mean square of each entry of the unfolded input vector, (inputs,)."""
    whole = replace(group.tiles[0], inputs=range(group.inputs))
    vectors = tile_vectors(codes, group.window, whole, VECTORS).astype(np.float64)
    return np.asarray((vectors**2).mean(0))


def _of_tile(weights: Floats, tile: Tile) -> Floats:
    return np.asarray(weights[tile.outputs.start : tile.outputs.stop] * float(tile.multiplier) ** 2)


def total_cost(tiles: Sequence[TileFit]) -> float:
    return sum(float(t.costs.sum()) for t in tiles)
