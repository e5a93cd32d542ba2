"""Sources of a chip's error that the simulator can switch off: specification and record with a subset of them.

A source that is off is ideal: cells at their targets, converters without error, wires without resistance, reads without
noise, estimates without error.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.cell_iv import unit_parts
from cim.array.wire_law import max_unit
from cim.cells.read_noise import ReadNoise
from cim.chip.spec import AdcSpec, CellIv, MacroSpec
from cim.record.calibration import CalibrationRecord, MacroCalibration, nominal_macro

Floats = NDArray[np.float64]

FINER = 16  # steps of an exact converter in one step of the chip's finest range
HEADROOM = 1.25  # cells can lie above the highest level by this factor before an exact converter ends


class ErrorSource(enum.Flag):
    """One source of a chip's error; a union of members is a chip that has exactly these sources."""

    PROGRAMMING = enum.auto()  # cells as read right after writing, instead of their targets
    RELAXATION = enum.auto()  # what they became until the run
    READ_NOISE = enum.auto()
    ADC = enum.auto()  # resolution, range, gain, offset, INL and noise of the converters
    IR_DROP = enum.auto()
    INPUTS = enum.auto()  # inputs of several bits a read: row drivers, and cells at other voltages
    CALIBRATION = enum.auto()  # estimates and read-backs within their errors, instead of as they are


NOTHING = ErrorSource(0)
EVERYTHING = ~ErrorSource(0)


def exact_converters(spec: MacroSpec) -> MacroSpec:
    """The macro with converters of negligible error: a sixteenth of the finest step, and a scale that no sum exceeds.

    Example: lab-128, 8 bits over ± 304 µS at the finest → 17 bits over ± 6,400 µS, a step of 0.098 µS.
    """
    largest = HEADROOM * spec.levels_us[-1] * spec.logical_rows * max_unit(spec)
    step = min(spec.lsb_us(code) for code in range(len(spec.adc.full_scales_us))) / FINER
    bits = math.ceil(math.log2(largest / step)) + spec.adc_signed
    scales = (largest,) * len(spec.adc.full_scales_us)
    return dataclasses.replace(spec, adc=AdcSpec(bits, scales, spec.adc.shared_by))


def spec_with_sources(spec: MacroSpec, parts: ErrorSource) -> MacroSpec:
    """Specification of the macro with only the error sources ``parts``."""
    if ErrorSource.ADC not in parts:
        spec = exact_converters(spec)
    if ErrorSource.INPUTS not in parts:
        spec = dataclasses.replace(spec, cell_iv=CellIv.LINEAR, cell_iv_k_per_v2=())
    return spec


def record_with_sources(record: CalibrationRecord, spec: MacroSpec, parts: ErrorSource) -> CalibrationRecord:
    """Record of the chip with only the error sources ``parts``; ``spec`` has all sources.

    ``CellSteps`` does the same for the conductances of cells.
    """
    macros = dict(record.macros)
    if ErrorSource.ADC not in parts:
        exact = exact_converters(spec)
        macros = {m: _plain(exact, part) for m, part in macros.items()}
    if ErrorSource.CALIBRATION not in parts:
        macros = {m: _certain(part) for m, part in macros.items()}
    noise, wire = record.read_noise, record.wire
    if ErrorSource.READ_NOISE not in parts:
        nothing = np.zeros_like(noise.levels_us)
        noise = ReadNoise(noise.levels_us, nothing, nothing)
    if ErrorSource.IR_DROP not in parts:
        wire = dataclasses.replace(wire, ohm=0.0, ohm_se=0.0)
    drive = record.drive if ErrorSource.INPUTS in parts else None
    return dataclasses.replace(record, macros=macros, read_noise=noise, wire=wire, drive=drive)


def inputs_err(spec: MacroSpec, record: CalibrationRecord) -> bool:
    """Whether input errors are modelled: by a measured drive table, or by cells read at several voltages."""
    return record.drive is not None or unit_parts(spec, np.zeros((2, 0, 0)))[1] is not None


def _plain(spec: MacroSpec, part: MacroCalibration) -> MacroCalibration:
    """Ideal converters of the chip file, with the cells as they were measured."""
    plain = nominal_macro(spec, part.macro)
    return dataclasses.replace(plain, cells=part.cells, stuck_us=part.stuck_us, gain_known=part.gain_known)


def _certain(part: MacroCalibration) -> MacroCalibration:
    """The calibration of a macro with standard errors of 0: its estimates taken for the truth."""
    return dataclasses.replace(
        part,
        gain_se=np.zeros_like(part.gain_se),
        offset_se=np.zeros_like(part.offset_se),
        inl_se=np.zeros_like(part.inl_se),
    )


@dataclass(frozen=True, slots=True)
class CellSteps:
    """Conductances of one macro at three times, (rows, columns) µS: target, early read-back, late read-back.

    Without an early read-back ``early_us`` is ``late_us``, and programming and relaxation are one part.
    """

    targets_us: Floats
    early_us: Floats
    late_us: Floats

    def with_sources(self, parts: ErrorSource) -> Floats:
        """target + [programming] (early − target) + [relaxation] (late − early).

        Example: 20 → 20.5 → 18 µS with relaxation alone: 20 + (18 − 20.5) = 17.5 µS.
        """
        cells = self.targets_us
        if ErrorSource.PROGRAMMING in parts:
            cells = cells + (self.early_us - self.targets_us)
        if ErrorSource.RELAXATION in parts:
            cells = cells + (self.late_us - self.early_us)
        return cells
