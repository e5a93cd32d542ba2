"""Layers for training that make the errors of the array they will be deployed to.

``CimConv2d`` and ``CimLinear`` take the place of torch's layers. A forward pass quantises
activations to codes and weights to levels, programs them into the cells of one or several
virtual chips, new in every batch, and adds the noise that ``cim.simulator.fast.moments`` has, with the law of
the same calibration record:

    output = s_x · s_w · ⌊ g · Σ code · (G⁺ − G⁻) / step + o + σ N(0, 1) ⌉ + bias
    σ² = (lsb / step)² · tiles · (Σ_p w_p² − 1) / 12 + …   (see ``CimLayer.noise_variance``)

Quantisers are straight-through: the gradient passes them as if they were not there and stops
where they clip. Errors and noise are constants of a pass. Batches are shared evenly among
``chips`` virtual chips, which run as groups of one convolution, on any torch device.
Imports torch: import this module late.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cim.array.wire_law import LINES, line_gaps, max_unit
from cim.chip.converters import input_planes, quantise_adc, split_planes, to_offset
from cim.chip.spec import MacroSpec, SignedInput
from cim.simulator.fast.moments import row_reach
from cim.simulator.training_errors import ArrayNoise, cell_levels, nearest_values, programmed_us

WEIGHT_CLIP = 1.4  # weights beyond this many root mean squares of their output are clipped
WINDOWS = 512  # that choose a converter range, and that columns are corrected on
WINDOW_IMAGES = 16  # that they are taken from
FOLLOW = 0.05  # share of a batch in the running largest input


def straight_through(smooth: Tensor, hard: Tensor) -> Tensor:
    """``hard`` with the gradient of ``smooth``."""
    return smooth + (hard - smooth).detach()


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


class CimLayer(nn.Module):
    """Base of convolution and matrix layers; weights (outputs, inputs, …), a window flattened to rows.

    Args of the subclasses:
        spec: the macro the layer will be tiled on.
        input_bits, input_signed: its input codes.
        noise: errors of the chips, or None for the exact network of levels and codes.

    Attributes that training sets: ``noise``; ``strength`` (1.0: as the record says);
    ``chips`` (virtual chips that share a batch, image i goes to chip i // (n / chips));
    ``range_code`` of the converter (``choose_range``; chosen at the first forward pass).

    Example:
        >>> layer: CimLayer = CimLinear(16, 4, spec=spec.macro, noise=array_noise(spec.macro, record, 3600.0))
        >>> layer.strength = 0.5  # half the errors that the record says
        >>> layer(torch.ones(8, 16)).shape
        torch.Size([8, 4])
    """

    weight: Tensor
    input_top: Tensor
    squares: Tensor

    def _set_up(
        self, spec: MacroSpec, input_bits: int, input_signed: bool, noise: ArrayNoise | None, kernel: int
    ) -> None:
        self.spec, self.noise, self.strength, self.chips = spec, noise, 1.0, 1
        self.input_bits, self.input_signed = input_bits, input_signed
        self.range_code: int | None = None
        self.low = -(1 << (input_bits - 1)) if input_signed else 0
        self.high = (1 << (input_bits - input_signed)) - 1
        self.planes = input_planes(spec.inputs, input_bits, input_signed)
        self.plane_squares = sum(p.weight**2 for p in self.planes)
        per_tile = max(spec.logical_rows // kernel, 1) * kernel if kernel <= spec.logical_rows else spec.logical_rows
        self.tile_rows = per_tile
        codes = np.arange(self.low, self.high + 1, dtype=np.int16)
        driven = to_offset(codes, input_bits) if input_signed and spec.inputs.signed is SignedInput.OFFSET else codes
        self.units = split_planes(driven, spec.inputs, input_bits, input_signed)  # (planes, codes)
        units = self.units.astype(np.float64)
        weights = np.array([p.weight for p in self.planes], np.float64)[:, None]
        self.register_buffer("squares", torch.as_tensor((weights**2 * units**2).sum(0), dtype=torch.float32), False)
        self.register_buffer("input_top", torch.zeros(()))

    # Quantisers

    def input_scale(self, x: Tensor) -> Tensor:
        """Size of one input code; in training it follows the largest input of the batches."""
        top = x.detach().abs().amax()
        if self.training or not bool(self.input_top > 0):
            old = self.input_top
            self.input_top = torch.where(old > 0, old + FOLLOW * (top - old), top)
        return (self.input_top / self.high).clamp_min(1e-12)

    def codes(self, x: Tensor, scale: Tensor) -> Tensor:
        """Input codes as whole floats; straight-through inside their range."""
        inside = (x / scale).clamp(self.low, self.high)
        return straight_through(inside, inside.round())

    def level_scale(self) -> Tensor:
        """Size of one level of each output, (outputs, 1)."""
        rms = self.weight.detach().flatten(1).pow(2).mean(1, keepdim=True).sqrt()
        return (WEIGHT_CLIP / self.spec.max_level) * rms.clamp_min(1e-8)

    def levels(self, scale: Tensor) -> Tensor:
        """Weight levels (outputs, rows) as whole floats; straight-through everywhere."""
        real = self.weight.flatten(1) / scale
        return straight_through(real, nearest_values(real.detach(), self.spec))

    # Errors

    def given(self, codes: Tensor) -> Tensor:
        """Codes as row drivers give them, Σ_p w_p d[u_p], errors times ``strength``; with the gradient of the codes."""
        assert self.noise is not None
        if self.noise.drive is None:
            return codes
        weights = np.array([p.weight for p in self.planes], np.float64)[:, None]
        table = torch.as_tensor((weights * self.noise.drive.errors[self.units]).sum(0), dtype=codes.dtype)
        return codes + self.strength * table.to(codes.device)[codes.detach().long() - self.low]

    def held(
        self, levels: Tensor, vectors: Tensor, activity: float, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weights as ``chips`` virtual chips hold them.

        Args:
            levels: (outputs, rows).
            vectors: some input codes of each group of outputs, (groups, n, rows), that columns are corrected on.
            activity: ``Σ |unit| / rows`` of a mean read, for the wires.
            given: what rows get for ``vectors``, where that is something else.

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
        real, offset = self._corrected(real, levels.detach(), vectors, vectors if given is None else given)
        lsb = self.spec.lsb_us(self.range_code or 0) / step
        tiles, planes = self.tiles(whole.shape[2]), sum(p.weight for p in self.planes)
        spread = self.strength * noise.offset_se_codes * lsb * planes * math.sqrt(tiles)
        offset = offset + spread * torch.randn_like(offset)
        variances = torch.as_tensor(noise.read_variance_us2, dtype=torch.float32, device=whole.device)
        plus_level, minus_level = (cell_levels(half.clamp_min(0.0), self.spec) for half in (whole, -whole))
        pair = variances[plus_level] + variances[minus_level]
        return levels + (real - whole), offset, pair.mean(2) / step**2

    def _corrected(self, real: Tensor, whole: Tensor, vectors: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
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
            sums = real[:, :, part].reshape(chips, groups, outputs // groups, -1) @ given[:, :, part].mT.float()
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
        driven = codes.to("cpu", torch.int32).numpy().astype(np.int16)
        if self.input_signed and spec.inputs.signed is SignedInput.OFFSET:
            driven = to_offset(driven, self.input_bits)
        cells = levels.detach().cpu().numpy().T * spec.level_step_us
        for start in range(0, driven.shape[1], self.tile_rows):
            part = slice(start, start + self.tile_rows)
            units = split_planes(driven[:, part], spec.inputs, self.input_bits, self.input_signed).astype(np.float32)
            sums = units @ cells[part].astype(np.float32)
            for code, lsb in enumerate(lsbs):
                error = quantise_adc(sums, lsb, spec.adc.bits, spec.adc_signed) * lsb - sums
                errors[code] += float(((error**2).mean((1, 2)) * weight2).sum())
        return int(np.argmin(errors))

    def _ready(self, vectors: Tensor, levels: Tensor) -> None:
        if self.range_code is None:
            self.range_code = self.choose_range(vectors, levels)

    def _share(self, n: int) -> int:
        if n % self.chips:
            raise ValueError(f"{n} images do not divide among {self.chips} virtual chips")
        return n // self.chips


class CimConv2d(nn.Conv2d, CimLayer):
    """A convolution (groups = 1) on an array; see ``CimLayer``.

    Example:
        >>> layer = CimConv2d(1, 4, 3, padding=1, spec=spec.macro)
        >>> layer(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        spec: MacroSpec,
        bias: bool = True,
        input_bits: int = 8,
        input_signed: bool = False,
        noise: ArrayNoise | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.step, self.pad = stride, padding
        self._set_up(spec, input_bits, input_signed, noise, kernel_size * kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, outputs, out height, out width)."""
        scale, size = self.input_scale(x), self.level_scale()
        codes, levels = self.codes(x, scale), self.levels(size)
        if self.noise is None:
            y = functional.conv2d(codes, levels.view_as(self.weight), None, self.step, self.pad)
        else:
            y = self._noisy(codes, levels)
        y = straight_through(y, y.round()) * (scale * size.view(1, -1, 1, 1))
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)

    def _noisy(self, codes: Tensor, levels: Tensor) -> Tensor:
        n, channels = codes.shape[:2]
        each = self._share(n)
        kernel = (self.kernel_size[0], self.kernel_size[1])
        windows = some_windows(codes, kernel, self.pad, self.step)
        self._ready(windows[0], levels)
        squares = self.squares[codes.detach().long() - self.low]
        given = self.given(codes)
        activity = float(squares.mean()) / self.plane_squares
        got = None if given is codes else some_windows(given, kernel, self.pad, self.step)
        held, offset, read = self.held(levels, windows, activity, got)
        # Virtual chips side by side as groups of one convolution.
        grouped = given.view(self.chips, each, channels, *codes.shape[2:]).transpose(0, 1).flatten(1, 2)
        weight = held.flatten(0, 1).view(-1, *self.weight.shape[1:])
        y = functional.conv2d(grouped, weight, None, self.step, self.pad, groups=self.chips)
        y = y.view(each, self.chips, self.out_channels, *y.shape[2:]).transpose(0, 1)
        with torch.no_grad():
            box = torch.ones(1, 1, *kernel, device=codes.device)
            square_sum = functional.conv2d(squares.sum(1, keepdim=True), box, None, self.step, self.pad)
            square_sum = square_sum.view(self.chips, each, 1, *y.shape[3:])
            variance = self.noise_variance(square_sum, read.view(self.chips, 1, -1, 1, 1), levels.shape[1])
            error = offset.view(self.chips, 1, -1, 1, 1) + variance.sqrt_() * torch.randn(y.shape, device=y.device)
        return (y + error).flatten(0, 1)


class CimLinear(nn.Linear, CimLayer):
    """A matrix on an array; see ``CimLayer``.

    Example:
        >>> layer = CimLinear(16, 4, spec=spec.macro)
        >>> layer(torch.ones(8, 16)).shape
        torch.Size([8, 4])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        spec: MacroSpec,
        bias: bool = True,
        input_bits: int = 8,
        input_signed: bool = False,
        noise: ArrayNoise | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self._set_up(spec, input_bits, input_signed, noise, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, features) to (n, outputs)."""
        scale, size = self.input_scale(x), self.level_scale()
        codes, levels = self.codes(x, scale), self.levels(size)
        y = functional.linear(codes, levels) if self.noise is None else self._noisy(codes, levels)
        y = straight_through(y, y.round()) * (scale * size.view(1, -1))
        return y if self.bias is None else y + self.bias

    def _noisy(self, codes: Tensor, levels: Tensor) -> Tensor:
        each = self._share(len(codes))
        self._ready(codes.detach()[:512], levels)
        squares = self.squares[codes.detach().long() - self.low]
        activity = float(squares.mean()) / self.plane_squares
        given = self.given(codes)
        vectors, got = codes.detach().unsqueeze(0), None if given is codes else given.detach().unsqueeze(0)
        held, offset, read = self.held(levels, vectors, activity, got)
        y = torch.bmm(given.view(self.chips, each, -1), held.transpose(1, 2))
        with torch.no_grad():
            square_sum = squares.sum(1).view(self.chips, each, 1)
            variance = self.noise_variance(square_sum, read.unsqueeze(1), levels.shape[1])
            error = offset.unsqueeze(1) + variance.sqrt_() * torch.randn(y.shape, device=y.device)
        return (y + error).flatten(0, 1)
