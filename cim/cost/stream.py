"""Completion times of output positions, from those of their inputs: queues without loops.

A layer (or a copy of it) computes its positions one after the other, each once its last input pixel has arrived. With
service time s and ready times r_i the finish times obey

    f_i = max(f_{i−1}, r_i) + s   ⇒   f_i = s · (i + 1) + max_{j ≤ i} (r_j − s · j)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def serve(ready_ns: Floats, service_ns: float, free_ns: float) -> Floats:
    """Finish times of positions in order, the server being free from ``free_ns`` on.

    Example: ready at 0, 0, 50, service 10, free at 5: 15, 25, 60.
    """
    steps = service_ns * np.arange(len(ready_ns))
    return np.asarray(np.maximum.accumulate(np.maximum(ready_ns, free_ns) - steps) + steps + service_ns)


def window_ready(
    finish_ns: Floats,
    out_shape: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Floats:
    """Time at which the whole window of each output position is there, (out height, out width).

    Args:
        finish_ns: (height, width), when each input pixel is done.
    """
    ready = finish_ns
    for axis in (0, 1):
        ready = _latest(ready, axis, out_shape[axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
    return ready


def _latest(times_ns: Floats, axis: int, steps: int, kernel: int, stride: int, padding: int, dilation: int) -> Floats:
    """The latest of each window along one axis; padding counts as the nearest pixel."""
    size = times_ns.shape[axis]
    if steps == dilation == 1 and kernel - 1 - padding >= size - 1:  # one window sees all
        return np.asarray(times_ns.max(axis, keepdims=True))
    if kernel == stride == 1 and padding == 0:
        return times_ns
    seen = np.arange(steps) * stride - padding + dilation * np.arange(kernel)[:, None]
    seen = np.minimum(np.maximum(seen, 0), size - 1)
    latest: Floats = times_ns.take(seen[0], axis)
    for places in seen[1:]:
        np.maximum(latest, times_ns.take(places, axis), out=latest)
    return latest


def backlog(produced_ns: Floats, consumed_ns: Floats) -> int:
    """Most positions that wait at once between two layers, both times in order of position."""
    produced = np.searchsorted(np.sort(produced_ns), consumed_ns, side="right")
    share = len(produced_ns) / len(consumed_ns)
    return int(np.ceil(np.max(produced - np.arange(len(consumed_ns)) * share, initial=0.0)))
