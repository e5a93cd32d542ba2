"""Errors of an array as training draws them: laws of a record as tables, and cells of virtual chips.

Each training pass draws new errors: of written and aged cells, of stuck cells, and of cells that missed their window.
Imports torch: import this module late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cim.array.cell_iv import unit_parts
from cim.array.input_drive import InputDrive, check_drive
from cim.array.wire_law import Wire, line_bend
from cim.cells.programming_law import law_at
from cim.cells.tails import Law
from cim.chip.spec import MacroSpec, PairSubtraction
from cim.record.calibration import CalibrationRecord, CellState

FARTHEST, POINTS = 5.0, 401  # normal scores of the table of errors; beyond it the last one stands


@dataclass(frozen=True, slots=True)
class ArrayNoise:
    """The chip's errors that a layer in training adds, taken from a record at one age.

    ``errors_us`` (levels, points): quantiles of the programming error at evenly spaced normal
    scores from −FARTHEST to FARTHEST; ``read_variance_us2`` (levels,): of one read of a cell. Shares are of
    cells; ``unreached_us`` the errors of cells that missed their window, (m,). ``gain_se`` and
    ``offset_se_codes`` are what calibration leaves unknown of a column.
    """

    spec: MacroSpec
    errors_us: NDArray[np.float64]
    read_variance_us2: NDArray[np.float64]
    stuck_low_share: float
    stuck_high_share: float
    stuck_low_us: float
    stuck_high_us: float
    unreached_share: float
    unreached_us: NDArray[np.float64]
    gain_se: float
    offset_se_codes: float
    conversion_noise_codes: float
    wire: Wire
    bend: float = 0.0  # second order of the wires (``cim.array.wire_law.line_bend``)
    drive: InputDrive | None = None  # what rows get for the units of a read of several bits

    def __post_init__(self) -> None:
        check_drive(self.spec, self.drive)
        if unit_parts(self.spec, np.zeros((2, 0, 0)))[1] is not None:
            raise ValueError("training layers take cells at one voltage: not cubic ones under amplitudes")
        if not self.spec.paired or self.spec.pair_subtraction is not PairSubtraction.ANALOG:
            raise ValueError("training layers hold pairs of cells that are subtracted before the converter")


def array_noise(spec: MacroSpec, record: CalibrationRecord, age_s: float) -> ArrayNoise:
    """Errors of chips like that of the record, ``age_s`` after they were programmed.

    Args:
        spec: of the macro.
        record: of a chip, or of a chip file's models.
        age_s: after programming, s.

    Returns:
        the distributions that training layers draw from for each batch.

    Example:
        >>> array_noise(spec.macro, record, age_s=3600.0).stuck_low_share > 0
        True
    """
    levels = np.array(spec.levels_us)
    law = law_at(record.programming, levels, age_s)
    macros = list(record.macros.values())

    def stuck(state: CellState, otherwise: float) -> float:
        values = np.concatenate([m.stuck_us[m.cells == state] for m in macros])
        return float(np.nanmedian(values)) if np.isfinite(values).any() else otherwise

    def square_mean(name: str) -> float:
        return float(np.sqrt(np.mean(np.concatenate([getattr(m, name) for m in macros]) ** 2)))

    return ArrayNoise(
        spec=spec,
        errors_us=error_quantiles(law),
        read_variance_us2=record.read_noise.at(levels),
        stuck_low_share=record.programming.stuck_low_share,
        stuck_high_share=record.programming.stuck_high_share,
        stuck_low_us=stuck(CellState.STUCK_LOW, 0.0),
        stuck_high_us=stuck(CellState.STUCK_HIGH, float(levels[-1])),
        unreached_share=record.programming.unreached_share,
        unreached_us=record.programming.unreached_us,
        gain_se=square_mean("gain_se"),
        offset_se_codes=square_mean("offset_se"),
        conversion_noise_codes=square_mean("conversion_noise_codes"),
        wire=record.wire,
        drive=record.drive,
        bend=line_bend(spec, np.full((2, spec.logical_rows, 1), levels.mean()), record.wire),
    )


def error_quantiles(law: Law) -> NDArray[np.float64]:
    """Quantiles of a law of (levels,) at POINTS evenly spaced normal scores, (levels, POINTS) µS."""
    scores = np.linspace(-FARTHEST, FARTHEST, POINTS)
    return np.stack([law.quantile(np.full(np.shape(law.loc_us), z)) for z in scores], axis=-1)


def cell_levels(values: Tensor, spec: MacroSpec) -> Tensor:
    """Index of the level with each value (whole numbers ≥ 0 in units of weights)."""
    if spec.even_levels:
        return values.long()
    return torch.searchsorted(torch.tensor(spec.values.values, device=values.device), values.long().contiguous())


def programmed_us(levels: Tensor, noise: ArrayNoise, strength: float) -> Tensor:
    """Conductances (any shape) of cells written to ``levels`` (values ≥ 0 that cells hold), errors times ``strength``.

    A cell's error is the quantile of its normal score, linear between points.
    """
    index = cell_levels(levels, noise.spec)

    def of(table: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(table, dtype=torch.float32, device=levels.device)[index]

    target = of(np.array(noise.spec.levels_us))
    points = noise.errors_us.shape[1]
    place = ((torch.randn_like(target) + FARTHEST) * ((points - 1) / (2.0 * FARTHEST))).clamp_(0.0, points - 1.001)
    left = place.floor()
    quantiles = torch.as_tensor(noise.errors_us, dtype=torch.float32, device=levels.device).flatten()
    at = index * points + left.long()
    held = target + strength * torch.lerp(quantiles[at], quantiles[at + 1], place - left)
    chance = torch.rand_like(target)
    if noise.unreached_us.size:
        errors = torch.as_tensor(noise.unreached_us, dtype=torch.float32, device=levels.device)
        missed = target + errors[torch.randint(len(errors), target.shape, device=levels.device)]
        held = torch.where(chance > 1.0 - strength * noise.unreached_share, missed, held)
    low = strength * noise.stuck_low_share
    held = torch.where(chance < low, torch.full_like(held, noise.stuck_low_us), held)
    high = (chance >= low) & (chance < low + strength * noise.stuck_high_share)
    held = torch.where(high, torch.full_like(held, noise.stuck_high_us), held)
    return held.clamp_(0.0, 1.1 * noise.spec.levels_us[-1])
