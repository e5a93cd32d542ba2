"""Modules of layers: exact without errors, errors of the record with them, captured and compiled."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from cim.cost.network_cost import estimate  # noqa: E402
from cim.cost.workload import Workload  # noqa: E402
from cim.record.published import nominal_record  # noqa: E402
from cim.simulator.training_errors import ArrayNoise, array_noise  # noqa: E402
from mapping.compile import compile_network  # noqa: E402
from mapping.network.float_run import float_logits  # noqa: E402
from mapping.program.execute import IdealMultiply, run  # noqa: E402
from mapping.workload import program_workload, unplaced_workload  # noqa: E402
from search.space.candidate import workload  # noqa: E402
from search.space.file import parse_space  # noqa: E402
from search.space.genes import Bits  # noqa: E402
from search.space.operators import SLOT, ConvOperator, MbConv, Operator, Residual, Skip, Slot, convolution  # noqa: E402
from search.space.precision import Precision  # noqa: E402
from search.space.target import ChipTarget  # noqa: E402
from search.train.arrays import ArrayConv2d, array_layers, set_strength, with_adc_bits  # noqa: E402
from search.train.modules import LayerNet, network, normalised  # noqa: E402
from search.train.retrain import network_file  # noqa: E402

from ..tiny import CLASSES, TEXT, TINY, images, tiny_architecture  # noqa: E402

LAB = load_chip("lab-128", macros=400)
W4A8 = Precision(Bits(4, 8))


def noise() -> ArrayNoise:
    return array_noise(LAB.macro, nominal_record(LAB, [0]), 3600.0)


def settled(net: LayerNet, shape: tuple[int, ...]) -> LayerNet:
    """With statistics of some passes."""
    for _ in range(3):
        net.train()(torch.rand(8, *shape))
    return net.eval()


OPERATORS = [ConvOperator(2), ConvOperator(3, groups=2), Residual(), Residual(2), Skip(project=True), MbConv(2)]
SLOTS = [Slot(4, 6, 2, 0), Slot(4, 6, 2, 1), Slot(4, 4, 1, 1)]


@pytest.mark.parametrize(("operator", "slot"), [(o, s) for o in OPERATORS for s in SLOTS if o.layers(s)])
def test_every_operator_gives_the_shape_of_its_slot_with_errors_and_without(operator: Operator, slot: Slot) -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 4, 8, 8)
    layers = operator.layers(slot)
    for given in (None, noise()):
        net = LayerNet(layers, 4, W4A8, given)
        y = net(x)
        assert y.shape == (4, slot.outputs, 8 // slot.stride, 8 // slot.stride)
        y.sum().backward()
        assert all(p.grad is not None for p in net.parameters())


def test_even_kernels_pad_on_the_side_that_the_slot_says() -> None:
    for side in (0, 1):
        conv = ArrayConv2d(1, convolution("conv", SLOT, 1, 2, side=side), Bits(4, 8), False, None)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))  # its top left corner
        codes = torch.zeros(1, 1, 4, 4)
        codes[0, 0, 1, 1] = 1.0
        where = conv(codes)[0].detach()[0, 0].nonzero().tolist()
        assert where == [[1 + side, 1 + side]]


def test_strength_zero_is_the_exact_layer_and_more_strength_is_more_error() -> None:
    torch.manual_seed(0)
    net = settled(LayerNet(ConvOperator(3).layers(Slot(4, 4, 1)), 4, W4A8, noise()), (4, 8, 8))
    x = torch.rand(8, 4, 8, 8)
    errors = []
    with torch.no_grad():
        set_strength(net, 0.0)
        exact = net(x)
        assert torch.equal(exact, net(x))
        for strength in (0.3, 1.0):
            set_strength(net, strength, chips=2)
            errors.append(float((net(x) - exact).std()))
    assert 0 < errors[0] < errors[1] < float(exact.std())


def test_chips_stay_for_as_many_batches_as_training_says_and_reads_do_not() -> None:
    torch.manual_seed(0)
    layer = ArrayConv2d(8, convolution("conv", SLOT, 16, 3), Bits(4, 8), False, noise())
    codes = torch.randint(0, 256, (64, 8, 8, 8)).float()
    set_strength(layer, 1.0, chips=2, chip_batches=3)

    def columns() -> torch.Tensor:
        """What the two chips add to each column, apart from the noise of single reads."""
        with torch.no_grad():
            levels = layer.quantiser.codes(layer.weight)[0]
            error = layer._noisy(codes, levels) - layer._conv_forward(codes, levels, None)
            return error.view(2, 32, 16, -1).mean((1, 3))

    found = [columns() for _ in range(7)]
    apart = [float((a - b).abs().mean()) for a, b in itertools.pairwise(found)]
    assert all(apart)
    assert max(apart[i] for i in (0, 1, 3, 4)) < 0.2 * min(apart[2], apart[5])
    layer.eval()
    assert min(float((columns() - columns()).abs().mean()) for _ in range(3)) > 0.5 * min(apart[2], apart[5])


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_of_sums_is_the_norm_of_their_product_with_the_step(training: bool) -> None:
    torch.manual_seed(0)
    one, other = (torch.nn.BatchNorm2d(5, momentum=None).double() for _ in range(2))
    for norm in (one, other):
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2.0, 5))
            norm.bias.copy_(torch.linspace(-1.0, 1.0, 5))
            norm.running_var.fill_(3.0)  # type: ignore[union-attr]
        norm.train(training)
    sums, size = 100 * torch.randn(8, 5, 6, 6).double(), torch.rand(5).double() + 0.5
    grads = []
    for norm, answer in (
        (one, lambda x, s: normalised(one, x, s)),
        (other, lambda x, s: other(x * s.view(1, -1, 1, 1))),
    ):
        x, s = sums.clone().requires_grad_(), size.clone().requires_grad_()
        y = answer(x, s)
        (y.sin().sum() + s.sum()).backward()
        grads.append(
            [y.detach(), x.grad, s.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
        )
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_kept_statistics_are_the_mean_of_the_first_batches_and_then_follow_slowly() -> None:
    norm = torch.nn.BatchNorm2d(1, momentum=0.25)
    kept = []
    for level in (4.0, 8.0, 0.0, 0.0, 8.0, 8.0):
        normalised(norm, torch.full((2, 1, 2, 2), level), torch.ones(1))
        kept.append(float(norm.running_mean))  # type: ignore[arg-type]
    assert kept == pytest.approx([4.0, 6.0, 4.0, 3.0, 4.25, 5.1875])


def test_wider_weights_take_several_cells_and_narrow_ones_are_stretched() -> None:
    torch.manual_seed(0)
    relative = {}
    codes = torch.randint(0, 256, (16, 8, 8, 8)).float()
    for bits in (2, 4, 8):
        layer = ArrayConv2d(8, convolution("conv", SLOT, 16, 3), Bits(bits, 8), False, noise())
        levels, _ = layer.quantiser.codes(layer.weight)
        with torch.no_grad():
            exact = layer._conv_forward(codes, levels, None)
            relative[bits] = float((layer._noisy(codes, levels) - exact).std() / exact.std())
        assert layer.slices == {2: 1, 4: 1, 8: 3}[bits]
        assert layer.factor == {2: 7, 4: 1, 8: 4}[bits]
    assert relative[2] < relative[4]
    assert all(0.001 < r < 0.5 for r in relative.values())


def test_sums_end_where_the_converters_do() -> None:
    spec = replace(LAB.macro, adc=replace(LAB.macro.adc, full_scales_us=(1.0,)))
    layer = ArrayConv2d(8, convolution("conv", SLOT, 4, 3), Bits(4, 8), False, replace(noise(), spec=spec))
    codes, levels = torch.full((2, 8, 6, 6), 255.0), layer.quantiser.codes(layer.weight)[0]
    limit = 1.0 / spec.level_step_us * layer.tiles(72) * 255
    with torch.no_grad():
        layer.strength = 1e-6
        seen = layer._noisy(codes, levels)
    assert float(seen.abs().max()) <= 1.01 * limit + 1.0
    assert float(layer._conv_forward(codes, levels, None).detach().abs().max()) > 2 * limit


def test_converters_of_fewer_bits_make_more_noise() -> None:
    assert with_adc_bits(noise(), 5).spec.lsb_us(0) == pytest.approx(8 * noise().spec.lsb_us(0), rel=0.05)


def test_the_written_network_answers_as_the_module_and_compiles() -> None:
    torch.manual_seed(0)
    architecture = tiny_architecture()
    net = settled(network(TINY, architecture, noise()), TINY.input_shape)
    pixels, labels = images(64)
    file = network_file(
        net, TINY.input_shape, classes=CLASSES, images=pixels, labels=labels, provenance={"made": "here"}
    )
    x = torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        set_strength(net, 0.0)
        quantised = net(x).numpy()
    plain = float_logits(file.graph, pixels)
    program = compile_network(file, LAB)
    ideal = run(program, pixels, IdealMultiply(program)) * program.scales[program.steps[-1].name]
    spread = quantised.std()
    assert np.sqrt(np.mean((plain - quantised) ** 2)) < 0.2 * spread
    assert np.sqrt(np.mean((ideal - plain) ** 2)) < 0.25 * spread
    assert {n.name for n in file.graph.nodes} >= {"stem", "1.1.conv", "classifier"}


def test_the_levels_of_the_program_are_those_that_were_trained() -> None:
    torch.manual_seed(0)
    net = settled(network(TINY, tiny_architecture(), None), TINY.input_shape)
    pixels, _ = images(32)
    program = compile_network(network_file(net, TINY.input_shape, classes=CLASSES, images=pixels, provenance={}), LAB)
    for step in program.matrices:
        layer = next(layer for layer in net.layers if layer.name == step.name)
        array = net.unit(layer).array
        assert array is not None
        trained = array.quantiser.codes(array.weight)[0].detach().flatten(1).numpy()
        norm = net.unit(layer).norm
        if norm is not None:
            trained = trained * np.sign(norm.weight.detach().numpy())[:, None]
        held = np.zeros_like(trained.T)
        if layer.groups == 1:
            for tile in step.group.tiles:
                held[np.ix_(tile.inputs, tile.outputs)] += tile.multiplier * tile.levels
            # the compiler may take a finer grid that holds the same weights
            ratio = np.abs(held.T).max(1) / np.maximum(np.abs(trained).max(1), 1)
            np.testing.assert_allclose(held.T, trained * ratio[:, None], atol=1e-6)


def test_layers_of_a_network_are_all_on_arrays() -> None:
    net = network(TINY, tiny_architecture(), None)
    assert len(array_layers(net)) == sum(layer.kind.on_cells for layer in net.layers)


def test_the_network_that_is_written_is_the_one_that_was_priced() -> None:
    """Layers on cells of the captured network have the shapes and bits of the candidate's workload."""
    torch.manual_seed(0)
    architecture = tiny_architecture()
    net = settled(network(TINY, architecture, None), TINY.input_shape)
    pixels, _ = images(16)
    file = network_file(net, TINY.input_shape, classes=CLASSES, images=pixels, provenance={})
    made = unplaced_workload(file.graph, weight_bits=4, activation_bits=8, layer_bits=file.layer_bits)

    def cells(work: Workload) -> list[tuple[object, ...]]:
        return [
            (w.name, w.rows, w.groups, w.out_shape, w.weight_bits, w.input_bits, w.stride)
            for w in work.layers
            if w.kind.on_cells
        ]

    assert cells(made) == cells(workload(TINY, architecture))


