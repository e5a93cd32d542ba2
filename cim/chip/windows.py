"""Windows of a convolution over a feature map: one geometry for compiler, simulator and chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel window stepping over a feature map of ``channels`` x ``height`` x ``width``."""

    channels: int
    height: int
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if min(self.out_height, self.out_width) < 1:
            raise ValueError(f"kernel {self.kernel} does not fit a padded map of {self.height} x {self.width}")

    @property
    def out_height(self) -> int:
        reach = self.dilation[0] * (self.kernel[0] - 1) + 1
        return (self.height + 2 * self.padding[0] - reach) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        reach = self.dilation[1] * (self.kernel[1] - 1) + 1
        return (self.width + 2 * self.padding[1] - reach) // self.stride[1] + 1

    @property
    def positions(self) -> int:
        return self.out_height * self.out_width

    @property
    def rows(self) -> int:
        """Length of one unfolded vector: channels x kernel height x kernel width, in that order."""
        return self.channels * self.kernel[0] * self.kernel[1]


def unfold(codes: NDArray[np.integer], window: Window) -> NDArray[np.integer]:
    """Give every kernel window as one vector.

    Args:
        codes: feature maps, (images, channels, height, width).
        window: the geometry; row order of a vector is (channel, kernel row, kernel column).

    Returns:
        (images, positions, rows), same dtype, positions in row-major order of the output map.
    """
    images = codes.shape[0]
    if codes.shape[1:] != (window.channels, window.height, window.width):
        raise ValueError(f"feature map {codes.shape[1:]} is not {(window.channels, window.height, window.width)}")
    (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
    padded = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    reach = (gap_h * (window.kernel[0] - 1) + 1, gap_w * (window.kernel[1] - 1) + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    view = view[:, :, ::step_h, ::step_w, ::gap_h, ::gap_w]
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(images, window.positions, window.rows)
