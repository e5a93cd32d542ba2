"""The emulated chip behind the same bytes as a real one."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hil.transports.in_process import InProcessTransport, chip_role


def open_emulated(address: str) -> InProcessTransport:
    """Make the chip that ``emulated:NAME?seed=…`` names, and talk to it in this process."""
    return emulated_lines(address)()


def emulated_lines(address: str) -> Callable[[], InProcessTransport]:
    """Make that chip, and open one line to it after the other: it stays on between them."""
    from hil.emulator.address import chip_from_address

    return functools.partial(InProcessTransport, chip_role(chip_from_address(address)), address)
