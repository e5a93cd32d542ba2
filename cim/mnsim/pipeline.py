"""Completion time of each output position of each layer.

A layer is a serial server over its output positions in raster order:
    begin_n = max(finish_{n−1}, ready_n), finish_n = begin_n + t_n
    ready: finish of the last input pixel needed, row min(max(q, 1) + s i, H) − 1, column likewise With F_n = Σ_{j≤n}
t_j this is finish_n = F_n + max_{j≤n} (ready_j − F_{j−1}), a cumulative sum and a running maximum. A fully connected
layer waits for all of its producer. Without the pipeline every layer waits for the end of its producers. Quirks:
element-wise layers follow their producers position by position in any case, buffers never fill, and only one image is
modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.mnsim.latency import PositionTimes
from cim.mnsim.layers import CountedLayer, LayerKind

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """First begin and last finish of one layer."""

    begin_ns: float
    finish_ns: float


def spans(layers: tuple[CountedLayer, ...], times: tuple[PositionTimes, ...], pipeline: bool) -> tuple[Span, ...]:
    """Begin and end of every layer for one image that enters at 0."""
    finished: list[Times] = []
    found = []
    for layer, own in zip(layers, times, strict=True):
        each = own.map_ns(layer.height_out, layer.width_out)
        total = np.cumsum(each)
        before = total - each
        begin = _ready(layer, layers, finished, pipeline) - before
        done = total + np.maximum.accumulate(begin)
        finished.append(done)
        found.append(Span(float(begin[0]), float(done[-1])))
    return tuple(found)


def _ready(layer: CountedLayer, layers: tuple[CountedLayer, ...], finished: list[Times], pipeline: bool) -> Times:
    """Time at which the inputs of every position are there, shape (positions,)."""
    ready = np.zeros(layer.positions)
    for i in layer.producers:
        done, (height, width) = finished[i], (layers[i].height_out, layers[i].width_out)
        if layer.kind is LayerKind.FC or not (pipeline or layer.kind is LayerKind.ELEMENT_WISE):
            np.maximum(ready, done[-1], out=ready)
        else:
            need_rows = _needed(layer, layer.height_out, height)
            need_columns = _needed(layer, layer.width_out, width)
            np.maximum(ready, done.reshape(height, width)[need_rows[:, None], need_columns].ravel(), out=ready)
    return ready


def _needed(layer: CountedLayer, outputs: int, inputs: int) -> NDArray[np.int64]:
    steps = np.arange(outputs)
    if layer.kind is LayerKind.ELEMENT_WISE:
        return np.minimum(steps, inputs - 1)
    return np.minimum(max(layer.fresh, 1) + layer.stride * steps, inputs) - 1
