"""Virtual chips of a kind that was never measured: values of [models] drawn from their ranges, and drawn columns.

A virtual chip is drawn in two steps: the properties of its kind (a point within the ranges), then one chip of that
kind. The spread between points is ignorance, which measurements remove; the spread at one point is that between chips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec, ModelSpec
from cim.record.calibration import CalibrationRecord, CellState, MacroCalibration
from cim.record.published import chip_model, nominal_record

INL_SHAPES = (2, 3)  # degrees of a curve's Legendre polynomials: a bow and an S; the line is gain and offset


@dataclass(frozen=True, slots=True)
class BeliefPoints:
    """Points within the value ranges of a chip file, one for each virtual chip: ``names`` (p,) of the values, their
    ``low`` and ``high`` (p,), and ``places`` (chips, p) from 0 at the low end to 1."""

    names: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    places: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        """Values of every virtual chip, (chips, p), in the units of the chip file."""
        return self.low + self.places * (self.high - self.low)

    def models(self, about: ModelSpec, number: int) -> ModelSpec:
        """Section [models] of virtual chip ``number``: ``about`` with the values drawn for that chip."""
        found: ModelSpec = replace(about, **dict(zip(self.names, self.values[number].tolist(), strict=True)))
        return found


def belief_points(about: ModelSpec, chips: int, rng: np.random.Generator) -> BeliefPoints:
    """Points for so many chips, evenly over every range: each of ``chips`` equal parts holds one (Latin hypercube)."""
    names = tuple(sorted(about.ranges))
    ends = np.array([about.ranges[name] for name in names]).reshape(-1, 2)
    parts = np.stack([rng.permutation(chips) for _ in names], 1) if names else np.zeros((chips, 0))
    return BeliefPoints(names, ends[:, 0], ends[:, 1], (parts + rng.random(parts.shape)) / chips)


def unmeasured_record(
    spec: ChipSpec, macros: Sequence[int], about: ModelSpec, rng: np.random.Generator
) -> CalibrationRecord:
    """What calibration would find on one chip that nobody measured: its own columns and stuck cells."""
    record = nominal_record(replace(spec, models=about), macros)
    parts = {
        m: with_stuck_cells(with_columns(part, about, rng), record, spec, rng) for m, part in record.macros.items()
    }
    return replace(record, macros=parts)


def with_columns(part: MacroCalibration, about: ModelSpec, rng: np.random.Generator) -> MacroCalibration:
    """A macro with drawn gains, offsets and INL curves, whose spreads come from the chip file."""
    if not (about.column_gain_sigma or about.column_offset_codes or about.inl_codes):
        return part
    places = np.linspace(-1.0, 1.0, part.inl_codes.shape[1])
    curves = np.zeros_like(part.inl_codes)
    for degree in INL_SHAPES:  # of mean square 1 / (2 degree + 1)
        shape = legendre.legval(places, np.eye(degree + 1)[degree]) * np.sqrt((2 * degree + 1) / len(INL_SHAPES))
        curves += about.inl_codes * rng.standard_normal((len(curves), 1)) * shape
    middle = curves[:, [curves.shape[1] // 2]]  # the curve is 0 at zero input, the offset says what stands there
    return replace(
        part,
        gain=1.0 + about.column_gain_sigma * rng.standard_normal(part.gain.shape),
        offset_codes=about.column_offset_codes * rng.standard_normal(part.gain.shape),
        inl_codes=curves - middle,
    )


def with_stuck_cells(
    part: MacroCalibration, record: CalibrationRecord, spec: ChipSpec, rng: np.random.Generator
) -> MacroCalibration:
    """A macro that nobody measured, with cells stuck at the lowest or highest level in the record's shares."""
    law, levels = record.programming, spec.macro.levels_us
    chance = rng.random(part.cells.shape)
    low = chance < law.stuck_low_share
    high = ~low & (chance < law.stuck_low_share + law.stuck_high_share)
    cells = np.where(low, CellState.STUCK_LOW, np.where(high, CellState.STUCK_HIGH, part.cells)).astype(np.int8)
    stuck_us = np.where(low, levels[0], np.where(high, levels[-1], part.stuck_us)).astype(np.float32)
    return replace(part, cells=cells, stuck_us=stuck_us)


