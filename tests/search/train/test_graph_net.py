"""Any graph as a trainable module: it begins as the compiled program, answers as it, and is written as it is."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from cim.chip.windows import Window  # noqa: E402
from cim.record.published import nominal_record  # noqa: E402
from cim.simulator.training_errors import array_noise, programmed_us  # noqa: E402
from mapping.bits import LayerBits  # noqa: E402
from mapping.compile import LayoutOptions, compile_network  # noqa: E402
from mapping.network.file import NetworkFile  # noqa: E402
from mapping.network.float_run import float_logits  # noqa: E402
from mapping.network.graph import NetworkGraph, Preprocess  # noqa: E402
from mapping.operators.activations import (  # noqa: E402
    Grid,
    HardTanh,
    Relu,
)
from mapping.operators.affine import Affine  # noqa: E402
from mapping.operators.joins import Add  # noqa: E402
from mapping.operators.pools import GlobalAvgPool  # noqa: E402
from mapping.operators.products import Linear  # noqa: E402
from mapping.program.execute import IdealMultiply, run  # noqa: E402
from search.space.genes import Bits  # noqa: E402
from search.train.arrays import WindowConv2d, aimed, array_layers, set_strength  # noqa: E402
from search.train.downstream import make_whole  # noqa: E402
from search.train.graph_net import GraphNet, graph_net, tuned_file  # noqa: E402

from ...mapping.small_networks import conv, every_node, network, norm, pooled_logits  # noqa: E402
from ...mapping.tensor_networks import attention, gated, recurrent  # noqa: E402

LAB = load_chip("lab-128", macros=400)
NOISE = array_noise(LAB.macro, nominal_record(LAB, [0]), 3600.0)
NO_KEYS = np.zeros(0, np.int64)


def vector_norm(rng: np.random.Generator) -> NetworkGraph:
    """A norm of a vector, logits that end at zero, and names with dots."""
    weight = rng.normal(0, 0.5, (3, 6)).astype(np.float32)
    nodes = (
        conv(rng, "features.0", "input", (6, 2, 3, 3), padding=(1, 1)),
        Relu(name="features.1", inputs=("features.0",)),
        GlobalAvgPool(name="mean", inputs=("features.1",)),
        norm(rng, "vector_norm", "mean", 6),
        Linear(name="fc", inputs=("vector_norm",), weight=weight),
        Relu(name="last", inputs=("fc",)),
    )
    return NetworkGraph((2, 6, 6), nodes, Preprocess((0.0, 0.5), (1.0, 0.3)), ("a", "b", "c"))


GRAPHS = [every_node, pooled_logits, vector_norm, gated, attention, recurrent]


def made(file: NetworkFile, noisy: bool = True) -> GraphNet:
    return graph_net(
        file, compile_network(file, LAB, options=LayoutOptions(halves=False)), NOISE if noisy else None
    ).eval()


def answers(net: GraphNet, images: NDArray[np.uint8], strength: float = 0.0) -> NDArray[np.float32]:
    set_strength(net, strength, 2)
    with torch.no_grad():
        found: NDArray[np.float32] = net(torch.tensor(images).permute(0, 3, 1, 2).float() / 255.0).numpy()
    return found


def ideal(file: NetworkFile) -> NDArray[np.float64]:
    program = compile_network(file, LAB, options=LayoutOptions(halves=False))
    codes = run(program, file.calibration_images, IdealMultiply(program))
    return codes * program.scales[program.steps[-1].name]


def room(graph: object) -> float:
    """Products and norms of activations pass errors of rounding on, enlarged."""
    return 2.0 if graph in (gated, attention, recurrent) else 1.0


def apart(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Root mean square difference, in standard deviations of the second."""
    return float(np.sqrt(np.mean((one - other) ** 2)) / other.std())


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("noisy", [True, False])
def test_with_eight_bits_and_no_errors_a_network_answers_as_its_graph(graph: object, noisy: bool) -> None:
    rng = np.random.default_rng(0)
    file = network(graph(rng), rng, 8)  # type: ignore[operator]
    assert apart(
        answers(made(file, noisy), file.calibration_images), float_logits(file.graph, file.calibration_images)
    ) < 0.03 * room(graph)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("bits", [2, 4])
def test_a_network_begins_as_its_compiled_program(graph: object, bits: int) -> None:
    rng = np.random.default_rng(1)
    file = network(graph(rng), rng, bits)  # type: ignore[operator]
    assert apart(answers(made(file), file.calibration_images), ideal(file)) < 0.01 * room(graph)


