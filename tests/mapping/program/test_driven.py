"""Which layers read pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.graph import Preprocess
from mapping.program.driven import picture_layers


class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near, self.far, self.next = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(8 + 3 * 64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = self.next(torch.relu(self.near(x))).mean((2, 3))
        far = torch.relu(self.far(functional.pad(x, (0, 1, 0, 1)))).mean((2, 3))
        return self.head(torch.cat([near, far, x.flatten(1)], 1))


def test_layers_with_a_window_read_pictures_where_no_other_layer_came_before() -> None:
    torch.manual_seed(0)
    scaled = Preprocess((0.5,) * 3, (0.25,) * 3)
    graph = capture(TwoBranches(), torch.zeros(1, 3, 8, 8), preprocess=scaled, classes=("a", "b"))
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    program = compile_network(NetworkFile(graph, 4, 8, images), load_chip("lab-128"))
    assert picture_layers(program) == {"near", "far"}
