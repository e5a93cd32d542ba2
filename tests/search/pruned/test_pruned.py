"""Pruned networks: what goes together, weights in closed form, and prices that are kept to."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from mapping.bits import BitWidths, LayerBits
from mapping.compile import compile_network
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import HardTanh, Relu
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten, Slice, Take
from mapping.operators.node import Node
from mapping.operators.padding import PadChannels
from mapping.operators.pools import GlobalAvgPool, MaxPool
from mapping.operators.products import Conv, Linear
from mapping.operators.resampling import Resample
from mapping.program.execute import IdealMultiply, run
from search.choice.pruned import first_order, learned
from search.errors import SearchError
from search.pruned.genes import pruning_space
from search.pruned.limits import PruningLimits
from search.pruned.make import PrunedNetwork, make_pruned, prune, pruned_file, teacher_of
from search.pruned.plan import PruningPlan, Teacher
from search.pruned.price import PlanPrices
from search.pruned.refit import FitSettings
from search.pruned.relevance import relevance
from search.space.target import load_target
from search.train.images import Images

SIDE, WIDTH = 12, 8
NAMES = tuple("abcd")


def conv(name: str, source: str, outputs: int, inputs: int, rng: np.random.Generator, stride: int = 1) -> list[Node]:
    """A convolution and its batch norm."""
    weight = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
    ones = np.ones(outputs, np.float32)
    shift = rng.normal(0, 0.3, outputs).astype(np.float32)
    return [
        Conv(name=name, inputs=(source,), weight=weight, stride=(stride, stride), padding=(1, 1)),
        BatchNorm(name=f"{name}_bn", inputs=(name,), scale=ones, shift=shift, mean=0 * ones, variance=ones),
    ]


def block(name: str, source: str, width: int, rng: np.random.Generator) -> list[Node]:
    return [
        *conv(f"{name}.a", source, width, width, rng),
        Relu(name=f"{name}.a_relu", inputs=(f"{name}.a_bn",)),
        *conv(f"{name}.b", f"{name}.a_relu", width, width, rng),
        Add(name=f"{name}.add", inputs=(f"{name}.b_bn", source)),
        Relu(name=f"{name}.relu", inputs=(f"{name}.add",)),
    ]


@functools.cache
def residual() -> NetworkGraph:
    """Stem, two blocks, a block that halves the map beside a padded shortcut, and a classifier."""
    rng, wide = np.random.default_rng(3), 2 * WIDTH
    last = "down.relu"
    nodes = [
        *conv("stem", "input", WIDTH, 1, rng),
        Relu(name="stem_relu", inputs=("stem_bn",)),
        *block("one", "stem_relu", WIDTH, rng),
        *block("two", "one.relu", WIDTH, rng),
        *conv("down.a", "two.relu", wide, WIDTH, rng, 2),
        Relu(name="down.a_relu", inputs=("down.a_bn",)),
        *conv("down.b", "down.a_relu", wide, wide, rng),
        Slice(name="down.slice", inputs=("two.relu",), step=(2, 2)),
        PadChannels(name="down.pad", inputs=("down.slice",), before=WIDTH // 2, after=WIDTH // 2),
        Add(name="down.add", inputs=("down.b_bn", "down.pad")),
        Relu(name=last, inputs=("down.add",)),
        GlobalAvgPool(name="pool", inputs=(last,)),
        Linear(
            name="fc", inputs=("pool",), weight=rng.normal(0, 1, (4, wide)).astype(np.float32),
            bias=np.zeros(4, np.float32),
        ),
    ]  # fmt: skip
    return NetworkGraph((1, SIDE, SIDE), tuple(nodes), Preprocess((0.5,), (0.25,)), NAMES)


@functools.cache
def plain() -> NetworkGraph:
    """Two convolutions, one of them before a pool, and two linear layers."""
    rng = np.random.default_rng(5)
    nodes = [
        *conv("first", "input", WIDTH, 1, rng),
        MaxPool(name="pool", inputs=("first_bn",), kernel=(2, 2), stride=(2, 2)),
        Relu(name="relu", inputs=("pool",)),
        *conv("second", "relu", WIDTH, WIDTH, rng, 2),
        Relu(name="relu2", inputs=("second_bn",)),
        Flatten(name="flat", inputs=("relu2",)),
        Linear(name="hidden", inputs=("flat",), weight=rng.normal(0, 0.1, (16, WIDTH * 9)).astype(np.float32)),
        Relu(name="relu3", inputs=("hidden",)),
        Linear(name="fc", inputs=("relu3",), weight=rng.normal(0, 0.5, (4, 16)).astype(np.float32)),
    ]
    return NetworkGraph((1, SIDE, SIDE), tuple(nodes), Preprocess((0.5,), (0.25,)), NAMES)


GRAPHS = {"residual": residual, "plain": plain}


def images(count: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    shade = rng.normal(0, 1, (count, 4, 4)).repeat(3, 1).repeat(3, 2)
    pixels = np.clip(128 + 50 * shade + 15 * rng.standard_normal((count, SIDE, SIDE)), 0, 255)
    return Images(pixels.astype(np.uint8)[..., None], rng.integers(0, 4, count))


def file_of(graph: NetworkGraph) -> NetworkFile:
    some = images(64, 9)
    return NetworkFile(graph, 4, 8, some.pixels, some.labels)


@functools.cache
def pruned_for(name: str, share: float, costs: str = "mnsim-default") -> tuple[Teacher, tuple[PrunedNetwork, ...]]:
    """Pruned networks that may cost a share of what their teacher costs at 6 and 8 bits."""
    teacher = teacher_of(GRAPHS[name]())
    price = PlanPrices(teacher, load_target(costs))
    most = share * price(PruningPlan(6, 8))
    made = prune(teacher, images(300, 0), images(200, 1), price, most, PruningLimits(), FitSettings(), ways=2)
    assert all(pruned.price == price(pruned.plan) <= most for pruned in made)
    return teacher, made


def off(graph: NetworkGraph, wanted: NDArray[np.float32], pixels: NDArray[np.uint8]) -> float:
    """Share of the variance of the teacher's logits that a network misses."""
    return float(((float_logits(graph, pixels) - wanted) ** 2).mean() / wanted.var(0).mean())


