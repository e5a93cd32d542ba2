"""The true parameters of one emulated chip, drawn once from its seed.

They are never sent to a host: calibration has to estimate them through the wire.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import conversions
from cim.chip.spec import ChipSpec, Encoding, MacroSpec
from hil.emulator.noise import TAG
from hil.errors import UsageError

ROOM_C = 25.0
SIGNED = ("temperature_c", "heat_to_c", "conductance_per_k")  # parameters that may be below 0
GOOD, STUCK_LOW, STUCK_HIGH, BOUNDED = range(4)


class UnknownSampleKey(UsageError, ValueError):
    """A sample parameter that no chip has, or one that this chip's file lacks."""


@dataclass(frozen=True, slots=True)
class SampleParameters:
    """Section [sample] of a chip file: from which distributions a chip's truth is drawn.

    Shares are of all cells. ``pulse_step_us = 0`` stands for a perfect write. Those with a value
    here need not be in the file: the bench heats a chip only when an address says so.
    """

    stuck_low_share: float
    stuck_high_share: float
    unreached_share: float  # cells whose range ends inside the window of levels
    column_gain_sigma: float  # per conversion column
    adc_offset_codes: float  # magnitude, common to the columns of one ADC: 2/3 to 4/3 of it, either sign
    inl_lsb: float  # largest deviation of an ADC from its best line, codes
    read_variance_us2: float  # redrawn at each read of each cell
    relaxation: float  # 1 = as measured, 0 = none
    wire_ohm: float  # per cell, bit line and source line each
    verify_noise_us: float  # on top of the read part, at each read of a verify
    pulse_step_us: float  # median change by one pulse at the start voltage
    pulse_sigma: float  # log-normal, fresh at each pulse; again per cell
    sense_gain_sigma: float  # per macro, path of cell reads
    supply_droop: float  # loss when rows x columns cells of middle level are driven
    column_crosstalk: float  # share of the column beside it that a column picks up when both are read
    temperature_c: float
    dac_inl: float = 0.0  # largest deviation of the row drivers from their line, steps; inputs of several bits a read
    heat_to_c: float = ROOM_C  # the bench changes to this temperature
    heat_after_s: float = 0.0  # at this chip time; 0 = never
    conductance_per_k: float = 5e-4  # relative change of every conductance, from room temperature (assumed)
    upsets: float = 0.0  # of a cell in a day, by radiation; 0 = on the ground
    dose_krad_per_year: float = 0.0  # total ionising dose of a year
    lasting_noise_us: float = 0.0  # root of the read variance that each decade of time adds at the highest level
    conversion_noise_codes: float = 0.0  # of each conversion, redrawn; driven or not
    form_v: float = 2.4  # median voltage that forms a fresh cell, where the chip file says that cells are fresh
    form_sigma_v: float = 0.15  # of cells
    never_form_share: float = 0.0
    late_ageing: float = 1.0  # of cells past 1e5 s, where nothing was measured; 0 = held as they were then

    def temperature_at(self, now_ns: int) -> float:
        """Temperature of the chip at a chip time, °C."""
        heated = 0.0 < self.heat_after_s <= now_ns * 1e-9
        return self.heat_to_c if heated else self.temperature_c

    @classmethod
    def of(cls, sample: Mapping[str, float], overrides: Mapping[str, float]) -> SampleParameters:
        names = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(overrides) - set(names))
        if unknown:
            raise UnknownSampleKey(f"no sample parameter {', '.join(unknown)}; there are {', '.join(names)}")
        usual = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
        missing = sorted(set(names) - set(sample) - set(overrides) - set(usual))
        if missing:
            raise UnknownSampleKey(f"the chip file's section [sample] lacks {', '.join(missing)}")
        if not any(sample.values()):  # an idealised chip: nothing to disturb it, room temperature included
            sample = {**sample, "temperature_c": ROOM_C}
        values = {name: float(overrides.get(name, sample.get(name, usual.get(name, 0.0)))) for name in names}
        wrong = sorted(n for n, v in values.items() if not math.isfinite(v) or (v < 0.0 and n not in SIGNED))
        if wrong:
            raise UnknownSampleKey(
                f"sample parameter {', '.join(f'{n} = {values[n]:g}' for n in wrong)} must be a number from 0"
            )
        return cls(**values)


