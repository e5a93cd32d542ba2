"""Windows that convolutions and pools move over a map."""

from __future__ import annotations

from collections.abc import Sequence

from mapping.operators.node import Node, require
from mapping.operators.step import Shape


def require_window(node: Node, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> None:
    pairs = len(kernel) == len(stride) == len(padding) == 2
    good = pairs and min(*kernel, *stride) >= 1 and min(padding) >= 0
    require(node, good, f"kernel {kernel}, stride {stride} and padding {padding} must be pairs >= 1, >= 1 and >= 0")


def window_steps(
    node: Node, first: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], gap: Sequence[int]
) -> tuple[int, int]:
    """Output height and width: ⌊(size + 2 · padding − gap · (kernel − 1) − 1) / stride⌋ + 1."""
    height, width = (
        (size + 2 * p - g * (k - 1) - 1) // s + 1
        for size, k, s, p, g in zip(first[1:], kernel, stride, padding, gap, strict=True)
    )
    require(node, min(height, width) >= 1, f"kernel {tuple(kernel)} does not fit a padded {first[1]} x {first[2]} map")
    return height, width
