"""One number for each module of the chip, and arithmetic on such sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter


@dataclass(frozen=True, slots=True, kw_only=True)
class ByComponent:
    """A quantity by module: ns, um2, W or nJ, by the name of the field that holds it."""

    array: float = 0.0
    dac: float = 0.0
    adc: float = 0.0
    input_register: float = 0.0
    output_register: float = 0.0
    input_demux: float = 0.0
    output_mux: float = 0.0
    shift_register: float = 0.0
    adder: float = 0.0
    joint: float = 0.0
    buffer_read: float = 0.0
    buffer_write: float = 0.0
    buffer: float = 0.0  # of an area, where reads and writes share it
    pooling: float = 0.0
    element_wise: float = 0.0

    @property
    def digital(self) -> float:
        """Registers, (de)muxes, adders, joint modules, element-wise operations."""
        registers = self.input_register + self.output_register + self.shift_register
        return registers + self.input_demux + self.output_mux + self.adder + self.joint + self.element_wise

    @property
    def total(self) -> float:
        analog = self.array + self.dac + self.adc
        return analog + self.digital + self.buffer_read + self.buffer_write + self.buffer + self.pooling

    def __mul__(self, factor: float) -> ByComponent:
        return ByComponent(**{n: v * factor for n, v in zip(NAMES, values(self), strict=True)})

    def times(self, other: ByComponent) -> ByComponent:
        """Module by module: W · ns = nJ."""
        return ByComponent(**{n: a * b for n, a, b in zip(NAMES, values(self), values(other), strict=True)})


NAMES = tuple(f.name for f in fields(ByComponent))
NOTHING = ByComponent()
values = attrgetter(*NAMES)


def summed(parts: Iterable[ByComponent]) -> ByComponent:
    """Sum of each component over ``parts``."""
    return ByComponent(
        **{n: sum(column) for n, column in zip(NAMES, zip(*map(values, parts), strict=True), strict=True)}
    )
