"""A user's own module becomes a graph that computes the same, or an error that names the operation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.capture import UnsupportedOperation, capture
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits, forward, network_input
from mapping.network.graph import NetworkGraph, Preprocess, node_shapes
from mapping.operators.activations import HardTanh, Relu, Relu6
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add, Concat
from mapping.operators.moves import Slice
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPool, GlobalAvgPool, MaxPool
from mapping.operators.products import Conv, Linear
from mapping.program.execute import IdealMultiply, run

CLASSES = ("a", "b", "c")


def graph_of(module: nn.Module, shape: tuple[int, int, int] = (4, 8, 8)) -> NetworkGraph:
    preprocess = Preprocess((0.5,) * shape[0], (0.25,) * shape[0])
    return capture(module, torch.zeros(1, *shape), preprocess=preprocess, classes=CLASSES)


def check_same(module: nn.Module, shape: tuple[int, int, int] = (4, 8, 8)) -> NetworkGraph:
    """Capture with random statistics in every batch norm, and compare on another batch size."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
    module.eval()
    graph = graph_of(module, shape)
    x = torch.randn(5, *shape)
    with torch.no_grad():
        torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], module(x), atol=1e-5, rtol=1e-5)
    return graph


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)]


class Function(nn.Module):
    """A module around a function of maps (4 channels), ending in ``channels`` and a linear layer."""

    def __init__(self, function: object, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.function = function
        self.linear = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.function(self.conv(x))  # type: ignore[operator]
        x = self.linear(x.mean((2, 3)))
        return x


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(2, 0), dilation=(2, 1), bias=False),
        nn.Conv2d(4, 8, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 5, 3, padding="same", dilation=2),
        nn.Conv2d(4, 5, 3, padding="valid"),
    ],
)
def test_convolutions_with_every_option(conv: nn.Conv2d) -> None:
    graph = check_same(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels, eps=1e-3), *head(conv.out_channels)))
    assert [type(node) for node in graph.nodes[:3]] == [Conv, BatchNorm, GlobalAvgPool]


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (functional.relu, [Relu]),
        (lambda x: torch.relu_(x), [Relu]),
        (functional.relu6, [Relu6]),
        (nn.ReLU6(inplace=True), [Relu6]),
        (lambda x: x.clamp(0, 6), [Relu6]),
        (lambda x: x.clamp(min=0), [Relu]),
        (functional.hardtanh, [HardTanh]),
        (lambda x: x.clamp(-2, 3), [HardTanh]),
        (nn.MaxPool2d(3, 2, 1), [MaxPool]),
        (nn.MaxPool2d((2, 1)), [MaxPool]),
        (nn.MaxPool2d(2, ceil_mode=True), [MaxPool]),
        (nn.AvgPool2d(3, 1, 1), [AvgPool]),
        (nn.AdaptiveAvgPool2d((4, 2)), [AvgPool]),
        (lambda x: x + functional.relu(x), [Relu, Add]),
        (lambda x: x.add_(x.relu()), [Relu, Add]),
        (nn.Sequential(nn.Dropout(), nn.Identity(), nn.Dropout2d()), []),
        (lambda x: x.contiguous(), []),
        (nn.BatchNorm2d(4, affine=False), [BatchNorm]),
    ],
)
def test_functions_and_modules(function: object, kinds: list[type]) -> None:
    graph = check_same(Function(function))
    assert [type(node) for node in graph.nodes[1:-2]] == kinds


def test_an_operation_in_place_is_seen_by_later_readers() -> None:
    def function(x: Tensor) -> Tensor:
        y = functional.relu(x, inplace=True)
        return x + y  # x was rectified too

    graph = check_same(Function(function))
    assert graph.nodes[2].inputs == ("relu", "relu")


def test_shortcut_a_slices_and_pads_channels() -> None:
    graph = check_same(Function(lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3)), 8))
    slices, pad = graph.nodes[1:3]
    assert isinstance(slices, Slice)
    assert slices.step == (2, 2)
    assert isinstance(pad, PadChannels)
    assert (pad.before, pad.after) == (1, 3)
    assert node_shapes(graph)[pad.name] == (8, 4, 4)


def test_padding_on_one_side_of_a_map() -> None:
    graph = check_same(Function(lambda x: functional.pad(x, (0, 1, 2, 0))))
    pad = graph.nodes[1]
    assert isinstance(pad, PadMap)
    assert (pad.left, pad.right, pad.top, pad.bottom) == (0, 1, 2, 0)
    assert node_shapes(graph)[pad.name] == (4, 10, 9)


def test_channels_split_and_joined() -> None:
    graph = check_same(Function(lambda x: torch.cat([x[:, 2:], x[:, :3]], 1), 5))
    assert [type(node) for node in graph.nodes[1:4]] == [Slice, Slice, Concat]


