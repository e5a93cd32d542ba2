"""Training for cells that are not exact: weights on a 4-bit grid with conductance noise.

Each forward pass in training draws the errors of one chip: every weight is rounded to its
4-bit level (per output channel, straight-through gradient), moved by the programming error
of its two cells, and some cells are stuck. The network learns to answer well with any of them.

The error of one cell at conductance x = G / 40 µS, one hour after programming, is a fit to the
Tech C relaxation data of A. Levy et al. (HfOx, 40 µS, MIT licence):

    variance(x, t) = C1(x) log10 t + C2(x)   µS², t in seconds
    mean(x, t)     = quadratic in x, between the fits at 1 s and at 1e5 s in log10 t

and its tails are heavy (Student-t of about 3 degrees of freedom); here a two-part normal
mixture of the same variance stands for them, which is quick to draw.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 7  # largest magnitude of a signed 4-bit weight
G_MIN_US, G_MAX_US = 2.0, 40.0
STEP_US = (G_MAX_US - G_MIN_US) / LEVELS
WRITE_VARIANCE_US2 = 1.0 / 3.0  # write-verify window of ±1 µS, uniform


def cell_error_us(g_us: np.ndarray, age_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, µS, of a cell's error ``age_s`` after it was written to ``g_us``."""
    x, decades = g_us / G_MAX_US, math.log10(age_s)
    c1 = np.polyval([1.333, 6.379, -17.583, 11.348, -0.038], x)
    c2 = np.polyval([-18.972, 66.050, -80.677, 36.255, 0.121], x)
    early, late = np.polyval([1.847, -2.641, 0.441], x), np.polyval([6.137, -8.916, 0.976], x)
    mean = early + (late - early) * decades / 5
    return mean, np.sqrt(np.maximum(c1 * decades + c2, 0.05) + WRITE_VARIANCE_US2)


@dataclass(slots=True)
class Noise:
    """How strong the errors of a forward pass are; 1.0 is what is expected of a chip after an hour."""

    strength: float = 0.0  # multiplies every standard deviation and share
    stuck_low: float = 0.022  # shares of cells
    stuck_high: float = 0.002
    unreached: float = 0.003
    read_levels: float = 0.25  # read noise, as an error of each weight in levels
    adc_lsb_levels: float = 1.7  # step of the column converter in levels
    age_s: float = 3600.0
    quantise: bool = True

    def tables(self) -> tuple[Tensor, Tensor]:
        """Mean shift (towards zero) and deviation, in levels, of a weight of each magnitude 0..7."""
        mean, sd = cell_error_us(G_MIN_US + STEP_US * np.arange(LEVELS + 1), self.age_s)
        shift = (mean - mean[0]) / STEP_US
        shift[0] = 0.0
        spread = np.sqrt(sd**2 + sd[0] ** 2) / STEP_US
        return torch.tensor(shift, dtype=torch.float32), torch.tensor(
            np.hypot(spread, self.read_levels), dtype=torch.float32
        )


CLIP = 1.4  # weights beyond this many root mean squares of their output channel are clipped


def channel_limit(weight: Tensor) -> Tensor:
    """Largest magnitude that each output channel keeps: a compact distribution uses all levels."""
    return CLIP * weight.detach().pow(2).mean(dim=tuple(range(1, weight.dim())), keepdim=True).sqrt().clamp_min(1e-8)


def level_scale(weight: Tensor) -> Tensor:
    """Size of one level per output channel: the largest weight is level 7."""
    return channel_limit(weight) / LEVELS


def noisy_weight(weight: Tensor, noise: Noise, scale: Tensor | None = None) -> Tensor:
    """``weight`` as one chip would hold it, with the gradient of the exact weight; ``scale`` is the size of a level."""
    if not noise.quantise and noise.strength == 0 and scale is None:
        limit = channel_limit(weight)
        return torch.minimum(torch.maximum(weight, -limit), limit)
    with torch.no_grad():
        scale = level_scale(weight) if scale is None else scale
        levels = (weight / scale).round_().clamp_(-LEVELS, LEVELS)
        if noise.strength > 0:
            shift, sd = noise.tables()
            magnitude, sign = levels.abs().long(), levels.sign()
            draw = torch.randn(levels.shape)  # contiguous: many times faster than randn_like of channels-last
            draw *= torch.where(torch.rand(levels.shape) < 0.1, 2.2, 0.75)  # heavy tails, variance 1
            shift_share = noise.strength * torch.rand(())  # the drift is partly calibrated away
            held = levels + noise.strength * sd[magnitude] * draw + shift_share * shift[magnitude] * sign
            chance = torch.rand(levels.shape)
            low = noise.strength * noise.stuck_low
            high, lost = low + noise.strength * 2 * noise.stuck_high, noise.strength * 2 * noise.unreached
            held = torch.where(chance < low, torch.zeros_like(held), held)
            side = torch.where(torch.rand(levels.shape) < 0.5, -float(LEVELS), float(LEVELS))
            held = torch.where((chance >= low) & (chance < high), (levels + side).clamp(-LEVELS, LEVELS), held)
            wild = (torch.rand(levels.shape) * 2 - 1) * LEVELS
            held = torch.where((chance >= high) & (chance < high + lost), wild, held)
            levels = held
        change = levels * scale - weight
    return weight + change


