"""Networks with one feature each: captured, they give what torch gives; compiled, they keep it in integers."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import nn

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.capture import UnsupportedOperation, capture
from mapping.network.file import NetworkFile
from mapping.network.float_run import forward, network_input
from mapping.network.graph import Preprocess
from mapping.program.execute import IdealMultiply, run

from .blocks import BLOCKS_ON_FEATURES, BLOCKS_ON_MAPS, BLOCKS_ON_SEQUENCES
from .features import FEATURES, SEQUENCES
from .map_features import MAPS

CASES: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    **{name: (module, (4, 8, 8), 4) for name, module in (MAPS | BLOCKS_ON_MAPS).items()},
    **{name: (module, (7, 6), 1) for name, module in (SEQUENCES | BLOCKS_ON_SEQUENCES).items()},
    **{name: (module, (12,), 12) for name, module in (FEATURES | BLOCKS_ON_FEATURES).items()},
}

REFUSED: set[str] = {
    "a mask as index",
    "repeat-interleave by counts",
    "largest places",
    "Fourier mixing",
    "in order of size",
}


@pytest.mark.parametrize("name", sorted(CASES.keys() - REFUSED))
def test_a_feature_gives_what_torch_gives_and_keeps_it_in_integers(name: str) -> None:
    module, shape, means = CASES[name]
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(reset := getattr(part, "reset_parameters", None), types.MethodType):
            reset()
    module.eval()
    graph = capture(module, torch.zeros(1, *shape), preprocess=Preprocess((0.5,) * means, (0.25,) * means), classes=())
    images = np.random.default_rng(0).integers(0, 256, (8, *graph.input_shape[1:], graph.input_shape[0]), np.uint8)
    x = network_input(graph.preprocess, images).contiguous()
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_leaves(module(x.reshape(8, *shape)))
        expected = torch.cat([leaf.reshape(8, -1).float() for leaf in leaves], 1)
        seen = forward(graph, x)[graph.nodes[-1].name]
    torch.testing.assert_close(seen, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)

    program = compile_network(NetworkFile(graph, 8, 8, images), load_chip("lab-128"))
    found = run(program, images, IdealMultiply(program)).reshape(8, -1)
    assert np.corrcoef(found.ravel(), expected.numpy().ravel())[0, 1] > 0.97


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_feature_without_nodes_is_refused(name: str) -> None:
    module, shape, means = CASES[name]
    module.eval()
    with pytest.raises(UnsupportedOperation):
        capture(module, torch.zeros(1, *shape), preprocess=Preprocess((0.5,) * means, (0.25,) * means), classes=())
