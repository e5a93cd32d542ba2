"""Networks with one operation each, through ONNX files of both exporters of torch: they give what torch gives."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from mapping.network.float_run import forward
from mapping.network.graph import Preprocess
from mapping.network.onnx_import import graph_from_onnx

from .map_features import MAPS as FEATURES_OF_MAPS
from .operators import LAYERS, LINES, MAPS, SEQUENCES, Whole

pytest.importorskip("onnx")

CASES: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    **{name: (Whole(f, first=nn.Conv2d(4, 4, 3, padding=1)), (4, 8, 8), 4) for name, f in MAPS.items()},
    **{f"layer: {name}": (layer, (4, 8, 8), 4) for name, layer in LAYERS.items()},
    **{f"sequence: {name}": (layer, (7, 6), 1) for name, layer in SEQUENCES.items()},
    **{f"line: {name}": (layer, (3, 20), 3) for name, layer in LINES.items()},
    **{
        f"feature: {name}": (FEATURES_OF_MAPS[name], (4, 8, 8), 4)
        for name in (
            *("called twice in one batch", "a mirror image in the batch", "trace by einsum"),
            *("three operands of einsum", "einsum with dots", "product of channels", "local response norm"),
            *("volume convolution with stride", "volume pooling", "sampling at a stored grid", "places written"),
            *("log-softmax of maps", "bitwise operations on masks", "two to the power", "gather", "scatter"),
            *("ceil", "sign", "tan", "asin", "acos", "atan", "truncated remainder", "logical and, or, xor"),
            *("equality", "triangle"),
        )
    },
}


def exported(module: nn.Module, x: torch.Tensor, *, dynamo: bool) -> bytes:
    """The bytes of an ONNX file, its batch open where the exporter can leave it open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
            assert program is not None
            return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
        file = io.BytesIO()
        torch.onnx.export(module, (x,), file, dynamo=False, opset_version=20)  # type: ignore[arg-type]
        return file.getvalue()


def same_by_onnx(name: str, *, dynamo: bool) -> None:
    module, shape, means = CASES[name]
    torch.manual_seed(1)
    module.eval()
    x = torch.randn(1, *shape)
    preprocess = Preprocess((0.5,) * means, (0.25,) * means)
    data = exported(module, x, dynamo=dynamo)
    graph = graph_from_onnx(data, Path("net.onnx"), preprocess=preprocess, classes=())
    with torch.no_grad():
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(module(x)) if isinstance(leaf, torch.Tensor)]
        expected = torch.cat([leaf.reshape(1, -1) for leaf in leaves], 1)
        seen = forward(graph, x.reshape(1, *graph.input_shape))[graph.nodes[-1].name]
    torch.testing.assert_close(seen, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


NOT_EXPORTED = {  # by the older exporter: it refuses them, or writes something else (the divisor)
    "channel shuffle of torch",
    "nearest-exact",
    "adaptive average",
    "adaptive max",
    "average pooling with a divisor",
    "layer: rms norm",
    "sequence: attention with shared keys",
}


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_EXPORTED))
def test_a_file_of_the_older_exporter_gives_what_torch_gives(name: str) -> None:
    same_by_onnx(name, dynamo=False)


@pytest.mark.parametrize("name", ["sequence: encoder", "line: transposed"])
def test_a_file_of_the_current_exporter_gives_what_torch_gives(name: str) -> None:
    pytest.importorskip("onnxscript")
    same_by_onnx(name, dynamo=True)
