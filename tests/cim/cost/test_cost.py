"""Latency, energy, power and area of placed networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cim.chip.blocks import blocks
from cim.chip.file import load_chip, parse_chip, render_chip
from cim.chip.spec import ChipSpec, Encoding
from cim.cost.mesh import Transfers, side_of, traffic
from cim.cost.network_cost import AREAS, MODULES, Cost, NoCostModel, estimate
from cim.cost.stream import backlog, serve, window_ready
from cim.cost.workload import INPUT, LayerWork, Tiles, WorkKind, Workload

LAB = load_chip("lab-128")


def tiles(*rows: Sequence[int]) -> Tiles:
    """(macro, input0, rows, output0, outputs, slice, copy, round) of each tile, read once."""
    return Tiles(*np.array(rows, np.int64).T, np.ones(len(rows), np.int64))


def conv(
    name: str, source: str, channels: tuple[int, int], size: int, kernel: int, placed: Tiles, stride: int = 1
) -> LayerWork:
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    return LayerWork(
        name=name,
        kind=WorkKind.CONV,
        inputs=(source,),
        in_shape=(channels[0], size, size),
        out_shape=(channels[1], out, out),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(pad, pad),
        weight_bits=4,
        input_bits=8,
        output_bits=8,
        tiles=placed,
    )


def small(copies: int = 1, shared: bool = False, rounds: int = 1) -> Workload:
    """Two convolutions, 4 -> 8 -> 8 channels on 8 x 8 pixels, a joining addition, a pool and a linear layer."""
    first = tiles(*[(c, 0, 36, 0, 8, 0, c, 0) for c in range(copies)])
    at = 0 if shared else copies
    second = tiles((at, 0, 40, 0, 8, 0, 0, rounds - 1), (at + 1, 40, 32, 0, 8, 0, 0, rounds - 1))
    last = tiles((at + 2, 0, 8, 0, 10, 0, 0, rounds - 1))
    shape = (8, 8, 8)
    bits = {"input_bits": 8, "output_bits": 8}
    layers = (
        conv("a", INPUT, (4, 8), 8, 3, first),
        conv("b", "a", (8, 8), 8, 3, second),
        LayerWork(name="add", kind=WorkKind.ADD, inputs=("b", "a"), in_shape=shape, out_shape=shape, **bits),
        LayerWork(
            name="pool", kind=WorkKind.AVG_POOL, inputs=("add",), in_shape=shape, out_shape=(8, 1, 1),
            kernel=(8, 8), stride=(8, 8), **bits,
        ),
        LayerWork(
            name="fc", kind=WorkKind.LINEAR, inputs=("pool",), in_shape=(8, 1, 1), out_shape=(10, 1, 1),
            weight_bits=4, input_bits=8, output_bits=32, tiles=last,
        ),
    )  # fmt: skip
    return Workload("small", (4, 8, 8), 8, layers)


def with_cost(spec: ChipSpec = LAB, **changes: float | None) -> ChipSpec:
    assert spec.cost is not None
    return dataclasses.replace(spec, cost=dataclasses.replace(spec.cost, **changes))


# --- one tile, by hand -----------------------------------------------------------------------


def test_one_tile_costs_what_its_events_cost() -> None:
    work = Workload("one", (4, 1, 1), 8, (conv("a", INPUT, (4, 8), 1, 1, tiles((0, 0, 4, 0, 8, 0, 0, 0))),))
    cost = estimate(work, LAB)
    price, layer = LAB.cost, cost.layers[0]
    assert price is not None
    assert layer.reads == 8  # one a bit plane
    assert layer.conversions == 64
    assert layer.energy_pj["driver"] == 8 * 4 * price.row_pj
    assert layer.energy_pj["adc"] == pytest.approx(64 * price.adc_fj_per_step * 256e-3)
    joule = price.input_activity * price.mean_cell_us * 1e-6 * 0.2**2 * 10e-9 * 4 * 16 * 8
    assert layer.energy_pj["array"] == pytest.approx(joule * 1e12)
    assert layer.chip_time_ns == 8 * (20 + 10 + 8 * 10)  # row set-up, one cycle, eight conversions on one converter
    assert cost.shared_pj["host_link"] == (4 * 8 + 8 * 8) * price.host_pj_per_bit
    assert cost.cells == 4 * 8 * 2


def test_products_of_activations_cost_their_operations_on_the_chip_or_their_codes_on_the_line() -> None:
    bits = {"input_bits": 8, "output_bits": 8}
    first = conv("a", INPUT, (4, 8), 1, 1, tiles((0, 0, 4, 0, 8, 0, 0, 0)))
    square = LayerWork(
        name="aa",
        kind=WorkKind.MATMUL,
        inputs=("a", "a"),
        in_shape=(8, 1, 1),
        out_shape=(8, 1, 1),
        operations=50,
        **bits,
    )
    on_chip = estimate(Workload("two", (4, 1, 1), 8, (first, square)), with_cost(multiply_pj=2.0))
    assert on_chip.layers[1].executor == "chip logic"
    assert on_chip.layers[1].energy_pj["multiplier"] == 50 * 2.0
    assert "host_link" not in on_chip.layers[1].energy_pj
    price = LAB.cost
    assert price is not None
    there_and_back = (2 * 8 * 8 + 8 * 8) * price.host_pj_per_bit
    beyond = dataclasses.replace(square, beyond_chip=True)
    for layer, chip in ((square, with_cost(multiply_pj=None)), (beyond, LAB)):
        by_host = estimate(Workload("two", (4, 1, 1), 8, (first, layer)), chip)
        assert by_host.layers[1].executor == "host"
        assert by_host.layers[1].energy_pj["host_link"] == there_and_back


def test_pulse_counted_inputs_take_a_cycle_a_pulse() -> None:
    chip = load_chip("a111")
    work = Workload("one", (4, 1, 1), 8, (conv("a", INPUT, (4, 8), 1, 1, tiles((0, 0, 4, 0, 8, 0, 0, 0))),))
    layer = estimate(work, chip).layers[0]
    assert layer.reads == 2  # two nibbles
    assert layer.chip_time_ns == 2 * (20 + 15 * 10 + 4 * 10)


# --- parts and wholes ------------------------------------------------------------------------


@pytest.mark.parametrize("work", [small(), small(copies=3), small(shared=True), small(rounds=2)])
def test_the_parts_are_the_whole(work: Workload) -> None:
    cost = estimate(work, LAB)
    by_layer = [e for layer in cost.layers for e in layer.energy_pj.values()]
    assert cost.energy_pj == math.fsum([*by_layer, *cost.shared_pj.values()])
    assert cost.energy_pj == pytest.approx(math.fsum(cost.energy_by_module_pj.values()), rel=1e-14)
    assert set(cost.energy_by_module_pj) == set(MODULES)
    assert set(cost.area_um2) == set(AREAS)
    parts = [layer.latency_ns for layer in cost.layers]
    assert cost.latency_ns == math.fsum([*parts, cost.host_ns, cost.rewrite_ns])
    assert min(parts) >= 0
    assert cost.macs == sum(layer.macs for layer in work.layers)


def test_the_last_layer_finishes_when_the_latency_says() -> None:
    cost = estimate(small(), LAB)
    price = LAB.cost
    assert price is not None
    sent = 10 * 32 / price.host_bits_per_ns
    assert cost.latency_ns == pytest.approx(cost.layers[-1].finish_ns + sent)


# --- queues ----------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40), st.floats(0, 100), st.floats(0, 1000))
def test_a_queue_serves_as_a_loop_would(ready: list[float], service: float, free: float) -> None:
    at, expected = free, []
    for r in ready:
        at = max(at, r) + service
        expected.append(at)
    np.testing.assert_allclose(serve(np.array(ready), service, free), expected, rtol=1e-12, atol=1e-9)


@settings(max_examples=200)
@example(3, 2, 2, 3, 1, 1)  # the only window along a row sees one pixel of two
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))
def test_a_window_is_ready_with_its_last_pixel(h: int, w: int, kernel: int, stride: int, pad: int, gap: int) -> None:
    reach = gap * (kernel - 1) + 1
    out = ((h + 2 * pad - reach) // stride + 1, (w + 2 * pad - reach) // stride + 1)
    if min(out) < 1:
        return
    times = np.sort(np.random.default_rng(h * 100 + w).random((h, w)), axis=1)
    got = window_ready(times, out, (kernel, kernel), (stride, stride), (pad, pad), (gap, gap))
    for y, x in np.ndindex(out):
        seen = [
            times[min(max(y * stride - pad + i * gap, 0), h - 1), min(max(x * stride - pad + j * gap, 0), w - 1)]
            for i in range(kernel)
            for j in range(kernel)
        ]
        assert got[y, x] == max(seen)


def test_what_waits_between_two_layers_is_what_was_made_and_not_taken() -> None:
    assert backlog(np.array([1.0, 2, 3, 4]), np.array([4.5, 5, 6, 7])) == 4
    assert backlog(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4])) == 1


# --- mesh ------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_links_carry_what_a_walk_along_rows_then_columns_puts_on_them(macros: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    side, n = side_of(macros), 12
    source, target = rng.integers(0, macros, (2, n))
    bits, layer = rng.integers(1, 100, n).astype(np.float64), rng.integers(0, 3, n)
    found = traffic(Transfers(layer, source, target, bits), 3, macros)
    walked: dict[tuple[int, int, int], float] = {}
    hops = np.zeros(3)
    for k in range(n):
        y, x = divmod(int(source[k]), side)
        ty, tx = divmod(int(target[k]), side)
        while (y, x) != (ty, tx):
            before = (y, x)
            if x != tx:
                x += 1 if tx > x else -1
            else:
                y += 1 if ty > y else -1
            link = (int(layer[k]), before[0] * side + before[1], y * side + x)
            walked[link] = walked.get(link, 0.0) + bits[k]
            hops[layer[k]] += bits[k]
    np.testing.assert_allclose(found.bit_hops, hops)
    for i in range(3):
        mine = [load for (owner, _, _), load in walked.items() if owner == i]
        assert found.loads[i].max(initial=0.0) == pytest.approx(max(mine, default=0.0))
        assert np.sum(found.loads[i]) == pytest.approx(sum(mine))


def test_a_link_that_others_use_half_of_the_time_is_half_as_fast() -> None:
    both = Transfers(np.array([0, 1]), np.array([0, 0]), np.array([1, 1]), np.array([10.0, 50.0]))
    mesh = traffic(both, 2, 2)
    np.testing.assert_allclose(mesh.transfer_ns(1.0, np.inf), [10.0, 50.0])
    np.testing.assert_allclose(mesh.transfer_ns(1.0, 100.0), [20.0, 50.0 / 0.9])


# --- what must not happen --------------------------------------------------------------------


def better(a: Cost, b: Cost) -> bool:
    """Whether a costs no more than b in time, energy and area."""
    slack = 1 + 1e-9
    return (
        a.latency_ns <= b.latency_ns * slack
        and a.interval_ns <= b.interval_ns * slack
        and a.energy_pj <= b.energy_pj * slack
        and a.area_mm2 <= b.area_mm2 * slack
    )


@given(st.integers(2, 12), st.integers(2, 12))
def test_more_converter_bits_never_cost_less(one: int, other: int) -> None:
    low, high = sorted((one, other))

    def of(bits: int) -> Cost:
        adc = dataclasses.replace(LAB.macro.adc, bits=bits)
        return estimate(small(), dataclasses.replace(LAB, macro=dataclasses.replace(LAB.macro, adc=adc)))

    assert better(of(low), of(high))


@given(
    st.sampled_from(["row_pj", "read_pj", "hop_pj_per_bit", "buffer_read_pj_per_bit", "macro_leakage_uw", "hop_ns"]),
    st.floats(1, 10),
)
def test_dearer_parts_never_cost_less(name: str, factor: float) -> None:
    assert LAB.cost is not None
    assert better(estimate(small(), LAB), estimate(small(), with_cost(**{name: factor * getattr(LAB.cost, name)})))


@given(st.sampled_from(["buffer_bits_per_ns", "digital_ops_per_ns", "link_bits_per_ns", "host_bits_per_ns"]))
def test_faster_parts_never_take_longer(name: str) -> None:
    assert LAB.cost is not None
    quick = estimate(small(), with_cost(**{name: 4 * getattr(LAB.cost, name)}))
    assert quick.latency_ns <= estimate(small(), LAB).latency_ns
    assert quick.interval_ns <= estimate(small(), LAB).interval_ns


@given(st.sampled_from(["row_setup_ns", "input_cycle_ns", "conversion_ns"]), st.floats(1, 5))
def test_slower_reads_never_end_sooner(name: str, factor: float) -> None:
    timing = dataclasses.replace(LAB.timing, **{name: factor * getattr(LAB.timing, name)})
    assert better(estimate(small(), LAB), estimate(small(), dataclasses.replace(LAB, timing=timing)))


@given(st.integers(1, 7))
def test_copies_share_the_positions_of_a_layer(copies: int) -> None:
    one, more = estimate(small(), LAB), estimate(small(copies), LAB)
    a, b = one.layers[0], more.layers[0]
    assert (a.reads, a.conversions) == (b.reads, b.conversions)
    largest = max(len(rows) * len(columns) for rows, columns in blocks(8, 8, copies))
    assert b.chip_time_ns == pytest.approx(a.chip_time_ns * largest / 64)
    assert b.cells == copies * a.cells
    assert more.layers[0].energy_pj["adc"] == one.layers[0].energy_pj["adc"]


def test_a_layer_waits_for_the_macro_that_it_shares() -> None:
    alone, shared = estimate(small(), LAB), estimate(small(shared=True), LAB)
    assert shared.layers[1].start_ns >= shared.layers[0].finish_ns
    assert alone.layers[1].start_ns < alone.layers[0].finish_ns
    assert shared.macros == alone.macros - 1
    assert shared.interval_ns > alone.interval_ns


def test_a_batch_adds_an_interval_an_image() -> None:
    one, ten = estimate(small(), LAB), estimate(small(), LAB, batch=10)
    assert ten.latency_ns == one.latency_ns
    assert ten.batch_latency_ns == one.latency_ns + 9 * one.interval_ns


def test_a_network_larger_than_its_chip_pays_for_writing_and_wears_it_out() -> None:
    one, many = estimate(small(rounds=2), LAB), estimate(small(rounds=2), LAB, batch=1000)
    assert one.rewrite_ns == one.programming_ns
    assert one.latency_ns > estimate(small(), LAB).latency_ns + one.programming_ns * 0.99
    assert many.rewrite_ns == pytest.approx(one.rewrite_ns / 1000)
    assert one.limit == "programming"
    assert LAB.cost is not None
    assert many.endurance_images == 1000 * LAB.cost.endurance_cycles
    assert math.isinf(estimate(small(), LAB).endurance_images)


def test_a_chip_file_without_prices_is_refused_by_name() -> None:
    with pytest.raises(NoCostModel, match=r"lab-128 has no \[cost\] section"):
        estimate(small(), dataclasses.replace(LAB, cost=None))


def test_prices_go_through_a_chip_file_and_back() -> None:
    again = parse_chip(render_chip(LAB), "x")
    assert again.cost == LAB.cost
    assert again.digest == LAB.digest
    assert dataclasses.replace(LAB.macro, encoding=Encoding.OFFSET_COLUMN).outputs == 127


# --- the type --------------------------------------------------------------------------------


def test_a_wrong_workload_cannot_exist() -> None:
    one = tiles((0, 0, 4, 0, 8, 0, 0, 0))
    with pytest.raises(ValueError, match="no layers"):
        Workload("x", (4, 1, 1), 8, ())
    with pytest.raises(ValueError, match="not earlier layers"):
        Workload("x", (4, 1, 1), 8, (conv("a", "b", (4, 8), 1, 1, one),))
    with pytest.raises(ValueError, match="no rows"):
        tiles((0, 0, 0, 0, 8, 0, 0, 0))
    with pytest.raises(ValueError, match="bit weights"):
        dataclasses.replace(conv("a", INPUT, (4, 8), 1, 1, one), weight_bits=0)
    with pytest.raises(ValueError, match="no tiles"):
        estimate(
            Workload("x", (4, 1, 1), 8, (dataclasses.replace(conv("a", INPUT, (4, 8), 1, 1, one), tiles=None),)), LAB
        )
