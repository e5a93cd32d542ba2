"""Kinds of faults: where radiation strikes, how long the fault stays, and at which rate of the orbit file."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hil.payload.orbit import UpsetRates


class FaultKind(enum.StrEnum):
    """Place and form of one fault."""

    CELL_NEIGHBOUR = "cell-neighbour"  # a cell moves by one level
    CELL_EXTREME = "cell-extreme"  # a cell goes to the lowest or highest level
    CONVERTER_TRIM = "converter-trim"  # a bit of the offset register of one converter
    CONVERTER_RANGE = "converter-range"  # a bit of the range register of a macro
    ROW_ENABLE = "row-enable"  # the enable bit of a word line
    CONVERSION = "conversion"  # a bit of one converted code, in one read of an image
    ACCUMULATOR = "accumulator"  # a bit of one 32-bit sum
    ACTIVATION = "activation"  # a bit of one stored code
    IMAGE_LEVEL = "image-level"  # a bit of a weight in the program image, before it is written to cells
    IMAGE_TABLE = "image-table"  # a bit of the table from pixels to codes
    CORRECTION = "correction"  # a bit of a column correction
    REQUANTISE = "requantise"  # a bit of a bias, multiplier or shift
    SEQUENCER = "sequencer"  # a bit of the number of the step under way


@dataclass(frozen=True, slots=True)
class KindFacts:
    """``rate``: field of ``UpsetRates`` by site; ``lasts``: persistent until corrected, or one image only."""

    place: str
    rate: str
    lasts: bool
    sites: str  # what one site is


KINDS: dict[FaultKind, KindFacts] = {
    FaultKind.CELL_NEIGHBOUR: KindFacts("cells", "cell_per_day", True, "a cell and a direction"),
    FaultKind.CELL_EXTREME: KindFacts("cells", "cell_per_day", True, "a cell and an end of the window"),
    FaultKind.CONVERTER_TRIM: KindFacts("converters", "register_bit_per_day", True, "a bit of a converter's trim"),
    FaultKind.CONVERTER_RANGE: KindFacts("converters", "register_bit_per_day", True, "a bit of a macro's range"),
    FaultKind.ROW_ENABLE: KindFacts("registers", "register_bit_per_day", True, "a word line of a macro"),
    FaultKind.CONVERSION: KindFacts("converters", "conversion_per_day", False, "a bit of a conversion"),
    FaultKind.ACCUMULATOR: KindFacts("accumulators", "memory_bit_per_day", False, "a bit of a sum"),
    FaultKind.ACTIVATION: KindFacts("activations", "memory_bit_per_day", False, "a bit of a code"),
    FaultKind.IMAGE_LEVEL: KindFacts("program image", "stored_bit_per_day", True, "a bit of a weight"),
    FaultKind.IMAGE_TABLE: KindFacts("program image", "stored_bit_per_day", True, "a bit of the input table"),
    FaultKind.CORRECTION: KindFacts("corrections", "memory_bit_per_day", True, "a bit of a correction"),
    FaultKind.REQUANTISE: KindFacts("corrections", "memory_bit_per_day", True, "a bit of a rule"),
    FaultKind.SEQUENCER: KindFacts("registers", "sequencer_bit_per_day", False, "a bit of the step number"),
}


def rate_per_day(kind: FaultKind, rates: UpsetRates) -> float:
    """Upsets of a kind in a day, of one unit (``FaultSpace.units``). Memory counts as in use all day, which is an upper
    bound for codes and sums that wait only for a moment."""
    rate = float(getattr(rates, KINDS[kind].rate))
    if kind is FaultKind.CELL_NEIGHBOUR:
        return rate * (1.0 - rates.extreme_share)
    if kind is FaultKind.CELL_EXTREME:
        return rate * rates.extreme_share
    return rate