@dataclass(frozen=True, slots=True)
class MacroSample:
    """Truth of one macro. Cell arrays (rows, columns), converter arrays as noted.

    ``kind`` GOOD, STUCK_LOW, STUCK_HIGH or BOUNDED; ``low_us`` and ``high_us`` the range a
    pulse can reach (equal when stuck); ``pace`` the factor of a cell's pulse steps;
    ``formed_us`` conductance before the first write. ``gain`` (conversions,) relative;
    ``offset_codes`` (adcs,); ``inl`` (6, adcs), coefficients a to f of ``kernels._transfer_errors``.
    """

    kind: NDArray[np.int8]
    low_us: NDArray[np.float32]
    high_us: NDArray[np.float32]
    pace: NDArray[np.float32]
    formed_us: NDArray[np.float32]
    gain: NDArray[np.float32]
    offset_codes: NDArray[np.float32]
    inl: NDArray[np.float32]
    sense_gain: float

    @classmethod
    def draw(cls, macro: MacroSpec, parameters: SampleParameters, rng: np.random.Generator) -> MacroSample:
        shape = (macro.rows, macro.columns)
        kind = _cell_kinds(macro, parameters, rng)
        bottom, top = macro.levels_us[0], macro.levels_us[-1]
        stuck_low, stuck_high = bottom * rng.uniform(0.1, 0.9, shape), top * rng.uniform(1.0, 1.2, shape)
        centre, reach = rng.uniform(0.25, 0.7, shape) * (top - bottom), 0.08 * (top - bottom)
        low, high = bottom * rng.uniform(0.1, 0.4, shape), top * rng.uniform(1.15, 1.4, shape)
        odd = [kind == STUCK_LOW, kind == STUCK_HIGH, kind == BOUNDED]
        low = np.select(odd, [stuck_low, stuck_high, centre - reach], low)
        high = np.select(odd, [stuck_low, stuck_high, centre + reach], high)
        count = conversions(macro, macro.outputs)
        adcs = -(-count // macro.adc.shared_by)
        size = parameters.adc_offset_codes * rng.uniform(2 / 3, 4 / 3, adcs)
        return cls(
            kind=kind,
            low_us=low.astype(np.float32),
            high_us=high.astype(np.float32),
            pace=np.exp(parameters.pulse_sigma * rng.standard_normal(shape)).astype(np.float32),
            formed_us=np.clip(rng.uniform(0.3, 0.9, shape) * top, low, high).astype(np.float32),
            gain=(1.0 + parameters.column_gain_sigma * rng.standard_normal(count)).astype(np.float32),
            offset_codes=(size * rng.choice([-1.0, 1.0], adcs)).astype(np.float32),
            inl=_draw_inl(parameters.inl_lsb, adcs, rng),
            sense_gain=float(1.0 + parameters.sense_gain_sigma * rng.standard_normal()),
        )


def _cell_kinds(macro: MacroSpec, parameters: SampleParameters, rng: np.random.Generator) -> NDArray[np.int8]:
    shares = np.cumsum([parameters.stuck_low_share, parameters.stuck_high_share, parameters.unreached_share])
    lot = rng.random((macro.rows, macro.columns))
    kind = np.select([lot < shares[0], lot < shares[1], lot < shares[2]], [STUCK_LOW, STUCK_HIGH, BOUNDED], GOOD)
    kind[list(macro.dead_rows)] = STUCK_LOW
    return kind.astype(np.int8)


def _draw_inl(largest: float, adcs: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Random INL of each ADC: a bow, an S and steps at the two highest bits; ``largest`` codes off the line."""
    bend = rng.standard_normal((4, adcs)) * np.array([[1.0], [2.0], [0.6], [0.4]])
    t = np.linspace(-1.0, 1.0, 513)
    terms = np.array([t**2, t**3, t > 0, (t > 0.5).astype(float) + (t > -0.5)])
    curves = bend.T @ terms  # (adcs, t)
    line = np.polyfit(t, curves.T, 1)  # slope, intercept
    rest = curves - np.outer(line[0], t) - line[1][:, None]
    scale = largest / np.abs(rest).max(1)
    coefficients: NDArray[np.float32] = (np.vstack([-line[1], -line[0], bend]) * scale).astype(np.float32)
    return coefficients


def draw_drive(steps: int, largest: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Real output of a row driver for each input unit from 0 to ``steps``, (steps + 1,), in nominal steps.

    A row driver adds up one element (or pulse) a step, each of its own size: the deviation from the line
    through zero and full drive is a random walk that comes back to 0, scaled to ``largest``. The line's
    slope is the read voltage's or the pulse's, and part of every current alike.
    """
    line = np.arange(steps + 1.0)
    if largest == 0.0 or steps < 2:
        return line
    walk = np.append(0.0, np.cumsum(rng.standard_normal(steps)))
    bridge = walk - walk[-1] * line / steps
    return np.asarray(line + bridge * (largest / np.abs(bridge).max()))


@dataclass(frozen=True, slots=True)
class ChipSample:
    """One chip's truth: the same for the same description, seed and overrides.

    ``drive`` (largest unit + 1,): what a row gets for each unit; one reference serves all rows and macros.
    """

    parameters: SampleParameters
    seed: int
    macros: tuple[MacroSample, ...]
    drive: NDArray[np.float64]

    @classmethod
    def draw(cls, spec: ChipSpec, seed: int, overrides: Mapping[str, float] | None = None) -> ChipSample:
        """Draw every macro, each from a stream of its own so that the number of macros changes none.

        Raises:
            UnknownSampleKey: an override or the chip file does not fit ``SampleParameters``.
        """
        parameters = SampleParameters.of(spec.sample, overrides or {})
        tag = int.from_bytes(hashlib.sha256(f"{TAG} truth of {spec.name}".encode()).digest()[:8], "little")
        macros = []
        for number in range(spec.macros):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([tag, seed, number])))
            macros.append(MacroSample.draw(spec.macro, parameters, rng))
        drivers = int.from_bytes(hashlib.sha256(f"{TAG} row drivers of {spec.name}".encode()).digest()[:8], "little")
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([drivers, seed])))
        drive = draw_drive((1 << spec.macro.inputs.bits_per_cycle) - 1, parameters.dac_inl, rng)
        return cls(parameters, seed, tuple(macros), drive)


def conversion_columns(macro: MacroSpec, output0: int, outputs: int) -> NDArray[np.intp]:
    """Place of a tile's conversions among those of its whole macro, in order of conversion."""
    own = np.arange(output0, output0 + outputs)
    total = conversions(macro, macro.outputs)
    if macro.encoding is Encoding.OFFSET_COLUMN:
        return np.append(own, total - 1)
    return np.concatenate([own, own + macro.outputs]) if total == 2 * macro.outputs else own


def line_gains(macro: MacroSpec, gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gain of the converter that each bit line leads to, (columns,); for cell reads through the columns."""
    order = np.array(macro.column_order, np.intp)
    by_line = np.ones(macro.columns, np.float32)
    if macro.encoding is Encoding.DIFFERENTIAL_COLUMNS:
        by_line[order[0 : 2 * macro.outputs : 2]] = gain[: macro.outputs]
        by_line[order[1 : 2 * macro.outputs : 2]] = gain[-macro.outputs :]
        return by_line
    by_line[order[: macro.outputs]] = gain[: macro.outputs]
    if macro.encoding is Encoding.OFFSET_COLUMN:
        by_line[order[-1]] = gain[-1]
    return by_line
