"""The moments of the fast mode: one product for a whole multi-bit input, noise of matched mean and variance.

The exact mode converts every input plane of a tile on its own. Here the planes of a code
are taken together. With w_p the weight of plane p, u_pr what row r is driven with in it,
n_p = Σ_r |u_pr|, and code_r = Σ_p w_p u_pr, the shift-added sum of a column has

    mean      Σ_r cells_r code_r + Σ_p w_p (offset + inl)     planes that drive something
              + Σ_p w_p E₀                                    planes that drive nothing
    variance  Σ_r read_r Σ_p w_p² u_pr² + Σ_p w_p² (1/12 + noise² + inl²)

and is corrected and added over the tiles of an output; the total level sum is drawn as one Gaussian and rounded once
(``GroupMoments``). Rounding gives 1/12 a plane because a sum of many cells falls anywhere between two codes; where no
row is driven it does not, and the converter's own mean E₀ and variance V₀ at rest replace it. INL is taken as its
regression line over the sums that random inputs of the given ``activity`` make, the rest of it as noise. Wires: the
static loss of each cell is folded into the product, the rest follows from the number of driven rows (``place_terms``),
which takes the planes' shares of a sum to go by their driven rows. Where neighbouring rows drive together these shares
differ: a second product, of Σ_p w_p s_pr u_pr, gives the loss of each plane, s_pr by its own driven rows along the line
(``SimulatedLayer.rows_alike``, ``DrivenLine``). Where row drivers have errors (``cim.array.input_drive``) u_pr is the
real drive, so code_r is not a whole number (``FastLayer.product_inputs``); cubic cells (``cim.array.cell_iv``) add a
product of Σ_p w_p u_pr³.

Saturation of single planes is not modelled. ``level_sums`` returns the share of sums whose largest plane is expected
beyond the scale, at one conversion each; where the exact simulator finds more than about 0.1 %, ``fast`` is not valid.
Errors against ``exact`` are bounded in ``tests/cim/simulator/test_fast.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import line_bend, max_unit
from cim.record.inl import inl_at
from cim.simulator.layer import PreparedTile, SimulatedLayer, SimulatedTile

Floats = NDArray[np.float64]
_POINTS = 401


@dataclass(frozen=True, slots=True)
class DrivenLine:
    """Rows of a tile along their line: the wire loss of a row depends on the rows that drive together with it.

    ``order`` (rows,): positions among the tile's inputs, farthest from the end first; ``gaps`` pitches from each to the
    next, the last to the end; ``bend`` as in ``place_terms``; ``unit`` the largest input unit.
    """

    order: NDArray[np.int64]
    gaps: Floats
    bend: float
    unit: int

    @property
    def reach(self) -> Floats:
        """λ of each row along the line (``row_reach``)."""
        return row_reach(self.gaps)

    def shares(self, units: NDArray[np.floating]) -> Floats:
        """Wire loss of each row for driven ``units`` (…, rows), relative to its loss when all rows drive fully.

            s_r = Σ_(s ≥ r) gap_s N_s / (λ_r U (1 + bend N)),   N_s the units from the farthest row to row s, N of all

        Example: three rows one pitch apart of which only the far one drives: shares 3/6, 2/5 and 1/3.
        """
        driven = np.abs(units)[..., self.order].cumsum(-1)
        lost = (driven * self.gaps)[..., ::-1].cumsum(-1)[..., ::-1]
        along = lost / (self.reach * self.unit) / (1.0 + self.bend * driven[..., -1:])
        found = np.empty_like(along)
        found[..., self.order] = along
        return np.asarray(found)


@dataclass(frozen=True, slots=True)
class TileMoments:
    """Mean and variance of a tile's sums as functions of codes and ``PlaceTerms``; arrays (conversions,), in codes.

        mean     = P (1 − kw · terms.excess) − lean · terms.lean + constant + rest · terms.rest
        variance = read · terms.squares + floor + rest_variance · terms.rest2

    of the mean of ``tile.reads`` reads, with P = Σ_r codes_r cells_r, ``cells`` (rows, conversions) in the order of the
    tile's inputs; as many rows again for cubic cells, and for wire losses plane by plane
    (``FastLayer.product_inputs``). ``moves``: 1.0 where sums fall between codes (``moving_columns``).
    """

    tile: SimulatedTile
    cells: Floats
    kw: Floats
    lean: Floats
    constant: Floats
    rest: Floats
    read: Floats
    floor: Floats
    rest_variance: Floats
    moves: Floats
    line: DrivenLine


@dataclass(frozen=True, slots=True)
class PlaceTerms:
    """Quantities besides its codes on which the sum of a place depends, each float32 (places,).

    ``squares`` Σ_p w_p² Σ_r u_pr²; ``rest``, ``rest2`` Σ w_p and Σ w_p² of planes that drive nothing; ``excess`` driven
    rows beyond the typical number, planes weighted as they are in a random sum; ``lean`` the further loss of a column
    of equal cells; ``peak`` the share of the largest plane in the sum; ``driven`` the sum of the integer codes.
    """

    squares: NDArray[np.float32]
    rest: NDArray[np.float32]
    rest2: NDArray[np.float32]
    excess: NDArray[np.float32]
    lean: NDArray[np.float32]
    peak: NDArray[np.float32]
    driven: NDArray[np.float32]


def place_terms(
    sums: NDArray[np.floating],
    driven: NDArray[np.floating],
    squares: NDArray[np.floating],
    weights: NDArray[np.floating],
    *,
    typical: float,
    bend: float,
    even: bool,
) -> PlaceTerms:
    """Terms of each place from its planes, (places, planes): Σ u, Σ |u| and Σ u² of the rows.

    Split a plane's sum into an even part μ Σ u and a random rest f_p of variance ∝ Σ u². Given
    D = Σ w_p D_p, the rest of plane p is w_p s_p / S of the whole rest, S = Σ w_p² s_p. So the
    activity-weighted sum that wires lose, Σ w_p n_p D_p, is

        n̂ D + μ (A − n̂ B),  n̂ = Σ w_p² s_p n_p / S,  A = Σ w_p n_p Σu_p,  B = Σ w_p Σu_p

    ``bend``: n stands for n / (1 + bend n). ``even``: columns of one sign, whose planes are
    in proportion to Σ u. ``typical``: driven rows whose loss is folded into the product.

    Example: one plane of 30 driven rows, typical 25: excess 5, lean 0, squares 30.
    """
    w, w2 = weights, weights**2
    count = driven / (1.0 + bend * driven)
    total = squares @ w2
    safe = np.maximum(total, 1e-9)
    mean = (squares * count) @ w2 / safe
    even_sum = sums @ w
    resting = (driven == 0).astype(w.dtype)
    if even:
        peak = np.abs(sums).max(1) / np.maximum(np.abs(sums) @ np.abs(w), 1e-9)
    else:
        peak = (squares * np.abs(w)).max(1) / safe
    terms = (total, resting @ w, resting @ w2, mean - typical, (sums * count) @ w - mean * even_sum, peak, even_sum)
    return PlaceTerms(*(np.ascontiguousarray(t, np.float32) for t in terms))


def loses_by_plane(layer: SimulatedLayer, tile: PreparedTile) -> bool:
    """Whether the wire losses of a tile's planes need a matrix product of their own."""
    return layer.rows_alike and bool(tile.wire.any())