@functools.cache
def rounding_errors() -> Tensor:
    """Uniform draws in ±1/2; a random stretch of them is much cheaper than new ones at every step."""
    return torch.rand(1 << 24) - 0.5


def converter_noise(x: Tensor, y: Tensor, weight: Tensor, tiles: int, noise: Noise) -> Tensor:
    """``y`` with the rounding of the column converters, one per bit plane and tile.

    A rounding of ±1/2 step in each of 8 planes of weight 2^k adds up to a deviation of
    step · √(4^8 / 3 / 12) level codes; codes are 255 at the largest activation.
    """
    if noise.strength == 0:
        return y
    with torch.no_grad():
        step = noise.adc_lsb_levels * math.sqrt(4.0**8 / 36) / 255
        scale = level_scale(weight).reshape(1, -1, *([1] * (y.dim() - 2)))
        deviation = noise.strength * step * math.sqrt(tiles) * scale * x.detach().amax()
        shape = y.shape if y.dim() == 2 else (y.shape[0], *y.shape[2:], y.shape[1])  # as channels-last lies in memory
        bank = rounding_errors()
        first = int(torch.randint(0, bank.numel() - y.numel(), ()))
        draw = bank[first : first + y.numel()].view(shape).movedim(-1, 1)
        error = draw * (math.sqrt(12) * deviation)
    return y + error.to(y.dtype)


def tiles_of(in_channels: int, kernel: int, rows: int = 128) -> int:
    return math.ceil(in_channels / max(rows // kernel, 1))


class NoisyConv2d(nn.Conv2d):
    """Convolution whose weights are drawn from ``self.noise`` at every call."""

    noise = Noise(quantise=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self._conv_forward(x, noisy_weight(self.weight, self.noise), self.bias)
        kernel = self.kernel_size[0] * self.kernel_size[1]
        return converter_noise(x, y, self.weight, tiles_of(self.in_channels // self.groups, kernel), self.noise)


class NoisyDepthwise(nn.Conv2d):
    """Depthwise convolution as an array computes it: blocks of channels share their word lines.

    The cells that join a channel to the others of its block are programmed to zero, and their
    errors let the inputs of those channels through.
    """

    noise = Noise(quantise=False)
    together = 14  # channels of 3 x 3 on 128 rows

    def __init__(self, channels: int, stride: int) -> None:
        if channels % self.together:
            raise ValueError(f"{channels} channels are not whole blocks of {self.together}")
        super().__init__(channels, channels, 3, stride, 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        channels, size = self.in_channels, self.together
        own = functional.one_hot(torch.arange(channels) % size, size).to(self.weight.dtype)
        block = noisy_weight(self.weight * own.view(channels, size, 1, 1), self.noise, level_scale(self.weight))
        parts = functional.one_hot(torch.arange(channels) // size).to(block.dtype)
        dense = torch.einsum("ob,oikl->obikl", parts, block).flatten(1, 2)  # one plain convolution is the fastest
        y = functional.conv2d(x, dense, None, self.stride, self.padding)
        return converter_noise(x, y, self.weight, 1, self.noise)


class NoisyLinear(nn.Linear):
    """Linear layer whose weights are drawn from ``self.noise`` at every call."""

    noise = Noise(quantise=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.linear(x, noisy_weight(self.weight, self.noise), self.bias)
        return converter_noise(x, y, self.weight, tiles_of(self.in_features, 1), self.noise)


def set_noise(model: nn.Module, noise: Noise) -> None:
    for module in model.modules():
        if isinstance(module, NoisyConv2d | NoisyDepthwise | NoisyLinear):
            module.noise = noise


@torch.no_grad()
def plain(model: nn.Module) -> nn.Module:
    """A copy of ordinary layers whose weights lie on the grid of levels that training used."""
    model = copy.deepcopy(model)
    ordinary: dict[type, type] = {NoisyConv2d: nn.Conv2d, NoisyDepthwise: nn.Conv2d, NoisyLinear: nn.Linear}
    for module in model.modules():
        if type(module) in ordinary:
            module.weight.copy_(noisy_weight(module.weight, Noise()))
            module.__class__ = ordinary[type(module)]
    return model.eval()
