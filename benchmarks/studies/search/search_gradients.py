"""Search by gradients through a whole supernet, as baselines: DARTS-like and ProxylessNAS-like.

Both train one net of all operators end to end on labels and give one network: the operator of the largest
coefficient at each position, at the largest widths. ``Relaxation.MIXTURE`` weighs every operator's output with
softmax(a), whose coefficients learn on held-out images between steps of the weights (first order; Liu et al.,
arXiv:1806.09055). ``Relaxation.PATHS`` trains one sampled path a step; coefficients learn through binary gates of
two sampled operators a position, with the expected ln EDP in the loss (Cai et al., arXiv:1812.00332). Imports
torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from cim.simulator.training_errors import ArrayNoise
from search.space.architecture import Architecture
from search.space.genes import Bits, Space
from search.space.precision import Precision
from search.space.significance import Significance
from search.stage.net import operator_nets
from search.train.arrays import forget_ranges, set_strength
from search.train.images import Images, moved, on_device
from search.train.modules import LayerNet
from search.train.training import At, Batch, Machine, ProgressCallback, TrainingSchedule, TrainingTask, epoch_seed, fit

HELD = 0x6A7E0000  # purpose tag of seeds
Gates = Sequence[Mapping[int, Tensor | None]]
"""Of each position: operator -> factor of its output; None for the output as it is."""


class Relaxation(Enum):
    MIXTURE = "DARTS-like"
    PATHS = "ProxylessNAS-like"


@dataclass(frozen=True, slots=True)
class RelaxedSettings:
    """``cost_weight``: of the expected ln EDP in the loss of the coefficients (PATHS)."""

    schedule: TrainingSchedule
    relaxation: Relaxation
    held_out: float = 0.2
    coefficient_rate: float = 0.01
    cost_weight: float = 0.1
    chips: int = 2

    def __post_init__(self) -> None:
        if self.schedule.average:
            raise ValueError("a supernet has no running mean: statistics belong to a path (average=False)")


@dataclass(frozen=True, slots=True, eq=False)
class RelaxedJob:
    """``costs``: ln EDP of every choice, for the loss of PATHS. ``noise``: errors of the chip, None: an ideal one."""

    space: Space
    settings: RelaxedSettings
    costs: Significance
    noise: ArrayNoise | None
    checkpoint: Path
    machine: Machine = field(default_factory=Machine)


class SuperNet(nn.Module):
    """The whole network with every operator at every position, at the largest widths; pixels 0..1 to logits."""

    def __init__(self, space: Space, bits: Bits, noise: ArrayNoise | None) -> None:
        super().__init__()
        widths = [max(stage.widths) for stage in space.stages]
        chosen = space.uniform([p.operators[0] for p in space.positions], widths, bits)
        layers, both = space.layers(chosen), Precision(bits, space.edges)
        inner = {place.name for place in space.positions}
        ends = [layer for layer in layers if layer.name.rpartition(".")[0] not in inner]
        last = space.slot(len(space.positions) - 1, widths).outputs
        self.stem = LayerNet(ends[:1], space.input_shape[0], both, noise)
        self.operators, signed = operator_nets(space, range(len(space.positions)), bits, noise)
        self.head = LayerNet(ends[1:], last, both, noise, signed=signed)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        x = self.stem(x)
        for options, chosen in zip(self.operators, gates, strict=True):
            assert isinstance(options, nn.ModuleList)
            parts = [options[i](x) if gate is None else gate * options[i](x) for i, gate in chosen.items()]
            x = parts[0]
            for part in parts[1:]:
                x = x + part
        logits: Tensor = self.head(x)
        return logits


def relaxed_search(job: RelaxedJob, images: Images, progress: ProgressCallback | None = None) -> Architecture:
    """Train the supernet on ``images`` and give its network. Killed, it goes on from the last whole epoch."""
    return job.machine.run(_search, job, images, progress=progress)


def supernet_bits(space: Space) -> Bits:
    """4-bit weights, or the nearest that the space has, and its widest codes."""
    return Bits(min(space.weight_bits, key=lambda bits: (abs(bits - 4), bits)), max(space.activation_bits))


def _search(fabric: Fabric, job: RelaxedJob, images: Images, progress: ProgressCallback | None) -> Architecture:
    space, schedule = job.space, job.settings.schedule
    own, held = images.split(job.settings.held_out, schedule.seed)
    torch.manual_seed(schedule.seed)
    bits = supernet_bits(space)
    task = _Relaxing(SuperNet(space, bits, job.noise), space, job.settings, job.costs, held, fabric.device)
    key = repr((space.skeleton, [p.operators for p in space.positions], job.settings, held.digest))
    fit(fabric, task, own, schedule, checkpoint=job.checkpoint, key=key, progress=progress)
    operators = [
        place.operators[int(alpha.argmax())] for place, alpha in zip(space.positions, task.alphas, strict=True)
    ]
    return space.uniform(operators, [max(stage.widths) for stage in space.stages], bits)


class _Relaxing(TrainingTask):
    def __init__(
        self,
        model: SuperNet,
        space: Space,
        settings: RelaxedSettings,
        costs: Significance,
        held: Images,
        device: torch.device,
    ) -> None:
        self.model: SuperNet = model
        self.settings, self.device = settings, device
        counts = [len(place.operators) for place in space.positions]
        self.alphas = [torch.zeros(count, device=device, requires_grad=True) for count in counts]
        self.costs = [torch.tensor(v, dtype=torch.float32, device=device) for v in costs.values[: len(counts)]]
        self.optimiser = torch.optim.Adam(self.alphas, settings.coefficient_rate, betas=(0.5, 0.999))
        self.pixels, self.labels = on_device(held, device)

    def begin(self, model: nn.Module, at: At) -> None:
        forget_ranges(model)
        self.generator = torch.Generator().manual_seed(epoch_seed(self.settings.schedule.seed, HELD + at.epoch))

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        set_strength(self.model, 1.0, self.settings.chips)
        if self.settings.relaxation is Relaxation.MIXTURE:
            gates: Gates = [dict(enumerate(alpha.detach().softmax(0))) for alpha in self.alphas]
        else:
            gates = [{self._draw(alpha, 1)[0]: None} for alpha in self.alphas]
        return functional.cross_entropy(model(batch.pixels, gates).float(), batch.labels)

    def after(self, model: nn.Module, at: At) -> None:
        """Coefficients learn on held-out images, after a third of the steps."""
        if 3 * at.step < at.steps:
            return
        index = torch.randint(len(self.labels), (self.settings.schedule.batch,), generator=self.generator)
        pixels, labels = moved(self.pixels[index.to(self.device)], 0, "none"), self.labels[index.to(self.device)]
        if self.settings.relaxation is Relaxation.MIXTURE:
            gates: Gates = [dict(enumerate(alpha.softmax(0))) for alpha in self.alphas]
            loss = functional.cross_entropy(model(pixels, gates).float(), labels)
        else:
            expected = sum(
                (alpha.softmax(0) @ cost for alpha, cost in zip(self.alphas, self.costs, strict=True)),
                torch.zeros((), device=self.device),
            )
            loss = functional.cross_entropy(model(pixels, [self._binary(a) for a in self.alphas]).float(), labels)
            loss = loss + self.settings.cost_weight * expected
        gradients = torch.autograd.grad(loss, self.alphas, allow_unused=True)
        for alpha, gradient in zip(self.alphas, gradients, strict=True):
            alpha.grad = gradient
        self.optimiser.step()

    def _binary(self, alpha: Tensor) -> dict[int, Tensor | None]:
        """Gates of two sampled operators: 1 for one of them and 0 for the other, with the gradients of their shares."""
        two = self._draw(alpha, min(2, len(alpha)))
        if len(two) == 1:
            return {two[0]: None}
        share = alpha[two].softmax(0)
        one = torch.zeros_like(share)
        one[int(torch.multinomial(share.detach(), 1))] = 1.0
        gate = one + share - share.detach()
        return {two[0]: gate[0], two[1]: gate[1]}

    def _draw(self, alpha: Tensor, count: int) -> list[int]:
        return [int(i) for i in torch.multinomial(alpha.detach().softmax(0), count)]

    def extra(self) -> dict[str, Any]:
        return {"alphas": [a.detach() for a in self.alphas], "optimiser": self.optimiser.state_dict()}

    def restore(self, extra: dict[str, Any]) -> None:
        with torch.no_grad():
            for alpha, value in zip(self.alphas, extra["alphas"], strict=True):
                alpha.copy_(value)
        self.optimiser.load_state_dict(extra["optimiser"])
