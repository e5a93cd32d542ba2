"""Fast mode on torch alone: any device, any input coding.

The tiles of an output are one convolution with corrections folded into weights and bias
where no wires are (one for each tile where they are; a matrix product of gathered rows where units have several
bits); mean and variance get what depends on the place by a small product with its
terms, and noise is added once, in place, a few images at a time so that sums stay in the
cache. Noise comes from a pool of 2²⁰ normals whose distribution is exact (evenly spaced
quantiles in random order), read from a place that the noise key chooses: stretches of it
return after some 10⁶ draws.

Sums are not clipped at the end of their scale here. The share of sums beyond it is estimated
from some places of every fourth chunk.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cim.simulator.fast.layer import ACTIVITY, FastLayer
from cim.simulator.fast.moments import TileMoments, group_moments, mean_line
from cim.simulator.fast.planes import driving_planes, place_counts
from cim.simulator.fast.row_cuts import RowCut
from cim.simulator.layer import SimulatedLayer, SimulatedTile
from cim.simulator.maps import PaddedMaps, window_pixels

CHUNK_VALUES = 1 << 18  # sums of one tile that are made at a time
POOL = 1 << 20
STEP = 16  # stretches of the pool start at multiples of this
SAMPLED, EVERY = 32, 4  # places that are looked at for sums beyond the scale, in every so many-th chunk


@functools.lru_cache(maxsize=4)
def noise_pool(device: str) -> torch.Tensor:
    """2²⁰ normals, (POOL,): quantiles of the distribution, shuffled."""
    shares = (torch.arange(POOL, dtype=torch.float64) + 0.5) / POOL
    order = torch.randperm(POOL, generator=torch.Generator().manual_seed(0x51B))
    pool: torch.Tensor = torch.special.ndtri(shares)[order].float().to(device)
    return pool


class FastTorch:
    """``cim.simulator.layer.LayerEngine`` of the fast mode on torch."""

    def __init__(self, layer: SimulatedLayer, activity: float = ACTIVITY) -> None:
        fast = FastLayer(layer, activity)
        groups = fast.groups(layer.tiles)
        self.layer = fast.layer
        self.groups = [_TensorGroup(fast, group, number) for number, group in enumerate(groups)]
        self.widest = max(m.cells.shape[1] for group in groups for m in group)

    @torch.inference_mode()
    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions), channels last in memory, and sums beyond the scale."""
        layer, positions = self.layer, self.layer.map_window.positions
        alone = len(self.groups) == 1 and len(self.groups[0].outputs) == layer.outputs
        out = (torch.empty if alone else torch.zeros)(len(codes) * positions, layer.outputs, dtype=torch.int32)
        step = max(1, CHUNK_VALUES // (positions * self.widest))
        found = seen = 0
        for number, first in enumerate(range(0, len(codes), step)):
            part = slice(first, min(first + step, len(codes)))
            maps, mine = _TensorMaps(layer, codes[part]), out[part.start * positions : part.stop * positions]
            look = number % EVERY == 0
            for group in self.groups:
                sums, beyond = group.sums(maps, keys[part], look)
                found += beyond
                if alone:
                    mine.copy_(sums)
                else:
                    mine[:, group.outputs.start : group.outputs.stop] += sums.to("cpu", torch.int32)
            seen += len(_sampled(len(mine))) if look else 0
        ends = round(found * len(out) / max(1, seen))
        return out.numpy().reshape(len(codes), positions, layer.outputs).transpose(0, 2, 1), ends


def _sampled(places: int) -> range:
    step = -(-places // SAMPLED)
    return range((step - 1) // 2, places, step)


class _TensorMaps(PaddedMaps):
    """Padded maps, and ``tensor``: the same as floats on the device, channels first in order and last in memory, of
    a matrix (n, features)."""

    def __init__(self, layer: SimulatedLayer, codes: NDArray[np.int16]) -> None:
        super().__init__(layer, codes)
        values = torch.as_tensor(self.values).to(layer.device, torch.float32)
        self.tensor = values.reshape(self.images, -1) if layer.window is None else values.permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class Planes:
    """What is driven in each plane: Σ u, Σ |u| and Σ u², (tiles, places, planes), and what planes at rest weigh.

    ``rest``, ``rest2``: Σ w and Σ w² of planes that drive nothing, (tiles, places). ``codes``: sums of the codes,
    (tiles, places), where row drivers make them others than Σ w Σ u; else None.
    """

    sums: torch.Tensor
    driven: torch.Tensor
    squares: torch.Tensor
    rest: torch.Tensor
    rest2: torch.Tensor
    codes: torch.Tensor | None = None

    def code_sums(self, w: torch.Tensor) -> torch.Tensor:
        return self.sums @ w if self.codes is None else self.codes


class _TensorGroup:
    """Tensors of tiles that add to the same outputs."""

    def __init__(self, fast: FastLayer, moments: list[TileMoments], number: int) -> None:
        self.fast, self.layer, self.number = fast, fast.layer, number
        self.tiles, self.outputs = [m.tile for m in moments], moments[0].tile.outputs
        self.kernel = fast.kernel_size
        self.direct = fast.reads_in_place(self.tiles[0])
        self.cuts = [fast.cut(t) for t in self.tiles]
        self.channels = [slice(cut.channels.start, cut.channels.stop) for cut in self.cuts]
        self.wired = any(bool(m.kw.any()) for m in moments)
        self.subtracts = moments[0].cells.shape[1] != len(self.outputs)

        def tensor(values: NDArray[np.generic]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(values, np.float32), device=fast.layer.device)

        group = group_moments(moments, codes=self.subtracts)
        self.cells = [tensor(m.cells) for m in moments]
        self.bends = [m.line.bend for m in moments]
        self.lines = [m.line for m in moments]
        self.typical = [fast.typical(len(m.tile.inputs), m.line.bend) for m in moments]
        self.constant, self.floor = tensor(group.constant), tensor(group.floor)
        # Mean and variance of a sum are products of what is driven and at rest, (tiles, conversions) each.
        self.w, self.w2 = tensor(fast.weights), tensor(fast.weights**2)
        self.read = tensor(np.concatenate([group.rest_variance, group.read]))
        self.driven = group.input_gain.any()
        self.rest = tensor(np.concatenate([group.rest, group.input_gain]) if self.driven else group.rest)
        self.lean = tensor(-group.lean)
        # What is convolved: all tiles at once, or each one by itself where wires bend its sums.
        if self.wired or not self.direct:
            self.parts = list(self.channels)
            weights = [self._spread(m.cells * g, cut) for m, g, cut in zip(moments, group.gain, self.cuts, strict=True)]
            weights = weights if self.wired else [np.sum(weights, 0)]  # tiles of the same inputs
        else:
            first, stop = min(c.start for c in self.channels), max(c.stop for c in self.channels)
            self.parts = [slice(first, stop)]
            weights = [np.zeros(((stop - first) * self.kernel, group.gain.shape[1]))]
            for m, g, cut in zip(moments, group.gain, self.cuts, strict=True):
                start = cut.rows.start - first * self.kernel
                weights[0][start : start + len(cut.rows)] += m.cells * g
        self.weights = [self._filters(tensor(w)) for w in weights]
        self.kw = [tensor(-m.kw[None]) for m in moments]
        correction = self.tiles[0].correction
        unit, parts = float(1 << correction.shift), (correction.gain, correction.offset, correction.input_gain)
        self.correction = [tensor(np.asarray(v, float) / unit) for v in parts]

    def _spread(self, rows: NDArray[np.float64], cut: RowCut) -> NDArray[np.float64]:
        """Cells of the rows of whole channels, where channels are read in place."""
        return cut.spread(rows).reshape(-1, rows.shape[1]) if self.direct else rows

    def _filters(self, rows: torch.Tensor) -> torch.Tensor:
        """Weights (rows, conversions) as they are multiplied."""
        if self.layer.window is None or not self.direct:
            return rows
        filters = rows.T.reshape(rows.shape[1], -1, *self.layer.window.kernel)
        return filters.contiguous(memory_format=torch.channels_last)

    def sums(self, maps: _TensorMaps, keys: NDArray[np.uint32], look: bool) -> tuple[torch.Tensor, int]:
        """Whole level sums (places, outputs) as floats; if to ``look``, how many sampled sums are beyond the scale."""
        planes = self._planes(maps)
        y = self._mean(maps, planes)
        beyond = self._beyond(maps, planes) if look else 0
        y.addmm_((torch.cat([planes.rest, planes.code_sums(self.w)]) if self.driven else planes.rest).T, self.rest)
        spread = torch.addmm(self.floor, torch.cat([planes.rest2, planes.squares @ self.w2]).T, self.read)
        noise = self._noise(keys, y.shape[0], y.shape[1])
        y.addcmul_(spread.clamp_(min=0.0).sqrt_(), noise)
        if not self.subtracts:
            return y.round_(), beyond
        y.round_()
        y = y[:, : len(self.outputs)] - y[:, len(self.outputs) :]
        gain, offset, input_gain = self.correction
        codes = planes.code_sums(self.w)[0]
        y = torch.addcmul(offset, y, gain).addmm_(codes[:, None], input_gain[None])
        return y.round_().mul_(self.tiles[0].multiplier), beyond

    def _beyond(self, maps: _TensorMaps, planes: Planes) -> int:
        """Sampled sums whose largest plane is expected beyond the scale."""
        places = np.array(_sampled(planes.sums.shape[1]))
        peak = peaks(planes.sums[:, places], planes.squares[:, places], self.fast)
        low, high = self.layer.limits
        found = 0
        for t, (tile, cells) in enumerate(zip(self.tiles, self.cells, strict=True)):
            driven = self.fast.product_inputs(self._rows(maps, tile, places), self.lines[t])
            x = torch.as_tensor(driven).to(cells)
            y = x @ cells * peak[t, :, None]
            found += tile.reads * int((y.abs_() >= (high + 0.5 if low < 0 else high)).sum())
        return found

    def _mean(self, maps: _TensorMaps, planes: Planes) -> torch.Tensor:
        """Expected sums, without what planes add in which nothing is driven."""
        if not self.wired:
            total = self._product(maps, self.weights[0], self.parts[0], self.constant)
        else:
            excess, lean = wire_terms(planes, self.fast, self.typical, self.bends)
            total, one = torch.addmm(self.constant, lean.T, self.lean), torch.ones((), device=lean.device)
            for t, (weights, channels, kw) in enumerate(zip(self.weights, self.parts, self.kw, strict=True)):
                left = torch.addmm(one, excess[t, :, None], kw)
                total.addcmul_(self._product(maps, weights, channels, None), left)
        return total

    def _product(
        self, maps: _TensorMaps, weights: torch.Tensor, channels: slice, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Σ weights · code + bias, (places, conversions)."""
        window = self.layer.window
        if window is None or not self.direct:
            x = maps.tensor[:, channels] if self.direct else self._gathered(maps).to(weights)
            return x @ weights if bias is None else torch.addmm(bias, x, weights)
        x = maps.tensor[:, channels].contiguous(memory_format=torch.channels_last)
        y = functional.conv2d(x, weights, bias, window.stride, 0, window.dilation)
        return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1])

    def _gathered(self, maps: _TensorMaps) -> torch.Tensor:
        """What the cells of tiles of the same inputs are multiplied with, of all places."""
        return torch.as_tensor(self.fast.product_inputs(self._rows(maps, self.tiles[0]), mean_line(self.lines)))

    def _planes(self, maps: _TensorMaps) -> Planes:
        if self.direct:
            return counted(place_counts(maps.values, self.cuts, self.layer.map_window), self.fast)
        rows = self._rows(maps, self.tiles[0])
        sums, driven, squares = self.fast.plane_sums(rows)
        w, resting = self.fast.weights, (driven == 0).astype(np.float64)
        parts = [sums[None], driven[None], squares[None], (resting @ w)[None], (resting @ w**2)[None]]
        if self.layer.drive is not None:
            parts.append(rows.sum(1, dtype=np.float32)[None])
        tensors = (torch.as_tensor(p).to(self.layer.device, torch.float32) for p in parts)
        return Planes(*(t.expand(len(self.tiles), *t.shape[1:]) for t in tensors))

    def _rows(
        self, maps: _TensorMaps, tile: SimulatedTile, places: NDArray[np.int64] | None = None
    ) -> NDArray[np.int16]:
        """Driven codes (places, rows) of a tile, of all places or some."""
        starts, taps = window_pixels(maps.window)
        at = np.arange(maps.places) if places is None else places
        at = (at // len(starts) * maps.pixels + starts[at % len(starts)]) * maps.channels
        rows = np.arange(tile.inputs.start, tile.inputs.stop)
        steps = taps[rows % len(taps)] * maps.channels + rows // len(taps)
        found: NDArray[np.int16] = maps.flat[at[:, None] + steps]
        return found

    def _noise(self, keys: NDArray[np.uint32], places: int, conversions: int) -> torch.Tensor:
        length = places // len(keys) * conversions
        pool = noise_pool(self.layer.device)
        if length + STEP > POOL:
            pool = pool.repeat(-(-(length + STEP) // POOL))
        stretches = (len(pool) - length) // STEP
        mixed = keys[:, 0].astype(np.uint64) << np.uint64(32) | keys[:, 1]
        mixed = mixed + np.uint64((self.number + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        chosen = ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(stretches)).astype(np.int64)
        windows = pool.as_strided((stretches, length), (STEP, 1))
        picked = windows.index_select(0, torch.as_tensor(chosen, device=pool.device))
        return picked.view(places, conversions)


def counted(counts: NDArray[np.uint64], fast: FastLayer) -> Planes:
    """Input planes of one-bit units, given how many rows each drives: ``counts`` (tiles, places) are 64-bit words,
    byte p of which is the number of rows that plane p drives there."""
    layer = fast.layer
    rows = torch.as_tensor(counts.view(np.uint8)).to(layer.device, torch.float32)
    rows = rows.view(*counts.shape, 8)[:, :, : len(layer.planes)]
    drives = driving_planes(counts).astype(np.int32).ravel()
    index = torch.as_tensor(drives, device=layer.device)
    there = (np.arange(256)[:, None] >> np.arange(len(layer.planes))) & 1
    found = []
    for w in (fast.weights, fast.weights**2):
        table = torch.as_tensor((1 - there) @ w, dtype=torch.float32, device=layer.device)
        found.append(table.index_select(0, index).view(counts.shape))
    return Planes(rows, rows, rows, *found)


def wire_terms(
    planes: Planes, fast: FastLayer, typical: list[float], bends: list[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``place_terms``' excess and lean, (tiles, places), for ``typical`` and ``bends`` of each tile."""
    w = torch.as_tensor(fast.weights, dtype=torch.float32, device=planes.sums.device)
    both, same = torch.stack([w * w, w], 1), planes.sums is planes.squares
    excess, lean = (torch.empty(planes.sums.shape[:2], device=w.device) for _ in range(2))
    for t, bend in enumerate(bends):
        sums, squares, count = planes.sums[t], planes.squares[t], planes.driven[t]
        if bend:
            count = count / (count * bend).add_(1.0)
        by_sums, lost = sums @ both, (sums * count) @ both
        total = (by_sums if same else squares @ both)[:, 0]
        mean = (lost if same else (squares * count) @ both)[:, 0] / total.clamp(min=1e-9)
        torch.sub(mean, typical[t], out=excess[t])
        torch.sub(lost[:, 1], mean.mul_(by_sums[:, 1]), out=lean[t])
    return excess, lean


def peaks(sums: torch.Tensor, squares: torch.Tensor, fast: FastLayer) -> torch.Tensor:
    """The share of a sum that its largest plane holds, (tiles, places), as ``place_terms`` has it."""
    w = torch.as_tensor(fast.weights, dtype=torch.float32, device=sums.device)
    if fast.layer.spec.adc_signed:
        return (squares * w.abs()).amax(2) / (squares @ (w * w)).clamp(min=1e-9)
    size = sums.abs()
    return size.amax(2) / (size @ w.abs()).clamp(min=1e-9)
