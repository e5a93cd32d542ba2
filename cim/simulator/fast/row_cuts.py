"""Rows of a tile as channels and kernel positions, so that engines read codes in the feature map without a copy.

Rows are in the order of an unfolded window: channel, then kernel position. A tile may begin and end inside a channel:
products take all channels that it touches, with cells of 0 where it has no row; counts of driven rows take its rows
alone, as rectangles of channels and kernel positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RowCut:
    """``rows`` of the unfolded input, ``kernel`` of them a channel.

    Example: rows 4 to 11 of channels of 3 rows: the last two of channel 1, channel 2, the first two of channel 3.
    """

    rows: range
    kernel: int

    @property
    def channels(self) -> range:
        """Channels that have a row here."""
        return range(self.rows.start // self.kernel, -(-self.rows.stop // self.kernel))

    @property
    def positions(self) -> NDArray[np.int64]:
        """Kernel positions that have a row here, ascending."""
        return np.unique(np.arange(self.rows.start, self.rows.stop) % self.kernel)

    @property
    def rectangles(self) -> tuple[tuple[range, range], ...]:
        """The rows as rectangles: pairs of a range of channels and one of kernel positions, each row once."""
        first, skipped = divmod(self.rows.start, self.kernel)
        last, left = divmod(self.rows.stop, self.kernel)
        if first == last:
            return ((range(first, first + 1), range(skipped, left)),)
        parts = (
            (range(first + (skipped > 0), last), range(self.kernel)),
            (range(first, first + (skipped > 0)), range(skipped, self.kernel)),
            (range(last, last + (left > 0)), range(left)),
        )
        return tuple((channels, positions) for channels, positions in parts if len(channels))

    def spread(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Cells (rows, conversions) as (channels, kernel, conversions), 0 where there is no row."""
        channels = self.channels
        whole = np.zeros((len(channels) * self.kernel, cells.shape[1]), cells.dtype)
        skipped = self.rows.start - channels.start * self.kernel
        whole[skipped : skipped + len(cells)] = cells
        return whole.reshape(len(channels), self.kernel, -1)
