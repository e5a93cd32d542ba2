"""Buffers of MNSIM 2.0: a table by node, size and bus width, and one time for every access."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cim.mnsim.config import MnsimConfig, MnsimError


@dataclass(frozen=True, slots=True)
class Sram:
    """One buffer: area, and power while it reads or writes."""

    size_kb: float
    area_um2: float
    read_w: float
    write_w: float


NO_BUFFER = Sram(0.0, 0.0, 0.0, 0.0)


def sram(size_kb: float, config: MnsimConfig) -> Sram:
    """The first row of the table whose node is at most ours and whose size and bus are at least ours.

    power = energy of a word / word time + leakage. Example, 0.125 kB, 90 nm, 64 bit: 40,580 um2,
    7.5695 pJ / 20 ns + 1.006 mW = 1.385 mW for reads.

    Raises:
        MnsimError: the table has no such buffer (a 512-bit bus begins above 2 kB).
    """
    if size_kb == 0:
        return NO_BUFFER
    buffer = config.buffer
    node = max((r.node_nm for r in config.sram.rows if r.node_nm <= buffer.technology_nm), default=math.nan)
    fitting = (r for r in config.sram.rows if r.node_nm == node and size_kb <= r.size_kb)
    row = next((r for r in fitting if buffer.bus_bits <= r.bus_bits), None)
    smallest = min((r.size_kb for r in config.sram.rows if r.node_nm == node and size_kb <= r.size_kb), default=0.0)
    if row is None or row.size_kb != smallest:
        raise MnsimError(
            f"the table has no buffer of {size_kb:g} kB, bus of {buffer.bus_bits} bits at {buffer.technology_nm:g} nm"
        )
    leakage_w = row.leakage_mw * 1e-3
    return Sram(
        size_kb, row.area_um2, row.read_nj / buffer.word_ns + leakage_w, row.write_nj / buffer.word_ns + leakage_w
    )


def access_ns(bits: float, config: MnsimConfig) -> float:
    """⌈bits / bus⌉ · word time. Quirk: 20 ns a word whatever the buffer, its own cycle time is not used."""
    return math.ceil(bits / config.buffer.bus_bits) * config.buffer.word_ns
