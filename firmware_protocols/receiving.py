"""Receiving half of the link: puts numbered frames in order, once each, and joins them to messages."""

from __future__ import annotations

from typing import NamedTuple

from firmware_protocols.errors import LinkCounters
from firmware_protocols.frames import LAST_BIT, Frame
from firmware_protocols.sending import CHANNELS, EVENTS, MAX_WINDOW

HEAD = 16  # bytes kept of a message that is too long: enough for its header


class Received(NamedTuple):
    """A message that arrived; ``too_long`` is its full size if it broke the limit, then ``data`` is only its head."""

    channel: int
    data: bytes
    too_long: int = 0


class ReceiveWindow:
    """Frames in, whole messages and acknowledgement fields out; holds one window and one message a channel."""

    def __init__(self, max_message: int, counters: LinkCounters) -> None:
        self._max_message, self._counters = max_message, counters
        self._early: dict[int, Frame] = {}  # arrived before their turn
        self._parts: tuple[list[bytes], ...] = tuple([] for _ in range(CHANNELS))
        self._sizes = [0] * CHANNELS
        self.expected = 0
        self.ack_due = False

    @property
    def selective(self) -> int:
        """Bit i says that frame ``expected + 1 + i`` is held."""
        bits = 0
        for sequence in self._early:
            bits |= 1 << ((sequence - self.expected - 1) & 0xFFFF)
        return bits

    def takes(self, sequence: int) -> bool:
        """Whether a frame of this number is new, and within the window."""
        return (sequence - self.expected) & 0xFFFF < MAX_WINDOW and sequence not in self._early

    def take(self, frame: Frame) -> list[Received]:
        """Accept one numbered frame; give the messages that it completes."""
        self.ack_due = True
        ahead = (frame.sequence - self.expected) & 0xFFFF
        if ahead >= 0x8000 or frame.sequence in self._early:
            self._counters.duplicates += 1
            return []
        if ahead >= MAX_WINDOW:
            self._counters.out_of_window += 1
            return []
        if ahead:
            self._early[frame.sequence] = frame
            return []
        messages: list[Received] = []
        current: Frame | None = frame
        while current is not None:
            self._join(current, messages)
            self.expected = (self.expected + 1) & 0xFFFF
            current = self._early.pop(self.expected, None)
        return messages

    def _join(self, frame: Frame, messages: list[Received]) -> None:
        channel = frame.channel
        if channel >= CHANNELS:
            return  # of a later version: acknowledged, not understood
        parts = self._parts[channel]
        self._sizes[channel] += len(frame.payload)
        self._counters.message_bytes += len(frame.payload) * (channel != EVENTS)
        size = self._sizes[channel]
        if size <= self._max_message or not parts:
            parts.append(bytes(frame.payload))
        else:
            parts[:] = [b"".join(parts)[:HEAD]]
        if frame.flags & LAST_BIT:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            too_long = size if size > self._max_message else 0
            messages.append(Received(channel, data[:HEAD] if too_long else data, too_long))
            self._counters.messages_received += 1
            parts.clear()
            self._sizes[channel] = 0
