"""The integer weights of a chip's conductance levels.

    g_k ≈ g_0 + unit · v_k,   v_0 = 0 < v_1 < … < v_n

Evenly spaced levels have v_k = k and their distance as the unit. Others, such as 2, 4, 8, 16, 32 µS,
have larger integers: 0, 1, 3, 7, 15 of 2 µS. Weights then take only values that cells hold.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

LARGEST_VALUE = 127  # a signed weight value is one byte
WINDOW_SHARE = 0.25  # of the write-verify window: an error this small is lost in what writing leaves


@dataclass(frozen=True, slots=True)
class LevelValues:
    """``values`` of the levels, the ``unit_us`` of one, and the largest |g_k − g_0 − unit · v_k|."""

    values: tuple[int, ...]
    unit_us: float
    error_us: float

    @property
    def even(self) -> bool:
        return self.values[-1] == len(self.values) - 1


@functools.cache
def level_values(levels_us: tuple[float, ...], tolerance_us: float) -> LevelValues:
    """The smallest integers that give every level to within a quarter of the write-verify window.

    The highest level is exact: unit = (g_n − g_0) / v_n. Where no v_n up to 127 is close enough,
    the one of the least error is taken.

    Args:
        levels_us: ascending, µS.
        tolerance_us: the window is ± this.

    Raises:
        ValueError: two levels are closer than 1/127 of the span, so no integers tell them apart.

    Example:
        >>> level_values((2.0, 4.0, 8.0, 16.0, 32.0), 0.5)
        LevelValues(values=(0, 1, 3, 7, 15), unit_us=2.0, error_us=0.0)
    """
    best = None
    even = len(levels_us) - 1
    for top in (even, *range(even + 1, LARGEST_VALUE + 1)):
        unit = (levels_us[-1] - levels_us[0]) / top
        values = tuple(round((g - levels_us[0]) / unit) for g in levels_us)
        if any(a >= b for a, b in itertools.pairwise(values)):
            continue
        error = max(abs(g - levels_us[0] - unit * v) for g, v in zip(levels_us, values, strict=True))
        if best is None or error < best.error_us:
            best = LevelValues(values, unit, error)
        if error <= WINDOW_SHARE * tolerance_us:
            return LevelValues(values, unit, error)
    if best is None:
        raise ValueError(f"two of {len(levels_us)} levels are closer than 1/{LARGEST_VALUE} of their span")
    return best
