"""What a check works with: the chip's line in three forms, and words for what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cim.chip.spec import ChipSpec
from firmware_protocols.messages import Capability, CellBlock, Polarity, Pulse
from hil.driver.chip_driver import ChipDriver
from hil.driver.keys import HostKey
from hil.driver.open_chip import connect
from hil.driver.selftest.line import FrameLine, MessageLine, OpenLine
from hil.errors import DeviceError, UsageError

UNJUDGED_S = 10.0  # silence of a chip that is only asked what it is, maybe on a busy machine
BUSY = "as on a busy machine"  # in the reasons of what could not be tried, and can be on another day


class CheckFailed(DeviceError):
    """The chip does not do what the protocol says."""


class NotTried(DeviceError):
    """The check cannot be made here; says what would make it possible."""


class NotThere(NotTried):
    """The chip lacks what the check needs, and may."""


def expect(good: bool, text: str) -> None:
    if not good:
        raise CheckFailed(text)


@dataclass(frozen=True, slots=True)
class Bench:
    """One chip; every check opens its line anew, so a board on a cable must stand several hosts."""

    address: str
    open: OpenLine
    known: ChipSpec | None = None
    key: HostKey | None = None
    cut_power: Callable[[], None] | None = None  # takes the chip's power and gives it back; None: nobody can
    lag_s: float = 0.0  # by which the chip's clock may lag behind ours: of a processor that is emulated here

    @property
    def spec(self) -> ChipSpec:
        if self.known is None:
            raise UsageError("the chip's description is not known yet")
        return self.known

    def pulse(self, cells: CellBlock, millivolts: int, polarity: Polarity = Polarity.SET) -> Pulse:
        """The same pulse on every cell of a block, as wide as the chip's recipe, which what stands before it gives."""
        volts = np.full((cells.rows, cells.columns), millivolts, np.uint16)
        return Pulse(cells, polarity, round(self.spec.write.pulse_width_ns), 0, volts)

    def frames(self) -> FrameLine:
        return FrameLine(self.open())

    def messages(self, *, nonce: int | None = None, session: int = 0, authorised: bool = True) -> MessageLine:
        return MessageLine(self.open(), nonce=nonce, session=session, key=self.key if authorised else None)

    def needs(self, *needs: Capability) -> Capability:
        """What the chip can do; raises ``NotThere`` where that is not all of ``needs``."""
        with self.driver(*needs, silence_s=UNJUDGED_S) as driver:
            return driver.capabilities

    def driver(self, *needs: Capability, silence_s: float = 2.0) -> ChipDriver:
        """The chip as the driver sees it; raises ``NotThere`` where it cannot do all of ``needs``."""
        driver = connect(self.open(), chip=self.known, key=self.key, silence_s=silence_s)
        lacking = [need.name for need in needs if need not in driver.capabilities]
        if lacking:
            driver.close()
            raise NotThere(f"no {lacking[0]}")
        return driver
