"""Schedule of the layers of one image, and the interval to the next image."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.blocks import blocks
from cim.chip.spec import CostSpec
from cim.cost.events import LayerEvents
from cim.cost.mesh import Traffic
from cim.cost.stream import backlog, serve, window_ready
from cim.cost.workload import INPUT, LayerWork, WorkKind, Workload

Floats = NDArray[np.float64]

RESOURCES = ("array", "adc", "buffer", "digital", "interconnect", "host")


@dataclass(frozen=True, slots=True)
class ImageSchedule:
    """Times of one image, ns, lists by layer. ``parts``: of the latency; 0 off the critical path.

    ``host_ns``: transfer of image and logits. ``waiting_bits``: buffered inputs of layers that join several inputs.
    """

    start: list[float]
    finish: list[float]
    parts: list[float]
    host_ns: float
    latency_ns: float
    waiting_bits: float


def busy_times(event: LayerEvents, moved: Traffic, i: int, price: CostSpec) -> tuple[float, ...]:
    """Busy time of one image by resource, ns, in the order of RESOURCES."""
    link_ns = float(moved.loads[i].max(initial=0.0)) / price.link_bits_per_ns
    return event.array_ns, event.adc_ns, event.buffer_ns, event.digital_ns, link_ns, event.host_ns


def schedule(
    workload: Workload,
    events: list[LayerEvents],
    moved: Traffic,
    price: CostSpec,
    interval_ns: float,
) -> ImageSchedule:
    """Start and end of every layer, and its part of the latency.

    A position of a layer passes reads, buffer, digital unit and links, one behind the other, so the
    layer serves positions at the pace of its slowest (``serve``) and each takes the sum of all.
    """
    _, height, width = workload.input_shape
    pixel_ns = workload.input_shape[0] * workload.input_bits / price.host_bits_per_ns
    transfer_ns = moved.transfer_ns(price.link_bits_per_ns, interval_ns)
    arrival: Floats = (pixel_ns * np.arange(1.0, height * width + 1)).reshape(height, width)
    done: dict[str, Floats] = {INPUT: arrival}
    ends = {INPUT: float(arrival[-1, -1])}
    starts: list[float] = []
    cause: dict[str, str] = {}
    free = np.zeros(workload.highest_macro + 1)  # when the last layer left a macro
    left_by = np.zeros(workload.highest_macro + 1, np.int64)
    waiting_bits = 0.0
    rounds = _rounds(workload)
    for i, (layer, event) in enumerate(zip(workload.layers, events, strict=True)):
        after, blocker = 0.0, ""
        if event.macros is not None:
            last = event.macros[free[event.macros].argmax()]
            after, blocker = float(free[last]), workload.layers[left_by[last]].name
        if i and rounds[i] > rounds[i - 1]:
            late = max(ends, key=lambda name: ends[name])
            after, blocker = max((after, blocker), (ends[late], late))
        ready = _ready(layer, done)
        ready[-1, -1] = max(ready[-1, -1], *(ends[name] for name in layer.inputs))  # it ends with its image
        latest = max(layer.inputs, key=lambda name: ends[name])
        cause[layer.name] = blocker if after > ends[latest] else latest
        copies = 1 if layer.tiles is None else layer.tiles.copies
        stages = (event.read_ns, event.buffer_ns, event.digital_ns, transfer_ns[i], event.host_ns)
        service, fill = max(stages) / event.most_positions, sum(stages) / event.most_positions
        fill += moved.farthest[i] * price.hop_ns
        finish = _served(ready, service, fill, after, copies)
        starts.append(max(float(ready.min()), after))
        done[layer.name] = finish
        ends[layer.name] = float(finish.max())
        if event.macros is not None:
            free[event.macros], left_by[event.macros] = ends[layer.name], i
        if len(layer.inputs) > 1:
            waiting_bits += _waiting(layer, done, finish, workload)
    parts = dict.fromkeys(ends, 0.0)
    here = workload.layers[-1].name
    end = ends[here]
    while here != INPUT:
        before = cause[here]
        parts[here] = ends[here] - ends[before]
        here = before
    sent = workload.output_data_bits / price.host_bits_per_ns
    return ImageSchedule(
        starts,
        [ends[layer.name] for layer in workload.layers],
        [parts[layer.name] for layer in workload.layers],
        ends[INPUT] + sent,
        end + sent,
        waiting_bits,
    )


def _ready(layer: LayerWork, done: Mapping[str, Floats]) -> Floats:
    """Time at which the inputs of each output position are there, (out height, out width)."""
    shape = layer.out_shape[1:]
    ready = None
    for name in dict.fromkeys(layer.inputs):
        source = done[name]
        if layer.kind is WorkKind.LINEAR or shape == (1, 1):
            one = np.full(shape, float(source.max()))
        else:
            one = window_ready(source, shape, layer.kernel, layer.stride, layer.padding, layer.dilation)
        ready = one if ready is None else np.maximum(ready, one)
    assert ready is not None
    return np.array(ready)


def _served(ready: Floats, service: float, fill: float, after: float, copies: int) -> Floats:
    """Finish times (height, width): each copy serves its block of the map."""
    lag = fill - service
    if copies == 1:
        return serve(ready.ravel() + lag, service, after + lag).reshape(ready.shape)
    finish = np.empty(ready.shape)
    for rows, columns in blocks(ready.shape[0], ready.shape[1], copies):
        part = np.s_[rows.start : rows.stop, columns.start : columns.stop]
        finish[part] = serve(ready[part].ravel() + lag, service, after + lag).reshape(len(rows), len(columns))
    return finish


def _waiting(layer: LayerWork, done: Mapping[str, Floats], finish: Floats, workload: Workload) -> float:
    """Bits of inputs that a joining layer must buffer until its slowest input arrives."""
    times = np.sort(finish, axis=None)
    channels = {INPUT: workload.input_shape[0], **{other.name: other.out_shape[0] for other in workload.layers}}
    return float(sum(backlog(done[name].ravel(), times) * channels[name] * layer.input_bits for name in layer.inputs))


def shortest_interval(
    workload: Workload, events: Sequence[LayerEvents], moved: Traffic, price: CostSpec
) -> tuple[float, str]:
    """Time between two images in a pipeline, and what sets it: the busiest layer, macro, link or the host's line.

    Rounds come one after the other, so their intervals add up; the busiest of the longest one is named.
    """
    rounds = _rounds(workload)
    found = [_busiest(workload, events, moved, price, [r == now for r in rounds]) for now in range(max(rounds) + 1)]
    return sum(ns for ns, _ in found), max(found)[1]


def _busiest(
    workload: Workload, events: Sequence[LayerEvents], moved: Traffic, price: CostSpec, here: Sequence[bool]
) -> tuple[float, str]:
    """Longest busy time in ns, and the name of its resource, over the layers whose flag in ``here`` is true."""
    on_macro = np.zeros(workload.highest_macro + 1)
    limits = [(0.0, "nothing")]
    for layer, event, counts in zip(workload.layers, events, here, strict=True):
        if counts:
            limits.append((max(event.read_ns, event.buffer_ns, event.digital_ns), layer.name))
            if event.macros is not None and event.macro_ns is not None:
                on_macro[event.macros] += event.macro_ns
    hottest = int(on_macro.argmax())
    limits.append((float(on_macro[hottest]), f"macro {hottest}"))
    links = moved.total if all(here) else moved.loads[np.array(here)].sum(0)
    limits.append((float(links.max(initial=0.0)) / price.link_bits_per_ns, "interconnect"))
    visits = sum(event.host_ns for event, counts in zip(events, here, strict=True) if counts)
    ends = max(workload.input_data_bits, workload.output_data_bits) / price.host_bits_per_ns
    limits.append((ends + visits, "host link"))
    best = max(ns for ns, _ in limits)
    return next((best, name) for ns, name in limits if ns >= best * (1 - 1e-9))


def _rounds(workload: Workload) -> list[int]:
    """Round of each layer on a chip that is written several times; layers off the cells follow those before them."""
    rounds: list[int] = []
    for layer in workload.layers:
        before = rounds[-1] if rounds else 0
        rounds.append(max(before, 0 if layer.tiles is None else int(layer.tiles.round.max())))
    return rounds


def peak_power(start: Iterable[float], finish: Iterable[float], power: Sequence[float]) -> float:
    """Largest sum of the powers of layers that work at the same time."""
    steps = sorted([*zip(start, power, strict=True), *((f, -p) for f, p in zip(finish, power, strict=True))])
    return max(itertools.accumulate(p for _, p in steps), default=0.0)
