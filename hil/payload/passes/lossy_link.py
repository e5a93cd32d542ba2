"""A radio link over contact windows: rates, delay, bit errors, lost and reordered packets, a store-and-forward bus.

Bits are really turned over: a packet travels in a frame with a checksum, and what does not fit its checksum is dropped,
as a receiver of transfer frames does. A packet that does not end before the window does is not sent. What has been sent
still arrives after the window, the bus passes it on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import google_crc32c
import numpy as np
from spacepackets.ccsds import SpacePacketHeader

from hil.payload.settings import FRAME_BYTES, LinkFigures

APID_FILES, APID_COMMANDS = 0x21, 0x22
FRAME = struct.Struct(">I")


@dataclass
class RadioDirection:
    """One direction: when it is free again, how long it sent, what it lost."""

    figures: LinkFigures
    bit_per_s: float
    rng: np.random.Generator
    free_s: float = 0.0
    on_air_s: float = 0.0
    packets: int = 0
    lost: int = 0
    count: int = 0  # of the space packets

    def sends_until(self, size: int, now_s: float) -> float:
        """Time at which the last bit of a packet of ``size`` bytes would leave, s, if it were sent now."""
        return max(now_s, self.free_s) + 8 * (size + FRAME_BYTES) / self.bit_per_s

    def send(self, content: bytes, apid: int, now_s: float) -> tuple[float, bytes]:
        """When the frame arrives, and what arrives; an empty frame is lost."""
        end_s = self.sends_until(len(content), now_s)
        self.on_air_s += end_s - max(now_s, self.free_s)
        self.free_s = end_s
        self.packets += 1
        header = SpacePacketHeader.tc(apid=apid, seq_count=self.count & 0x3FFF, data_len=len(content) - 1)
        self.count += 1
        packet = bytes(header.pack()) + content
        frame = bytearray(packet + FRAME.pack(google_crc32c.value(packet)))
        late = self.figures.delay_s + self.figures.bus_delay_s
        if self.rng.random() < self.figures.reordered_share:
            late += self.rng.random() * (0.1 + self.figures.delay_s)
        for bit in _errors(8 * len(frame), self.figures.bit_errors, self.rng):
            frame[bit >> 3] ^= 0x80 >> (bit & 7)
        if self.rng.random() < self.figures.lost_share or opened(bytes(frame)) is None:
            self.lost += 1
            return end_s + late, b""
        return end_s + late, bytes(frame)


def opened(frame: bytes) -> bytes | None:
    """The content of the space packet in a frame; None where the checksum does not fit."""
    if len(frame) < 6 + FRAME.size + 1:
        return None
    packet = frame[: -FRAME.size]
    if FRAME.unpack(frame[-FRAME.size :])[0] != google_crc32c.value(packet):
        return None
    return packet[6:]


def _errors(bits: int, rate: float, rng: np.random.Generator) -> list[int]:
    count = int(rng.binomial(bits, rate)) if rate > 0.0 else 0
    return [int(b) for b in rng.integers(0, bits, count)]