def tile_moments(layer: SimulatedLayer, prepared: PreparedTile, weights: Floats, activity: float) -> TileMoments:
    """Moments of one tile (module docstring), for input planes of these ``weights``."""
    limits, whole = layer.limits, layer.drive is None  # rows are driven with whole units
    tile, rows = prepared.tile, len(prepared.order)
    back = np.argsort(prepared.order)
    reach = row_reach(prepared.gaps)[back]
    cells, variance = prepared.cells[back], prepared.mean_variance
    parts = [cells]
    if prepared.cubic is not None:
        parts.append(prepared.cubic[back] * max_unit(layer.spec) ** 2)
        cells = parts[0] + parts[1]  # as they are read, for all but the products
    noise2 = tile.conversion_noise_codes**2
    middle = tile.offset_codes + activity * cells.sum(0)
    spread2 = activity * (1.0 - activity) * (cells**2).sum(0) + activity * rows * variance + noise2
    slope, shift, left2 = inl_line(tile.inl_codes, limits, middle, np.sqrt(spread2))
    bend = line_bend(layer.spec, tile.halves_us, layer.wire, tile.row0) if prepared.wire.any() else 0.0
    typical = activity * rows / (1.0 + bend * activity * rows)
    loss = prepared.wire / rows  # of a cell one pitch from the end, for each driven row
    kw, left = loss * reach.mean(), 1.0 - loss * typical * reach[:, None]
    if loses_by_plane(layer, prepared):
        parts, kw, left = [*parts, -cells * reach[:, None] * prepared.wire * max_unit(layer.spec)], 0.0 * kw, np.ones(1)
    scale = 1.0 + slope
    moves = moving_columns(prepared, cells) if whole and prepared.cubic is None else np.ones(cells.shape[1])
    rest, rest2 = at_rest(tile, limits)
    drive_constant = tile.offset_codes * scale + shift
    each = noise2 * scale**2 + moves / 12.0 + left2
    w1, w2 = float(weights.sum()), float((weights**2).sum())
    bare = replace(tile, halves_us=np.empty((2, 0, 0), np.float32))  # many chips stay in memory: keep no cell twice
    return TileMoments(
        tile=bare,
        cells=np.concatenate([part * left for part in parts]) * scale,
        kw=kw / (1.0 - np.minimum(kw * typical, 0.5)),
        lean=kw * cells.mean(0) * scale,
        constant=drive_constant * w1,
        rest=rest - drive_constant,
        read=variance * scale**2 / tile.reads,
        floor=each * w2 / tile.reads,
        rest_variance=(rest2 - each) / tile.reads,
        moves=moves,
        line=DrivenLine(prepared.order - tile.inputs.start, prepared.gaps, bend, max_unit(layer.spec)),
    )


