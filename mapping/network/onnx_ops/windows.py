"""Rules of ONNX for pooling and resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.places import sampled
from mapping.network.compose.refusal import BROKEN, need, refuse, within
from mapping.network.compose.statistics import local_norm
from mapping.network.compose.values import Operand
from mapping.network.compose.volumes import pool_of_volumes
from mapping.network.compose.windows import average_pool, max_pool, nearest, positions, resampled, resampled_lines
from mapping.network.onnx_ops.call import OnnxCall, OnnxRule


def window_pads(a: OnnxCall, kernel: Sequence[int], stride: Sequence[int], gap: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for each axis: as given, or so that every stride has its window (``auto_pad``)."""
    count = len(kernel)
    rule = a.text("auto_pad", "NOTSET")
    if rule in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, k, s, g in zip(a.x.shape[2:], kernel, stride, gap, strict=True):
            total = max((math.ceil(size / s) - 1) * s + g * (k - 1) + 1 - size, 0)
            less, more = total // 2, total - total // 2
            found.append((less, more) if rule == "SAME_UPPER" else (more, less))
        return found
    pads = list(a.get("pads") or [0] * 2 * count)
    need(
        rule in ("NOTSET", "VALID") and len(pads) == 2 * count and min(pads) >= 0,
        f"padding {pads} by rule {rule!r}",
        "pads of at least 0, or auto_pad SAME_UPPER",
    )
    return [(pads[n], pads[n + count]) for n in range(count)]


def along(a: OnnxCall, name: str, count: int) -> list[int]:
    """Strides or dilations along each axis, 1 if they are left out."""
    found = list(a.get(name) or [1] * count)
    need(len(found) == count and min(found) >= 1, f"{name} {found} for {count} axes", BROKEN)
    return found


def _max_pool(c: Composer, a: OnnxCall) -> Operand:
    kernel = list(a["kernel_shape"])
    stride, gap = along(a, "strides", len(kernel)), along(a, "dilations", len(kernel))
    pads = window_pads(a, kernel, stride, gap)
    if len(kernel) == 3:
        return _volumes(c, a, stride, pads, gap, True)
    need(a.outputs == 1, "places of the largest as a second output", "one output: the largest values")
    return max_pool(c, a.x, kernel=kernel, stride=stride, pads=pads, dilation=gap, ceil=bool(a.get("ceil_mode", 0)))


def _volumes(
    c: Composer, a: OnnxCall, stride: Sequence[int], pads: Sequence[tuple[int, int]], gap: Sequence[int], largest: bool
) -> Operand:
    even = all(before == after for before, after in pads) and not a.get("ceil_mode", 0)
    need(even, f"pooling of volumes with uneven padding {list(pads)} or ceil mode", "even padding, no ceil mode")
    around = [before for before, _ in pads]
    return pool_of_volumes(c, a.x, kernel=a["kernel_shape"], stride=stride, pads=around, dilation=gap, largest=largest)


def _average_pool(c: Composer, a: OnnxCall) -> Operand:
    kernel = list(a["kernel_shape"])
    stride = along(a, "strides", len(kernel))
    if len(kernel) == 3:
        return _volumes(c, a, stride, window_pads(a, kernel, stride, [1] * 3), [1] * 3, False)
    need(set(along(a, "dilations", len(kernel))) == {1}, "dilated average pooling", "a depthwise convolution")
    return average_pool(
        c,
        a.x,
        kernel=kernel,
        stride=stride,
        pads=window_pads(a, kernel, stride, [1] * len(kernel)),
        ceil=bool(a.get("ceil_mode", 0)),
        count_padding=bool(a.get("count_include_pad", 0)),
    )


def _sampled(c: Composer, a: OnnxCall) -> Operand:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(found := a.text("mode", "bilinear"), found)
    return sampled(c, a.x, a.operand(1), mode, a.text("padding_mode", "zeros"), bool(a.get("align_corners", 0)))


def _local_norm(c: Composer, a: OnnxCall) -> Operand:
    """x / (bias + alpha · mean of squares of neighbouring channels) ^ beta."""
    size = a["size"]
    return local_norm(c, a.x, size, a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0))


def _resize(c: Composer, a: OnnxCall) -> Operand:
    late = a.kind == "Resize" and a.opset >= 11
    rank = len(a.x.shape)
    axes = [axis % rank for axis in a.get("axes") or range(rank)]
    old = [a.x.shape[axis] for axis in axes]
    need(a.text("keep_aspect_ratio_policy", "stretch") == "stretch", "sizes that keep the aspect ratio", "fixed sizes")
    sizes, ratios = _new_sizes(a, old, late)
    changed = [n for n, axis in enumerate(axes) if sizes[n] != a.x.shape[axis]]
    if not changed:
        return a.x
    need(min(sizes) >= 1, f"sizes {sizes}", "sizes of at least 1")
    within(*sizes)
    rule = a.text("coordinate_transformation_mode", "half_pixel") if late else "asymmetric"
    at = {axes[n]: positions(old[n], sizes[n], ratios[n], rule) for n in changed}
    mode = a.text("mode", "nearest")
    if mode == "nearest":
        rounding = a.text("nearest_mode", "round_prefer_floor") if late else "floor"
        return nearest(c, a.x, list(at), [_rounded(places, rounding) for places in at.values()])
    need(
        mode in ("linear", "cubic") and not a.get("antialias", 0),
        f"resampling by {mode!r}, or with antialiasing",
        "nearest, linear or cubic, antialias=0",
    )
    cubic = a.get("cubic_coeff_a", -0.75) if mode == "cubic" else None
    need(
        cubic is None or not a.get("exclude_outside", 0),
        "cubic resampling that leaves out places outside",
        "an export with exclude_outside=0",
    )
    if rank == 3:
        return resampled_lines(c, a.x, at[2])
    need(
        rank == 4 and set(at) <= {2, 3},
        f"resampling of axes {sorted(at)} of {a.x.shape}",
        "resampling of height and width",
    )
    whole = [at.get(axis, np.arange(a.x.shape[axis], dtype=np.float64)) for axis in (2, 3)]
    return resampled(c, a.x, whole, cubic)


def _new_sizes(a: OnnxCall, old: Sequence[int], late: bool) -> tuple[list[int], list[float]]:
    """Sizes of the axes that are resized, given or by factors, and old over new."""
    sizes, factors = a.integers(3) if late else None, a.constant(2 if late else 1)
    if sizes is not None and len(sizes):
        return list(sizes), [o / n for o, n in zip(old, sizes, strict=True)]
    if factors is None or factors.size == 0:
        factors = np.asarray(a.get("scales") or [])
    need(factors.size == len(old) and bool((factors > 0).all()), f"{factors.size} factors for {len(old)} axes", BROKEN)
    return [int(o * f) for o, f in zip(old, factors.tolist(), strict=True)], [1 / f for f in factors.tolist()]


def _rounded(
    places: np.ndarray[tuple[int], np.dtype[np.float64]], rule: str
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    places = np.round(places, 6)  # factors are float32 in the file
    if rule == "round_prefer_floor":
        return np.ceil(places - 0.5)
    if rule == "round_prefer_ceil":
        return np.floor(places + 0.5)
    if rule in ("floor", "ceil"):
        return np.floor(places) if rule == "floor" else np.ceil(places)
    refuse(f"nearest places by {rule!r}", "round_prefer_floor, round_prefer_ceil, floor or ceil")


RULES: dict[str, OnnxRule] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GridSample": _sampled,
    "LRN": _local_norm,
    "Resize": _resize,
    "Upsample": _resize,
}
