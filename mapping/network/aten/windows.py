"""Rules of ATen for pooling and resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.places import sampled
from mapping.network.compose.refusal import need
from mapping.network.compose.values import Operand
from mapping.network.compose.volumes import pool_of_volumes
from mapping.network.compose.windows import (
    adaptive_pool,
    antialiased,
    average_pool,
    filtered,
    max_pool,
    nearest,
    positions,
    resampled,
    resampled_lines,
)
from mapping.network.operations.call import Call, Rule


def _count(a: Call) -> int:
    return len(a.x.shape) - 2


def _max_pool(c: Composer, a: Call) -> Operand:
    n = _count(a)
    kernel = a.integers("kernel_size", n)
    return max_pool(
        c,
        a.x,
        kernel=kernel,
        stride=a.integers("stride", n) if a["stride"] else kernel,
        pads=[(p, p) for p in a.integers("padding", n)],
        dilation=a.integers("dilation", n),
        ceil=a["ceil_mode"],
    )


def _average_pool(c: Composer, a: Call) -> Operand:
    n = _count(a)
    kernel = a.integers("kernel_size", n)
    return average_pool(
        c,
        a.x,
        kernel=kernel,
        stride=a.integers("stride", n) if a["stride"] else kernel,
        pads=[(p, p) for p in a.integers("padding", n)],
        ceil=a["ceil_mode"],
        count_padding=a["count_include_pad"],
        divisor=a.get("divisor_override"),
    )


def _adaptive(largest: bool) -> Rule:
    def rule(c: Composer, a: Call) -> list[Operand | None] | Operand:
        found = adaptive_pool(c, a.x, a.shape[2:], largest)
        return [found, None] if largest else found  # the largest come with their places

    return rule


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


def _linear(c: Composer, a: Call) -> Operand:
    return _mixed(c, a, None)


def _cubic(c: Composer, a: Call) -> Operand:
    return _mixed(c, a, -0.75)


def _mixed(c: Composer, a: Call, cubic: float | None) -> Operand:
    rule = "align_corners" if a["align_corners"] else "half_pixel"
    at = [positions(o, n, r, rule) for o, n, r in zip(a.x.shape[2:], a.shape[2:], _ratios(a), strict=True)]
    return resampled_lines(c, a.x, at[0]) if len(at) == 1 else resampled(c, a.x, at, cubic)


def _antialiased(cubic: bool) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        sizes = zip(a.x.shape[2:], a.shape[2:], _ratios(a), strict=True)
        turned = [(old, new, (old - 1) / max(new - 1, 1) if a["align_corners"] else r) for old, new, r in sizes]
        return filtered(c, a.x, [antialiased(old, new, ratio, cubic) for old, new, ratio in turned])

    return rule


def _volumes(largest: bool) -> Rule:
    def rule(c: Composer, a: Call) -> Operand:
        kernel = a.integers("kernel_size", 3)
        stride = a.integers("stride", 3) if a["stride"] else kernel
        need(
            not a["ceil_mode"] and not a.get("divisor_override"),
            "a ceil mode or divisor of volumes",
            "no ceil_mode, no divisor",
        )
        gap = a.integers("dilation", 3) if largest else (1, 1, 1)
        pads = a.integers("padding", 3)
        return pool_of_volumes(c, a.x, kernel=kernel, stride=stride, pads=pads, dilation=gap, largest=largest)

    return rule


def _sampled(c: Composer, a: Call) -> Operand:
    mode, padding = ("bilinear", "nearest", "bicubic")[a["interpolation_mode"]], ("zeros", "border", "reflection")
    return sampled(c, a.x, a.operand("grid"), mode, padding[a["padding_mode"]], bool(a["align_corners"]))


RULES: dict[str, Rule] = {
    "max_pool1d": _max_pool,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": lambda c, a: [_max_pool(c, a), None],
    "avg_pool1d": _average_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool1d": _adaptive(False),
    "adaptive_avg_pool2d": _adaptive(False),
    "_adaptive_avg_pool2d": _adaptive(False),
    "adaptive_max_pool1d": _adaptive(True),
    "adaptive_max_pool2d": _adaptive(True),
    "upsample_nearest1d": _nearest(0.0),
    "upsample_nearest2d": _nearest(0.0),
    "_upsample_nearest_exact1d": _nearest(0.5),
    "_upsample_nearest_exact2d": _nearest(0.5),
    "_upsample_bilinear2d_aa": _antialiased(False),
    "_upsample_bicubic2d_aa": _antialiased(True),
    "max_pool3d": _volumes(True),
    "max_pool3d_with_indices": lambda c, a: [_volumes(True)(c, a), None],
    "avg_pool3d": _volumes(False),
    "grid_sampler_2d": _sampled,
    "grid_sampler": _sampled,
    "upsample_linear1d": _linear,
    "upsample_bilinear2d": _linear,
    "upsample_bicubic2d": _cubic,
}