@pytest.mark.parametrize(
    "flat",
    [
        lambda x: x.flatten(1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(-1, 4 * 8 * 8),
        lambda x: torch.flatten(functional.dropout(x, training=False), 1),
    ],
)
def test_every_way_to_flatten(flat: object) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(4, 4, 1), nn.Linear(256, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(flat(self.conv(x)))  # type: ignore[operator]
            return x

    assert [node.name for node in check_same(Net()).nodes] == ["conv", "flatten", "linear"]


def test_a_pooled_map_that_is_convolved_again_stays_a_map() -> None:
    graph = check_same(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 6, 1), nn.ReLU(), *head(6)))
    assert isinstance(graph.nodes[0], AvgPool)
    assert isinstance(graph.nodes[-2], GlobalAvgPool)


def test_names_are_those_of_the_modules_and_a_shared_layer_gets_two_nodes() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(self.block(self.block(x)).mean((2, 3)))
            return x

    names = [node.name for node in check_same(Shared()).nodes]
    assert names == ["block.0", "block.1", "block.0_2", "block.1_2", "global_avg_pool", "linear"]


def test_what_does_not_lead_to_the_logits_is_left_out() -> None:
    class Unused(Function):
        def forward(self, x: Tensor) -> Tensor:
            self.conv(x).relu()
            return super().forward(x)

    assert len(check_same(Unused(functional.relu)).nodes) == 4


def test_unsupported_operations_are_named_with_their_place() -> None:
    with pytest.raises(UnsupportedOperation, match=r"sort.* in 0: there is no node for it\n  try  "):
        graph_of(nn.Sequential(Function(lambda x: x.sort(1)[0])))
    with pytest.raises(UnsupportedOperation, match=r"batch_norm.* in 0.function: .*statistics of the batch"):
        graph_of(nn.Sequential(Function(nn.BatchNorm2d(4, track_running_stats=False))))


def test_mixing_images_of_a_batch_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="along the batch"):
        graph_of(nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, -1)), nn.Linear(512, 3)))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_log_softmax_at_the_end_keeps_the_classes_of_the_logits(bits: int) -> None:
    torch.manual_seed(0)
    layers = head(4)
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 4), np.uint8)
    chosen = []
    for module in (nn.Sequential(*layers), nn.Sequential(*layers, nn.LogSoftmax(1))):
        program = compile_network(NetworkFile(graph_of(module), bits, bits, images), load_chip("lab-128"))
        chosen.append(run(program, images, IdealMultiply(program)).argmax(1))
    assert (chosen[0] == chosen[1]).mean() > 0.95


def test_data_dependent_control_flow_is_a_typed_error() -> None:
    with pytest.raises(UnsupportedOperation, match=r"torch\.export in Function"):
        graph_of(Function(lambda x: x if x.sum() > 0 else x.relu()))


def test_training_mode_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Dropout(), *head(4)).train()
    module[0].eval()
    graph_of(module)
    assert [part.training for part in module] == [False, True, True, True]


def test_pixels_become_inputs_as_the_preprocess_says() -> None:
    images = np.array([[[[0, 255]]]], np.uint8)
    x = network_input(Preprocess((0.5, 0.25), (0.5, 0.125)), images)
    np.testing.assert_allclose(x.numpy(), [[[[-1.0]], [[6.0]]]])


def test_activations_hold_every_node_and_end_in_the_logits() -> None:
    graph = graph_of(Function(functional.relu))
    images = np.random.default_rng(0).integers(0, 256, (150, 8, 8, 4), dtype=np.uint8)
    with torch.no_grad():
        seen = forward(graph, network_input(graph.preprocess, images), keep_all=True)
    assert list(seen) == ["input", *(node.name for node in graph.nodes)]
    assert all(values.shape == (150, *node_shapes(graph)[name]) for name, values in seen.items())
    np.testing.assert_allclose(seen["linear"], float_logits(graph, images), atol=1e-6)
    assert float_logits(graph, images[:0]).shape == (0, 3)


def test_images_of_another_kind_are_refused() -> None:
    graph = graph_of(Function(functional.relu))
    with pytest.raises(ValueError, match="not uint8"):
        float_logits(graph, np.zeros((1, 4, 8, 8), np.uint8))


class Blank(nn.Module):
    """A head of zeros behind an operation whose translation is spoiled by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)))


def test_a_body_before_a_head_of_zeros_is_compared_with_another_head(monkeypatch: pytest.MonkeyPatch) -> None:
    from mapping.network import capture as room

    module, given = Blank(), {"preprocess": Preprocess((0.0,), (1.0,)), "classes": ("a", "b", "c")}
    found = capture(module, torch.zeros(1, 8), **given)
    assert not module.head.weight.any()
    assert not np.any(found.nodes[-1].weight)

    def spoiled(graph: NetworkGraph, x: torch.Tensor) -> dict[str, torch.Tensor]:
        body = next(n for n in graph.nodes if isinstance(n, Linear))
        wrong = [dataclasses.replace(n, weight=1.1 * n.weight) if n is body else n for n in graph.nodes]
        return forward(dataclasses.replace(graph, nodes=tuple(wrong)), x)

    monkeypatch.setattr(room, "forward", spoiled)
    with pytest.raises(UnsupportedOperation, match="differs from the module"):
        capture(module, torch.zeros(1, 8), **given)
    assert not module.head.weight.any()
