"""Networks with one operation each: captured, they give what torch gives, also for another number of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.capture import UnsupportedOperation, capture, capture_exported
from mapping.network.file import NetworkFile
from mapping.network.float_run import forward, network_input
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.program.execute import IdealMultiply, run

from .operators import LAYERS, LINES, MAPS, SEQUENCES, Whole

OPEN = Preprocess((0.5,), (0.25,))


def captured(module: nn.Module, shape: tuple[int, ...], means: int = 1) -> NetworkGraph:
    """The graph of a module with seeded weights, after a comparison with it on five images."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    module.eval()
    preprocess = Preprocess((0.5,) * means, (0.25,) * means)
    graph = capture(module, torch.zeros(1, *shape), preprocess=preprocess, classes=())
    x = torch.randn(5, *shape)
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_leaves(module(x))
        expected = torch.cat([leaf.reshape(5, -1) for leaf in leaves], 1)
        seen = forward(graph, x.reshape(5, *graph.input_shape))[graph.nodes[-1].name]
    torch.testing.assert_close(seen, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
    return graph


@pytest.mark.parametrize("name", MAPS)
def test_an_operation_on_maps_gives_what_torch_gives(name: str) -> None:
    captured(Whole(MAPS[name], first=nn.Conv2d(4, 4, 3, padding=1)), (4, 8, 8), 4)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_on_maps_gives_what_torch_gives(name: str) -> None:
    captured(LAYERS[name], (4, 8, 8), 4)


@pytest.mark.parametrize("name", SEQUENCES)
def test_an_operation_on_sequences_gives_what_torch_gives(name: str) -> None:
    graph = captured(SEQUENCES[name], (7, 6))
    assert graph.input_shape == (1, 7, 6)


@pytest.mark.parametrize("name", LINES)
def test_an_operation_on_lines_gives_what_torch_gives(name: str) -> None:
    graph = captured(LINES[name], (3, 20), 3)
    assert graph.input_shape == (3, 1, 20)


def test_features_alone_are_a_network_too() -> None:
    graph = captured(nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 12)), (12,))
    assert [node.name for node in graph.nodes[-4:]] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("name", ["encoder", "attention, time first", "mixed tokens"])
@pytest.mark.parametrize("batch", [1, 3, None])
def test_a_program_exported_with_any_batch_is_captured(name: str, batch: int | None) -> None:
    module = SEQUENCES[name].eval()
    x = torch.randn(batch or 4, 7, 6)
    free = None if batch else ({0: torch.export.Dim("n", min=2, max=64)},)
    with torch.no_grad():
        program = torch.export.export(module, (x,), dynamic_shapes=free)
    graph = capture_exported(program, preprocess=OPEN, classes=())
    with torch.no_grad():
        expected = torch.cat([leaf.reshape(len(x), -1) for leaf in torch.utils._pytree.tree_leaves(module(x))], 1)
    torch.testing.assert_close(forward(graph, x[:, None])[graph.nodes[-1].name], expected, atol=1e-5, rtol=1e-4)


def test_several_inputs_of_one_size_stand_side_by_side() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x.mean(1) * y[:, 2]

    preprocess = Preprocess((0.0,) * 5, (1.0,) * 5)
    graph = capture(Two(), (torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4)), preprocess=preprocess, classes=())
    assert graph.input_shape == (5, 4, 4)
    x = torch.randn(3, 5, 4, 4)
    expected = (x[:, :2].mean(1) * x[:, 4]).flatten(1)
    torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], expected)
    apart = Whole(lambda x: x.mean((1, 2, 3)))
    apart.forward = lambda x, y: x.mean((1, 2, 3)) + y.mean((1, 2, 3))  # type: ignore[method-assign]
    with pytest.raises(UnsupportedOperation, match="side by side"):
        capture(apart, (torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 2)), preprocess=preprocess, classes=())


def test_a_video_is_its_frames_as_channels() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv3d(3, 4, 3, stride=(2, 1, 1), padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2)
    )
    graph = capture(module, torch.zeros(1, 3, 4, 8, 6), preprocess=Preprocess((0.1, 0.2, 0.3), (0.5,) * 3), classes=())
    assert graph.input_shape == (12, 8, 6)
    assert graph.preprocess.mean == (*[0.1] * 4, *[0.2] * 4, *[0.3] * 4)
    x = torch.randn(3, 3, 4, 8, 6)
    with torch.no_grad():
        expected = module.eval()(x).flatten(1)
    torch.testing.assert_close(forward(graph, x.reshape(3, 12, 8, 6))[graph.nodes[-1].name], expected)


def test_one_mean_stands_for_all_channels_and_channels_may_come_last() -> None:
    torch.manual_seed(0)
    module = Whole(lambda x, f: f(x.mean((1, 2))), nn.Linear(3, 2))
    graph = capture(module, torch.zeros(1, 8, 6, 3), preprocess=Preprocess((0.4,), (0.2,)), classes=())
    assert (graph.input_shape, graph.preprocess) == ((3, 8, 6), Preprocess((0.4,) * 3, (0.2,) * 3))
    x = torch.randn(5, 3, 8, 6)
    with torch.no_grad():
        torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], module(x.permute(0, 2, 3, 1)))


