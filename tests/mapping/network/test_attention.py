"""Attention whose scores are as sharp as training makes them keeps its values in integers, whatever masks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.float_run import network_input
from mapping.network.graph import Preprocess
from mapping.network.onnx_import import graph_from_onnx
from mapping.operators.fused import Scales
from mapping.operators.integer.scales import CodeScale
from mapping.operators.norms import MaskedSoftmax, SoftmaxStep
from mapping.program.execute import IdealMultiply, run

from .test_operators_onnx import exported

OPEN = Preprocess((0.5,), (0.25,))


class Attention(nn.Module):
    """Two heads on 12 places; scores have a standard deviation of about 4."""

    def __init__(self, mask: str) -> None:
        super().__init__()
        self.parts, self.last, self.mask = nn.Linear(16, 48), nn.Linear(16, 16), mask
        with torch.no_grad():
            self.parts.weight[:32] *= 3

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in self.parts(x).chunk(3, -1))
        seen = (x[:, :, 0] > -0.5)[:, None, None, :]
        if self.mask == "causal":
            found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif self.mask == "filled":
            found = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(seen == 0, -torch.inf).softmax(-1) @ v
        else:
            masks = {
                "padding": torch.arange(12).expand(12, 12) < 9,
                "computed": seen,
                "subtracted": (1 - seen.float()) * -1e9,
            }
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=masks.get(self.mask))
        found = self.last(found.transpose(1, 2).flatten(2))
        return found


@pytest.mark.parametrize("by_onnx", [False, True])
@pytest.mark.parametrize("mask", ["no", "causal", "padding", "computed", "subtracted", "filled"])
def test_sharp_attention_keeps_its_values_in_integers(mask: str, by_onnx: bool) -> None:
    torch.manual_seed(0)
    module, shown = Attention(mask).eval(), torch.zeros(1, 12, 16)
    if by_onnx:
        pytest.importorskip("onnx")
        data = exported(module, shown, dynamo=False)
        graph = graph_from_onnx(data, Path("net.onnx"), preprocess=OPEN, classes=())
    else:
        graph = capture(module, shown, preprocess=OPEN, classes=())
    images = np.random.default_rng(0).integers(0, 256, (32, 12, 16, 1), np.uint8)
    with torch.no_grad():
        expected = module(network_input(OPEN, images).reshape(32, 12, 16)).reshape(32, -1).numpy()
    program = compile_network(NetworkFile(graph, 8, 8, images), load_chip("lab-128"))
    found = run(program, images, IdealMultiply(program)) * program.scales[program.steps[-1].name]
    assert np.linalg.norm(found.reshape(32, -1) - expected) < 0.04 * np.linalg.norm(expected)


class Tokens(nn.Module):
    """A table of 20 tokens before a mean, or before an encoder that looks back or leaves padding out."""

    def __init__(self, reads: str) -> None:
        super().__init__()
        self.table, self.places, self.reads = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(12, 8), reads
        self.bag, self.last = nn.EmbeddingBag(20, 8, mode="mean"), nn.Linear(8, 3)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")

    def forward(self, ids: Tensor) -> Tensor:
        if self.reads == "a bag":
            return self.last(self.bag(ids))  # type: ignore[no-any-return]
        x = self.table(ids)
        if self.reads == "a masked mean":
            kept = (ids != 0).float().unsqueeze(-1)
            return self.last((x * kept).sum(1) / kept.sum(1).clamp(min=1))  # type: ignore[no-any-return]
        x = x + self.places(torch.arange(ids.shape[1]))
        if self.reads == "padding left out":
            return self.last(self.layer(x, src_key_padding_mask=ids == 0).mean(1))  # type: ignore[no-any-return]
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.last(self.layer(x, src_mask=mask, is_causal=True)[:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("reads", ["a bag", "a masked mean", "padding left out", "what came before"])
def test_token_ids_are_one_hot_to_the_graph(reads: str) -> None:
    torch.manual_seed(0)
    module, raw = Tokens(reads).eval(), Preprocess((0.0,), (1.0,))
    graph = capture(module, torch.zeros(1, 12, dtype=torch.int64), preprocess=raw, classes=())
    assert graph.input_shape == (1, 12, 20)
    ids = torch.randint(0, 20, (64, 12))
    ids[:, 0] |= 1
    images = (functional.one_hot(ids, 20) * 255).to(torch.uint8).numpy()[..., None]
    with torch.no_grad():
        expected = module(ids).numpy()
    program = compile_network(NetworkFile(graph, 8, 8, images), load_chip("lab-128"))
    found = run(program, images, IdealMultiply(program)) * program.scales[program.steps[-1].name]
    assert np.linalg.norm(found - expected) < 0.06 * np.linalg.norm(expected)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("low", "high"), [(-(1 << 14), (1 << 14) - 1), (0, (1 << 15) - 1), (-32767, 32767)])
def test_places_that_are_left_out_change_no_code_of_the_others(stored: bool, low: int, high: int) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(low, high + 1, (3, 2, 9)).astype(np.int16)
    codes[0, 0, :2], kept = (low, high), np.array([[1, 0, 1, 1, 0, 1, 1, 1, 1]], np.float32)
    inputs = ("x",) if stored else ("x", "m")
    node = MaskedSoftmax(name="s", inputs=inputs, axis=1, kept=kept if stored else None)
    scale, out = CodeScale(1e-5, low, high, low < 0), CodeScale(1 / 32767, 0, 32767, False)
    around = Scales([scale, CodeScale(0.25, 0, 7, False)], [(2, 9), (1, 9)][: len(inputs)], out, False, False)
    op = node.lower({"name": "s", "inputs": inputs, "output_node": "s", "output_shape": (2, 9)}, [(2, 9)])
    done = {"x": codes, "m": np.tile(kept * 4, (3, 1, 1)).astype(np.int16)}
    for step in op.integer_steps(around):
        done[step.name] = step.run([done[name] for name in step.inputs])
    assert isinstance(step, SoftmaxStep)
    last, chosen = step, kept[0] > 0
    expected = last.run([done["s.kept"][..., chosen]])
    np.testing.assert_array_equal(done["s"][..., chosen], expected)
    assert not done["s"][..., ~chosen].any()