@dataclass(frozen=True, slots=True)
class MeasuredValue:
    """One value of [models] as a calibration found it; ``se`` None where its error is not known."""

    value: float
    se: float | None = None


def measured_models(record: CalibrationRecord, spec: ChipSpec) -> Mapping[str, MeasuredValue]:
    """What a record says about the values of [models], by field; what calibration does not measure is missing."""
    parts = list(record.macros.values())
    gains = np.concatenate([part.gain for part in parts])
    offsets = np.concatenate([part.offset_codes for part in parts])
    errors = (np.concatenate([part.gain_se for part in parts]), np.concatenate([part.offset_se for part in parts]))
    noise, law, levels = record.read_noise, record.programming, np.array(spec.macro.levels_us)
    found = {
        "conversion_noise_codes": MeasuredValue(float(np.mean([part.conversion_noise_codes.mean() for part in parts]))),
        "read_variance_us2": MeasuredValue(float(noise.at(levels).mean()), _mean_se(noise.se_us2)),
        "wire_ohm": MeasuredValue(record.wire.ohm, record.wire.ohm_se),
        "column_gain_sigma": _spread(gains, errors[0]),
        "column_offset_codes": _spread(offsets, errors[1]),
        "inl_codes": _bend(np.concatenate([p.inl_codes for p in parts]), np.concatenate([p.inl_se for p in parts])),
        "stuck_low_share": _share(law.stuck_low_share, parts),
        "stuck_high_share": _share(law.stuck_high_share, parts),
        "unreached_share": _share(law.unreached_share, parts),
    }
    if spec.models is not None:
        found["cell_error_factor"] = _factor(record, spec, spec.models)
    return found


def _factor(record: CalibrationRecord, spec: ChipSpec, about: ModelSpec) -> MeasuredValue:
    """Ratio of the measured law's error spread to that of the chip file's model at the same levels and ages."""
    from cim.cells.programming_law import law_at

    levels, ages = np.array(spec.macro.levels_us), record.programming.ages_s
    model = chip_model(about, float(levels[-1])).programming(levels, ages.tolist())
    draws, ratios = np.random.default_rng(0), []
    for row, age in enumerate(ages):
        seen = law_at(record.programming, levels, float(age)).draw((4096, len(levels)), draws)
        middle = np.subtract(*np.quantile(seen, (0.8413, 0.1587), axis=0)) / 2.0  # tails are another matter
        ratios.append(float(np.sqrt((middle**2).mean() / (model.scale_us[row] ** 2).mean())))
    return MeasuredValue(float(np.mean(ratios)))


def _spread(values: NDArray[np.float64], errors: NDArray[np.float64]) -> MeasuredValue:
    """Standard deviation of ``values`` (n,) without the part that their measurement ``errors`` add."""
    n = max(len(values) - 1, 1)
    return MeasuredValue(
        _above(float(values.var(ddof=1)), _square_mean(errors)), float(values.std(ddof=1)) / np.sqrt(2 * n)
    )


def _bend(curves: NDArray[np.float64], errors: NDArray[np.float64]) -> MeasuredValue:
    """Rms of INL curves (n, nodes) about their means over the scale; the two end nodes weigh half.

    Each curve is a sum of ``INL_SHAPES`` shapes with one random amplitude each: the error is v / √(2 · shapes · n).
    """
    weights = np.ones(curves.shape[1])
    weights[[0, -1]] = 0.5
    weights /= weights.sum()
    away = curves - (curves @ weights)[:, None]
    value = _above(float((away**2 @ weights).mean()), float((errors**2 @ weights).mean()))
    return MeasuredValue(value, value / np.sqrt(2 * len(INL_SHAPES) * len(curves)))


def _above(variance: float, error2: float) -> float:
    return float(np.sqrt(max(variance - error2, 0.0)))


def _square_mean(errors: NDArray[np.float64]) -> float:
    return float((errors**2).mean())


def _mean_se(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt((errors**2).sum()) / len(errors))


def _share(share: float, parts: Sequence[MacroCalibration]) -> MeasuredValue:
    cells = sum(part.cells.size for part in parts)
    return MeasuredValue(share, float(np.sqrt(max(share * (1 - share), 1.0 / cells) / cells)))
