"""Learned step size quantisation (Esser et al., ICLR 2020, arXiv:1902.08153): one step, any bits, its gradient.

    v̂ = round(clip(v / s, −Qn, Qp)) · s
    ∂v̂/∂s = round(v / s) − v / s inside the clip, −Qn below, Qp above;   ∂v̂/∂v = 1 inside, 0 outside
    the gradient of s is multiplied by 1 / √(N · Qp);   s starts at 2 · mean|v| / √Qp

s is exp of the trained parameter, so no update can turn it negative; ∂L/∂log s = s · ∂L/∂s.
Weights use ±(2^(bits − 1) − 1), the integers that a chip can hold. Imports torch: import this module late.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` with ``factor`` times the gradient."""
    return x * factor + (x * (1.0 - factor)).detach()


class _Codes(torch.autograd.Function):
    """round(clip(v / s, low, high)) with the gradients above, in few passes over the tensor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        ratio = values / step
        ctx.save_for_backward(ratio, step)
        ctx.ends = low, high
        return ratio.clamp(low, high).round_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        ratio, step = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(gradient.to(ratio.dtype), ratio, *ctx.ends) / step
        of_step = (inside * ratio).sum_to_size(step.shape) if step.dim() else (inside * ratio).sum()
        return inside, of_step.neg().to(step.dtype), None, None


class LearnedStep(nn.Module):
    """Quantises a tensor with one learned step, or one for each of ``shape``.

    ``size`` is N of the gradient scale; None: the elements of one image, (n, …) without n.
    The step starts from the first tensor that it sees (or from ``start``); ``bounded``: no wider than its
    largest value needs, where the published start would leave high codes unused.
    """

    started: Tensor

    def __init__(
        self, low: int, high: int, size: int | None = None, shape: tuple[int, ...] = (), *, bounded: bool = False
    ) -> None:
        super().__init__()
        if not low <= 0 < high:
            raise ValueError(f"codes {low} to {high} do not hold 0 and something above it")
        self.low, self.high, self.size, self.bounded = low, high, size, bounded
        self.log_step = nn.Parameter(torch.zeros(shape))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, values: Tensor) -> None:
        """Set the step to 2 · mean|v| / √Qp; of v ≥ 0 where no code is negative."""
        values = values.clamp_min(0.0) if self.low == 0 else values
        step = 2.0 * values.abs().mean() / math.sqrt(self.high)
        self.start_at(torch.minimum(step, values.abs().amax() / self.high) if self.bounded else step)

    @torch.no_grad()
    def start_at(self, step: Tensor) -> None:
        self.log_step.copy_(step.clamp_min(1e-8).log())
        self.started.fill_(True)

    def step(self, size: int) -> Tensor:
        """The step, its gradient scaled for a tensor of ``size`` elements."""
        return scaled_gradient(self.log_step.exp(), 1.0 / math.sqrt((self.size or size) * self.high))

    def codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers in low..high, and the step; their product is v̂ with the gradients above."""
        step = self._step_of(values)
        found: Tensor = _Codes.apply(values, step, self.low, self.high)
        return found, step

    def in_steps(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values in units of the step, clamped to low..high and not rounded, and the step."""
        step = self._step_of(values)
        return (values / step).clamp(self.low, self.high), step

    def _step_of(self, values: Tensor) -> Tensor:
        if not self.started:
            self.start(values)
        return self.step(values[0].numel())

    def forward(self, values: Tensor) -> Tensor:
        codes, step = self.codes(values)
        y: Tensor = codes * step
        return y


def row_steps(weight: Tensor, bits: int, clip: float) -> LearnedStep:
    """One step an output, started so that the codes end at ``clip`` root mean squares of its weights.

    Rows of an array are read alone: each needs the whole range of its cells to stand out from their errors.
    """
    top = (1 << (bits - 1)) - 1
    outputs = len(weight)
    step = LearnedStep(-top, top, weight.numel() // outputs, (outputs, *(1,) * (weight.dim() - 1)))
    size = weight.detach().pow(2).mean(tuple(range(1, weight.dim())), keepdim=True).sqrt()
    step.start_at(size * (clip / top))
    return step


def activation_step(bits: int, signed: bool) -> LearnedStep:
    """A quantiser for activations, with codes of ``bits`` bits, two's complement when signed."""
    if bits < 1 + signed:
        raise ValueError(f"codes of {bits} bits")
    return LearnedStep(-(1 << (bits - 1)) if signed else 0, (1 << (bits - signed)) - 1, bounded=True)
