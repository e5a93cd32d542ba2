"""Rules of ATen for pooling and resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mapping.network.aten.call import Call, Rule
from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import need
from mapping.network.compose.values import Operand
from mapping.network.compose.windows import (
    adaptive_pool,
    average_pool,
    max_pool,
    nearest,
    positions,
    resampled,
    resampled_lines,
)


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
    need(not a.get("antialias", False), "antialiased resampling", "antialias=False, or an average pool before it")
    rule = "align_corners" if a["align_corners"] else "half_pixel"
    at = [positions(o, n, r, rule) for o, n, r in zip(a.x.shape[2:], a.shape[2:], _ratios(a), strict=True)]
    return resampled_lines(c, a.x, at[0]) if len(at) == 1 else resampled(c, a.x, at, cubic)


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
    "upsample_linear1d": _linear,
    "upsample_bilinear2d": _linear,
    "upsample_bicubic2d": _cubic,
}
