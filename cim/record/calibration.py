"""The measured properties of one chip: converters by column, programming law, read noise, wires.

A ``CalibrationRecord`` is filled through the driver and read by the simulator; it holds no
hidden truth, only estimates with their standard errors. One HDF5 file holds one record.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.cells.temperature import Thermal
from cim.cells.write_statistics import WriteStatistics
from cim.chip.converters import conversions
from cim.chip.spec import Encoding, MacroSpec, PairSubtraction
from cim.errors import CimMismatch

Floats = NDArray[np.float64]


class GainKnown(enum.StrEnum):
    """How cells were read, which decides what ``MacroCalibration.gain`` contains."""

    SENSE = "sense"  # cells read by a path of their own: gain is the column's alone
    PRODUCT = "product"  # cells read through the column: readings already hold its gain


class CellState(enum.IntEnum):
    """Entries of ``MacroCalibration.cells``."""

    GOOD = 0
    STUCK_LOW = 1
    STUCK_HIGH = 2
    NOT_REACHED = 3  # missed its window in the calibration; another programming may reach it


STUCK = (CellState.STUCK_LOW, CellState.STUCK_HIGH)


@dataclass(frozen=True, slots=True)
class MacroCalibration:
    """Converters and cells of one macro.

    All ``(conversions,)`` arrays follow the raw order of a read of the whole macro
    (``cim.chip.converters.conversions``). One conversion of a converted quantity x (µS times
    input unit) at ADC step lsb is believed to be

        y    = gain · x / lsb + offset_codes + conversion_noise_codes · N(0, 1)
        code = clip(⌊y + inl(y) + ½⌋)

    with inl linear between ``inl_codes[adc]``, nodes evenly spaced from the lowest to the
    highest code. ``offset_codes`` is the mean code of zero input before rounding: the curve is 0
    there (at the mean of the columns that share the converter). ``gain`` is the slope over the whole
    scale, all codes alike: the curve has none. ``cells`` int8 (rows, columns), values of ``CellState``; ``stuck_us``
    float32 (rows, columns) is the mean reading of stuck cells in µS, NaN elsewhere.
    """

    macro: int
    gain: Floats
    gain_se: Floats
    offset_codes: Floats
    offset_se: Floats
    conversion_noise_codes: Floats
    adc: NDArray[np.int64]  # converter of each conversion, an index into inl_codes
    inl_codes: Floats  # (adcs, nodes)
    inl_se: Floats  # (adcs, nodes)
    cells: NDArray[np.int8]
    stuck_us: NDArray[np.float32]
    gain_known: GainKnown

    def __post_init__(self) -> None:
        n = self.gain.shape
        for name in ("gain_se", "offset_codes", "offset_se", "conversion_noise_codes", "adc"):
            if getattr(self, name).shape != n:
                raise ValueError(f"macro {self.macro}: {name} {getattr(self, name).shape}, gain {n}")
        if self.inl_codes.ndim != 2 or self.inl_codes.shape[1] < 2 or self.inl_se.shape != self.inl_codes.shape:
            raise ValueError(f"macro {self.macro}: INL {self.inl_codes.shape}, its errors {self.inl_se.shape}")
        if self.adc.size and not 0 <= self.adc.min() <= self.adc.max() < len(self.inl_codes):
            raise ValueError(f"macro {self.macro}: converter {self.adc.max()} of {len(self.inl_codes)} curves")
        if self.stuck_us.shape != self.cells.shape:
            raise ValueError(f"macro {self.macro}: stuck_us {self.stuck_us.shape}, cells {self.cells.shape}")


@dataclass(frozen=True, slots=True, repr=False)
class CalibrationRecord:
    """All that was measured on one chip, and how.

    ``goodness`` holds held-out fit figures (KS distance, R², residual sigma ...); ``pulses`` how many programming
    pulses the calibration cost; ``seed`` the host's seed of the test patterns; ``age_s`` the age at which columns were
    measured. ``thermal`` is there when a second temperature was measured, ``writes`` when write-verify was counted,
    ``drive`` when inputs of several bits a read were measured. ``product_error``: relative standard deviation of a
    cell's conductance in a product against a read of the single cell, fixed for each cell (other voltages, shared
    drivers, neighbours).
    """

    chip_name: str
    revision: str
    serial: str
    firmware: str
    kind: str  # "silicon" or "emulated", as the chip says
    spec_digest: str
    temperature_c: float
    date: str  # ISO 8601
    method: str
    seed: int
    age_s: float
    macros: Mapping[int, MacroCalibration]
    programming: ProgrammingLaw
    read_noise: ReadNoise
    wire: Wire
    goodness: Mapping[str, float] = field(default_factory=dict)
    pulses: int = 0
    thermal: Thermal | None = None
    writes: WriteStatistics | None = None
    drive: InputDrive | None = None
    product_error: float = 0.0

    def __repr__(self) -> str:
        return (
            f"<CalibrationRecord of {self.kind} {self.chip_name} {self.serial}: {len(self.macros)} macros, {self.date}>"
        )

    @property
    def origin(self) -> str:
        """Where the law comes from: "record of emulated lab-128 7aecdedfac45, 2026-11-27T23:41:54+00:00"."""
        if self.kind == "model":
            return f"models of the chip file {self.chip_name}"
        whose = f"{self.kind} {self.chip_name} {self.serial}".strip()
        return "record of " + ", ".join(filter(None, (whose, self.date)))

    def macro(self, macro: int) -> MacroCalibration:
        """Calibration of one macro.

        Raises:
            NotCalibrated: the record does not hold this macro.
        """
        if macro not in self.macros:
            raise NotCalibrated(macro, tuple(sorted(self.macros)))
        return self.macros[macro]


class NotCalibrated(CimMismatch, LookupError):
    """A macro is used that the calibration record does not hold; fields ``macro`` and ``known``."""

    def __init__(self, macro: int, known: tuple[int, ...]) -> None:
        super().__init__(f"macro {macro} is not in the calibration record, which holds {known}")
        self.macro, self.known = macro, known


def tile_conversions(spec: MacroSpec, output0: int, outputs: int) -> NDArray[np.int64]:
    """Indices of a tile's conversions, in raw order, among those of the whole macro.

    Example: a macro of 64 pairs subtracted digitally, outputs 2 and 3 → [2, 3, 66, 67].
    """
    here = np.arange(output0, output0 + outputs)
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return np.append(here, spec.outputs)
    if spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        return np.concatenate([here, here + spec.outputs])
    return here


def nominal_macro(spec: MacroSpec, macro: int, nodes: int = 17) -> MacroCalibration:
    """A macro that does exactly what the chip file says: unit gain, no offset, INL or noise."""
    n = conversions(spec, spec.outputs)
    adc = np.arange(n) // spec.adc.shared_by
    zeros = np.zeros(n)
    curve = np.zeros((int(adc[-1]) + 1, nodes))
    cells = np.zeros((spec.rows, spec.columns), np.int8)
    return MacroCalibration(
        macro=macro,
        gain=np.ones(n),
        gain_se=zeros,
        offset_codes=zeros,
        offset_se=zeros,
        conversion_noise_codes=zeros,
        adc=adc,
        inl_codes=curve,
        inl_se=curve,
        cells=cells,
        stuck_us=np.full(cells.shape, np.nan, np.float32),
        gain_known=GainKnown.SENSE,
    )