def test_outputs_are_named_as_the_module_names_them() -> None:
    graph = captured(Whole(MAPS["outputs by name"]), (4, 8, 8), 4)
    assert [(output.name, output.shape) for output in graph.outputs] == [
        ("map", (4, 8, 8)),
        ("score", (1,)),
        ("more.0", (8, 8)),
    ]
    assert graph.width == 256 + 1 + 64


def test_a_product_and_what_follows_it_stand_together_although_axes_move_between_them() -> None:
    channels_last = Whole(
        lambda x, n, f, g: x + g(functional.gelu(f(n(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2),
        nn.LayerNorm(4),
        nn.Linear(4, 8),
        nn.Linear(8, 4),
    )
    kinds = [type(node).__name__ for node in captured(channels_last, (4, 8, 8), 4).nodes]
    assert kinds == ["Norm", "Conv", "Unary", "Conv", "Add", "Flatten"]
    kinds = [type(node).__name__ for node in captured(LINES["conv1d"], (3, 20), 3).nodes]
    assert kinds == ["Conv", "BatchNorm", "Relu", "Conv", "Flatten"]


def test_constants_behind_a_layer_go_into_its_weights_unless_others_read_it() -> None:
    def kinds(function: Callable[..., Any]) -> list[str]:
        nodes = captured(Whole(function, nn.Conv2d(4, 3, 1)), (4, 8, 8), 4).nodes
        return [type(node).__name__ for node in nodes if type(node).__name__ not in ("Flatten", "Concat")]

    assert kinds(lambda x, conv: conv(x) * 0.5 + 1) == ["Conv"]
    assert kinds(lambda x, conv: (conv(x) * 0.5 + 1).relu()) == ["Conv", "Relu"]

    def read_twice(x: Tensor, conv: nn.Module) -> tuple[Tensor, Tensor]:
        found = conv(x)
        return found * 0.5 + 1, found

    assert kinds(read_twice) == ["Conv", "Affine"]


@pytest.mark.parametrize("mask", [0.0, -torch.inf, -1e9, -100.0])
def test_attention_as_last_operation_keeps_its_bits_and_a_mask_leaves_the_scores_all_codes(mask: float) -> None:
    torch.manual_seed(1)
    there = torch.full((7, 7), mask).triu(1)

    def attend(x: Tensor, layer: nn.Module) -> Tensor:
        return (layer(x) @ x.transpose(1, 2) + there).softmax(-1) @ x

    graph = captured(Whole(attend, nn.Linear(6, 6)), (7, 6))
    images = np.random.default_rng(0).integers(0, 256, (8, 7, 6, 1), np.uint8)
    program = compile_network(NetworkFile(graph, 8, 8, images), load_chip("lab-128"))
    found = run(program, images, IdealMultiply(program)).reshape(8, -1)
    with torch.no_grad():
        expected = forward(graph, network_input(graph.preprocess, images))[graph.nodes[-1].name].reshape(8, -1).numpy()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995


def test_a_module_that_takes_a_dict_or_a_number_is_refused_with_what_to_write() -> None:
    for example in ({"x": torch.zeros(1, 4)}, [torch.zeros(1, 4), 3]):
        with pytest.raises(UnsupportedOperation, match="makes the dict"):
            capture(nn.Linear(4, 2), example, preprocess=OPEN, classes=())  # type: ignore[arg-type]


def test_classes_and_maps_do_not_go_together() -> None:
    with pytest.raises(UnsupportedOperation, match=r"classes=\(\)"):
        capture(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 4, 4), preprocess=OPEN, classes=("a", "b"))


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "statistics of a batch": (lambda x: x - x.mean(0), "along the batch"),
    "an order of results": (lambda x: x.topk(1, 1)[0], "topk"),
    "an infinite choice by computed values": (lambda x: torch.where(x > 0, x, -torch.inf), "a finite number"),
    "a running product": (lambda x: x.cumprod(1), "cumsum of logarithms"),
    "images joined": (lambda x: torch.cat([x, x], 0), "split them again"),
    "an image alone": (lambda x: x[:1] + x, "along the batch"),
    "an infinite mask behind a layer": (
        lambda x: functional.linear(x, torch.ones(4, 4)).masked_fill(torch.arange(4) > 2, -torch.inf).relu(),
        "-100",
    ),
    "an infinite mask": (lambda x: (x + torch.full((4, 4), -torch.inf).triu(1)).exp(), "-100"),
    "random numbers": (lambda x: x + torch.rand(4), "random"),
    "a power of a map": (lambda x: x.abs() ** x, "exponent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_write_instead(name: str) -> None:
    function, words = REFUSED[name]
    with pytest.raises(UnsupportedOperation, match=words):
        capture(Whole(function), torch.zeros(1, 1, 4, 4), preprocess=OPEN, classes=())
