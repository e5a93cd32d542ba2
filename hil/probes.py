"""The measurements of a calibration, each over all macros, so that one wait ages them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.converters import split_planes
from cim.encoding import encode_tile
from cim.spec import MacroSpec
from firmware_protocols.messages import Returns, TileAddress
from hil.driver import ChipDriver
from hil.job import CALIBRATE
from hil.watch import Watch

STUCK_READS = 4
VECTORS = 2048  # random products a macro at effort 1


@dataclass(frozen=True, slots=True)
class Stuck:
    high_us: NDArray[np.float32]  # readings after all cells were SET to the top level
    low_us: NDArray[np.float32]  # readings after all were RESET to level 0
    pulses: int


@dataclass(frozen=True, slots=True)
class Pattern:
    levels: NDArray[np.int8]
    targets_us: NDArray[np.float32]
    reached: NDArray[np.bool_]
    pulses: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    readings_us: NDArray[np.float32]
    time_s: float


@dataclass(frozen=True, slots=True)
class Products:
    inputs: NDArray[np.int16]
    codes: NDArray[np.int32]
    range_code: int


class Probes:
    """The measurements, each over all macros, so that one wait ages them all."""

    def __init__(self, driver: ChipDriver, macros: tuple[int, ...], seed: int, effort: int, watch: Watch) -> None:
        self.driver, self.macros, self.effort, self.watch = driver, macros, effort, watch
        self.spec = driver.spec
        self.seed = seed
        self._sample = CALIBRATE | (seed & 0xFFFF) << 40

    def sample(self) -> int:
        """A new sample number: no two measurements share noise."""
        self._sample += 1 << 24
        return self._sample

    def rng(self, macro: int, what: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, 0xCA1B, macro, what]))

    def stuck_cells(self) -> dict[int, Stuck]:
        """All cells SET and read, then all RESET and read."""
        found = {}
        for done, macro in enumerate(self.macros):
            self.watch.step(done, len(self.macros), f"stuck cells, macro {macro}")
            high, high_pulses = self._fill(macro, self.spec.macro.levels_us[-1])
            low, low_pulses = self._fill(macro, self.spec.macro.levels_us[0])
            found[macro] = Stuck(high, low, high_pulses + low_pulses)
        return found

    def _fill(self, macro: int, target_us: float) -> tuple[NDArray[np.float32], int]:
        targets = np.full((self.spec.macro.rows, self.spec.macro.columns), target_us, np.float32)
        outcome = self.driver.program_cells(macro, targets, sample=self.sample())
        readings = self.driver.read_cells(macro, reads=STUCK_READS, sample=self.sample())
        return readings, int(outcome.pulses.sum(dtype=np.int64))

    def write_pattern(self) -> dict[int, Pattern]:
        """The test pattern of every macro."""
        written = {}
        for done, macro in enumerate(self.macros):
            self.watch.step(done, len(self.macros), f"pattern, macro {macro}")
            levels = pattern_levels(self.spec.macro, self.rng(macro, 0))
            targets = pattern_targets_us(self.spec.macro, levels)
            outcome = self.driver.program_cells(macro, targets, sample=self.sample())
            written[macro] = Pattern(
                levels,
                targets,
                outcome.reached,
                int(outcome.pulses.sum(dtype=np.int64)),
                self.driver.chip_time_ns * 1e-9,
            )
        return written

    def read(self, reads: int, what: str) -> dict[int, Reading]:
        found = {}
        for done, macro in enumerate(self.macros):
            self.watch.step(done, len(self.macros), f"{what}, macro {macro}")
            readings = self.driver.read_cells(macro, reads=min(reads, 255), sample=self.sample())
            found[macro] = Reading(readings, self.driver.chip_time_ns * 1e-9)
        return found

    def read_pairs(self) -> dict[int, NDArray[np.float32]]:
        """Two single reads of every cell, one after the other."""
        first, second = self.read(1, "single reads"), self.read(1, "single reads")
        return {m: np.stack([first[m].readings_us, second[m].readings_us]) for m in self.macros}

    def multiply(self) -> dict[int, Products]:
        """Raw codes of random vectors of one read each, from few rows to all, over the whole scale."""
        spec = self.spec.macro
        found = {}
        for done, macro in enumerate(self.macros):
            self.watch.step(done, len(self.macros), f"products, macro {macro}")
            inputs = random_vectors(spec, VECTORS * self.effort, self.rng(macro, 1))
            range_code = wide_range(spec)
            result = self.driver.mvm(
                TileAddress(macro, 0, spec.logical_rows, 0, spec.outputs),
                inputs,
                range_code=range_code,
                input_bits=max(spec.inputs.bits_per_cycle, 1),
                input_signed=False,
                sample=self.sample(),
                vectors_per_sample=len(inputs),
                returns=Returns.RAW,
            )
            units = split_planes(inputs, spec.inputs, max(spec.inputs.bits_per_cycle, 1), False)[0]
            found[macro] = Products(units, result.values[:, 0, :], range_code)
        return found


def pattern_levels(spec: MacroSpec, rng: np.random.Generator) -> NDArray[np.int8]:
    """Random levels (logical rows, outputs): mostly positive in even rows, mostly negative in odd ones.

    Driving only even or only odd rows then reaches the ends of a converter's scale.
    """
    size = rng.integers(0, spec.max_level + 1, (spec.logical_rows, spec.outputs))
    sign = np.where(np.arange(spec.logical_rows) % 2 == 0, 1, -1)[:, None]
    flip = np.where(rng.random(size.shape) < 0.2, -1, 1)
    return (size * sign * flip).astype(np.int8)


def pattern_targets_us(spec: MacroSpec, levels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Targets (rows, columns) of a pattern that fills the macro; NaN in rows out of service."""
    targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
    tile = encode_tile(levels, spec, 0, 0)
    targets[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us
    return targets


def random_vectors(spec: MacroSpec, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Input codes of one read, (count, logical rows): a random share of even and of odd rows driven.

    Every other vector drives few rows: there read noise is small and offsets show. None drives
    no row at all: without noise to blur the rounding, that tells an offset to half a code only.
    """
    rows = spec.logical_rows
    most = np.where(np.arange(count) % 2 == 0, 1.0, 0.2)[:, None]
    share = (most * rng.random((count, 2)))[:, np.arange(rows) % 2]
    on = rng.random((count, rows)) < share
    on[np.arange(count), rng.integers(0, rows, count)] |= ~on.any(1)
    codes = rng.integers(1, 1 << spec.inputs.bits_per_cycle, (count, rows))
    return np.where(on, codes, 0).astype(np.int16)


def wide_range(spec: MacroSpec) -> int:
    """The ADC range that half of all cells at the top level just fill."""
    unit = (1 << spec.inputs.bits_per_cycle) - 1
    reach = spec.logical_rows / 4 * (spec.levels_us[-1] - spec.levels_us[0]) * unit / 2
    wide = [i for i, scale in enumerate(spec.adc.full_scales_us) if scale >= reach]
    return wide[0] if wide else len(spec.adc.full_scales_us) - 1