def test_channels_that_give_nothing_go_from_every_layer_and_nothing_changes() -> None:
    teacher = teacher_of(residual())
    group = next(g for g in teacher.channels.groups if "stem" in g.nodes)
    gone = {group.classes[1], group.classes[6]}
    dead: list[Node] = []
    for node in teacher.graph.nodes:
        if isinstance(node, Conv):
            alive = ~np.isin(teacher.channels.of[node.name], list(gone))
            assert node.bias is not None
            node = replace(
                node, weight=node.weight * alive[:, None, None, None].astype(np.float32),
                bias=node.bias * alive.astype(np.float32),
            )  # fmt: skip
        dead.append(node)
    silent = replace(teacher, graph=replace(teacher.graph, nodes=tuple(dead)))
    narrowed = silent.narrowed(PruningPlan(4, 8, frozenset(gone)))
    widths = {node.name: len(node.weight) for node in narrowed.nodes if isinstance(node, Conv)}
    assert widths["stem"] == widths["one.b"] == WIDTH - 2
    assert widths["one.a"] == WIDTH
    assert widths["down.b"] == 2 * WIDTH - 2
    pixels = images(20, 4).pixels
    np.testing.assert_allclose(float_logits(narrowed, pixels), float_logits(silent.graph, pixels), atol=1e-4)