@dataclass(frozen=True, slots=True)
class GroupMoments:
    """Tiles that add to the same outputs, in levels; arrays (tiles, outputs) and (outputs,).

        mean     = Σ_tiles gain · P (1 − kw · excess) + rest · terms.rest − lean · terms.lean
                   + input_gain · terms.driven  + constant
        variance = Σ_tiles read · terms.squares + rest_variance · terms.rest2  + floor

    with each tile's own P, kw, excess and terms. ``floor`` holds what the rounding of each
    tile's level sum adds, 1/12 where its correction is not whole, less the 1/12 that the one
    rounding of the total adds itself.
    """

    tiles: tuple[TileMoments, ...]
    gain: Floats
    rest: Floats
    lean: Floats
    input_gain: Floats
    read: Floats
    rest_variance: Floats
    constant: Floats
    floor: Floats

    def with_copies_as_one(self) -> tuple[GroupMoments, tuple[int, ...]]:
        """Group with one mean tile in place of all copies that have the same inputs, multiplier and number of reads.

        Copies a hold the same weights: with G = Σ_a gain_a and mean cells c̄ = Σ_a gain_a c_a / G, a sum over copies is

            Σ_a gain_a P_a (1 − kw_a e_a)  =  G P̄ (1 − kw e),      kw = Σ_a gain_a kw_a / G

        up to second-order terms: the deviation of P_a from P̄ times that of kw_a e_a, itself about 0.01, from its mean.
        Where gains of a column have both signs the copies stay as they are.
        """
        places: dict[tuple[range, int], list[int]] = {}
        for number, tile in enumerate(self.tiles):
            places.setdefault((tile.tile.inputs, tile.tile.multiplier), []).append(number)
        together: list[list[int]] = []
        for copies in places.values():
            alike = bool((self.gain[copies] > 0).all(0).all() or (self.gain[copies] < 0).all(0).all())
            together += [copies] if alike else [[number] for number in copies]
        if len(together) == len(self.tiles):
            return self, tuple(tile.tile.reads for tile in self.tiles)
        tiles = tuple(_mean_tile([self.tiles[n] for n in copies], self.gain[copies]) for copies in together)

        def total(values: Floats) -> Floats:
            return np.stack([values[copies].sum(0) for copies in together])

        summed = ("gain", "rest", "lean", "input_gain", "read", "rest_variance")
        reads = tuple(sum(self.tiles[n].tile.reads for n in copies) for copies in together)
        return replace(self, tiles=tiles, **{n: total(getattr(self, n)) for n in summed}), reads


def _mean_tile(copies: Sequence[TileMoments], gain: Floats) -> TileMoments:
    """Mean cells, wires and bend of copies, weighted by their ``gain`` (copies, outputs)."""
    if len(copies) == 1:
        return copies[0]
    share = gain / gain.sum(0)
    return replace(
        copies[0],
        cells=np.asarray(sum(part * m.cells for part, m in zip(share, copies, strict=True))),
        kw=np.asarray(sum(part * m.kw for part, m in zip(share, copies, strict=True))),
        line=mean_line([m.line for m in copies]),
    )


def mean_line(lines: Sequence[DrivenLine]) -> DrivenLine:
    """Mean line of several copies, whose rows have the same order at different distances from the end: mean pitches
    give the total loss of the copies."""
    gaps, bend = np.mean([line.gaps for line in lines], axis=0), float(np.mean([line.bend for line in lines]))
    return replace(lines[0], gaps=gaps, bend=bend)


