"""Channels followed from node to node, and which must be pruned together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Channels = Sequence[int]
"""A number for each channel of a map or feature of a vector; numbers that were joined go or stay together."""


class ChannelClasses:
    """Classes of channels that are pruned together (union-find); a *fixed* channel is never pruned."""

    def __init__(self) -> None:
        self.above: list[int] = []
        self.fixed: set[int] = set()

    def new(self, count: int, *, fixed: bool = False) -> list[int]:
        """Numbers for ``count`` further channels, none of which is pruned together with another yet."""
        made = list(range(len(self.above), len(self.above) + count))
        self.above += made
        if fixed:
            self.fixed.update(made)
        return made

    def root(self, channel: int) -> int:
        """The channel that represents the class of ``channel``."""
        while self.above[channel] != channel:
            self.above[channel] = self.above[self.above[channel]]
            channel = self.above[channel]
        return channel

    def join(self, one: Channels, other: Channels) -> None:
        """Prune each channel of ``one`` together with the channel at its place in ``other``."""
        for a, b in zip(one, other, strict=True):
            self.above[self.root(b)] = self.root(a)

    def fix(self, channels: Channels) -> None:
        """Mark channels that are never pruned."""
        self.fixed.update(channels)

    def fixed_roots(self) -> set[int]:
        return {self.root(channel) for channel in self.fixed}


class KeptChannels(NamedTuple):
    """Channels of a map that stay: their places, and how many channels there were."""

    places: NDArray[np.int64]
    whole: int