def test_a_block_beside_a_shortcut_can_be_left_out() -> None:
    teacher = teacher_of(residual())
    assert [block.add for block in teacher.blocks] == ["one.add", "two.add"]
    left = teacher.narrowed(PruningPlan(4, 8, blocks=frozenset({"one.add"})))
    names = {node.name for node in left.nodes}
    assert not names & {"one.a", "one.b", "one.add", "one.relu"}
    assert next(node for node in left.nodes if node.name == "two.a").inputs == ("stem_relu",)


def test_a_block_between_clamps_can_be_left_out() -> None:
    nodes = [
        HardTanh(name=node.name, inputs=node.inputs, low=0.0, high=3.0) if isinstance(node, Relu) else node
        for node in residual().nodes
    ]
    teacher, held = teacher_of(replace(residual(), nodes=tuple(nodes))), images(60, 1)
    plan = PruningPlan(4, 8, blocks=frozenset({"one.add"}))
    wanted = float_logits(teacher.graph, held.pixels)
    made = make_pruned(teacher, plan, images(100, 0).pixels, held, wanted, 0.0, FitSettings())
    program = compile_network(pruned_file(file_of(residual()), made, teacher, (), "a test"), load_chip("lab-128"))
    assert "one.a" not in {step.name for step in program.matrices}
    assert np.isfinite(made.answers.divergence)


@pytest.mark.parametrize("name", ["residual", "plain"])
def test_a_pruned_network_is_compiled_to_the_very_integers_that_were_measured(name: str) -> None:
    teacher, made = pruned_for(name, 0.5)
    file = pruned_file(file_of(GRAPHS[name]()), made[0], teacher, (images(300, 0),), "a test")
    program = compile_network(file, replace(load_chip("lab-128"), macros=256))
    pixels = images(100, 6).pixels
    codes = run(program, pixels, IdealMultiply(program))
    exact = codes * program.scales[program.steps[-1].name]
    measured = float_logits(made[0].graph, pixels)
    np.testing.assert_allclose(exact, measured, atol=0.02 * np.abs(measured).max())
    assert (exact.argmax(1) == measured.argmax(1)).mean() >= 0.99


