"""Optional abilities of a chip, beyond hello, describe, read_cells, mvm and outputs_off."""

from __future__ import annotations

import enum


class Capability(enum.IntFlag):
    """Abilities that a chip reports in hello, one bit each."""

    PROGRAM_TILE = 1 << 0  # write-verify on chip
    PULSE = 1 << 1  # single pulses; the host verifies
    SWEEP = 1 << 2  # steps kernel windows over a feature map
    RAW = 1 << 3  # returns every conversion
    SUMS = 1 << 4  # returns shift-added, pair-subtracted sums
    LAYER = 1 << 5  # adds tiles, corrects and requantises
    WAIT = 1 << 6
    TEMPERATURE = 1 << 7
    HELD_PROGRAM = 1 << 8  # remembers the digest of the program it holds
    RESET = 1 << 9
    JOURNAL = 1 << 10  # the last answers to requests that change something outlive a loss of power
    IMAGES = 1 << 11  # holds a program and writes its tiles by number
    AUTHORITY = 1 << 12  # wants a key proved before anything is changed
    REPEATED_READS = 1 << 13  # adds up the sums of several reads of one product
    DEAD_MAN = 1 << 14  # switches its outputs off when nothing was heard of the host for a while
    PLAN = 1 << 15  # runs a whole network by itself
    PACKED = 1 << 16  # takes packed bodies, and packs replies where it is asked to


COMPUTED_PRODUCTS = "products computed from single reads"  # in ``firmware`` of a description whose board sums itself

SINCE = {  # the versions that have them
    Capability.REPEATED_READS: 0x0102,
    Capability.PLAN: 0x0104,
    Capability.PACKED: 0x0104,
}
