"""The restated cost model of MNSIM 2.0 against numbers that its software gave."""

from __future__ import annotations

import csv
import functools
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim.cost.workload import INPUT, LayerWork, WorkKind, Workload
from cim.mnsim import (
    NETWORKS,
    MnsimConfig,
    MnsimCost,
    MnsimError,
    MnsimLayerCost,
    estimate_mnsim,
    load_mnsim,
    with_options,
)
from cim.mnsim.by_component import NAMES
from cim.mnsim.components import components
from cim.mnsim.config import TileConnection
from cim.mnsim.cost import spans
from cim.mnsim.latency import position_times
from cim.mnsim.layers import CountedLayer, LayerKind, counted_layers
from cim.mnsim.mapping import curve, map_layers
from cim.mnsim.networks import resnet18

DATA = Path(__file__).parent.parent.parent / "data"
DEFAULT = load_mnsim()
CLOSE = 1e-6


def rows(name: str) -> list[dict[str, str]]:
    lines = (DATA / name).read_text("utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


CASES = {row["case"]: row for row in rows("mnsim_cases.csv")}
LAYERS: dict[str, list[dict[str, str]]] = {}
for _row in rows("mnsim_layers.csv"):
    LAYERS.setdefault(_row["case"], []).append(_row)


def config_of(case: str) -> MnsimConfig:
    changes = [c.split("=") for c in CASES[case]["overrides"].split(";") if c]
    return with_options(DEFAULT, dict(changes))


@functools.lru_cache(maxsize=4)
def cost_of(case: str) -> MnsimCost:
    return estimate_mnsim(NETWORKS[CASES[case]["network"]](), config_of(case))


@pytest.mark.parametrize("case", CASES)
def test_totals_of_every_case_agree(case: str) -> None:
    cost, want = cost_of(case), CASES[case]
    got = {
        "latency_ns": cost.latency_ns,
        "area_um2": cost.area_total_um2,
        "power_w": cost.power_total_w,
        "energy_nj": cost.energy_total_nj,
        "used_tiles": cost.tiles,
        "inbuf_kb": cost.input_buffer_kb,
        "outbuf_kb": cost.output_buffer_kb,
        "globalbuf_kb": cost.global_buffer_kb,
    }
    assert got == pytest.approx({name: float(want[name]) for name in got}, rel=CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_module_totals_of_every_case_agree(case: str) -> None:
    cost = cost_of(case)
    holders = {"area": cost.area_um2, "power": cost.power_w, "energy": cost.energy_nj}
    want = {name: float(text) for name, text in CASES[case].items() if "." in name}
    got = {name: getattr(holders[name.split(".")[0]], name.split(".")[1]) for name in want}
    assert len(want) == 11 + 1 + 13 + 12
    assert got == pytest.approx(want, rel=CLOSE, abs=1e-15)


@pytest.mark.parametrize("case", CASES)
def test_mapping_and_times_of_every_layer_agree(case: str) -> None:
    cost = cost_of(case)
    assert len(cost.layers) == len(LAYERS[case])
    for layer, want in zip(cost.layers, LAYERS[case], strict=True):
        numbers = {name: float(text or 0) for name, text in want.items() if name not in ("case", "layer")}
        assert layer_numbers(layer) == pytest.approx(numbers, rel=CLOSE), want["layer"]


def layer_numbers(layer: MnsimLayerCost) -> dict[str, float]:
    own, time_ns = layer.mapping, layer.latency_ns
    counts = ("mx", "my", "pes", "tiles", "tile_pes", "first_tile", "rows", "columns")
    return {
        **{name: getattr(own, name) for name in counts},
        "within": own.distances.within,
        "onward": own.distances.onward,
        "begin_ns": layer.begin_ns,
        "finish_ns": layer.finish_ns,
        "buffer_read_ns": time_ns.buffer_read,
        "buffer_write_ns": time_ns.buffer_write,
        "computing_ns": time_ns.array + time_ns.dac + time_ns.adc,
        "digital_ns": time_ns.digital,
        "merge_ns": layer.merge_ns,
        "area_um2": layer.area_total_um2,
        "power_w": layer.power_total_w,
        "energy_nj": layer.energy_total_nj,
    }


def test_the_product_of_energy_and_delay_is_in_mj_ms() -> None:
    cost = cost_of("vgg8__default")
    assert cost.edp_mj_ms == pytest.approx(4.45 * 5.15, rel=2e-3)


def layer(
    name: str, kind: WorkKind, reads: str | tuple[str, ...], before: tuple[int, int, int], **more: object
) -> LayerWork:
    fields: dict[str, object] = {
        "out_shape": before, "weight_bits": 9 if kind.on_cells else 0, "input_bits": 9, "output_bits": 9, **more,
    }  # fmt: skip
    inputs = (reads,) if isinstance(reads, str) else reads
    return LayerWork(name=name, kind=kind, inputs=inputs, in_shape=before, **fields)  # type: ignore[arg-type]


def network(*layers: LayerWork, name: str = "net") -> Workload:
    return Workload(name, layers[0].in_shape, 9, layers)


def test_clamps_moves_and_concatenations_cost_nothing() -> None:
    conv = layer("a", WorkKind.CONV, INPUT, (3, 8, 8), out_shape=(4, 8, 8), kernel=(3, 3), padding=(1, 1))
    read = {"out_shape": (4, 8, 8), "kernel": (3, 3), "padding": (1, 1)}
    plain = network(conv, layer("b", WorkKind.CONV, "a", (4, 8, 8), **read))
    clamp = layer("c", WorkKind.CLAMP, "a", (4, 8, 8))
    joined = layer("j", WorkKind.CONCAT, ("c",), (4, 8, 8))
    wired = network(conv, clamp, joined, layer("b", WorkKind.CONV, "j", (4, 8, 8), **read))
    assert estimate_mnsim(plain, DEFAULT) == estimate_mnsim(wired, DEFAULT)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (layer("a", WorkKind.CONV, INPUT, (3, 32, 32), kernel=(17, 17)), "289 inputs of one channel, the array has"),
        (layer("a", WorkKind.CONV, INPUT, (3, 32, 32), kernel=(3, 1)), "kernel 3 x 1"),
        (layer("a", WorkKind.CONV, INPUT, (3, 32, 32), kernel=(3, 3), dilation=(2, 2)), "dilation 2 x 2"),
        (layer("a", WorkKind.LINEAR, INPUT, (65536, 1, 1), out_shape=(4096, 1, 1)), "8192 tiles are needed"),
        (layer("a", WorkKind.LINEAR, INPUT, (8, 1, 1), weight_bits=1), "1-bit weights"),
        (layer("a", WorkKind.MAX_POOL, INPUT, (3, 32, 32), kernel=(2, 2)), "none of its 1 layers is on cells"),
    ],
)  # fmt: skip
def test_what_mnsim_cannot_express_is_refused_with_numbers(work: LayerWork, words: str) -> None:
    with pytest.raises(MnsimError, match=words):
        estimate_mnsim(network(work), DEFAULT)


