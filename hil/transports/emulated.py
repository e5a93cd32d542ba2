"""The emulated chip behind the same bytes as a real one."""

from __future__ import annotations

from hil.transports.in_process import InProcessTransport


def open_emulated(address: str) -> InProcessTransport:
    """Make the chip that ``emulated:NAME?seed=…`` names, and talk to it in this process."""
    from hil.emulator.address import chip_from_address

    return InProcessTransport(chip_from_address(address), address)
