"""Search by gradients through one supernet: what costs nothing in accuracy and saves energy is chosen; resumable."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "studies" / "search"))  # they import each other

from search_gradients import (  # noqa: E402
    Relaxation,
    RelaxedJob,
    RelaxedSettings,
    SuperNet,
    relaxed_search,
    supernet_bits,
)

from search.space.architecture import Architecture  # noqa: E402
from search.space.significance import Significance  # noqa: E402
from search.train.images import Images  # noqa: E402
from search.train.modules import network  # noqa: E402
from search.train.training import Machine, TrainingSchedule  # noqa: E402

from ..tiny import TINY, images, tiny_architecture  # noqa: E402

FEW = Images(*images(240))


def job(folder: Path, relaxation: Relaxation, cost: float = 0.1, epochs: int = 6) -> RelaxedJob:
    """ln EDP 10 for every operator but the last of each position."""
    values = [np.full(n, 10.0) for n in TINY.choices]
    for v in values:
        v[-1] = 0.0
    settings = RelaxedSettings(
        TrainingSchedule(epochs, batch=24, rate=0.02, shift=0, symmetry="none", average=False),
        relaxation,
        coefficient_rate=0.1,
        cost_weight=cost,
    )
    return RelaxedJob(TINY, settings, Significance(tuple(values)), None, folder / f"{relaxation.name}.checkpoint")


@pytest.mark.parametrize("relaxation", Relaxation)
def test_it_gives_a_network_of_the_space_and_the_same_one_again(tmp_path: Path, relaxation: Relaxation) -> None:
    first = relaxed_search(job(tmp_path, relaxation), FEW)
    TINY.encode(first)
    other = tmp_path / "again"
    other.mkdir()
    assert relaxed_search(job(other, relaxation), FEW) == first


@pytest.mark.parametrize("relaxation", Relaxation)
def test_it_runs_in_mixed_precision(tmp_path: Path, relaxation: Relaxation) -> None:
    mixed = dataclasses.replace(job(tmp_path, relaxation, epochs=2), machine=Machine(precision="bf16-mixed"))
    assert TINY.encode(relaxed_search(mixed, FEW))


def test_binary_paths_with_a_heavy_cost_take_the_cheapest_operators(tmp_path: Path) -> None:
    found = relaxed_search(job(tmp_path, Relaxation.PATHS, cost=10.0), FEW)
    assert found.operators == tuple(place.operators[-1] for place in TINY.positions)


def test_a_killed_one_goes_on_to_the_same_network(tmp_path: Path) -> None:
    whole = relaxed_search(job(tmp_path, Relaxation.MIXTURE), FEW)
    other = tmp_path / "again"
    other.mkdir()
    stopped = job(other, Relaxation.MIXTURE)
    with pytest.raises(KeyboardInterrupt):
        relaxed_search(stopped, FEW, lambda record: _stop(record.epoch))
    assert relaxed_search(stopped, FEW) == whole


def _stop(epoch: int) -> None:
    if epoch == 2:
        raise KeyboardInterrupt


def test_one_path_of_the_supernet_is_that_network() -> None:
    torch.manual_seed(0)
    chosen: Architecture = dataclasses.replace(tiny_architecture("conv2", "conv3g2", "residual", "conv2"))
    net, alone = SuperNet(TINY, supernet_bits(TINY), None), network(TINY, chosen, None)
    gates = [{p.operators.index(name): None} for p, name in zip(TINY.positions, chosen.operators, strict=True)]
    x = torch.rand(4, 1, 8, 8)
    count = sum(p.numel() for p in alone.parameters())
    net.train()(x, gates).sum().backward()
    used = [p for p in net.parameters() if p.grad is not None]
    assert net(x, gates).shape == alone(x).shape
    # Between operators a tensor has a step on both sides; a network has one.
    assert 0 <= sum(p.numel() for p in used) - count <= 2 * len(TINY.positions)