def own_codes(rng: np.random.Generator) -> NetworkGraph:
    """Codes that whoever trained the network chose: of the input, of a sum, behind a clamp, and of moved values."""
    nodes = (
        Grid(name="pixels", inputs=("input",), scale=1 / 15, low=0, high=15),
        conv(rng, "one", "pixels", (6, 2, 3, 3), padding=(1, 1)),
        Grid(name="three_bits", inputs=("one",), scale=0.11, low=0, high=7),
        conv(rng, "two", "three_bits", (6, 6, 3, 3), padding=(1, 1)),
        Add(name="sum", inputs=("two", "three_bits")),
        HardTanh(name="clamped", inputs=("sum",), low=0.0, high=0.7),
        Grid(name="again", inputs=("clamped",), scale=0.1, low=0, high=7),
        GlobalAvgPool(name="mean", inputs=("again",)),
        Linear(name="fc", inputs=("mean",), weight=rng.normal(0, 0.5, (3, 6)).astype(np.float32)),
    )
    return NetworkGraph((2, 6, 6), nodes, Preprocess((0.0, 0.0), (1.0, 1.0)), ("a", "b", "c"))


def test_codes_that_a_network_says_are_those_that_it_trains_with_and_keeps() -> None:
    rng = np.random.default_rng(3)
    file = network(own_codes(rng), rng, 4)
    net = made(file)
    assert apart(answers(net, file.calibration_images), ideal(file)) < 0.01
    said = {"input": (0, 15), "one": (0, 7), "sum": (0, 7)}
    for name, ends in said.items():
        step = net.steps[name]
        assert (step.low, step.high) == ends
        assert not step.log_step.requires_grad
    tuned = tuned_file(net, file, images=file.calibration_images, labels=None, provenance={}, trained_on=NO_KEYS)
    grids = [(n.scale, n.low, n.high) for n in tuned.graph.nodes if isinstance(n, Grid)]
    assert grids == [(n.scale, n.low, n.high) for n in file.graph.nodes if isinstance(n, Grid)]
    assert apart(ideal(tuned), ideal(file)) < 0.03  # the mean has codes of its own, which the compiler chooses again


@pytest.mark.parametrize("graph", GRAPHS)
def test_what_was_trained_is_written_and_compiles_to_the_same_answers(graph: object) -> None:
    """Also after training moved weights between their levels, and gains, biases and steps."""
    rng = np.random.default_rng(2)
    file = network(graph(rng), rng, 8)  # type: ignore[operator]
    net = made(file)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p) * (p.std() if p.dim() > 1 else 1.0)
    images = file.calibration_images
    tuned = tuned_file(net, file, images=images, labels=None, provenance={"made": "here"}, trained_on=NO_KEYS)
    trained = answers(net, images)
    assert apart(float_logits(tuned.graph, images), trained) < 0.03 * room(graph)
    assert apart(ideal(tuned), trained) < 0.05 * room(graph)
    assert tuned.graph.provenance["made"] == "here"
    assert all(float((layer.levels_now()[0] % 1).detach().std()) > 0.2 for layer in array_layers(net))


@pytest.mark.parametrize("graph", [every_node, pooled_logits, vector_norm])
def test_weights_between_levels_are_made_whole_at_little_cost(graph: object) -> None:
    """At less than rounding each to its nearest."""
    rng = np.random.default_rng(2)
    file = network(graph(rng), rng, 4)  # type: ignore[operator]
    net, images = made(file), file.calibration_images
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in array_layers(net):
            layer.weight += layer.quantiser.log_step.exp() * (torch.rand_like(layer.weight) - 0.5)
    before, nearest = answers(net, images), copy.deepcopy(net)
    with torch.no_grad():
        for layer in array_layers(nearest):
            levels, step = layer.levels_now()
            layer.weight.copy_((levels.round() * step).view_as(layer.weight))
    layers = [step.name for step in compile_network(file, LAB, options=LayoutOptions(halves=False)).matrices]
    make_whole(net, layers, torch.tensor(images).permute(0, 3, 1, 2).float() / 255.0, {})
    for layer in array_layers(net):
        levels = layer.levels_now()[0]
        torch.testing.assert_close(levels, levels.round())
    assert apart(answers(net, images), before) < 0.9 * apart(answers(nearest, images), before)


def test_a_weight_between_levels_has_the_errors_of_the_nearest() -> None:
    layer = WindowConv2d(4, Window(3, 8, 8, (3, 3), (1, 1), (1, 1)), 1, Bits(4, 8), False, NOISE)
    layer.range_code = 0
    levels = torch.randint(-6, 7, (4, 27)).float()
    vectors = torch.randint(0, 256, (1, 50, 27)).float()
    cells = []
    for beside in (0.0, 0.4, -0.4):
        torch.manual_seed(0)
        cells.append(layer.cells(levels + beside, vectors, 0.1))
    for other in cells[1:]:
        for mine, its in zip(cells[0], other, strict=True):
            torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("graph", GRAPHS)
