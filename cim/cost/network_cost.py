"""Cost of a network on a chip before it is built or programmed: latency, energy, power, area, wear.

    estimate(workload, chip) = events (``cim.cost.events``) x prices (``[cost]`` and ``[timing]`` of the chip file),
    in time by queues (``cim.cost.stream``), between macros over a mesh (``cim.cost.mesh``)

Parts add up: every total is the ``math.fsum`` of its parts. Each function states its equation;
``docs/predict-and-judge.md`` lists what is counted and what is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import conversions
from cim.chip.spec import ChipSpec, CostSpec, Encoding
from cim.cost.events import LayerEvents, count_events, executor_of
from cim.cost.mesh import HOST, Transfers, traffic
from cim.cost.schedule import RESOURCES, ImageSchedule, busy_times, peak_power, schedule, shortest_interval
from cim.cost.workload import INPUT, Executor, LayerWork, WorkKind, Workload
from cim.errors import CimFileError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MODULES = (
    "array", "driver", "control", "sample_hold", "adc", "shift_add", "accumulator", "buffer",
    "activation", "pooling", "multiplier", "interconnect", "host_link", "leakage", "programming",
)  # fmt: skip
AREAS = ("array", "driver", "column", "adc", "digital", "activation", "router", "buffer")


class NoCostModel(CimFileError, ValueError):
    """The chip file has no [cost] section."""

    def __init__(self, chip: str) -> None:
        super().__init__(
            f"{chip} has no [cost] section, so nothing is known of its energy and area\n"
            "  try     hil chip show lab-128, and give the file a [cost] section like it"
        )
        self.chip = chip


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer, one image.

    ``busy_ns``: by resource, how long the busiest unit of it works for an image; ``bound`` names the largest.
    ``latency_ns`` is the layer's part of the image's latency: 0 off the critical path. ``chip_time_ns``: duration of
    the layer's reads alone when a driver runs layer after layer.
    """

    name: str
    kind: str
    executor: str  # array, chip logic or host
    macs: int
    operations: int  # of digital layers, one image: look-ups, multiplications and additions
    macros: int
    tiles: int
    copies: int
    rounds: tuple[int, ...]
    cells: int
    utilisation: float  # cells used, of the macros that the layer uses
    reads: int
    conversions: int
    start_ns: float
    finish_ns: float
    latency_ns: float
    chip_time_ns: float
    busy_ns: Mapping[str, float]
    energy_pj: Mapping[str, float]

    @property
    def bound(self) -> str:
        return max(self.busy_ns, key=lambda name: self.busy_ns[name])

    @property
    def total_pj(self) -> float:
        return math.fsum(self.energy_pj.values())


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a network on a chip. Energies and times are of one image unless a name has ``batch`` in it.

    ``shared_pj``: energy that belongs to no single layer (host link, leakage, and programming where every batch
    rewrites the chip). ``host_ns``: the parts of latency before the first and after the last layer. ``interval_ns``:
    between two images when they follow each other, set by the busiest ``limit``.
    """

    network: str
    chip: str
    batch: int
    layers: tuple[LayerCost, ...]
    shared_pj: Mapping[str, float]
    host_ns: float
    rewrite_ns: float
    interval_ns: float
    limit: str
    peak_power_w: float
    area_um2: Mapping[str, float]
    macros: int
    macros_on_chip: int
    cells: int
    cells_in_macros: int
    buffer_bits: float
    programming_ns: float
    programming_pj: float
    endurance_images: float

    @property
    def latency_ns(self) -> float:
        """Latency of one image: Σ of the layers' parts, the host link, and rewriting."""
        return math.fsum([*(layer.latency_ns for layer in self.layers), self.host_ns, self.rewrite_ns])

    @property
    def batch_latency_ns(self) -> float:
        return self.latency_ns + (self.batch - 1) * self.interval_ns

    @property
    def energy_pj(self) -> float:
        return math.fsum([*(e for layer in self.layers for e in layer.energy_pj.values()), *self.shared_pj.values()])

    @property
    def energy_by_module_pj(self) -> dict[str, float]:
        return {
            m: math.fsum([*(layer.energy_pj.get(m, 0.0) for layer in self.layers), self.shared_pj.get(m, 0.0)])
            for m in MODULES
        }

    @property
    def edp_mj_ms(self) -> float:
        """Energy · latency, mJ·ms."""
        return self.energy_pj * 1e-9 * self.latency_ns * 1e-6

    @property
    def average_power_w(self) -> float:
        """Mean power while images follow each other: energy of an image / interval between two images."""
        return self.energy_pj * 1e-3 / self.interval_ns

    @property
    def images_per_s(self) -> float:
        return 1e9 / self.interval_ns

    @property
    def area_mm2(self) -> float:
        return math.fsum(self.area_um2.values()) * 1e-6

    @property
    def utilisation(self) -> float:
        return self.cells / self.cells_in_macros if self.cells_in_macros else 0.0

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def tops_per_w(self) -> float:
        """Efficiency: two operations per multiplication, divided by the whole energy of an image."""
        return 2 * self.macs / self.energy_pj

    @property
    def chip_time_ns(self) -> float:
        """Duration of all reads of one image, layer after layer, as the chip's own timer counts under a driver."""
        return math.fsum(layer.chip_time_ns for layer in self.layers)