def test_weights_found_again_answer_more_like_the_teacher_than_its_own_do() -> None:
    teacher = teacher_of(residual())
    gone = frozenset(c for g in teacher.channels.groups for c in g.classes[: len(g.classes) // 4])
    bits = {"fc": LayerBits(8, 8)}
    plan = PruningPlan(4, 6, gone, layer_bits=bits)
    fit, held = images(400, 0).pixels, images(200, 1)
    wanted = float_logits(teacher.graph, held.pixels)
    made = make_pruned(teacher, plan, fit, held, wanted, 0.0, FitSettings())
    own = teacher.narrowed(plan)
    assert off(made.graph, wanted, held.pixels) < 0.5 * off(own, wanted, held.pixels)


def test_a_lower_price_gives_a_smaller_network_and_one_that_cannot_be_had_is_refused() -> None:
    _, half = pruned_for("residual", 0.5)
    assert half[0].answers.divergence <= half[-1].answers.divergence
    with pytest.raises(
        SearchError,
        match=r"no pruned network within W3A4 and half of the channels has a price of .* the cheapest that was met has",
    ):
        pruned_for("residual", 1e-4)


def test_maps_that_are_resampled_or_cropped_keep_their_channels_and_are_pruned() -> None:
    rng = np.random.default_rng(6)
    nodes = [
        *conv("first", "input", WIDTH, 1, rng),
        Relu(name="relu", inputs=("first_bn",)),
        Take(name="crop", inputs=("relu",), index=tuple(range(SIDE - 1)), axis=1),
        Take(name="crop2", inputs=("crop",), index=tuple(range(SIDE - 1)), axis=2),
        Resample(
            name="mean", inputs=("crop2",), rows=np.full((3, SIDE - 1), 1 / (SIDE - 1), np.float32),
            columns=np.full((3, SIDE - 1), 1 / (SIDE - 1), np.float32),
        ),
        *conv("second", "mean", WIDTH, WIDTH, rng),
        GlobalAvgPool(name="pool", inputs=("second_bn",)),
        Linear(name="fc", inputs=("pool",), weight=rng.normal(0, 1, (4, WIDTH)).astype(np.float32)),
    ]  # fmt: skip
    graph = NetworkGraph((1, SIDE, SIDE), tuple(nodes), Preprocess((0.5,), (0.25,)), NAMES)
    teacher = teacher_of(graph)
    price = PlanPrices(teacher, load_target("mnsim-default"))
    most = 0.5 * price(PruningPlan(6, 8))
    best = prune(teacher, images(200, 0), images(100, 1), price, most, PruningLimits(), FitSettings(), ways=1)[0]
    assert best.price <= most
    assert best.answers.agreement is not None
    assert best.answers.agreement > 60.0
    crosses = Take(name="turn", inputs=("relu",), index=tuple(range(WIDTH))[::-1], axis=0)
    others = crosses, replace(graph.nodes[3], inputs=("turn",)), *graph.nodes[4:]
    with pytest.raises(SearchError, match="turn is of the kind Take"):
        teacher_of(replace(graph, nodes=(*graph.nodes[:3], *others)))


def test_bits_of_single_layers_are_those_that_are_compiled() -> None:
    teacher, made = pruned_for("residual", 0.5)
    best = made[0]
    file = pruned_file(file_of(residual()), best, teacher, (), "a test")
    program = compile_network(file, replace(load_chip("lab-128"), macros=256))
    bits = BitWidths(file.weight_bits, file.activation_bits, file.layer_bits)
    for step in program.matrices:
        assert step.group.input_bits == bits.inputs_of(step.name)
        assert program.weight_bits_of(step.name) == bits.weights_of(step.name)


def test_a_genome_is_found_again_from_its_plan_and_kernels_may_be_cut_to_their_centre() -> None:
    teacher, rng = teacher_of(residual()), np.random.default_rng(4)
    pixels = rng.integers(0, 256, (16, SIDE, SIDE, 1), np.uint8)
    found = relevance(teacher.graph, teacher.channels, teacher.blocks, pixels, 0)
    space = pruning_space(teacher, found, PruningLimits())
    genomes = space.draw(30, rng)
    assert {gene.kind for gene in space.genes} == {"channels", "block", "kernel", "weight bits", "activation bits"}
    assert all((genome < np.array(space.choices)).all() for genome in genomes)
    cut = 0
    for genome in genomes:
        plan = space.plan(genome)
        again = space.plan(space.nearest(plan))
        assert (again.classes, again.blocks, again.points) == (plan.classes, plan.blocks, plan.points)
        assert again.layer_bits == plan.layer_bits
        narrowed = teacher.narrowed(plan)
        cut += len(plan.points)
        for node in narrowed.nodes:
            if isinstance(node, Conv):
                assert (node.weight.shape[2:] == (1, 1)) == (node.name in plan.points)
    assert cut > 0
    whole = space.uniform(1.0, 6, 8)
    assert not space.plan(whole).classes
    assert len(space.plan(space.narrower(whole)).classes) > 0


def test_a_model_of_six_measured_networks_ranks_others_by_what_goes_with_their_channels_and_roundings() -> None:
    teacher, rng = teacher_of(residual()), np.random.default_rng(5)
    pixels = rng.integers(0, 256, (16, SIDE, SIDE, 1), np.uint8)
    found = relevance(teacher.graph, teacher.channels, teacher.blocks, pixels, 0)
    space = pruning_space(teacher, found, PruningLimits())
    genomes = space.draw(40, rng)
    parts = first_order(space, found, genomes)
    truth = np.log(parts @ np.array([0.002, 0.0, 0.0005, 0.0, 0.01]))
    model = learned(space, found, genomes[:6], truth[:6])
    predicted, error = model.predict(genomes[6:])
    assert np.corrcoef(predicted, truth[6:])[0, 1] > 0.9
    assert (error >= 0).all()
