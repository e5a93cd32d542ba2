"""The emulated chip as a board in this process, behind the same bytes as a real one."""

from __future__ import annotations

from firmware_protocols.handlers import ChipHandlers


def emulated_board(rest: str) -> ChipHandlers:
    """The chip that ``emulated:REST`` names."""
    from hil.emulator.address import SCHEME, chip_from_address

    return chip_from_address(SCHEME + rest)
