"""Networks that begin with the weights of what they have in common with their teacher."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from mapping.network.architectures import build  # noqa: E402
from mapping.network.capture import capture  # noqa: E402
from mapping.network.file import NetworkFile, load_network, save_network  # noqa: E402
from mapping.network.float_run import float_logits  # noqa: E402
from mapping.network.graph import NetworkGraph, Preprocess  # noqa: E402
from search.space.file import load_space, parse_space  # noqa: E402
from search.space.genes import Bits, Space  # noqa: E402
from search.train.images import Images  # noqa: E402
from search.train.inherit import check_inheritance, inherit, truncated_teacher  # noqa: E402
from search.train.modules import LayerNet, network  # noqa: E402
from search.train.retrain import RetrainJob, RetrainSettings, retrain  # noqa: E402
from search.train.teacher import TeacherError  # noqa: E402
from search.train.teacher_training import refine_teacher  # noqa: E402
from search.train.training import TrainingSchedule  # noqa: E402

from ..tiny import CLASSES, TEXT, images  # noqa: E402

SPACE: Space = parse_space(
    TEXT.replace("weight = [4]", "weight = [8]")
    .replace("edge_weight = 6", "edge_weight = 8")
    .replace('"conv2", "conv3g2", "skip"', '"conv2", "conv3", "skip"')
    .replace('conv3g2 = { kind = "conv", kernel = 3, groups = 2 }\n', ""),
    "tiny.toml",
)
SOME = Images(*images(128))
OTHERS = Images(*images(64, 1))


class Plain(nn.Module):
    """The space's conv3 conv3, residual residual, as others would write it."""

    def __init__(self, wide: int = 4) -> None:
        super().__init__()
        self.stem = self.block(1, wide)
        self.one = nn.Sequential(self.block(wide, wide), self.block(wide, wide))
        self.first, self.second = self.pair(wide, 2 * wide, 2), self.pair(2 * wide, 2 * wide, 1)
        self.short = self.block(wide, 2 * wide, 1, 2)
        self.head = nn.Linear(2 * wide, 3)

    @staticmethod
    def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
        norm = nn.BatchNorm2d(outputs)
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.normal_(norm.bias, 0.0, 0.2)
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(conv, norm, *([nn.ReLU()] if kernel == 3 else []))

    def pair(self, inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(self.block(inputs, outputs, 3, stride), self.block(outputs, outputs)[:2])

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.stem(x))
        x = torch.relu(self.short(x) + self.first(x))
        x = torch.relu(self.second(x) + x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def teacher(mean: float = 0.0, std: float = 1.0, wide: int = 4) -> NetworkGraph:
    torch.manual_seed(3)
    module = Plain(wide).train()
    for _ in range(20):  # statistics of the batch norms
        module((torch.tensor(SOME.pixels).movedim(3, 1) / 255 - mean) / std)
    preprocess = Preprocess((mean,), (std,))
    return capture(module.eval(), torch.zeros(1, 1, 8, 8), preprocess=preprocess, classes=CLASSES, provenance={})


def begun(graph: NetworkGraph, *operators: str) -> tuple[LayerNet, tuple[str, ...]]:
    torch.manual_seed(0)
    net = network(SPACE, SPACE.uniform(operators, (1.0, 1.0), Bits(8, 8)), None)
    return net, inherit(net, SPACE, graph, SOME, clip=4.0)


def logits(net: LayerNet) -> np.ndarray:
    net.train(False)
    with torch.no_grad():
        net(torch.tensor(SOME.pixels).movedim(3, 1) / 255)  # steps of codes start
        found: np.ndarray = net(torch.tensor(OTHERS.pixels).movedim(3, 1) / 255).numpy()
        return found


def test_a_network_that_is_all_inherited_answers_as_its_teacher_but_for_rounding() -> None:
    graph = teacher()
    net, names = begun(graph, "conv3", "conv3", "residual", "residual")
    assert set(names) == {layer.name for layer in net.layers} - {"pool"}
    found, wanted = logits(net), float_logits(graph, OTHERS.pixels)
    middle = wanted.mean(0)
    assert np.corrcoef((found - middle).ravel(), (wanted - middle).ravel())[0, 1] > 0.995


def test_pixels_that_the_teacher_normalises_are_taken_as_they_come() -> None:
    graph = teacher(mean=0.5, std=0.25)
    net, _ = begun(graph, "conv3", "conv3", "residual", "residual")
    found, wanted = logits(net), float_logits(graph, OTHERS.pixels)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9  # borders are black here, the mean there


def test_what_is_not_the_teachers_begins_as_always() -> None:
    net, names = begun(teacher(), "conv2", "conv3", "conv3", "residual")
    assert set(names) == {"stem", "1.2.conv", "2.2.conv1", "2.2.conv2", "2.2.add", "classifier"}
    torch.manual_seed(0)
    fresh = network(SPACE, SPACE.uniform(("conv2", "conv3", "conv3", "residual"), (1.0, 1.0), Bits(8, 8)), None)
    for name in ("1.1.conv", "2.1.conv"):
        one, other = (next(n.unit(layer) for layer in n.layers if layer.name == name) for n in (net, fresh))
        assert one.array is not None
        assert other.array is not None
        assert torch.equal(one.array.weight, other.array.weight)


def test_blocks_keep_their_places_where_one_between_them_is_skipped() -> None:
    whole, _ = begun(teacher(), "conv3", "conv3", "residual", "residual")
    net, names = begun(teacher(), "skip", "conv3", "residual", "skip")
    assert set(names) == {"stem", "1.2.conv", "2.1.conv1", "2.1.conv2", "2.1.shortcut", "2.1.add", "classifier"}
    for layer in net.layers:
        one, other = net.unit(layer).array, next(whole.unit(w).array for w in whole.layers if w.name == layer.name)
        assert (one is None and other is None) or torch.equal(one.weight, other.weight)  # type: ignore[union-attr]


def truncated_of(graph: NetworkGraph, *operators: str) -> NetworkFile:
    file = NetworkFile(graph, 8, 8, SOME.pixels[:16])
    return truncated_teacher(SPACE, SPACE.uniform(operators, (1.0, 1.0), Bits(8, 8)), file)


def test_a_truncated_teacher_of_all_blocks_answers_as_its_teacher() -> None:
    graph = teacher(mean=0.5, std=0.25)
    found = truncated_of(graph, "conv3", "conv3", "residual", "residual")
    np.testing.assert_allclose(
        float_logits(found.graph, OTHERS.pixels), float_logits(graph, OTHERS.pixels), rtol=0, atol=1e-4
    )


def test_a_truncated_teacher_leaves_out_the_blocks_that_its_network_skips(tmp_path: Path) -> None:
    graph = teacher()
    found = truncated_of(graph, "skip", "conv3", "residual", "skip")
    save_network(found, tmp_path / "net.pt")
    again = load_network(tmp_path / "net.pt")
    torch.manual_seed(3)
    module = Plain().train()
    for _ in range(20):
        module(torch.tensor(SOME.pixels).movedim(3, 1) / 255)
    module.eval()

    def cut(x: Tensor) -> Tensor:
        x = module.one[1](module.stem(x))
        x = torch.relu(module.short(x) + module.first(x))
        y: Tensor = module.head(x.mean((2, 3)))
        return y

    with torch.no_grad():
        wanted = cut(torch.tensor(OTHERS.pixels).movedim(3, 1) / 255).numpy()
    np.testing.assert_allclose(float_logits(again.graph, OTHERS.pixels), wanted, rtol=0, atol=1e-4)


def test_a_truncated_teacher_of_other_layers_than_its_teachers_is_refused_with_their_names() -> None:
    with pytest.raises(TeacherError, match=r"has not all layers of this network of tiny: 1 are others, 1\.1\.conv"):
        truncated_of(teacher(), "conv2", "conv3", "residual", "residual")


def test_shortcuts_without_weights_are_not_those_of_a_residual_operator() -> None:
    space = load_space("resnet20")
    net = network(space, space.uniform(("residual",) * 9, (1.0,) * 3, Bits(4, 8)), None)
    few = Images(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8), np.arange(8))
    made = {
        kind: inherit(
            net, space, build(f"cifar_resnet32_{kind}", classes=tuple("0123456789"), rng=np.random.default_rng(0)), few
        )
        for kind in "ab"
    }
    assert set(made["b"]) == {layer.name for layer in net.layers} - {"pool"}  # three of five blocks in each stage
    assert set(made["b"]) - set(made["a"]) == {
        f"{s}.1.{n}" for s in (2, 3) for n in ("conv1", "conv2", "shortcut", "add")
    }


