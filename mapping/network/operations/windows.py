"""Windows of maps: their padding in each format, pooling and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.network.compose.composer import Composer
from mapping.network.compose.moves import permute, reshape
from mapping.network.compose.places import sampled
from mapping.network.compose.refusal import BROKEN, need, refuse, within
from mapping.network.compose.statistics import local_norm, reduce
from mapping.network.compose.values import Operand
from mapping.network.compose.windows import (
    adaptive_pool,
    antialiased,
    average_pool,
    filtered,
    max_pool,
    nearest,
    pool_of_volumes,
    positions,
    resampled,
    resampled_lines,
)
from mapping.network.operations.call import Call, Rule
from mapping.network.operations.elementwise import first
from mapping.operators.family import NamedOperation

Pair = tuple[int, int]
FIRST_CHANNEL, LAST_CHANNEL = (0, 3, 1, 2), (0, 2, 3, 1)


def along(a: Call, name: str, count: int, usual: Sequence[int] | None = None) -> tuple[int, ...]:
    """Strides or dilations along each axis; 1, or the ``usual`` ones, if they are left out."""
    found = a.integers(name, count) if a.get(name) else tuple(usual or [1] * count)
    need(len(found) == count and min(found) >= 1, f"{name} {list(found)} for {count} axes", BROKEN)
    return found


def around(
    a: Call, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], gap: Sequence[int]
) -> list[Pair]:
    """(before, after) for each axis: as given, or so that every stride has its window (SAME)."""
    count, given = len(kernel), a.get("padding", 0)
    rule = a.get("auto_pad") or (given if isinstance(given, str) else "")
    if rule.startswith(("SAME", "same")):
        found = []
        for n, k, s, g in zip(size, kernel, stride, gap, strict=True):
            need(s >= 1 and g >= 1, f"stride {s} and dilation {g}", BROKEN)
            total = max((-(-n // s) - 1) * s + g * (k - 1) + 1 - n, 0)
            less, more = total // 2, total - total // 2
            found.append((more, less) if rule == "SAME_LOWER" else (less, more))
        return found
    if "auto_pad" not in a.arguments:
        return [(p, p) for p in ([0] * count if rule else a.integers("padding", count))]
    pads = list(a.get("pads") or [0] * 2 * count)
    need(
        rule in ("NOTSET", "VALID") and len(pads) == 2 * count and min(pads) >= 0,
        f"padding {pads} by rule {rule!r}",
        "pads of at least 0, or auto_pad SAME_UPPER",
    )
    return [(pads[n], pads[n + count]) for n in range(count)]


def last_channels(rule: Rule) -> Rule:
    """A rule of maps for (n, height, width, channels), as TFLite has them."""

    def found(c: Composer, a: Call) -> Operand:
        good = len(a.value.shape) == 4
        need(good, f"{a.x.shape} is not (n, height, width, channels)", "a reshape to (1, height, width, channels)")
        turned = permute(c, a.x, FIRST_CHANNEL)
        return permute(c, rule(c, replace(a, arguments={**a.arguments, "self": turned})), LAST_CHANNEL)

    return found


def _pool(largest: bool) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        count = len(a.get("kernel_size", ())) if "auto_pad" in a.arguments else len(a.x.shape) - 2
        kernel = a.integers("kernel_size", count)
        stride = along(a, "stride", count, None if "auto_pad" in a.arguments else kernel)
        gap = along(a, "dilation", count)
        pads, ceil, divisor = (
            around(a, a.x.shape[2:], kernel, stride, gap),
            a.get("ceil_mode"),
            a.get("divisor_override"),
        )
        if count == 3:
            even = all(before == after for before, after in pads) and not ceil and not divisor
            need(even, f"pooling of volumes with padding {pads}, ceil mode or divisor", "even padding, no ceil mode")
            depths = [before for before, _ in pads]
            return pool_of_volumes(c, a.x, kernel=kernel, stride=stride, pads=depths, dilation=gap, largest=largest)
        if largest:
            need(a.outputs == 1, "places of the largest as a second output", "one output: the largest values")
            return max_pool(c, a.x, kernel=kernel, stride=stride, pads=pads, dilation=gap, ceil=bool(ceil))
        need(set(gap) == {1}, "dilated average pooling", "a depthwise convolution")
        padded = bool(a.get("count_include_pad"))
        return average_pool(
            c, a.x, kernel=kernel, stride=stride, pads=pads, ceil=bool(ceil), count_padding=padded, divisor=divisor
        )

    return rule


def _mean_of_map(c: Composer, a: Call) -> Operand:
    """A mean of TFLite, which over places of a map is a pool."""
    axes, keep = a.whole("dim") or [], bool(a["keepdim"])
    if len(a.value.shape) != 4 or sorted(axis % 4 for axis in axes) != [1, 2]:
        return reduce(c, a.x, "mean", axes, keep)
    images, high, wide, channels = a.x.shape
    maps = permute(c, a.x, FIRST_CHANNEL)
    size = (high, wide)
    found = average_pool(c, maps, kernel=size, stride=size, pads=[(0, 0)] * 2, ceil=False, count_padding=True)
    found = permute(c, found, LAST_CHANNEL)
    return found if keep else reshape(c, found, (images, channels))


def _adaptive(largest: bool) -> Rule:
    return lambda c, a: adaptive_pool(c, a.x, a.shape[2:], largest)


def _ratios(a: Call) -> list[float]:
    """Old places for each new one, along each axis: by the factors if they are given, else by the sizes."""
    old, new = a.x.shape[2:], a.shape[2:]
    factors: Sequence[float | None] = a.get("scale_factors") or [
        a.get("scales" if len(old) == 1 else name) for name in ("scales_h", "scales_w")[-len(old) :]
    ]
    return [1 / f if f else o / n for f, o, n in zip(factors, old, new, strict=True)]


def _nearest(offset: float) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        at = [
            (np.arange(new, dtype=np.float32) + np.float32(offset)) * np.float32(ratio)
            for new, ratio in zip(a.shape[2:], _ratios(a), strict=True)
        ]
        return nearest(c, a.x, range(2, len(a.shape)), [places.astype(np.float64) for places in at])

    return rule


def _mixed(cubic: float | None) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        word = "align_corners" if a["align_corners"] else "half_pixel"
        at = [positions(o, n, r, word) for o, n, r in zip(a.x.shape[2:], a.shape[2:], _ratios(a), strict=True)]
        return resampled_lines(c, a.x, at[0]) if len(at) == 1 else resampled(c, a.x, at, cubic)

    return rule


def _antialiased(cubic: bool) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        sizes = zip(a.x.shape[2:], a.shape[2:], _ratios(a), strict=True)
        turned = [(old, new, (old - 1) / max(new - 1, 1) if a["align_corners"] else r) for old, new, r in sizes]
        return filtered(c, a.x, [antialiased(old, new, ratio, cubic) for old, new, ratio in turned])

    return rule


def _sampled(c: Composer, a: Call) -> Operand:
    mode, padding = a.get("interpolation_mode", a.get("mode")), a["padding_mode"]
    mode = ("bilinear", "nearest", "bicubic")[mode] if isinstance(mode, int) else mode
    padding = ("zeros", "border", "reflection")[padding] if isinstance(padding, int) else padding
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return sampled(c, a.x, a.operand("grid"), mode, padding, bool(a["align_corners"]))


def _local_norm(c: Composer, a: Call) -> Operand:
    """x / (bias + alpha · mean of squares of neighbouring channels) ^ beta."""
    return local_norm(c, a.x, a["size"], a["alpha"], a["beta"], a["bias"])


def _resize(c: Composer, a: Call) -> Operand:
    late = "coordinates" in a.arguments and a.opset >= 11
    rank = len(a.x.shape)
    axes = [axis % rank for axis in a.get("axes") or range(rank)]
    old = [a.x.shape[axis] for axis in axes]
    need(a.get("policy", "stretch") == "stretch", "sizes that keep the aspect ratio", "fixed sizes")
    sizes, ratios = _new_sizes(a, old, late)
    changed = [n for n, axis in enumerate(axes) if sizes[n] != a.x.shape[axis]]
    if not changed:
        return a.x
    need(min(sizes) >= 1, f"sizes {sizes}", "sizes of at least 1")
    within(*sizes)
    rule = a["coordinates"] if late else "asymmetric"
    at = {axes[n]: positions(old[n], sizes[n], ratios[n], rule) for n in changed}
    if a["mode"] == "nearest":
        rounding = a["nearest_mode"] if late else "floor"
        return nearest(c, a.x, list(at), [_rounded(places, rounding) for places in at.values()])
    plain = a["mode"] in ("linear", "cubic") and not a.get("antialias")
    need(plain, f"resampling by {a['mode']!r}, or with antialiasing", "nearest, linear or cubic, antialias=0")
    cubic = a.get("cubic_coeff_a", -0.75) if a["mode"] == "cubic" else None
    inside = cubic is None or not a.get("exclude_outside")
    need(inside, "cubic resampling that leaves out places outside", "an export with exclude_outside=0")
    if rank == 3:
        return resampled_lines(c, a.x, at[2])
    maps = rank == 4 and set(at) <= {2, 3}
    need(maps, f"resampling of axes {sorted(at)} of {a.x.shape}", "resampling of height and width")
    whole = [at.get(axis, np.arange(a.x.shape[axis], dtype=np.float64)) for axis in (2, 3)]
    return resampled(c, a.x, whole, cubic)


def _new_sizes(a: Call, old: Sequence[int], late: bool) -> tuple[list[int], list[float]]:
    """Sizes of the axes that are resized, given or by factors, and old over new."""
    sizes = a.whole("sizes") if late else None
    if sizes:
        return sizes, [o / n for o, n in zip(old, sizes, strict=True)]
    factors = a.stored("scales" if "scales" in a.arguments else "roi_or_scales")
    need(factors.size == len(old) and bool((factors > 0).all()), f"{factors.size} factors for {len(old)} axes", BROKEN)
    return [int(o * f) for o, f in zip(old, factors.tolist(), strict=True)], [1 / f for f in factors.tolist()]


def _rounded(places: NDArray[np.float64], rule: str) -> Any:
    places = np.round(places, 6)  # factors are float32 in the file
    if rule == "round_prefer_floor":
        return np.ceil(places - 0.5)
    if rule == "round_prefer_ceil":
        return np.floor(places + 0.5)
    if rule in ("floor", "ceil"):
        return np.floor(places) if rule == "floor" else np.ceil(places)
    refuse(f"nearest places by {rule!r}", "round_prefer_floor, round_prefer_ceil, floor or ceil")


def _resize_to(linear: bool) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        size = a.whole("size") or []
        need(len(size) == 2 and min(size) >= 1, f"a size {size}", BROKEN)
        word = "align_corners" if a["corners"] else "half_pixel" if a["half"] else "asymmetric"
        at = [positions(n, m, n / m, word) for n, m in zip(a.x.shape[2:], size, strict=True)]
        if linear:
            return resampled(c, a.x, at, None)
        shift = 0.5 if word != "asymmetric" else 0.0  # rounded, halves up
        return nearest(c, a.x, (2, 3), [places + shift for places in at])

    return last_channels(rule)


POOL = "kernel_size:kernel_shape, stride:strides, dilation:dilations, pads, auto_pad='NOTSET', ceil_mode"
average = _pool(False)
_LITE = "(self; kernel_size:Filter, stride:Stride, padding:Padding)"
_SIZE = "(self, size; corners:AlignCorners, half:HalfPixelCenters)"
OPERATIONS = (
    NamedOperation(_pool(True), "max_pool1d max_pool2d max_pool3d", f"MaxPool(self; {POOL})"),
    NamedOperation(first(_pool(True)), "max_pool2d_with_indices max_pool3d_with_indices"),
    NamedOperation(average, "avg_pool1d avg_pool2d avg_pool3d", f"AveragePool(self; {POOL}, count_include_pad)"),
    NamedOperation(last_channels(_pool(True)), lite=f"MAX_POOL_2D{_LITE}"),
    NamedOperation(last_channels(average), lite=f"AVERAGE_POOL_2D{_LITE}"),
    NamedOperation(_mean_of_map, lite="MEAN(self, dim; keepdim:KeepDims)"),
    NamedOperation(_adaptive(False), "adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d"),
    NamedOperation(first(_adaptive(True)), "adaptive_max_pool1d adaptive_max_pool2d"),
    NamedOperation(_nearest(0.0), "upsample_nearest1d upsample_nearest2d"),
    NamedOperation(_nearest(0.5), "_upsample_nearest_exact1d _upsample_nearest_exact2d"),
    NamedOperation(_mixed(None), "upsample_linear1d upsample_bilinear2d"),
    NamedOperation(_mixed(-0.75), "upsample_bicubic2d"),
    NamedOperation(_antialiased(False), "_upsample_bilinear2d_aa"),
    NamedOperation(_antialiased(True), "_upsample_bicubic2d_aa"),
    NamedOperation(
        _sampled,
        "grid_sampler_2d grid_sampler",
        "GridSample(self, grid; mode='bilinear', padding_mode='zeros', align_corners=0)",
    ),
    NamedOperation(_local_norm, onnx="LRN(self; size, alpha=1e-4, beta=0.75, bias=1.0)"),
    NamedOperation(
        _resize,
        onnx="Resize(self, roi_or_scales, scales, sizes; axes, policy:keep_aspect_ratio_policy, mode='nearest', "
        "coordinates:coordinate_transformation_mode='half_pixel', nearest_mode='round_prefer_floor', "
        "cubic_coeff_a, exclude_outside, antialias) Upsample(self, scales; mode='nearest')",
    ),
    NamedOperation(_resize_to(True), lite=f"RESIZE_BILINEAR{_SIZE}"),
    NamedOperation(_resize_to(False), lite=f"RESIZE_NEAREST_NEIGHBOR{_SIZE}"),
)
