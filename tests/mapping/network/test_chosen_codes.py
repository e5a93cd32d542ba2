"""Codes that a training chose stay as they were chosen, however a plain torch module writes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from mapping.compile import compile_network  # noqa: E402
from mapping.network.capture import capture  # noqa: E402
from mapping.network.file import NetworkFile  # noqa: E402
from mapping.network.graph import NetworkGraph, Preprocess  # noqa: E402
from mapping.operators.activations import Grid  # noqa: E402
from mapping.program.execute import IdealMultiply, run  # noqa: E402

STEP, HIGH = 0.37, 7
F = torch.nn.functional


class Learned(torch.nn.Module):
    """A learned step as LSQ writes it: scaled gradients, straight-through rounding."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.step = torch.nn.Parameter(torch.tensor(STEP))
        self.low, self.high = low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = 1.0 / (x.numel() * self.high) ** 0.5
        step = (self.step - self.step * weight).detach() + self.step * weight
        codes = torch.clamp(x / step, self.low, self.high)
        return ((codes.round() - codes).detach() + codes) * step


def by_hand(x: torch.Tensor) -> torch.Tensor:
    return torch.round(torch.clamp(x / STEP, 0, HIGH)) * STEP


def rounded_first(x: torch.Tensor) -> torch.Tensor:
    return torch.clamp(torch.round(x / STEP), 0, HIGH) * STEP


def clipped(x: torch.Tensor) -> torch.Tensor:
    """PACT: an end that was trained, then so many steps up to it."""
    end = STEP * HIGH
    return torch.round(F.hardtanh(x, 0.0, end) * HIGH / end) * end / HIGH


def half_up(x: torch.Tensor) -> torch.Tensor:
    return torch.floor(torch.relu(x).clamp(max=STEP * HIGH) / STEP + 0.5) * STEP


def estimated(x: torch.Tensor) -> torch.Tensor:
    return x + (by_hand(x) - x).detach()


def with_zero_point(x: torch.Tensor) -> torch.Tensor:
    return (torch.clamp(torch.round(x / STEP) + 3, 0, HIGH) - 3) * STEP


def faked(x: torch.Tensor) -> torch.Tensor:
    return torch.fake_quantize_per_tensor_affine(x, STEP, 0, 0, HIGH)


FORMS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], tuple[int, int]]] = {
    "clamp and round": (by_hand, (0, HIGH)),
    "round and clamp": (rounded_first, (0, HIGH)),
    "a trained end": (clipped, (0, HIGH)),
    "floor after half a step": (half_up, (0, HIGH)),
    "straight-through": (estimated, (0, HIGH)),
    "a zero point": (with_zero_point, (-3, 4)),
    "torch's own": (faked, (0, HIGH)),
    "learned, unsigned": (Learned(0, HIGH), (0, HIGH)),
    "learned, signed": (Learned(-4, 3), (-4, 3)),
}


class Net(torch.nn.Module):
    """Four-bit inputs, then codes of another form behind each layer."""

    def __init__(self, form: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.form = form
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.dense = torch.nn.Linear(8 * 36, 5)
        self.norm.running_var.fill_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.round(x.clamp(0.0, 0.95) / 0.95 * 15) / 15 * 0.95
        x = self.form(self.norm(self.conv(x)))
        return self.dense(x.flatten(1))


def graph_of(form: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Net, NetworkGraph]:
    torch.manual_seed(0)
    net = Net(form).eval()
    plain = Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return net, capture(net, torch.zeros(1, 3, 6, 6), preprocess=plain, classes=tuple("abcde"))


@pytest.mark.parametrize("name", FORMS)
def test_codes_are_kept_as_the_training_chose_them(name: str) -> None:
    form, codes = FORMS[name]
    _, graph = graph_of(form)
    grids = [node for node in graph.nodes if isinstance(node, Grid)]
    assert [(g.low, g.high) for g in grids] == [(0, 15), codes]
    assert grids[0].scale == pytest.approx(0.95 / 15)
    assert grids[1].scale == pytest.approx(STEP)


@pytest.mark.parametrize("name", ["clamp and round", "learned, unsigned", "floor after half a step"])
def test_a_program_computes_with_three_bit_codes_and_four_bit_inputs(name: str) -> None:
    net, graph = graph_of(FORMS[name][0])
    images = np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3), dtype=np.uint8)
    program = compile_network(NetworkFile(graph, 8, 8, images), load_chip("lab-128", macros=16))
    assert program.input.table.max() == 15
    (first, *_) = [s for s in program.steps if s.name.startswith("conv")]
    assert (first.requantise.low, first.requantise.high) == (0, HIGH)  # type: ignore[union-attr]
    codes = run(program, images, IdealMultiply(program)).astype(np.float64)
    with torch.no_grad():
        wanted = net(torch.tensor(images).permute(0, 3, 1, 2).float() / 255.0).numpy()
    agree = (codes.argmax(1) == wanted.argmax(1)).mean()
    assert agree > 0.95


def test_a_clamp_that_lies_between_codes_is_left_as_it_is() -> None:
    def between(x: torch.Tensor) -> torch.Tensor:
        return (torch.round(torch.relu(x) / STEP) * STEP).clamp(max=2.5 * STEP)

    _, graph = graph_of(between)
    assert sum(isinstance(node, Grid) for node in graph.nodes) == 1  # the input's


def test_rounding_that_others_read_too_is_left_as_it_is() -> None:
    def shared(x: torch.Tensor) -> torch.Tensor:
        steps = torch.round(torch.clamp(x / STEP, 0, HIGH))
        return steps * STEP + torch.relu(steps - 2.0)

    net, graph = graph_of(shared)
    assert graph.nodes[-1].name
    assert net is not None
