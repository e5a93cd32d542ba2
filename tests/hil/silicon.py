"""A minimum stand-in of a real board: it says *silicon*, has any set of capabilities, and its clock runs by itself."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator
from dataclasses import dataclass

import pytest

from cim.chip.spec import ChipSpec
from firmware_protocols.extensions.chip_side import Keeping
from firmware_protocols.messages import Capability, Description, Done, StatusReply, Wait
from hil.driver.checked_chip import OpenChip
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip


@dataclass
class Clock:
    """Time of a host and of a board: it runs on, and jumps where somebody sleeps."""

    slept_s: float = 0.0

    def now_s(self) -> float:
        return time.monotonic() + self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds

    def of_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let drivers that are opened from now on read this clock and sleep by it."""
        usual = OpenChip.__init__.__kwdefaults__
        monkeypatch.setitem(usual, "clock", self.now_s)
        monkeypatch.setitem(usual, "sleep", self.sleep)


class SiliconBoard(EmulatedChip):
    """Cells of an emulated chip behind the words of a real one.

    Args:
        rate: of the board's clock beside the host's.
    """

    def __init__(
        self, spec: ChipSpec, clock: Clock, capabilities: Capability = ALL_CAPABILITIES, *, rate: float = 1.0
    ) -> None:
        super().__init__(spec, 7, capabilities=capabilities)
        self.clock, self.rate, self.began_s, self.set_back_s = clock, rate, clock.now_s(), 0.0

    @property
    def keeping(self) -> Keeping | None:
        """No memory of its own where it claims none."""
        return super().keeping if Capability.JOURNAL in self.capabilities else None

    @property
    def chip_time_ns(self) -> int:
        return round((self.rate * (self.clock.now_s() - self.began_s) - self.set_back_s) * 1e9)

    def describe(self) -> Description:
        return dataclasses.replace(super().describe(), kind="silicon")

    def status(self) -> StatusReply:
        status = super().status()
        told = Capability.TEMPERATURE in self.capabilities
        return status if told else dataclasses.replace(status, temperature_c=math.nan)

    def wait(self, request: Wait) -> Generator[None, None, Done]:
        self.clock.sleep(request.duration_ns * 1e-9)
        yield None
        return super().wait(request)
