"""Convolutions and matrices on arrays: whole codes times whole levels, with the errors of virtual chips.

Weights have a learned step for each output. A layer on cells multiplies whole codes
with whole levels; with ``noise`` (``training_errors.ArrayNoise``, of a calibration record) it does so with
the cells of virtual chips, new in every batch (or every few), adds the noise of reads and conversions, and ends where
the converters do:

    y = s_x s_w ( clip( Σ code · Σ_k B^k cell_k / f + o, ±tiles · Σ_p w_p · full scale ) + σ N(0, 1) )

with slices k of base B = levels a cell holds, f the stretch of weights narrower than a cell. The clip is of all
planes together: which plane of a sum saturates is not seen. Imports torch: import this module late.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cim.array.wire_law import LINES, line_gaps, max_unit
from cim.chip.converters import input_planes, quantise_adc, split_planes, to_offset
from cim.chip.spec import MacroSpec, SignedInput
from cim.chip.windows import Window
from cim.simulator.fast.moments import row_reach
from cim.simulator.training_errors import FARTHEST, ArrayNoise, cell_levels, programmed_us
from mapping.layout.tile import slices_needed, stretch
from search.space.genes import Bits
from search.space.operators import Layer
from search.train.lsq import LearnedStep, row_steps

WEIGHT_CLIP = 1.4  # weights beyond this many root mean squares of their output are clipped
WINDOWS = 512  # that choose a converter range, and that columns are corrected on
WINDOW_IMAGES = 16  # that they are taken from
POOL = 1 << 23  # normal draws that are kept


def with_adc_bits(noise: ArrayNoise, bits: int) -> ArrayNoise:
    """The same cells under converters of other resolution, their full scales kept; offsets and noise stay in µS."""
    spec = noise.spec
    finer = 2.0 ** (bits - spec.adc.bits)
    return replace(
        noise,
        spec=replace(spec, adc=replace(spec.adc, bits=bits)),
        offset_se_codes=noise.offset_se_codes * finer,
        conversion_noise_codes=noise.conversion_noise_codes * finer,
    )


def aimed(noise: ArrayNoise) -> ArrayNoise:
    """The same cells where each is written beside its level, so that the mean cell stands on the level when read."""
    share = np.exp(-0.5 * np.linspace(-FARTHEST, FARTHEST, noise.errors_us.shape[1]) ** 2)
    mean = noise.errors_us @ (share / share.sum())
    return replace(noise, errors_us=noise.errors_us - mean[:, None])


def noise_digest(noise: ArrayNoise) -> str:
    """SHA-256 (hex) of all that makes the errors."""
    total = hashlib.sha256()
    for part in fields(noise):
        value = getattr(noise, part.name)
        total.update(part.name.encode())
        total.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return total.hexdigest()


@torch.no_grad()
def some_windows(
    codes: Tensor,
    kernel: tuple[int, ...],
    pad: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
) -> Tensor:
    """About WINDOWS windows of a few images (n, channels, height, width), (groups, windows, rows)."""
    few = codes[:: max(len(codes) // WINDOW_IMAGES, 1)][:WINDOW_IMAGES].float()
    found = functional.unfold(few, kernel, dilation, pad, stride)
    rows = found.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    picked: Tensor = rows[:, :: max(rows.shape[1] // WINDOWS, 1)]
    return picked


class ArrayLayer(nn.Module):
    """Base of convolutions and matrices on arrays. ``noise`` None: exact products of codes and levels.

    Training sets ``strength`` (1.0: as the record says), ``chips`` (that share a batch), ``chip_batches`` (for
    which they stay, in training mode) and ``range_code`` (None: chosen at the next pass). Weights are ``rounded`` to
    levels, or lie between them with the errors of the nearest: a compiler will round them.
    """

    chip_batches: int = 1
    rounded: bool = True
    standing: tuple[Tensor, Tensor, Tensor] | None = None  # chips that stay
    passed: int = 0  # batches

    bits: Bits
    groups: int
    quantiser: LearnedStep  # of the weights
    weight: Tensor
    squares: Tensor  # Σ_p w_p² u_p² of each code
    range_code: int | None

    def levels_now(self) -> tuple[Tensor, Tensor]:
        """Weights in units of their steps, rounded where training rounds them, and the steps."""
        return self.quantiser.codes(self.weight) if self.rounded else self.quantiser.in_steps(self.weight)

    @property
    def exact(self) -> bool:
        return self.noise is None or self.strength == 0.0

    def set_noise(self, noise: ArrayNoise | None, rows: int, kernel: int, signed: bool) -> None:
        """The chip that the layer will stand on; ``rows`` of a group's matrix, ``kernel`` of a channel."""
        self.noise: ArrayNoise | None = noise
        if noise is not None:
            self.row_count = rows
            self.stand_on(noise.spec, self.bits.activation, signed, kernel)
            self.squares = self.squares.to(self.weight.device)
            top = (1 << (self.bits.weight - 1)) - 1
            self.factor, self.base = stretch(top, noise.spec.max_level), noise.spec.max_level + 1
            self.slices = slices_needed(top, noise.spec.max_level)

    def stand_on(self, spec: MacroSpec, input_bits: int, input_signed: bool, kernel: int) -> None:
        """Planes of the input codes, and rows of a tile, on one kind of macro."""
        self.spec, self.strength, self.chips, self.range_code = spec, 1.0, 1, None
        self.input_bits, self.input_signed = input_bits, input_signed
        self.low = -(1 << (input_bits - 1)) if input_signed else 0
        self.high = (1 << (input_bits - input_signed)) - 1
        self.planes = input_planes(spec.inputs, input_bits, input_signed)
        self.plane_squares = sum(p.weight**2 for p in self.planes)
        self.tile_rows = spec.logical_rows
        if kernel <= spec.logical_rows:
            self.tile_rows = max(spec.logical_rows // kernel, 1) * kernel
        units = split_planes(
            self._driven(np.arange(self.low, self.high + 1, dtype=np.int16)), spec.inputs, input_bits, input_signed
        ).astype(np.float64)  # (planes, codes)
        weights = np.array([p.weight for p in self.planes], np.float64)[:, None]
        self.register_buffer("squares", torch.as_tensor((weights**2 * units**2).sum(0), dtype=torch.float32), False)

    def _driven(self, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        """Codes as row drivers take them."""
        offset = self.input_signed and self.spec.inputs.signed is SignedInput.OFFSET
        return to_offset(codes, self.input_bits) if offset else codes

    def chips_of(self, levels: Tensor, seen: Callable[[], tuple[Tensor, float]]) -> tuple[Tensor, Tensor, Tensor]:
        """``cells`` of new chips, or of those that stay: their errors are kept while the weights go on learning."""
        stay = self.standing is not None and len(self.standing[1]) == self.chips
        if not stay or not self.training or self.passed >= self.chip_batches:
            self.standing, self.passed = self.cells(levels, *seen()), 0
        self.passed += 1
        assert self.standing is not None
        error, offset, variance = self.standing
        return levels + error, offset, variance

    def forget_chips(self) -> None:
        self.standing = None

    @torch.no_grad()
    def cells(self, levels: Tensor, vectors: Tensor, activity: float) -> tuple[Tensor, Tensor, Tensor]:
        """Levels (outputs, rows) as ``chips`` virtual chips hold them, in levels.

        Args:
            vectors: some inputs of each group, (groups, n, rows), that columns are corrected on.
            activity: Σ |unit| / rows of a mean read, for the wires.

        Returns errors of weights (chips, outputs, rows), offsets (chips, outputs) and the read variance of a
        row (chips, outputs).
        """
        whole = levels.detach().round() * self.factor
        error = torch.zeros_like(whole).expand(self.chips, -1, -1)
        offset = torch.zeros(self.chips, len(whole), device=whole.device)
        variance = torch.zeros_like(offset)
        for k in range(self.slices):
            digit = whole.sign() * (whole.abs() // self.base**k % self.base)
            held, shift, read = self.held(digit, vectors, activity)
            error = error + self.base**k * (held.detach() - digit)
            offset = offset + self.base**k * shift
            variance = variance + self.base ** (2 * k) * read
        return error / self.factor, offset / self.factor, variance / self.factor**2

    def spread(self, squares: Tensor, read: Tensor) -> Tensor:
        """Standard deviation of sums in levels, (chips, sums, outputs).

        ``squares`` (chips, sums, groups): Σ_p w_p² u_p² of the rows of a group; ``read`` (chips, outputs) of a row.
        """
        converter = self.noise_variance(torch.zeros((), device=read.device), read, self.row_count)
        converter = converter * (sum(self.base ** (2 * k) for k in range(self.slices)) / self.factor**2)
        groups = squares.shape[2]
        own = torch.eye(groups, device=read.device).repeat_interleave(read.shape[1] // groups, 1)
        of_rows = self.strength**2 * read.unsqueeze(1) * own
        dtype = squares.dtype
        return torch.baddbmm(converter.expand_as(read).unsqueeze(1).to(dtype), squares, of_rows.to(dtype)).sqrt_()

    def clipped(self, sums: Tensor) -> Tensor:
        """Sums that the converters of all tiles can give, in levels."""
        spec = self.spec
        scale = spec.adc.full_scales_us[self.range_code or 0] / spec.level_step_us
        reach = sum(self.base**k for k in range(self.slices)) / self.factor
        limit = scale * self.tiles(self.row_count) * sum(abs(p.weight) for p in self.planes) * reach
        return functional.hardtanh(sums, -limit, limit)  # as clamp, whose backward pass takes four times as long

    def find_range(self, vectors: Tensor, levels: Tensor) -> None:
        """Choose the converter range from input vectors (n, rows), if it is not chosen."""
        if self.range_code is None:
            whole = levels.detach().round() * self.factor
            self.range_code = self.choose_range(vectors.detach(), whole.sign() * (whole.abs() % self.base))

    def code_squares(self, codes: Tensor) -> Tensor:
        """Σ_p w_p² u_p² of every code, in the type of ``codes``."""
        index = codes.detach().to(torch.int32).movedim(1, -1)  # in the order of memory: a fourth of the time
        index = index - self.low if self.low else index
        return self.squares.to(codes.dtype).index_select(0, index.reshape(-1)).view(index.shape).movedim(-1, 1)

    def held(self, levels: Tensor, vectors: Tensor, activity: float) -> tuple[Tensor, Tensor, Tensor]:
        """The weights as ``chips`` virtual chips hold them.

        Args:
            levels: (outputs, rows).
            vectors: some input codes of each group of outputs, (groups, n, rows), that columns are corrected on.
            activity: ``Σ |unit| / rows`` of a mean read, for the wires.

        Returns:
            weights in levels (chips, outputs, rows), with the gradient of ``levels``; offsets
            in levels (chips, outputs); read variance of a row, levels², (chips, outputs).
        """
        noise, step = self.noise, self.spec.level_step_us
        assert noise is not None
        whole = levels.detach().expand(self.chips, -1, -1)
        plus = programmed_us(whole.clamp_min(0.0), noise, self.strength)
        minus = programmed_us((-whole).clamp_min(0.0), noise, self.strength)
        real = (plus - minus) / step
        real = real * self._line_loss(plus + minus, activity) if noise.wire.ohm else real
        real, offset = self._corrected(real, levels.detach(), vectors)
        lsb = self.spec.lsb_us(self.range_code or 0) / step
        tiles, planes = self.tiles(whole.shape[2]), sum(p.weight for p in self.planes)
        spread = self.strength * noise.offset_se_codes * lsb * planes * math.sqrt(tiles)
        offset = offset + spread * torch.randn_like(offset)
        variances = torch.as_tensor(noise.read_variance_us2, dtype=torch.float32, device=whole.device)
        plus_level, minus_level = (cell_levels(half.clamp_min(0.0), self.spec) for half in (whole, -whole))
        pair = variances[plus_level] + variances[minus_level]
        return levels + (real - whole), offset, pair.mean(2) / step**2

    def _corrected(self, real: Tensor, whole: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (chips, outputs, rows) times the gain of their column, and offsets (chips, outputs), in levels.

        Both are the least-squares line of a column of a tile over input vectors (groups, n, rows), as deployment
        corrects columns (``mapping.tune.columns``). Inputs of a layer resemble each other, so the line takes
        away most of the error that a column would have under inputs drawn at random.
        """
        assert self.noise is not None
        chips, outputs, rows = real.shape
        groups = len(vectors)
        gains, offset = [], torch.zeros(chips, outputs, device=real.device)
        for start in range(0, rows, self.tile_rows):
            part = slice(start, start + self.tile_rows)
            sums = real[:, :, part].reshape(chips, groups, outputs // groups, -1) @ vectors[:, :, part].mT.float()
            wanted = whole[:, part].reshape(groups, outputs // groups, -1).float() @ vectors[:, :, part].mT.float()
            mean, wanted_mean = sums.mean(3), wanted.mean(2)
            sums = sums - mean.unsqueeze(3)
            square = sums.square().mean(3)
            line = ((sums * wanted).mean(3) / square.clamp_min(1e-6)).clamp(0.5, 2.0)
            line = torch.where(square > 1e-6, line, torch.ones_like(line))
            line = line * (1.0 + self.strength * self.noise.gain_se * torch.randn_like(line))
            offset += (wanted_mean - line * mean).flatten(1)
            gains.append(line.flatten(1).unsqueeze(2).expand(-1, -1, min(self.tile_rows, rows - start)))
        return real * torch.cat(gains, 2), offset

    def noise_variance(self, square_sum: Tensor, read: Tensor, rows: int) -> Tensor:
        """Variance of a level sum, with Σ_p w_p² u_p² of the rows and the read variance of a row."""
        assert self.noise is not None
        lsb = self.spec.lsb_us(self.range_code or 0) / self.spec.level_step_us
        converter = self.plane_squares * (1.0 / 12.0 + self.noise.conversion_noise_codes**2) - 1.0 / 12.0
        return self.strength**2 * (square_sum * read + self.tiles(rows) * lsb**2 * converter)

    def tiles(self, rows: int) -> int:
        return -(-rows // self.tile_rows)

    def _line_loss(self, load_us: Tensor, activity: float) -> Tensor:
        """What wires leave of each cell, (chips, outputs, rows), at a mean activity (static part of fast mode)."""
        assert self.noise is not None
        rows, left = load_us.shape[2], []
        for start in range(0, rows, self.tile_rows):
            part = load_us[:, :, start : start + self.tile_rows]
            order, gaps = line_gaps(self.spec, 0, part.shape[2], self.noise.wire.end)
            reach = np.empty(len(order))
            reach[order] = row_reach(gaps)
            driven = activity / (1.0 + self.noise.bend * activity * len(order))
            per_row = part.mean(2, keepdim=True) * (LINES * self.noise.wire.ohm * 1e-6 / max_unit(self.spec))
            along = torch.as_tensor(reach, dtype=part.dtype, device=part.device)
            left.append(1.0 - self.strength * driven * per_row * along)
        return torch.cat(left, 2)

    @torch.no_grad()
    def choose_range(self, codes: Tensor, levels: Tensor) -> int:
        """The converter range of least mean squared error on exact plane sums of ``codes`` (vectors, rows)."""
        spec = self.spec
        lsbs = [spec.lsb_us(code) for code in range(len(spec.adc.full_scales_us))]
        errors = np.zeros(len(lsbs))
        weight2 = np.array([p.weight**2 for p in self.planes], np.float64)
        driven = self._driven(codes.to("cpu", torch.int32).numpy().astype(np.int16))
        cells = levels.detach().cpu().numpy().T * spec.level_step_us
        for start in range(0, driven.shape[1], self.tile_rows):
            part = slice(start, start + self.tile_rows)
            units = split_planes(driven[:, part], spec.inputs, self.input_bits, self.input_signed).astype(np.float32)
            sums = units @ cells[part].astype(np.float32)
            for code, lsb in enumerate(lsbs):
                error = quantise_adc(sums, lsb, spec.adc.bits, spec.adc_signed) * lsb - sums
                errors[code] += float(((error**2).mean((1, 2)) * weight2).sum())
        return int(np.argmin(errors))

    def _share(self, n: int) -> int:
        if n % self.chips:
            raise ValueError(f"{n} images do not divide among {self.chips} virtual chips")
        return n // self.chips


class ArrayConv2d(nn.Conv2d, ArrayLayer):
    """A convolution without bias, dense or in groups; padding may differ between the sides."""

    pad: int | tuple[int, int]
    sides: tuple[int, int, int, int] | None  # left, right, top, bottom: padded before, where torch's own does not do

    def __init__(
        self,
        inputs: int,
        layer: Layer,
        bits: Bits,
        signed: bool,
        noise: ArrayNoise | None,
    ) -> None:
        even = layer.before == layer.after
        pad = layer.before if even else 0
        super().__init__(
            inputs,
            layer.outputs,
            layer.kernel,
            layer.stride,
            pad,
            groups=layer.groups,
            bias=False,
        )
        self.sides = None if even else (layer.before, layer.after, layer.before, layer.after)
        self.bits, self.pad = bits, pad
        self.quantiser = row_steps(self.weight, bits.weight, WEIGHT_CLIP)
        kernel = layer.kernel**2
        self.set_noise(noise, inputs // layer.groups * kernel, kernel, signed)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Sums of codes (n, channels, height, width) times levels, and the weights' steps (outputs,)."""
        levels, size = self.levels_now()
        levels = self.matrix(levels)
        if self.sides is not None:
            codes = functional.pad(codes, self.sides)
        y = self._conv_forward(codes, levels, None) if self.exact else self._noisy(codes, levels)
        # one channel, or weights of chips, leave the order in memory open
        return y.contiguous(memory_format=torch.channels_last), size.flatten()

    def matrix(self, levels: Tensor) -> Tensor:
        """Levels as they stand on an array, (outputs, channels of a block, kernel height, kernel width)."""
        return levels

    def _noisy(self, codes: Tensor, levels: Tensor) -> Tensor:
        n, channels = codes.shape[:2]
        each, chips, groups = self._share(n), self.chips, self.groups
        kernel, stride, padding = self.kernel_size, self.stride, self.pad
        flat = levels.flatten(1)
        gap = (self.dilation[0], self.dilation[1])
        windows = functools.partial(some_windows, codes, kernel, padding, stride, groups, gap)
        if self.range_code is None:
            self.find_range(windows()[0], flat[: len(flat) // groups])
        sums = self.code_squares(codes).unflatten(1, (groups, channels // groups)).sum(2)

        def seen() -> tuple[Tensor, float]:
            return windows(), float(sums.mean()) * groups / channels / self.plane_squares

        held, offset, read = self.chips_of(flat, seen)
        parts = zip(codes.split(each), held.view(chips, *levels.shape), offset, strict=True)
        y = torch.cat([functional.conv2d(part, own, o, stride, padding, gap, groups) for part, own, o in parts])
        y = self.clipped(y).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            total = self._window_sums(sums).movedim(1, -1)
            spread = self.spread(total.reshape(chips, -1, groups), read).to(y.dtype)
            spread = spread.view(n, *y.shape[2:], -1).movedim(-1, 1)  # in the order of memory
        return torch.addcmul(y, spread, draws(y))

    def _window_sums(self, maps: Tensor) -> Tensor:
        """Sums over the kernel's places, of maps (n, groups, height, width)."""
        kernel, stride = self.kernel_size, self.stride
        if self.dilation == (1, 1):
            return functional.avg_pool2d(maps, kernel, stride, self.pad, divisor_override=1)
        box = torch.ones(maps.shape[1], 1, *kernel, dtype=maps.dtype, device=maps.device)
        return functional.conv2d(maps, box, None, stride, self.pad, self.dilation, maps.shape[1])


class WindowConv2d(ArrayConv2d):
    """The same with the geometry that a graph may have: kernel, stride, padding and dilation by axis.

    Groups that share a macro make one block (``together`` of them): between a group's rows and the columns of
    the others stand cells of weight 0, whose errors let its inputs through.
    """

    def __init__(
        self, outputs: int, window: Window, groups: int, bits: Bits, signed: bool, noise: ArrayNoise | None
    ) -> None:
        own = all(2 * p <= k for p, k in zip(window.padding, window.kernel, strict=True)) and window.dilation == (1, 1)
        pad = window.padding if own else (0, 0)
        nn.Conv2d.__init__(
            self,
            window.channels,
            outputs,
            window.kernel,
            window.stride,
            pad,
            window.dilation,
            groups,
            bias=False,
        )
        self.together = 1 if noise is None else _groups_together(noise.spec, groups, self.weight)
        self.groups = groups // self.together  # of the convolution that is done: blocks
        (top, left) = window.padding
        self.sides = None if own else (left, left, top, top)
        self.bits, self.pad = bits, pad
        self.quantiser = row_steps(self.weight, bits.weight, WEIGHT_CLIP)
        kernel = window.kernel[0] * window.kernel[1]
        self.set_noise(noise, window.channels // self.groups * kernel, kernel, signed)

    def matrix(self, levels: Tensor) -> Tensor:
        if self.together == 1:
            return levels
        outputs, inputs = levels.shape[:2]
        own = torch.eye(self.together, dtype=levels.dtype, device=levels.device)
        own = own.repeat_interleave(outputs // (self.groups * self.together), 0).repeat(self.groups, 1)
        wide = own.view(outputs, self.together, 1, 1, 1) * levels.unsqueeze(1)
        return wide.reshape(outputs, self.together * inputs, *levels.shape[2:])


def _groups_together(spec: MacroSpec, groups: int, weight: Tensor) -> int:
    """Groups of a convolution in one block, as many as a macro takes and blocks are alike."""
    rows, outputs = weight[0].numel(), len(weight) // groups
    most = min(spec.logical_rows // rows, spec.outputs // outputs)
    return max((n for n in range(1, most + 1) if groups % n == 0), default=1)


class ArrayLinear(nn.Linear, ArrayLayer):
    """A matrix with a digital bias."""

    def __init__(self, inputs: int, outputs: int, bits: Bits, signed: bool, noise: ArrayNoise | None) -> None:
        super().__init__(inputs, outputs)
        self.bits, self.groups = bits, 1
        self.quantiser = row_steps(self.weight, bits.weight, WEIGHT_CLIP)
        self.set_noise(noise, inputs, 1, signed)

    def forward(self, codes: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]  # codes have a step
        """Codes (n, features) and their step, to real numbers."""
        levels, size = self.levels_now()
        y = functional.linear(codes, levels) if self.exact else self._noisy(codes, levels)
        return y * (scale * size.view(1, -1)) + self.bias

    def _noisy(self, codes: Tensor, levels: Tensor) -> Tensor:
        each, chips = self._share(len(codes)), self.chips
        self.find_range(codes[:WINDOWS], levels)
        squares = self.code_squares(codes)

        def seen() -> tuple[Tensor, float]:
            return codes.detach().unsqueeze(0), float(squares.mean()) / self.plane_squares

        held, offset, read = self.chips_of(levels, seen)
        sums = torch.bmm(codes.view(chips, each, -1), held.transpose(1, 2))
        y = self.clipped(sums + offset.unsqueeze(1).to(sums.dtype))
        with torch.no_grad():
            spread = self.spread(squares.sum(1).view(chips, each, 1), read).to(y.dtype)
        return torch.addcmul(y, spread, draws(y)).flatten(0, 1)


def draws(like: Tensor) -> Tensor:
    """Normal draws in the shape and type of a tensor: a stretch, found by chance, of a pool that is kept.

    Errors of reads are half of the time of training otherwise. Stretches overlap those of other batches.
    """
    if 2 * like.numel() > POOL:
        return torch.randn_like(like)
    start = int(torch.randint(POOL - like.numel() + 1, ()))
    return _pool(like.device, like.dtype).as_strided(like.shape, like.stride(), start)


@functools.cache
def _pool(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(POOL, generator=torch.Generator().manual_seed(POOL)).to(device, dtype)


def array_layers(model: nn.Module) -> list[ArrayConv2d | ArrayLinear]:
    return [m for m in model.modules() if isinstance(m, ArrayConv2d | ArrayLinear)]


def set_strength(model: nn.Module, strength: float, chips: int = 1, chip_batches: int = 1) -> None:
    """Errors as a multiple of the record's (0: exact products), virtual chips that share a batch, and for how many."""
    for layer in array_layers(model):
        layer.strength, layer.chips, layer.chip_batches = strength, chips, chip_batches


def forget_ranges(model: nn.Module) -> None:
    """Let converter ranges be chosen anew, on the activations of now, and chips be new ones."""
    for layer in array_layers(model):
        layer.range_code = None
        layer.forget_chips()