def test_errors_of_the_chip_reach_every_layer_and_gradients_every_parameter(graph: object) -> None:
    rng = np.random.default_rng(3)
    file = network(graph(rng), rng, 4)  # type: ignore[operator]
    net, images = made(file), file.calibration_images
    exact = answers(net, images)
    assert apart(answers(net, images, 1.0), exact) > 0.001
    assert len(array_layers(net)) == len(compile_network(file, LAB, options=LayoutOptions(halves=False)).matrices)
    assert all(layer.range_code is not None for layer in array_layers(net))
    net.train()
    net(torch.tensor(images).permute(0, 3, 1, 2).float() / 255.0).square().sum().backward()
    without = [
        n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert not without


def test_copies_that_a_chip_averages_leave_less_of_the_errors() -> None:
    rng = np.random.default_rng(3)
    file = network(every_node(rng), rng, 4)
    net = graph_net(file, compile_network(file, LAB, options=LayoutOptions(averaged=True, halves=False)), NOISE).eval()
    unit, off = net.unit("conv1"), []
    assert unit.copies == 4
    codes = torch.randint(-128, 128, (16, unit.array.weight.shape[1], 8, 8)).float()
    for copies in (4, 1):
        unit.copies = copies
        net.set_errors(1.0)
        with torch.no_grad():
            found = [unit.array(codes)[0] for _ in range(20)]
            net.set_errors(0.0)
            off.append(float(torch.stack([y - unit.array(codes)[0] for y in found]).std()))
    assert 0.45 < off[0] / off[1] < 0.72  # stuck cells become rarer, not smaller


def test_layers_with_bits_of_their_own_keep_them() -> None:
    rng = np.random.default_rng(4)
    file = network(every_node(rng), rng, 4)
    bits = {"conv1": LayerBits(8, 8), "grouped": LayerBits(4, 5), "fc": LayerBits(6, 6)}
    mixed = NetworkFile(file.graph, 4, 8, file.calibration_images, None, bits)
    net = made(mixed)
    assert apart(answers(net, mixed.calibration_images), ideal(mixed)) < 0.02
    images = mixed.calibration_images
    tuned = tuned_file(net, mixed, images=images, labels=None, provenance={}, trained_on=NO_KEYS)
    assert tuned.layer_bits == bits
    assert apart(ideal(tuned), answers(net, images)) < 0.05


def test_a_written_network_can_be_tuned_again() -> None:
    rng = np.random.default_rng(5)
    file = network(vector_norm(rng), rng, 4)
    images = file.calibration_images
    once = tuned_file(made(file), file, images=images, labels=None, provenance={}, trained_on=NO_KEYS)
    twice = tuned_file(made(once), once, images=images, labels=None, provenance={}, trained_on=NO_KEYS)
    assert {n.name for n in twice.graph.nodes} == {n.name for n in once.graph.nodes}
    assert isinstance(next(n for n in twice.graph.nodes if n.name == "vector_norm"), Affine)
    assert apart(ideal(twice), ideal(once)) < 0.03


def test_groups_on_one_macro_disturb_each_other_through_cells_of_weight_zero() -> None:
    """A depthwise layer has the errors of the dense layer whose zeros are written out, not of its own cells alone."""
    torch.manual_seed(0)
    window, bits = Window(8, 8, 8, (3, 3), (1, 1), (1, 1)), Bits(4, 8)
    depthwise = WindowConv2d(8, window, 8, bits, False, NOISE)
    dense = WindowConv2d(8, window, 1, bits, False, NOISE)
    assert (depthwise.together, depthwise.groups) == (8, 1)
    levels = depthwise.quantiser.codes(depthwise.weight)[0].detach()
    wide = depthwise.matrix(levels)
    codes = torch.randint(0, 256, (16, 8, 8, 8)).float()
    with torch.no_grad():
        exact = torch.nn.functional.conv2d(codes, levels, None, 1, 1, 1, 8)
        torch.testing.assert_close(torch.nn.functional.conv2d(codes, wide, None, 1, 1), exact)
        depthwise.chips = dense.chips = 4
        spread = [float((layer._noisy(codes, wide) - exact).std()) for layer in (depthwise, dense) for _ in range(4)]
        alone = WindowConv2d(1, Window(1, 8, 8, (3, 3), (1, 1), (1, 1)), 1, bits, False, NOISE)
        alone.chips = 4
        own = [alone._noisy(codes[:, i : i + 1], levels[i : i + 1]) - exact[:, i : i + 1] for i in range(8)]
    assert np.mean(spread[:4]) == pytest.approx(np.mean(spread[4:]), rel=0.15)
    assert np.mean(spread[:4]) > 1.3 * float(torch.cat(own, 1).std())


def test_cells_that_are_aimed_stand_on_their_levels_on_average() -> None:
    drifted = replace(NOISE, errors_us=NOISE.errors_us + np.linspace(1.0, -2.0, len(NOISE.errors_us))[:, None])
    torch.manual_seed(0)
    levels = torch.arange(8.0).repeat(4000)
    target = torch.tensor(np.array(NOISE.spec.levels_us)).float().repeat(4000)
    clean = replace(drifted, stuck_low_share=0.0, stuck_high_share=0.0, unreached_share=0.0)
    off = [(programmed_us(levels, n, 1.0) - target).view(-1, 8)[:, 2:].mean(0) for n in (clean, aimed(clean))]
    assert float(off[0][-1]) < -1.5
    assert float(off[1].abs().max()) < 0.25
