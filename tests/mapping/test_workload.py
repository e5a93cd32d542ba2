"""Workloads of graphs and of compiled programs, and what a chip counts when it runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import mapping.workload
from cim.chip.file import idealised, load_chip
from cim.cost.network_cost import estimate
from cim.cost.workload import LayerWork, Workload
from hil.deployment.inference import MeasuredLayers
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.network.architectures import build
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import run
from mapping.workload import network_workload, program_workload, unplaced_workload

from .small_networks import network
from .tensor_networks import attention, gated, recurrent, two_outputs

TEN = tuple("0123456789")
NETWORKS = [
    ("lenet5", {}),
    ("cifar_resnet8_a", {}),
    ("cifar_resnet8_b", {}),
    ("mobilenet_v2_tiny", {"width": 0.25, "depth": 1}),
]


def graph_of(name: str, options: dict[str, float]) -> NetworkGraph:
    return build(name, classes=TEN, rng=np.random.default_rng(1), **options)


def network_of(graph: NetworkGraph) -> NetworkFile:
    channels, height, width = graph.input_shape
    images = np.random.default_rng(2).integers(0, 256, (4, height, width, channels))
    return NetworkFile(graph, 4, 8, images.astype(np.uint8))


def plain(layer: LayerWork) -> dict[str, object]:
    """Everything but the tiles."""
    return {name: getattr(layer, name) for name in LayerWork.__dataclass_fields__ if name != "tiles"}


def placed(work: Workload) -> list[list[int]]:
    return [
        column.tolist() for layer in work.tiles for column in (layer.macro, layer.rows, layer.outputs, layer.input0)
    ]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_a_graph_and_its_program_are_the_same_work(name: str, options: dict[str, float]) -> None:
    spec = load_chip("lab-128", macros=200)
    graph = graph_of(name, options)
    program = compile_network(
        network_of(graph), spec, options=LayoutOptions(halves=False)
    )  # which only stored images decide
    from_graph = network_workload(graph, spec, weight_bits=4, activation_bits=8)
    from_program = program_workload(program)
    assert [plain(layer) for layer in from_graph.layers] == [plain(layer) for layer in from_program.layers]
    assert placed(from_graph) == placed(from_program)
    unplaced = unplaced_workload(graph, weight_bits=4, activation_bits=8)
    assert [plain(layer) for layer in unplaced.layers] == [plain(layer) for layer in from_graph.layers]
    assert unplaced.tiles == ()


@pytest.mark.parametrize(("name", "options"), [NETWORKS[0], NETWORKS[2]])
@pytest.mark.parametrize(
    "treated", [LayoutOptions(residual=2, halves=False), LayoutOptions(mean_reads=8, halves=False)]
)
def test_reads_and_residual_slices_are_estimated_as_their_program_is(
    name: str, options: dict[str, float], treated: LayoutOptions
) -> None:
    spec, graph = load_chip("lab-128", macros=200), graph_of(name, options)
    program = program_workload(compile_network(network_of(graph), spec, options=treated))
    ahead = mapping.workload.placed(unplaced_workload(graph, weight_bits=4, activation_bits=8), spec, treated)
    assert [plain(layer) for layer in ahead.layers] == [plain(layer) for layer in program.layers]
    assert placed(ahead) == placed(program)
    assert [tiles.reads.tolist() for tiles in ahead.tiles] == [tiles.reads.tolist() for tiles in program.tiles]
    assert max(tiles.reads.max() for tiles in program.tiles) >= 8


@pytest.mark.parametrize("made", [gated, attention, two_outputs, recurrent])
def test_digital_operations_of_a_graph_and_its_program_are_the_same_work(
    made: Callable[[np.random.Generator], NetworkGraph],
) -> None:
    spec = load_chip("lab-128", macros=200)
    rng = np.random.default_rng(1)
    graph = made(rng)
    program = compile_network(network(graph, rng, 4, images=4), spec, options=LayoutOptions(halves=False))
    work = network_workload(graph, spec, weight_bits=4, activation_bits=8)
    assert [plain(layer) for layer in work.layers] == [plain(layer) for layer in program_workload(program).layers]
    cost = estimate(work, spec)
    assert cost.energy_pj == pytest.approx(sum(cost.energy_by_module_pj.values()))
    assert {layer.executor for layer in cost.layers} <= {"array", "chip logic"}
    assert spec.cost is not None
    ends = work.input_data_bits + work.output_data_bits
    assert cost.energy_by_module_pj["host_link"] == pytest.approx(ends * spec.cost.host_pj_per_bit)
    multiplied = [layer.operations for layer in cost.layers if layer.kind in ("matmul", "norm", "softmax")]
    assert cost.energy_by_module_pj["multiplier"] == pytest.approx(sum(multiplied) * (spec.cost.multiply_pj or 0.0))
    unpriced = estimate(work, replace(spec, cost=replace(spec.cost, multiply_pj=None)))
    host = [layer for layer in unpriced.layers if layer.executor == "host"]
    assert len(host) == len(multiplied)
    assert all(layer.bound == "host" and layer.energy_pj["host_link"] > 0 for layer in host)


def test_matrix_products_of_activations_are_counted_apart_from_those_of_cells() -> None:
    work = unplaced_workload(attention(np.random.default_rng(0)), weight_bits=4, activation_bits=8)
    layers = {layer.name: layer for layer in work.layers}
    assert (layers["scores"].operations, layers["scores"].macs) == (2 * 17 * 17 * 4, 0)
    assert layers["gelu"].operations == 17 * 16


@pytest.mark.parametrize("chip", ["lab-128", "a111", "neurram-256", "yao-2020"])
@pytest.mark.parametrize(("name", "options"), [NETWORKS[0], NETWORKS[3]])
def test_a_chip_counts_the_conversions_and_the_time_that_the_estimate_says(
    name: str, options: dict[str, float], chip: str
) -> None:
    spec = idealised(load_chip(chip, macros=400))
    program = compile_network(network_of(graph_of(name, options)), spec)
    cost = estimate(program_workload(program), spec)
    with connect(InProcessTransport(EmulatedChip(spec, 0), "emulated:ideal"), chip=spec) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        multiply = MeasuredLayers(driver, program, nominal_corrections(program))
        before = driver.chip_time_ns
        run(program, program.calibration_images[:1], multiply)
        assert driver.chip_time_ns - before == cost.chip_time_ns
        for layer in cost.layers:
            if layer.macros:
                assert multiply.conversions[layer.name].total == layer.conversions, layer.name


def test_macs_are_those_of_the_layers() -> None:
    work = unplaced_workload(graph_of("lenet5", {}), weight_bits=4, activation_bits=8)
    macs = {layer.name: layer.macs for layer in work.layers if layer.macs}
    assert next(iter(macs.values())) == 28 * 28 * 6 * 25
    resnet = unplaced_workload(graph_of("cifar_resnet20_a", {}), weight_bits=4, activation_bits=8)
    assert resnet.macs == 40_551_040
