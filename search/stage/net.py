"""One stage of a space with all its candidates, between the teacher's features (the supernet of phase A).

Adapters of 1x1 convolutions in float, trained and thrown away, lead from the teacher's channels to the
student's and back where the two differ. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cim.simulator.training_errors import ArrayNoise
from search.space.genes import Bits, Space
from search.space.precision import Precision
from search.train.modules import LayerNet

Path = Sequence[int]
"""The operator of each position of a stage, as indices."""


class StageNet(nn.Module):
    """All operators of all positions of one stage, at the stage's largest width.

    Args:
        stage: from 0.
        inputs, outputs: channels of the teacher's features before and after; ``plain``: those before are
            never negative, so that they need no adapter where the channels agree.
    """

    def __init__(
        self,
        space: Space,
        stage: int,
        inputs: int,
        outputs: int,
        bits: Bits,
        noise: ArrayNoise | None,
        *,
        plain: bool,
    ) -> None:
        super().__init__()
        widths = [max(s.widths) for s in space.stages]
        self.places = [i for i, p in enumerate(space.positions) if p.stage == stage]
        self.names = [space.positions[i].operators for i in self.places]
        self.operators, _ = operator_nets(space, self.places, bits, noise)
        first, last = space.slot(self.places[0], widths).inputs, space.slot(self.places[-1], widths).outputs
        self.enter: nn.Module = nn.Identity()
        if not plain or inputs != first:
            self.enter = nn.Sequential(nn.Conv2d(inputs, first, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.leave: nn.Module = nn.Identity() if outputs == last else nn.Conv2d(last, outputs, 1)

    @property
    def choices(self) -> tuple[int, ...]:
        return tuple(len(names) for names in self.names)

    def options(self, position: int) -> list[nn.Module]:
        found = self.operators[position]
        assert isinstance(found, nn.ModuleList)
        return list(found)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        """Features in the teacher's channels, of one path."""
        x = self.enter(x)
        for position, choice in enumerate(path):
            x = self.options(position)[choice](x)
        y: Tensor = self.leave(x)
        return y


def operator_nets(
    space: Space, places: Sequence[int], bits: Bits, noise: ArrayNoise | None
) -> tuple[nn.ModuleList, bool]:
    """Every operator of consecutive positions at the largest widths, a ModuleList each; what comes in is not negative.

    Also gives whether what comes out may be negative.
    """
    widths = [max(s.widths) for s in space.stages]
    nets, signed = nn.ModuleList(), False
    for i in places:
        slot = space.slot(i, widths)
        layers = [space.operators[name].layers(slot) for name in space.positions[i].operators]
        nets.append(
            nn.ModuleList(
                LayerNet(each, slot.inputs, Precision(bits), noise, signed=signed) if each else nn.Identity()
                for each in layers
            )
        )
        signed = any(not each[-1].relu if each else signed for each in layers)
    return nets, signed


def fair_paths(choices: Sequence[int], steps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Paths (steps, positions): in each round of as many steps as a position has operators, each of them once.

    So counts of one position differ by at most 1 at any time (Chu et al., FairNAS, arXiv:1907.01845).
    """
    columns = []
    for count in choices:
        rounds = -(-steps // count)
        columns.append(np.concatenate([rng.permutation(count) for _ in range(rounds)])[:steps])
    return np.stack(columns, 1).astype(np.int64)


def listed_paths(choices: Sequence[int], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All paths of a stage, or ``most`` of them where every operator stands equally often, (paths, positions)."""
    if int(np.prod(choices)) <= most:
        return np.stack(np.unravel_index(np.arange(int(np.prod(choices))), tuple(choices)), 1).astype(np.int64)
    return fair_paths(choices, most, rng)


def marginals(paths: NDArray[np.int64], values: NDArray[np.float64], choices: Sequence[int]) -> list[list[float]]:
    """Mean of ``values`` (paths,) over the paths through each operator of each position."""
    return [
        [float(values[paths[:, position] == i].mean()) for i in range(count)] for position, count in enumerate(choices)
    ]


@torch.no_grad()
def estimate_statistics(model: nn.Module, passes: Sequence[Tensor], path: Path) -> None:
    """Batch-norm statistics of one path, anew from some batches; leaves the model in evaluation mode."""
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for x in passes:
        model(x, path)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
