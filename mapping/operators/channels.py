"""Channels of a network as they go from node to node, and which of them stay when some are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Channels = Sequence[int]
"""A number for each channel of a map or feature of a vector; numbers that were joined go or stay together."""


class ChannelClasses:
    """Channels that go or stay together, by union; a *fixed* one never goes."""

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
        """The number that stands for the whole class of a channel."""
        while self.above[channel] != channel:
            self.above[channel] = self.above[self.above[channel]]
            channel = self.above[channel]
        return channel

    def join(self, one: Channels, other: Channels) -> None:
        """Each channel of ``one`` goes with the channel at its place in ``other``."""
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
