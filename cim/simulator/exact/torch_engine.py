"""Exact mode on torch alone: any device, any input coding; slower than ``cim.simulator.exact.numba_engine``.

Products of a chunk of images are convolutions of their input planes, one for each tile. Wires
need the sums of parts of a line, so tiles with wires are unfolded and multiplied instead.

Noise comes from a pool: the 2^20 quantiles of the normal distribution in a fixed random order.
Image and tile choose where to start reading, so noise does not depend on the batch. Mean,
variance and tails are exact; what a pool cannot give is independence: stretches of it come
back, which is visible in correlations over many images, not in one result. The numba engine
draws fresh noise.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cim.array.wire_law import max_unit
from cim.array.wire_segments import SEGMENT_ROWS, segment_law
from cim.chip.converters import split_planes
from cim.chip.spec import Encoding, InputCoding, PairSubtraction
from cim.simulator.layer import PreparedTile, SimulatedLayer
from cim.simulator.maps import PaddedMaps

CHUNK_VALUES = 1 << 19  # conversions of one chunk: its float32 sums stay in the second-level cache
POOL_BITS = 20
UNIT_GRID = 2.0**16  # steps of a driven unit that is no whole number


class ExactTorch:
    """``cim.simulator.layer.LayerEngine`` of the exact mode on torch.

    Tensors of the tiles are made for each call: many chips take no memory of the device.
    """

    def __init__(self, layer: SimulatedLayer) -> None:
        self.layer = layer

    @torch.inference_mode()
    def layer_sums(self, codes: NDArray[np.int16], keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
        """Level sums (n, outputs, positions) and the number of conversions at the end of the scale."""
        layer, positions = self.layer, self.layer.map_window.positions
        tiles = [_TileOnDevice(layer, tile, number) for number, tile in enumerate(layer.tiles)]
        width = max((t.conversions for t in tiles), default=1)
        step = max(1, CHUNK_VALUES // (positions * len(layer.planes) * width))
        sums = np.zeros((len(codes), layer.outputs, positions), np.int32)
        ends = 0
        for first in range(0, len(codes), step):
            part = slice(first, min(first + step, len(codes)))
            driven = _driven(layer, codes[part])
            shape = (part.stop - first, positions, layer.outputs)
            total = torch.zeros(shape, dtype=torch.float64, device=layer.device)
            for tile in tiles:
                ends += tile.add(driven, keys[part], total)
            sums[part] = total.transpose(1, 2).to("cpu", torch.int32).numpy()
        return sums, ends


@functools.lru_cache(maxsize=4)
def pool(device: str) -> torch.Tensor:
    """The noise pool, twice in a row so that any start has a full length behind it: (2^21,)."""
    size = 1 << POOL_BITS
    generator = torch.Generator().manual_seed(0x51B)
    order = torch.randperm(size, generator=generator, dtype=torch.int64)
    normal = torch.special.ndtri((order.to(torch.float64) + 0.5) / size).to(torch.float32)
    return torch.cat([normal, normal]).to(device)


def pool_start(key: int, tile: int, piece: int) -> int:
    """Where a stretch of noise starts in the pool (splitmix64 of the image's key, the tile and the piece)."""
    mask = (1 << 64) - 1
    x = (key + (tile << 16 | piece) * 0x9E3779B97F4A7C15 + 1) & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    return x >> 64 - POOL_BITS


def _driven(layer: SimulatedLayer, codes: NDArray[np.int16]) -> torch.Tensor:
    """Driven codes with their padding, (n, height, width, channels), bytes where bits are cut out of them."""
    kind = np.int16 if layer.spec.inputs.coding is InputCoding.TERNARY else np.uint8
    return torch.as_tensor(PaddedMaps(layer, codes, kind).values).to(layer.device)


def _units(layer: SimulatedLayer, driven: torch.Tensor) -> torch.Tensor:
    """Units of each plane, (n · planes, channels, height, width), channels last in memory."""
    n, height, width, channels = driven.shape
    units = torch.empty((n, len(layer.planes), height, width, channels), device=driven.device)
    if layer.spec.inputs.coding is InputCoding.TERNARY:
        planes = split_planes(driven.cpu().numpy(), layer.spec.inputs, layer.input_bits, layer.input_signed)
        units.copy_(torch.as_tensor(planes).transpose(0, 1))
    else:
        for number, plane in enumerate(layer.planes):
            bits = driven & (((1 << plane.width) - 1) << plane.shift)
            if plane.width == 1:
                units[:, number] = bits.clamp_(max=1)
            else:
                units[:, number] = bits
                units[:, number] *= 2.0**-plane.shift
    return units.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class _TileOnDevice:
    """One tile's arrays as tensors."""

    def __init__(self, layer: SimulatedLayer, prepared: PreparedTile, number: int) -> None:
        self.layer, self.prepared, self.window, self.number = layer, prepared, layer.map_window, number
        self.conversions = prepared.cells.shape[1]
        tile = prepared.tile
        self.wired = bool(prepared.wire.any())
        self.noisy = bool(prepared.variance.any() or tile.conversion_noise_codes.any())
        self.curved = bool(tile.inl_codes.any())

        def tensor(values: NDArray[np.floating], kind: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(values)).to(layer.device, kind)

        # Sums of whole units are exact in single precision; of others, on a grid too, and of cubes in doubles.
        self.exact = torch.float32 if layer.drive is None and prepared.cubic is None else torch.float64
        self.table = None
        if layer.drive is not None:
            self.table = tensor(np.rint(layer.drive.units * UNIT_GRID) / UNIT_GRID, self.exact)
        self.cells = tensor(prepared.cells, self.exact)
        self.cubic = None if prepared.cubic is None else tensor(prepared.cubic, self.exact)
        self.variance, self.noise2 = tensor(prepared.mean_variance), tensor(tile.conversion_noise_codes**2)
        # On the grid of the cells, sums with their offset are exact whatever the order of addition.
        grid = 2.0 ** min(-10.0, np.ceil(np.log2(max(np.abs(prepared.cells).sum(0).max(initial=0.0), 1.0))) - 23)
        self.offset, self.inl = tensor(np.rint(tile.offset_codes / grid) * grid), tensor(tile.inl_codes)
        self.start_at = self.offset if self.curved else self.offset + 0.5  # ⌊y + ½⌋
        self.steps = torch.arange(self.conversions, device=layer.device) * tile.inl_codes.shape[1]
        if self.wired:
            law = segment_law(layer.spec, tile.row0, tile.halves_us, layer.wire)
            self.cells = tensor(prepared.cells * law.row_keep[:, None], self.exact)
            if prepared.cubic is not None:
                self.cubic = tensor(prepared.cubic * law.row_keep[:, None], self.exact)
            self.fall, self.rise, self.swing = (tensor(v, self.exact) for v in (law.fall, law.rise, law.swing))
            self.extra = tensor(law.extra_us / max_unit(layer.spec), self.exact)
        else:
            self._kernels()
        self.plane_weights = tensor(np.array([p.weight for p in layer.planes]))
        correction, unit = tile.correction, 2.0**tile.correction.shift  # doubles hold all of it exactly
        self.gain, self.start = (
            tensor(correction.gain / unit, torch.float64),
            tensor(correction.offset / unit, torch.float64),
        )
        self.per_input = tensor(correction.input_gain / unit, torch.float64)
        self.counts_inputs = bool(correction.input_gain.any())

    def _kernels(self) -> None:
        """The tile as a convolution over the channels that it touches, one for cubes of units where there are
        any, and another of ones that counts Σ u."""
        window, order, device = self.window, self.prepared.order, self.layer.device
        size = window.kernel[0] * window.kernel[1]
        first, last = int(order.min()) // size, int(order.max()) // size + 1
        at = torch.as_tensor(order - first * size, device=device)

        def kernel(rows: torch.Tensor) -> torch.Tensor:
            weights = torch.zeros((rows.shape[1], (last - first) * size), device=device, dtype=rows.dtype)
            weights[:, at] = rows.T
            shaped = weights.reshape(-1, last - first, *window.kernel)
            return shaped.contiguous(memory_format=torch.channels_last)

        self.channels = slice(first, last)
        self.kernel = kernel(self.cells)
        self.cubic_kernel = None if self.cubic is None else kernel(self.cubic)
        self.ones = kernel(torch.ones((len(order), 1), device=device, dtype=self.exact))
        self.whole = bool(self.ones.all())

    def add(self, driven: torch.Tensor, keys: NDArray[np.uint32], total: torch.Tensor) -> int:
        """Add level sums of a chunk to ``total`` (n, positions, layer outputs); give conversions at an end."""
        layer, tile = self.layer, self.prepared.tile
        if self.wired:
            parts = self._unfolded(_units(layer, driven))
        else:
            parts = self._convolved(_units(layer, driven[..., self.channels].contiguous()))
        y, squares, counts = (part.to(torch.float32) for part in parts)
        if self.noisy:
            self._add_noise(y, squares, keys)
        low, high = layer.limits
        if self.curved:
            self._add_inl(y, low, high)
            y += 0.5
        codes = y.floor_().clamp_(low, high)
        least, most = int(codes.amin()) if low < 0 else low, int(codes.amax())
        ends = 0
        if most == high:
            ends += int((codes - (high - 1)).clamp_(min=0.0).sum(dtype=torch.float64))  # counting costs ten times this
        if least == low < 0:
            ends += int((low + 1 - codes).clamp_(min=0.0).sum(dtype=torch.float64))
        images = len(keys)
        by_plane = codes.reshape(images, len(layer.planes), -1, self.conversions)
        sums = by_plane[:, 0] * float(layer.planes[0].weight)
        for number, plane in enumerate(layer.planes[1:], 1):
            sums.add_(by_plane[:, number], alpha=float(plane.weight))
        sums = _subtracted(sums, layer).to(torch.float64).mul_(self.gain).add_(self.start)
        if self.counts_inputs:
            inputs = self.plane_weights @ counts.reshape(images, len(layer.planes), -1)
            sums += inputs.to(torch.float64)[..., None] * self.per_input
        levels = sums.abs().add_(0.5).floor_().copysign_(sums)  # half away from zero
        total[:, :, tile.outputs.start : tile.outputs.stop].add_(levels, alpha=tile.multiplier)
        return ends

    def _driven(self, units: torch.Tensor) -> torch.Tensor:
        """What rows get for whole units."""
        return units.to(self.exact) if self.table is None else self.table[units.to(torch.int64)]

    def _convolved(self, units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sums in codes (n · planes · positions, conversions) with their offset, Σ d² driven and Σ u of each row."""
        window, part = self.window, self._driven(units)

        def convolved(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
            y = functional.conv2d(x, kernel, bias, window.stride, 0, window.dilation)
            return y.permute(0, 2, 3, 1).reshape(-1, len(kernel))

        y = convolved(part, self.kernel, self.start_at.to(self.exact))
        if self.cubic_kernel is not None:
            y += convolved(part**3, self.cubic_kernel)
        one_bit = (
            self.layer.spec.inputs.coding is not InputCoding.TERNARY and self.layer.spec.inputs.bits_per_cycle == 1
        )

        def counted(x: torch.Tensor) -> torch.Tensor:
            return self._boxes(x) if self.whole else convolved(x, self.ones)

        counts = counted(units.to(self.exact)) if self.noisy or self.counts_inputs else y[:, :1]
        squares = counts if one_bit or not self.noisy else counted(part * part)
        return y, squares, counts

    def _boxes(self, x: torch.Tensor) -> torch.Tensor:
        """Sums of whole windows: over channels, then over kernel rows and columns, (places, 1)."""
        window = self.window
        pixels = x.permute(0, 2, 3, 1)
        total = (pixels @ torch.ones(pixels.shape[3], device=x.device, dtype=x.dtype)).reshape(pixels.shape[:3])
        for axis, count, step, gap, length in (
            (1, window.kernel[0], window.stride[0], window.dilation[0], window.out_height),
            (2, window.kernel[1], window.stride[1], window.dilation[1], window.out_width),
        ):
            reach = (length - 1) * step + 1
            parts = [total.narrow(axis, k * gap, reach) for k in range(count)]
            summed = parts[0].clone() if count == 1 else parts[0] + parts[1]
            for part in parts[2:]:
                summed += part
            total = summed[:, ::step] if axis == 1 else summed[:, :, ::step]
        return total.reshape(-1, 1)

    def _unfolded(self, units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Level sums with wire resistance, by matrix products over unfolded windows."""
        window, prepared = self.window, self.prepared
        whole = functional.unfold(units, window.kernel, window.dilation, 0, window.stride)
        order = torch.as_tensor(prepared.order, device=whole.device)
        whole = whole[:, order].transpose(1, 2).reshape(-1, len(order))
        x = self._driven(whole)
        # Σ_g factor_g D_g, regrouped by row: each row's current meets the factors of its segment and all later ones.
        driven, segments = x.abs(), self.fall.shape[1]
        padded = functional.pad(driven, (0, segments * SEGMENT_ROWS - x.shape[1]))
        counts = padded.reshape(-1, segments, SEGMENT_ROWS).sum(2).cumsum_(1).div_(max_unit(self.layer.spec))
        n = counts[:, -1].round().to(torch.int64).clamp_(max=len(self.fall) - 1)  # a driver may give too much
        factors = torch.addcmul(self.fall[n], self.rise[n], counts)
        beyond = factors.flip(1).cumsum(1).flip(1).repeat_interleave(SEGMENT_ROWS, 1)[:, : x.shape[1]]
        more = (driven @ self.extra).mul_(self.swing[n, None]).add_(1.0)
        sums, lost = x @ self.cells, (x * beyond) @ self.cells
        if self.cubic is not None:
            cubes = x**3
            sums += cubes @ self.cubic
            lost += (cubes * beyond) @ self.cubic
        y = torch.addcmul(sums, lost, more, value=-1.0)
        y += self.start_at
        return y, (x * x).sum(1, keepdim=True), whole.sum(1, keepdim=True)

    def _add_noise(self, y: torch.Tensor, squares: torch.Tensor, keys: NDArray[np.uint32]) -> None:
        """Add noise of each image from its own place in the pool; an image may need more than the pool holds."""
        with_one = functional.pad(squares, (0, 1), value=1.0)  # a product is faster than broadcasting short rows
        spread = (with_one @ torch.stack([self.variance, self.noise2])).sqrt_()
        noise, rows = pool(str(y.device)), len(y) // len(keys)
        most = (1 << POOL_BITS) // self.conversions  # rows of one stretch of the pool
        for image, key in enumerate(keys):
            for piece, first in enumerate(range(0, rows, most)):
                count = min(most, rows - first)
                begin = pool_start(int(key[0]) << 32 | int(key[1]), self.number, piece)
                stretch = noise[begin : begin + count * self.conversions].reshape(count, -1)
                at = slice(image * rows + first, image * rows + first + count)
                y[at].addcmul_(spread[at], stretch)

    def _add_inl(self, y: torch.Tensor, low: int, high: int) -> None:
        last = self.inl.shape[1] - 1
        place = (y - low).mul_(last / (high - low)).clamp_(0.0, last)
        node = place.floor().clamp_(max=last - 1)
        at = node.to(torch.int64).add_(self.steps)
        left = self.inl.take(at)
        y += torch.lerp(left, self.inl.take(at.add_(1)), place.sub_(node))


def _subtracted(sums: torch.Tensor, layer: SimulatedLayer) -> torch.Tensor:
    """Pairs or the reference subtracted after conversion, along the last axis (``cim.chip.converters.shift_add``)."""
    if layer.spec.encoding is Encoding.OFFSET_COLUMN:
        return sums[..., :-1] - sums[..., -1:]
    if layer.spec.paired and layer.spec.pair_subtraction is PairSubtraction.DIGITAL:
        half = sums.shape[-1] // 2
        return sums[..., :half] - sums[..., half:]
    return sums