def test_one_estimate_is_small() -> None:
    tracemalloc.start()
    estimate_mnsim(resnet18(224), DEFAULT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_the_model_imports_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, cim.mnsim as m; m.estimate_mnsim(m.NETWORKS['lenet'](), m.load_mnsim());"
        "sys.exit(any(n in sys.modules for n in ('torch', 'scipy', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 0


OPTION_VALUES = {
    "Device_Type": ["NVM", "SRAM"],
    "Cell_Type": ["0T1R", "1T1R"],
    "Area_Calculation": [0, 1],
    "Xbar_Size": ["128,128", "256,128", "512,512"],
    "Subarray_Size": [64, 128],
    "DAC_Choice": list(range(1, 8)),
    "ADC_Choice": list(range(1, 10)),
    "PIM_Type": [0, 1],
    "Xbar_Polarity": [1, 2],
    "Sub_Position": [0, 1],
    "Group_Num": [1, 2, 3, 8],
    "DAC_Num": [1, 16, 128],
    "ADC_Num": [4, 32, 128],
    "PE_inBuf_Size": [0, 16, 400],
    "Digital_Frequency": [100, 1000],
    "PE_Num": ["1,1", "2,3", "4,4"],
    "Buffer_Technology": [45, 65, 90, 130],
    "Buffer_Bitwidth": [8, 64, 128, 256],
    "Tile_Connection": [0, 1, 2, 3],
    "Tile_Num": ["64,64", "100,41"],
    "Inter_Tile_Bandwidth": [0.5, 20, 1000],
    "Intra_Tile_Bandwidth": [16, 1024],
    "Pooling_shape": ["2,2", "3,3"],
    "Pooling_unit_num": [1, 64],
    "Transistor_Tech": [45, 130],
    "Simulation_Level": [0, 1],
    "Pipeline": [0, 1],
}


@st.composite
def option_sets(draw: st.DrawFn) -> dict[str, object]:
    names = draw(st.lists(st.sampled_from(sorted(OPTION_VALUES)), unique=True, max_size=8))
    chosen = {name: draw(st.sampled_from(OPTION_VALUES[name])) for name in names}
    return {"Subarray_Size": 128, **chosen} if "Xbar_Size" in chosen else chosen


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Chains of convolutions, poolings and residual sums with a fully connected end."""
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    layers: list[LayerWork] = []
    for n in range(draw(st.integers(0, 5))):
        source, kernel = (layers[-1].name if layers else INPUT), draw(st.integers(1, 5))
        stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2))
        kind = draw(st.sampled_from([WorkKind.CONV, WorkKind.MAX_POOL, WorkKind.ADD, WorkKind.CLAMP]))
        if kind in (WorkKind.ADD, WorkKind.CLAMP):
            reads = (source, source) if kind is WorkKind.ADD else (source,)
            layers.append(layer(f"l{n}", kind, reads, shape))
            continue
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in shape[1:]]
        if min(sides) < 1:
            continue
        out = (draw(st.integers(1, 300)) if kind is WorkKind.CONV else shape[0], *sides)
        steps = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (padding, padding)}
        layers.append(layer(f"l{n}", kind, source, shape, out_shape=out, **steps))
        shape = out
    flat = (shape[0] * shape[1] * shape[2], 1, 1)
    layers.append(layer("flat", WorkKind.MOVE, layers[-1].name if layers else INPUT, shape, out_shape=flat))
    layers.append(layer("end", WorkKind.LINEAR, "flat", flat, out_shape=(draw(st.integers(1, 64)), 1, 1)))
    return network(*layers)


@settings(max_examples=150, deadline=None)
@given(work=workloads(), options=option_sets())
def test_any_network_on_any_configuration_costs_something_and_its_parts_sum_up(
    work: Workload, options: dict[str, object]
) -> None:
    config = with_options(DEFAULT, options)
    try:
        cost = estimate_mnsim(work, config)
    except MnsimError:
        return
    assert min(cost.latency_ns, cost.area_total_um2, cost.power_total_w, cost.energy_total_nj) > 0
    assert cost.latency_ns == max(one.finish_ns for one in cost.layers)
    assert sum(one.area_um2.total for one in cost.layers) == pytest.approx(cost.area_total_um2)
    assert sum(one.power_w.total for one in cost.layers) == pytest.approx(cost.power_total_w)
    energy = sum(one.energy_nj.total - one.energy_nj.adder for one in cost.layers)
    assert energy == pytest.approx(cost.energy_total_nj)
    for one in cost.layers:
        assert min(getattr(part, n) for part in (one.latency_ns, one.area_um2, one.power_w) for n in NAMES) >= 0
        assert one.finish_ns - one.begin_ns >= one.busy_ns * (1 - 1e-9)
    assert sum(one.mapping.tiles for one in cost.layers) == cost.tiles


@settings(max_examples=60, deadline=None)
@given(work=workloads(), options=option_sets())
def test_finish_times_are_those_of_the_recursion_position_by_position(
    work: Workload, options: dict[str, object]
) -> None:
    config = with_options(DEFAULT, options)
    try:
        layers = counted_layers(work)
        mapping = map_layers(layers, config)
        parts = components(config, mapping)
    except MnsimError:
        return
    times = tuple(position_times(one, own, parts, config) for one, own in zip(layers, mapping.layers, strict=True))
    done: list[list[float]] = []
    for one, own, span in zip(layers, times, spans(layers, times, config.chip.pipeline), strict=True):
        each, finished = own.map_ns(one.height_out, one.width_out), [0.0]
        for n in range(one.positions):
            ready = [done[i][_needed(one, layers[i], n, config.chip.pipeline)] for i in one.producers]
            finished.append(max([finished[-1], *ready]) + each[n])
        done.append(finished[1:])
        assert span.finish_ns == pytest.approx(finished[-1], rel=1e-9)


def _needed(one: CountedLayer, producer: CountedLayer, position: int, pipeline: bool) -> int:
    """Index of the last position of the producer that one position needs."""
    if one.kind is LayerKind.ELEMENT_WISE:
        return position
    if one.kind is LayerKind.FC or not pipeline:
        return -1
    first = max(one.kernel - one.padding, 1)
    places = [first + one.stride * n for n in divmod(position, one.width_out)]
    row, column = min(places[0], producer.height_out) - 1, min(places[1], producer.width_out) - 1
    return row * producer.width_out + column


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), kind=st.sampled_from(TileConnection))
def test_every_curve_visits_every_tile_once_and_all_but_rows_of_a_square_step_to_a_neighbour(
    rows: int, columns: int, kind: TileConnection
) -> None:
    path = curve(kind, rows, columns)
    assert {(int(r), int(c)) for r, c in path} == {(r, c) for r in range(rows) for c in range(columns)}
    steps = abs(path[1:] - path[:-1])
    if kind is TileConnection.SNAKE or (kind is TileConnection.FOLD and rows == columns):
        assert (steps.sum(axis=1) == 1).all()
    if kind is TileConnection.ZIGZAG:
        assert steps.max(initial=0) <= 1


def test_the_four_curves_begin_as_their_names_say() -> None:
    starts = {kind: [tuple(map(int, p)) for p in curve(kind, 3, 3)[:6]] for kind in TileConnection}
    assert starts == {
        TileConnection.ROWS: [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
        TileConnection.SNAKE: [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)],
        TileConnection.FOLD: [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)],
        TileConnection.ZIGZAG: [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2)],
    }
