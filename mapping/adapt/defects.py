"""Defects of one chip, from its calibration record: stuck cells and poor columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import tile_halves_us
from cim.chip.spec import MacroSpec, PairSubtraction
from cim.record.calibration import STUCK, CalibrationRecord, CellState, MacroCalibration
from mapping.program.conductance import Tile


@dataclass(frozen=True, slots=True)
class MacroDefects:
    """One macro. ``stuck_us`` float32 (rows, columns): where a cell is stuck, NaN where it can be written.

    ``column_codes2`` (outputs,): variance of one conversion of each output in codes², from the
    converter's own noise and its INL, referred to its input (divided by gain²).
    """

    stuck_us: NDArray[np.float32]
    column_codes2: NDArray[np.float64]

    @property
    def stuck(self) -> int:
        return int(np.isfinite(self.stuck_us).sum())


Defects = Mapping[int, MacroDefects]
"""By macro."""


def record_defects(record: CalibrationRecord, spec: MacroSpec) -> Defects:
    """Stuck cells and converter errors of every macro of a record."""
    return {number: _macro(part, spec) for number, part in record.macros.items()}


def _macro(part: MacroCalibration, spec: MacroSpec) -> MacroDefects:
    ends = spec.levels_us[0], spec.levels_us[-1]
    usual = np.where(part.cells == CellState.STUCK_HIGH, ends[1], ends[0])
    stuck = np.isin(part.cells, STUCK)
    read = np.where(np.isfinite(part.stuck_us), part.stuck_us, usual)
    inl2 = np.mean(part.inl_codes**2, axis=1)[part.adc]
    codes2 = (part.conversion_noise_codes**2 + inl2) / np.maximum(part.gain, 1e-3) ** 2
    two = spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL
    columns = codes2[: spec.outputs] + (codes2[spec.outputs : 2 * spec.outputs] if two else 0.0)
    return MacroDefects(np.where(stuck, read, np.nan).astype(np.float32), columns)


def tile_stuck_us(defects: Defects, spec: MacroSpec, tile: Tile) -> NDArray[np.float32]:
    """Conductance of the stuck cells under a tile, (2, rows, outputs): plus and minus, NaN where good."""
    if tile.macro not in defects:
        return np.full((2, len(tile.inputs), len(tile.outputs)), np.nan, np.float32)
    stuck_us = defects[tile.macro].stuck_us
    return tile_halves_us(stuck_us, spec, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs))