def estimate(workload: Workload, chip: ChipSpec, *, batch: int = 1) -> Cost:
    """Give the cost of a placed network on a chip.

    A macro that holds several layers works for one layer at a time: the later layer begins when the earlier one has
    finished the image.

    Args:
        workload: with tiles.
        chip: with a [cost] section.
        batch: images that follow each other.

    Returns:
        latency in ns, energy in pJ, area and power, layer by layer.

    Raises:
        NoCostModel: the chip file has no [cost] section.
        ValueError: a layer on cells has no tiles.

    Example:
        >>> round(estimate(workload, spec).latency_ns / 1000)  # µs an image
        41
    """
    price = chip.cost
    if price is None:
        raise NoCostModel(chip.name)
    if batch < 1:
        raise ValueError(f"a batch of {batch} images")
    layers = workload.layers
    events = [count_events(layer, chip, price) for layer in layers]
    moved = traffic(transfers(workload, price), len(layers), workload.highest_macro + 1)
    busy = [busy_times(event, moved, i, price) for i, event in enumerate(events)]
    interval_ns, limit = shortest_interval(workload, events, moved, price)
    times = schedule(workload, events, moved, price, interval_ns)
    energy = [_energy(event, moved.bit_hops[i], chip, price) for i, event in enumerate(events)]
    macros = np.unique(np.concatenate([e.macros for e in events if e.macros is not None] or [np.zeros(0, np.int64)]))
    buffer_bits = math.fsum([*(e.line_bits for e in events), times.waiting_bits])
    leakage_pj = (len(macros) * price.macro_leakage_uw + buffer_bits * price.buffer_leakage_nw_per_bit * 1e-3) * 1e-3
    cells = sum(e.cells for e in events)
    programming_ns, programming_pj = _programming(cells, chip, price)
    rewritten = any(t.round.any() for t in workload.tiles)
    rewrite_ns, rewrite_pj = (programming_ns / batch, programming_pj / batch) if rewritten else (0.0, 0.0)
    layer_costs = tuple(
        _layer_cost(layer, event, executor_of(layer, price), _cells_of_a_macro(chip), times, i, busy[i], energy[i])
        for i, (layer, event) in enumerate(zip(layers, events, strict=True))
    )
    powers = [layer.total_pj / max(layer.finish_ns - layer.start_ns, 1e-3) for layer in layer_costs]
    return Cost(
        network=workload.name,
        chip=chip.name,
        batch=batch,
        layers=layer_costs,
        shared_pj={
            "host_link": (workload.input_data_bits + workload.output_data_bits) * price.host_pj_per_bit,
            "leakage": leakage_pj * interval_ns,
            "programming": rewrite_pj,
        },
        host_ns=times.host_ns,
        rewrite_ns=rewrite_ns,
        interval_ns=interval_ns + rewrite_ns,
        limit="programming" if rewrite_ns > interval_ns else limit,
        peak_power_w=(peak_power(times.start, times.finish, powers) + leakage_pj) * 1e-3,
        area_um2=_areas(len(macros), buffer_bits, chip, price),
        macros=len(macros),
        macros_on_chip=chip.macros,
        cells=cells,
        cells_in_macros=len(macros) * _cells_of_a_macro(chip),
        buffer_bits=buffer_bits,
        programming_ns=programming_ns,
        programming_pj=programming_pj,
        endurance_images=price.endurance_cycles * batch if rewritten else math.inf,
    )


