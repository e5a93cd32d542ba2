"""The quick mode on torch alone: any device, any input coding.

A tile is one convolution with its gains folded in (a matrix product where its rows are no
whole channels); everything else is done in place on a few images at a time, so that sums
stay in the cache. Noise comes from a pool of 2²⁰ normals whose distribution is exact (evenly
spaced quantiles in random order), read from a place that the noise key chooses: stretches of
it return after some 10⁶ draws.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cim.converters import check_codes
from cim.spec import InputCoding
from cim.windows import Window, unfold

if TYPE_CHECKING:
    from cim.fast import FastLayer, TileMoments

CHUNK_VALUES = 1 << 18  # sums of one tile that are made at a time
POOL = 1 << 20
STEP = 16  # stretches of the pool start at multiples of this
SAMPLED = 16  # every so many-th place is looked at for sums beyond the scale


@functools.lru_cache(maxsize=4)
def noise_pool(device: str) -> torch.Tensor:
    """2²⁰ normals, (POOL,): quantiles of the distribution, shuffled."""
    shares = (torch.arange(POOL, dtype=torch.float64) + 0.5) / POOL
    order = torch.randperm(POOL, generator=torch.Generator().manual_seed(0x51B))
    pool: torch.Tensor = torch.special.ndtri(shares)[order].float().to(device)
    return pool


class TorchEngine:
    """``cim.fast.Engine`` on torch."""

    def __init__(self, layer: FastLayer, moments: list[TileMoments]) -> None:
        self.layer = layer
        self.tiles = [_Tile(layer, tile, number) for number, tile in enumerate(moments)]
        self.widest = max(m.cells.shape[1] for m in moments)

    @torch.inference_mode()
    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions), channels last in memory, and sums beyond the scale."""
        layer, window = self.layer, self.layer.window
        positions = 1 if window is None else window.positions
        out = np.empty((len(codes), positions, layer.outputs), np.int32)
        step, ends = max(1, CHUNK_VALUES // (positions * self.widest)), 0.0
        for first in range(0, len(codes), step):
            part = slice(first, min(first + step, len(codes)))
            maps = _Maps(layer, codes[part])
            total = torch.zeros(maps.images * positions, layer.outputs, device=layer.device)
            for tile in self.tiles:
                ends += tile.add(maps, keys[part], total)
            out[part] = total.to("cpu", torch.int32).view(-1, positions, layer.outputs).numpy()
        return out.transpose(0, 2, 1), int(ends)


class _Maps:
    """Driven codes of some images with their padding: int16 (n, height, width, channels), or (n, features).

    ``values`` are the same as floats on the device, channels first in order and last in memory;
    ``planes`` uint64 (channels, n, …): byte p is plane p of each code.
    """

    def __init__(self, layer: FastLayer, codes: NDArray[np.int16]) -> None:
        check_codes(codes, layer.input_bits, layer.input_signed)
        self.window, self.images = layer.window, len(codes)
        if layer.window is None:
            self.driven = layer.driven(codes)
        else:
            pad_h, pad_w = layer.window.padding
            last = codes.transpose(0, 2, 3, 1)
            self.driven = layer.driven(np.pad(last, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0))))
        values = torch.as_tensor(self.driven).to(layer.device, torch.float32)
        self.values = values if layer.window is None else values.permute(0, 3, 1, 2)
        self._spread = layer.spread

    @functools.cached_property
    def planes(self) -> NDArray[np.uint64]:
        first = np.ascontiguousarray(np.moveaxis(self.driven, -1, 0).astype(np.uint8))
        return self._spread.take(first)