@pytest.mark.parametrize("per", ["stage", "position"])
def test_layers_of_mixed_bits_are_written_and_compiled_as_they_were_priced(per: str) -> None:
    """Codes too: what a compiled network computes ideally is what the trained one computes."""
    torch.manual_seed(0)
    space = parse_space(TEXT.replace("weight = [4]", f'weight = [3, 4]\nper = "{per}"').replace("[8]", "[4, 8]", 1), "")
    weights, activations = ((3, 4), (8, 4)) if per == "stage" else ((3, 4, 4, 3), (8, 4, 4, 8))
    chosen = space.uniform(("conv2", "conv3g2", "residual", "conv2"), (1.0, 1.0), Bits(4, 8))
    architecture = replace(chosen, weight_bits=weights, activation_bits=activations)
    net = settled(network(space, architecture, None), space.input_shape)
    pixels, _ = images(64)
    file = network_file(net, space.input_shape, classes=CLASSES, images=pixels, provenance={})
    chip = load_chip("lab-128", macros=64)
    program = compile_network(file, chip)
    made, priced = program_workload(program), workload(space, architecture)
    widths = {w.name: (w.weight_bits, w.input_bits) for w in made.layers if w.kind.on_cells}
    assert widths == {w.name: (w.weight_bits, w.input_bits) for w in priced.layers if w.kind.on_cells}
    assert len(set(widths.values())) > 2
    cost = ChipTarget(chip).cost(priced)
    assert estimate(made, chip).energy_pj == pytest.approx(cost.energy_pj, rel=1e-12)
    with torch.no_grad():
        wanted = net.eval()(torch.tensor(pixels.transpose(0, 3, 1, 2)).float() / 255).numpy()
    found = run(program, pixels, IdealMultiply(program))
    assert float(np.corrcoef(wanted.ravel(), found.ravel())[0, 1]) > 0.99


def test_a_written_network_costs_what_its_candidate_cost() -> None:
    """Even kernels too: padding on one side is the window's, no padded map is moved."""
    torch.manual_seed(0)
    chip = load_chip("lab-128", macros=64)
    for operators in ((), ("conv2", "skip", "conv3", "conv2")):
        architecture = tiny_architecture(*operators)
        net = settled(network(TINY, architecture, None), TINY.input_shape)
        pixels, _ = images(16)
        program = compile_network(
            network_file(net, TINY.input_shape, classes=CLASSES, images=pixels, provenance={}), chip
        )
        made = estimate(program_workload(program), chip)
        priced = ChipTarget(chip).cost(workload(TINY, architecture))
        assert (made.latency_ns, made.energy_pj) == pytest.approx((priced.latency_ns, priced.energy_pj), rel=1e-12)