def _layer_cost(
    layer: LayerWork,
    event: LayerEvents,
    executor: Executor,
    cells_in_macro: int,
    times: ImageSchedule,
    number: int,
    busy_ns: Sequence[float],
    energy_pj: dict[str, float],
) -> LayerCost:
    """Time and energy of one layer, with its times as scheduled among the others."""
    return LayerCost(
        name=layer.name,
        kind=layer.kind.value,
        executor=executor.value,
        macs=layer.macs,
        operations=layer.operations,
        macros=0 if event.macros is None else len(event.macros),
        tiles=0 if layer.tiles is None else len(layer.tiles.macro),
        copies=1 if layer.tiles is None else layer.tiles.copies,
        rounds=() if layer.tiles is None else tuple(sorted(set(layer.tiles.round.tolist()))),
        cells=event.cells,
        utilisation=event.cells / (len(event.macros) * cells_in_macro) if event.macros is not None else 0.0,
        reads=event.reads,
        conversions=event.conversions,
        start_ns=times.start[number],
        finish_ns=times.finish[number],
        latency_ns=times.parts[number],
        chip_time_ns=event.read_ns,
        busy_ns=dict(zip(RESOURCES, busy_ns, strict=True)),
        energy_pj=energy_pj,
    )


def _programming(cells: int, chip: ChipSpec, price: CostSpec) -> tuple[float, float]:
    """Time in ns and energy in pJ to write and verify so many cells."""
    pulse_ns = price.mean_pulses * (chip.timing.pulse_ns + chip.write.verify_reads * chip.timing.verify_ns)
    pulse_pj = price.mean_pulses * (price.pulse_pj + chip.write.verify_reads * price.verify_pj)
    return cells * pulse_ns, cells * pulse_pj


def _energy(event: LayerEvents, bit_hops: float, chip: ChipSpec, price: CostSpec) -> dict[str, float]:
    """Energy of one layer and image by module, pJ.

    array        Σ cells · cycles · a · Ḡ V² t_cycle           (Joule's law; a mean drive, Ḡ mean conductance)
    driver       word lines · cycles · e_row
    control      reads · e_read
    sample_hold, shift_add   conversions · e
    adc          conversions · e_step · 2^bits                 (Walden, doi 10.1109/49.761034)
    accumulator, activation, pooling, multiplier   operations · e
    buffer       bits written · e_write + bits read · e_read
    interconnect Σ bits · hops · e_hop
    host_link    bits of codes that no operation of the chip takes, there and back · e_host; not the host's own work
    """
    cell_pj = price.input_activity * price.mean_cell_us * chip.macro.v_read_v**2 * chip.timing.input_cycle_ns * 1e-3
    made = {
        "array": event.cell_cycles * cell_pj,
        "driver": event.row_cycles * price.row_pj,
        "control": event.reads * price.read_pj,
        "sample_hold": event.conversions * price.sample_hold_pj,
        "adc": event.conversions * price.adc_fj_per_step * 2.0**chip.macro.adc.bits * 1e-3,
        "shift_add": event.conversions * price.shift_add_pj,
        "accumulator": event.partial_sums * price.accumulate_pj,
        "buffer": event.buffer_bits_written * price.buffer_write_pj_per_bit
        + event.buffer_bits_read * price.buffer_read_pj_per_bit,
        "activation": event.outputs * price.activation_pj,
        "pooling": event.pooled * price.pool_pj,
        "multiplier": event.multiplied * (price.multiply_pj or 0.0),
        "interconnect": bit_hops * price.hop_pj_per_bit,
    }
    if event.host_bits:
        made["host_link"] = event.host_bits * price.host_pj_per_bit
    return {name: float(value) for name, value in made.items()}