class _Tile:
    """One tile's arrays as tensors."""

    def __init__(self, layer: FastLayer, moments: TileMoments, number: int) -> None:
        self.layer, self.number, self.tile, self.bend = layer, number, moments.tile, moments.bend
        tile, window, m = moments.tile, layer.window, moments
        rows, conversions = m.cells.shape
        kernel = 1 if window is None else window.kernel[0] * window.kernel[1]
        one_bit = layer.spec.inputs.coding is not InputCoding.TERNARY and layer.spec.inputs.bits_per_cycle == 1
        self.direct = one_bit and rows < 256 and tile.inputs.start % kernel == 0 and rows % kernel == 0
        self.channels = slice(tile.inputs.start // kernel, tile.inputs.stop // kernel)
        self.wired = bool(m.kw.any())
        self.subtracts = conversions != len(tile.outputs)

        def tensor(values: NDArray[np.floating]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(values, np.float32), device=layer.device)

        if window is not None and self.direct:
            filters = tensor(m.cells.T.reshape(conversions, rows // kernel, *window.kernel))
            self.cells = filters.contiguous(memory_format=torch.channels_last)
        else:
            self.cells = tensor(m.cells)
        # Mean and variance are products of a place's terms with these: rest, lean; squares, rest2.
        self.constant, self.floor = tensor(m.constant), tensor(m.floor)
        self.means, self.variances = tensor(np.stack([m.rest, -m.lean])), tensor(np.stack([m.read, m.rest_variance]))
        self.kw = tensor(m.kw)
        unit = float(1 << tile.correction.shift)
        self.gain, self.offset = tensor(tile.correction.gain / unit), tensor(tile.correction.offset / unit)
        self.input_gain = tensor(tile.correction.input_gain / unit) if tile.correction.input_gain.any() else None
        self.plain = not (self.offset.any() or (self.gain != 1.0).any())

    def add(self, maps: _Maps, keys: NDArray[np.uint32], total: torch.Tensor) -> float:
        """Add this tile's level sums to ``total`` (places, outputs); give the sums expected beyond the scale."""
        layer, tile = self.layer, self.tile
        if self.direct:
            y = self._product(maps)
            ones = self._ones(maps)
            terms = torch_terms(ones, ones, ones, layer, len(tile.inputs), self.bend, self.wired)
        else:
            rows = self._rows(maps)
            y = torch.as_tensor(rows.astype(np.float32), device=layer.device) @ self.cells
            sums, driven, squares = (torch.as_tensor(p.T, device=layer.device) for p in layer.plane_sums(rows))
            terms = torch_terms(sums, driven, squares, layer, len(tile.inputs), self.bend, self.wired)
        low, high = layer.limits
        sample = y[::SAMPLED] * terms.peak
        beyond = float((sample.abs_() >= (high + 0.5 if low < 0 else high)).sum()) * len(y) / len(sample)
        if self.wired:
            y.addcmul_(y, terms.excess * self.kw, value=-1.0)
        y.add_(self.constant).addmm_(terms.means, self.means)
        spread = torch.addmm(self.floor, terms.variances, self.variances).clamp_(min=0.0).sqrt_()
        y.addcmul_(spread, self._noise(keys, y.shape[0], y.shape[1])).clamp_(*layer.sum_limits).round_()
        if self.subtracts:
            y = y[:, : len(tile.outputs)] - y[:, len(tile.outputs) :]
        if not self.plain:
            y = torch.addcmul(self.offset, y, self.gain)
        if self.input_gain is not None:
            y.addmm_(terms.driven, self.input_gain[None])
        if not self.plain or self.input_gain is not None:
            y.round_()
        total[:, tile.outputs.start : tile.outputs.stop].add_(y, alpha=tile.multiplier)
        return beyond

    def _product(self, maps: _Maps) -> torch.Tensor:
        """Σ cells · code, (places, conversions)."""
        window = self.layer.window
        x = maps.values[:, self.channels]
        if window is None:
            return x @ self.cells
        x = x.contiguous(memory_format=torch.channels_last)
        y = functional.conv2d(x, self.cells, None, window.stride, 0, window.dilation)
        return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1])

    def _ones(self, maps: _Maps) -> torch.Tensor:
        """Driven rows of each plane, (planes, places)."""
        counts = maps.planes[self.channels].sum(0, dtype=np.uint64)
        if self.layer.window is not None:
            counts = _pooled(counts, self.layer.window)
        planes = counts.view(np.uint8).reshape(-1, 8).T[: len(self.layer.planes)]
        return torch.as_tensor(np.ascontiguousarray(planes, np.float32), device=self.layer.device)

    def _rows(self, maps: _Maps) -> NDArray[np.int16]:
        window, inputs, driven = self.layer.window, self.tile.inputs, maps.driven
        if window is None:
            return driven[:, inputs.start : inputs.stop]
        height, width = driven.shape[1:3]
        bare = Window(window.channels, height, width, window.kernel, window.stride, (0, 0), window.dilation)
        vectors = unfold(driven.transpose(0, 3, 1, 2), bare).reshape(-1, window.rows)
        return vectors[:, inputs.start : inputs.stop].astype(np.int16)

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


@dataclass(frozen=True, slots=True)
class Terms:
    """``cim.fast.PlaceTerms`` as columns: ``means`` (rest, lean), ``variances`` (squares, rest2); peak of a sample."""

    means: torch.Tensor
    variances: torch.Tensor
    excess: torch.Tensor
    driven: torch.Tensor
    peak: torch.Tensor


def torch_terms(
    sums: torch.Tensor,
    driven: torch.Tensor,
    squares: torch.Tensor,
    layer: FastLayer,
    rows: int,
    bend: float,
    wired: bool,
) -> Terms:
    """``cim.fast.place_terms`` of (planes, places) Σ u, Σ |u| and Σ u²; without wires no excess and no lean."""
    w = torch.as_tensor(layer.weights, dtype=torch.float32, device=sums.device)[None]
    total, codes = (w * w) @ squares, w @ sums
    resting = torch.cat([w, w * w]) @ (driven == 0).float()
    excess = lean = torch.zeros_like(codes)
    if wired:
        count = driven / (1.0 + bend * driven) if bend else driven
        mean = ((w * w) @ (squares * count)) / total.clamp(min=1e-9)
        excess = mean - layer.typical(rows, bend)
        lean = w @ (sums * count) - mean * codes
    some = slice(None, None, SAMPLED)
    if layer.spec.adc_signed:
        peak = (squares[:, some] * w.T.abs()).amax(0) / total[0, some].clamp(min=1e-9)
    else:
        size = sums[:, some].abs()
        peak = size.amax(0) / (w.abs() @ size)[0].clamp(min=1e-9)
    means, variances = torch.cat([resting[:1], lean]).T, torch.cat([total, resting[1:]]).T
    return Terms(means, variances, excess.T, codes.T, peak[:, None])


def _pooled(counts: NDArray[np.uint64], window: Window) -> NDArray[np.uint64]:
    """Sums of the pixels (n, height, width) under each kernel window, (places,)."""
    down, across = window.out_height, window.out_width
    total = np.zeros((len(counts), down, across), np.uint64)
    for y, x in np.ndindex(window.kernel):
        top, left = y * window.dilation[0], x * window.dilation[1]
        total += counts[
            :,
            top : top + (down - 1) * window.stride[0] + 1 : window.stride[0],
            left : left + (across - 1) * window.stride[1] + 1 : window.stride[1],
        ]
    return total.ravel()