def group_moments(tiles: Sequence[TileMoments], *, codes: bool = False) -> GroupMoments:
    """Moments of tiles with the same outputs; with ``codes`` those of the ADC sums, before correction.

    Example: gains 0.37 and 0.41, quiet columns that move: floor 2/12 − 1/12.
    """
    gain, offset, driven, cut, moves = [], [], [], [], []
    for m in tiles:
        correction, many = m.tile.correction, 1.0 if codes else float(m.tile.multiplier)
        unit, n = float(1 << correction.shift), m.cells.shape[1]
        parts = (correction.gain, correction.offset, correction.input_gain)
        g, o, i = (np.ones(n), np.zeros(n), np.zeros(n)) if codes else (np.asarray(v, float) / unit for v in parts)
        whole = np.all([v == np.rint(v) for v in (g, o, i)], 0)
        gain.append(many * g)
        offset.append(many * o)
        driven.append(many * i)
        cut.append((many / m.tile.reads) ** 2 * ~whole / 12.0)
        moves.append(np.maximum(m.moves, ~whole))
    gains = np.stack(gain)

    def of(name: str) -> Floats:
        return np.stack([getattr(m, name) for m in tiles])

    return GroupMoments(
        tiles=tuple(tiles),
        gain=gains,
        rest=gains * of("rest"),
        lean=gains * of("lean"),
        input_gain=np.stack(driven),
        read=gains**2 * of("read"),
        rest_variance=gains**2 * of("rest_variance"),
        constant=(gains * of("constant") + np.stack(offset)).sum(0),
        floor=(gains**2 * of("floor") + np.stack(cut)).sum(0) - np.max(moves, 0) / 12.0,
    )


def row_reach(gaps: Floats) -> Floats:
    """Loss coefficient λ of each row in pitches, farthest row first, when all rows drive alike.

    loss = wire · Σ_s gap_s n_s D_s with n_s = (n / rows) · s, s = 1 … rows, is
    wire · (n / rows) · Σ_r λ_r G_r u_r with λ_r = Σ_(s ≥ r) gap_s s.

    Example: three rows one pitch apart → (6, 5, 3).
    """
    return np.asarray(np.cumsum((gaps * np.arange(1.0, len(gaps) + 1.0))[::-1])[::-1])


def inl_line(
    inl_codes: Floats, limits: tuple[int, int], middle: Floats, spread: Floats
) -> tuple[Floats, Floats, Floats]:
    """Regression line of each INL curve over Gaussian sums: slope, intercept and residual variance, (conversions,).

    Example: a curve inl(y) = 0.02 y gives 0.02, 0 and 0.
    """
    if not inl_codes.any():
        return np.zeros_like(middle), np.zeros_like(middle), np.zeros_like(middle)
    z = np.linspace(-3.5, 3.5, 71)
    p = np.exp(-0.5 * z * z)
    p /= p.sum()
    y = middle[:, None] + spread[:, None] * z
    curve = _inl_of_each(y, inl_codes, limits)
    mean = curve @ p
    dy = y - (y @ p)[:, None]
    variance = (dy * dy) @ p
    slope = ((curve - mean[:, None]) * dy) @ p / np.maximum(variance, 1e-12)
    left = np.maximum(((curve - mean[:, None]) ** 2) @ p - slope**2 * variance, 0.0)
    return slope, mean - slope * (y @ p), left


def _inl_of_each(y: Floats, inl_codes: Floats, limits: tuple[int, int]) -> Floats:
    """INL of each conversion's own curve at ``y``, (conversions, points)."""
    if not inl_codes.any():
        return np.zeros_like(y)
    return np.ascontiguousarray(inl_at(y.T, inl_codes, np.arange(len(y)), limits).T)


def at_rest(tile: SimulatedTile, limits: tuple[int, int]) -> tuple[Floats, Floats]:
    """Mean and variance of each conversion's code without driven rows, by quadrature over its noise."""
    z = np.linspace(-5.0, 5.0, _POINTS) if tile.conversion_noise_codes.any() else np.zeros(1)
    p = np.exp(-0.5 * z * z)
    p /= p.sum()
    y = tile.offset_codes[:, None] + tile.conversion_noise_codes[:, None] * z
    code = np.clip(np.floor(y + _inl_of_each(y, tile.inl_codes, limits) + 0.5), *limits)
    mean = code @ p
    return mean, ((code - mean[:, None]) ** 2) @ p


def moving_columns(prepared: PreparedTile, cells: Floats) -> Floats:
    """1.0 where sums fall between codes, 0.0 where every sum is a whole code: cells and offset whole, no error."""

    def whole(values: Floats) -> NDArray[np.bool_]:
        return np.asarray(np.abs(values - np.rint(values)) < 1e-5)

    tile = prepared.tile
    still = whole(cells).all(0) & whole(tile.offset_codes) & ~tile.inl_codes.any(1)
    return np.asarray(
        ~(still & (prepared.mean_variance == 0) & (tile.conversion_noise_codes == 0) & (prepared.wire == 0)), float
    )
