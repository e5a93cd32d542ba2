"""Learned step size: the published forward and gradient, steps that stay positive."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from search.train.lsq import LearnedStep, activation_step, row_steps  # noqa: E402


def values(count: int = 200) -> Tensor:
    return 2.0 * torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def started(bits: int, signed: bool, step: float, size: int) -> LearnedStep:
    quantiser = activation_step(bits, signed).double()
    quantiser.size = size
    with torch.no_grad():
        quantiser.log_step.fill_(math.log(step))
    quantiser.started.fill_(True)
    return quantiser


@pytest.mark.parametrize(("bits", "signed"), [(2, True), (4, True), (4, False), (8, False)])
def test_the_forward_pass_is_the_closed_form(bits: int, signed: bool) -> None:
    v, step = values(), 0.3
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    expected = torch.clamp(v / step, low, high).round() * step
    torch.testing.assert_close(started(bits, signed, step, 200)(v), expected, rtol=1e-12, atol=1e-12)


def test_a_number_with_digits() -> None:
    quantiser = started(3, True, 0.5, 1)  # −4..3
    x = torch.tensor([0.7, -9.0, 9.0], dtype=torch.float64)
    torch.testing.assert_close(quantiser(x), torch.tensor([0.5, -2.0, 1.5], dtype=torch.float64))


def test_the_step_gradient_is_the_published_formula() -> None:
    v, step, size = values(), 0.4, 200
    quantiser = started(4, True, step, size)
    weight = torch.linspace(-1.0, 2.0, size, dtype=torch.float64)
    (quantiser(v) * weight).sum().backward()
    ratio = v / step
    inside = ratio.round() - ratio
    own = torch.where(ratio <= -8, -8.0, torch.where(ratio >= 7, 7.0, inside))
    expected = step * (own * weight).sum() / math.sqrt(size * 7)  # ∂L/∂log s = s ∂L/∂s
    assert quantiser.log_step.grad is not None
    torch.testing.assert_close(quantiser.log_step.grad, expected, rtol=1e-10, atol=1e-12)


def test_the_step_gradient_equals_a_finite_difference_of_the_residual_inside_bins() -> None:
    """Inside a bin v̂ = n s is smooth in s; the straight-through pass adds −v / s, the derivative of s · (v / s)."""
    v, h = torch.tensor([0.55, -1.3, 5.0, -5.0], dtype=torch.float64), 1e-6

    def smooth(step: float, held: Tensor) -> Tensor:  # rounding error held, as straight-through does
        return (torch.clamp(v / step, -8, 7) + held) * step

    step = 0.5
    held = torch.clamp(v / step, -8, 7).round() - torch.clamp(v / step, -8, 7)
    difference = (smooth(step + h, held) - smooth(step - h, held)) / (2 * h)
    for i in range(len(v)):
        quantiser = started(4, True, step, 4)
        quantiser(v)[i].backward()
        assert quantiser.log_step.grad is not None
        seen = quantiser.log_step.grad.item() / step * math.sqrt(4 * 7)
        assert abs(seen - difference[i].item()) < 1e-6


def test_the_gradient_of_the_values_stops_at_the_clip() -> None:
    v = torch.tensor([0.2, 100.0, -100.0], requires_grad=True)
    quantiser = activation_step(4, True)
    quantiser.start(torch.tensor([1.0]))
    quantiser(v).sum().backward()
    assert v.grad is not None
    assert v.grad.tolist() == [1.0, 0.0, 0.0]


def test_codes_start_no_wider_than_the_largest_value_needs() -> None:
    values = torch.rand(4, 1000)
    for bits, most in ((8, 1.0 / 255), (2, 1.0 / math.sqrt(3))):
        step = activation_step(bits, False)
        step(values)
        assert float(step.log_step.exp().detach()) == pytest.approx(min(most, 1 / (2**bits - 1)), rel=0.02)


def test_steps_stay_positive_in_a_thousand_steps_of_adam() -> None:
    layer = torch.nn.Linear(8, 4)
    step = row_steps(layer.weight, 3, 2.0)
    optimiser = torch.optim.Adam([*layer.parameters(), *step.parameters()], 0.05)
    rng = torch.Generator().manual_seed(3)
    for _ in range(1000):
        seen = torch.randn(4, 8, generator=rng)
        loss = torch.nn.functional.linear(seen, step(layer.weight), layer.bias).pow(2).mean()  # drives it to zero
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert float(step.log_step.exp().detach().min()) > 0
