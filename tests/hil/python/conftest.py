"""A module, a chip and a report that the tests of Python share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import hil

QUICK = hil.DeployOptions(samples=300, repeats=2, virtual_chips=10, tolerance=0.03)


@dataclass(frozen=True)
class Stripes:
    """A module that tells stripes that lie from stripes that stand, and its numbers float32 (n, 1, 8, 8)."""

    module: torch.nn.Module
    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[NDArray[np.float32], NDArray[np.int64]]


def trained_stripes() -> Stripes:
    """A module trained in a second, with its images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1600)
    standing = (np.arange(8)[:, None] + rng.integers(0, 2, (1600, 1, 1))) % 2 * np.ones((1, 1, 8))
    images = np.where(labels[:, None, None] == 1, standing.swapaxes(1, 2), standing)
    images = (2 * images - 1 + rng.normal(0, 2.0, images.shape)).astype(np.float32)[:, None]
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 2)
    )
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    inputs, targets = torch.from_numpy(images[:1000]), torch.from_numpy(labels[:1000])
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs), targets).backward()
        optimiser.step()
    return Stripes(module, (inputs, targets), (images[1000:], labels[1000:]))


@pytest.fixture(scope="session")
def stripes() -> Stripes:
    return trained_stripes()


@pytest.fixture(scope="session")
def chip() -> hil.Chip:
    return hil.open_chip("emulated:lab-128?seed=7", macros=2)


@pytest.fixture(scope="session")
def compiled(stripes: Stripes, chip: hil.Chip) -> hil.CompiledNetwork:
    return hil.compile(stripes.module, chip, images=stripes.train, bits="W4A8")


@pytest.fixture(scope="session")
def report(
    stripes: Stripes, chip: hil.Chip, compiled: hil.CompiledNetwork, tmp_path_factory: pytest.TempPathFactory
) -> hil.Report:
    chip.calibrate(budget="quick")
    return hil.deploy(compiled, chip, stripes.test, out=tmp_path_factory.mktemp("runs") / "run", options=QUICK)