def _areas(macros: int, buffer_bits: float, chip: ChipSpec, price: CostSpec) -> dict[str, float]:
    """Area of the macros in use, µm²: macros · (cells + drivers + columns + converters + digital) + buffers."""
    macro = chip.macro
    converters = -(-conversions(macro, macro.outputs) // macro.adc.shared_by)
    return {
        "array": macros * macro.rows * macro.columns * price.cell_um2,
        "driver": macros * macro.rows * price.row_um2,
        "column": macros * macro.columns * price.column_um2,
        "adc": macros * converters * macro.adc.bits * price.adc_um2_per_bit,
        "digital": macros * price.macro_digital_um2,
        "activation": macros * price.activation_um2,
        "router": macros * price.router_um2,
        "buffer": buffer_bits * price.buffer_um2_per_bit,
    }


def _cells_of_a_macro(chip: ChipSpec) -> int:
    macro = chip.macro
    columns = macro.columns if macro.encoding is not Encoding.DIFFERENTIAL_COLUMNS else 2 * macro.outputs
    lines = len(macro.word_lines) * (2 if macro.encoding is Encoding.ROW_PAIRS else 1)
    return lines * columns


Home = tuple[Ints, Ints, Ints]
"""Where a layer's outputs are: macros, their first channels, their numbers of channels."""


JOINING = (WorkKind.ADD, WorkKind.ELEMENT, WorkKind.MATMUL)
"""Kinds whose further inputs come to where their first one is."""


def transfers(workload: Workload, price: CostSpec) -> Transfers:
    """All messages between macros of one image.

    Codes go from the macro that finished them to every macro that multiplies them (each copy gets
    its share of positions); partial sums go to the macro of the first tile of their outputs.
    """
    homes: dict[str, Home] = {  # macro, first channel, channels
        INPUT: (np.array([HOST]), np.array([0]), np.array([workload.input_shape[0]]))
    }
    shapes = {INPUT: workload.input_shape, **{layer.name: layer.out_shape for layer in workload.layers}}
    parts: list[tuple[Ints, Ints, Ints, Floats]] = []

    def send(i: int, source: Ints, target: Ints, bits: NDArray[np.floating] | Ints) -> None:
        parts.append((np.full(len(bits), i), source, target, np.ceil(bits).astype(np.float64)))

    for i, layer in enumerate(workload.layers):
        if layer.tiles is None:
            homes[layer.name] = _joined(layer, homes, shapes)
            first = homes[layer.inputs[0]][0][0]
            joined = layer.kind in JOINING and executor_of(layer, price) is Executor.LOGIC
            for name in layer.inputs[1:] if joined else ():
                macro, _, channels = homes[name]
                bits = channels * float(math.prod(shapes[name][1:]) * layer.input_bits)
                send(i, macro, np.full(len(macro), first), bits)
            continue
        tiles = layer.tiles
        kernel = math.prod(layer.kernel)
        low, high = tiles.input0 // kernel, -(-(tiles.input0 + tiles.rows) // kernel)
        macro, first_channel, channels = homes[layer.inputs[0]]
        shared = np.minimum(high, (first_channel + channels)[:, None]) - np.maximum(low, first_channel[:, None])
        a, b = np.nonzero(shared > 0)
        pixels = layer.in_shape[1] * layer.in_shape[2] / tiles.copies
        send(i, macro[a], tiles.macro[b], shared[a, b] * (pixels * layer.input_bits))
        order = np.lexsort((np.arange(len(tiles.macro)), tiles.output0, tiles.copy))
        groups, head, member = np.unique(
            tiles.copy[order] * (layer.out_shape[0] + 1) + tiles.output0[order], return_index=True, return_inverse=True
        )
        leader = tiles.macro[order][head]
        adds = np.ones(len(order), bool)
        adds[head] = False
        sums = tiles.outputs[order][adds] * (layer.positions / tiles.copies) * price.partial_sum_bits
        send(i, tiles.macro[order][adds], leader[member[adds]], sums)
        own = groups <= layer.out_shape[0]  # of the first copy
        homes[layer.name] = (leader[own], tiles.output0[order][head][own], tiles.outputs[order][head][own])
    out = homes[workload.layers[-1].name]
    bits = out[2] * float(math.prod(workload.layers[-1].out_shape[1:]) * workload.layers[-1].output_bits)
    send(len(workload.layers) - 1, out[0], np.full(len(bits), HOST), bits)
    layer_of, source, target, moved = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Transfers(layer_of, source, target, moved)


def _joined(layer: LayerWork, homes: Mapping[str, Home], shapes: Mapping[str, tuple[int, int, int]]) -> Home:
    """Place of the outputs of a layer off the cells: that of its (first) input."""
    if layer.kind is WorkKind.CONCAT:
        offset, columns = 0, []
        for name in layer.inputs:
            macro, first, channels = homes[name]
            columns.append((macro, first + offset, channels))
            offset += shapes[name][0]
        macro, first, channels = (np.concatenate(c) for c in zip(*columns, strict=True))
        return macro, first, channels
    macro, first, channels = homes[layer.inputs[0]]
    before, after = shapes[layer.inputs[0]][0], layer.out_shape[0]
    if before == after:
        return macro, first, channels
    if after % before == 0 and math.prod(layer.in_shape) == math.prod(layer.out_shape):  # flattened
        return macro, first * (after // before), channels * (after // before)
    return macro[:1], np.zeros(1, np.int64), np.array([after])  # padded or cut: from one place