def test_a_teacher_with_nothing_in_common_is_refused() -> None:
    check_inheritance(SPACE, teacher())
    other = teacher(wide=6)
    with pytest.raises(TeacherError, match="networks of tiny have nothing to inherit"):
        check_inheritance(SPACE, other)
    assert begun(other, "conv2", "skip", "conv2", "conv2")[1] == ()


def test_a_network_that_inherits_learns_sooner_and_says_so(tmp_path: Path) -> None:
    schedule = TrainingSchedule(8, batch=32, rate=0.02, shift=0, symmetry="none", seed=2)
    given = NetworkFile(teacher(), 8, 8, SOME.pixels, SOME.labels)
    save_network(refine_teacher(given, SOME, OTHERS, schedule), tmp_path / "teacher.pt")
    settings = RetrainSettings(dataclasses.replace(schedule, epochs=1, rate=0.002), inherited=True)
    architecture = SPACE.uniform(("conv3", "conv3", "residual", "residual"), (1.0, 1.0), Bits(8, 8))
    job = RetrainJob(
        SPACE,
        architecture,
        settings,
        tmp_path / "teacher.pt",
        None,
        tmp_path / "inherited",
        CLASSES,
        "stripes of a test",
    )
    inherited = retrain(job, SOME, OTHERS)
    alone = dataclasses.replace(settings, inherited=False)
    assert (
        inherited.ideal
        > 20 + retrain(dataclasses.replace(job, settings=alone, folder=tmp_path / "alone"), SOME, OTHERS).ideal
    )
    assert (
        load_network(inherited.path)
        .graph.provenance["trained by"]
        .endswith("1 epochs, seed 2, 11 of 12 layers begun as the teacher's")
    )
    with pytest.raises(ValueError, match="inherits from a teacher, and there is none"):
        dataclasses.replace(job, teacher=None)
