"""The measurements of a calibration, each over all macros, so that one wait ages them all.

Numbers of the steps of a calibration: sample numbers and random vectors derive from them.

A step's sample numbers depend on its number alone, so that an interrupted calibration goes on with the same
noise, and a stored one can be measured again. A step that is taken several times has a number for each turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import split_planes
from cim.fit.measured import (
    BLOCK_READS,
    Floats32,
    Idle,
    MeanReading,
    NetworkProducts,
    Pattern,
    Products,
    Repeats,
    Stuck,
)
from firmware_protocols.messages import Returns, TileAddress
from hil.calibration.patterns import (
    block_vectors,
    network_vectors,
    pattern_levels,
    pattern_targets_us,
    step_vectors,
    transfer_vectors,
    wide_range,
    zero_vectors,
)
from hil.driver.chip_driver import WAITED_ENOUGH, ChipDriver
from hil.driver.samples import CALIBRATE
from hil.errors import DeviceError
from hil.watch import Watch

VECTOR_SEEDS = 0xCA1B  # of the host's random targets and vectors


class Probes:
    """The measurements of some macros. ``begin`` a step before its measurements: its sample numbers
    depend on the step alone, so that a calibration that was interrupted goes on with the same ones."""

    def __init__(self, driver: ChipDriver, macros: tuple[int, ...], seed: int, watch: Watch) -> None:
        self.driver, self.macros, self.watch = driver, macros, watch
        self.spec, self.seed = driver.spec, seed
        self._next = 0
        self._due_s = 0.0  # chip time that cells have waited for

    def begin(self, step: str, turn: int = 0) -> None:
        """Begin a step of ``hil.calibration.measurements.STEPS``."""
        self._next = STEPS.number(step, turn) * STEP_REQUESTS

    def sample(self) -> int:
        """A new sample number: no two measurements share noise."""
        self._next += 1
        return CALIBRATE | (self.seed & 0xFFFF) << 40 | self._next << 24

    def rng(self, macro: int, vectors: str, turn: int = 0) -> np.random.Generator:
        number = VECTORS.number(vectors, turn)
        return np.random.default_rng(np.random.SeedSequence([self.seed, VECTOR_SEEDS, macro, number]))

    @property
    def now_s(self) -> float:
        return self.driver.chip_time_ns * 1e-9

    def wait_until(self, time_s: float) -> None:
        self.wait(max(time_s - self.now_s, 0.0))

    def wait(self, seconds: float) -> None:
        """Let cells age by a time, s; ``DeviceError`` (now or at the next reading) if the chip's clock disagrees."""
        self._due_s = self.now_s + WAITED_ENOUGH * seconds
        self._need_aged(self.driver.wait(seconds, self.watch), WAITED_ENOUGH * seconds)

    def _cells(self, macro: int, reads: int) -> Floats32:
        """Mean readings of a macro's cells, after a check that the chip's clock shows the age that was waited for."""
        readings = self.driver.read_cells(macro, reads=reads, sample=self.sample(), rounded=True)
        self._need_aged(self.now_s, self._due_s)
        return readings

    def _need_aged(self, is_s: float, least_s: float) -> None:
        if is_s < least_s:
            raise DeviceError(
                f"cells were to age, and did not: {is_s:.3g} s by a clock that was looked at, {least_s:.3g} s due",
                where=self.driver.address,
                likely="the chip answers WAIT at once, or its clock stands or was set back; a record needs true ages",
                hint="firmware without WAIT lets the host wait; a clock that counts it must have",
            )

    def idle(self, vectors: int) -> dict[int, Idle]:
        """Output codes of a macro for input vectors that drive no row: the converters' offsets."""
        spec, found = self.spec.macro, {}
        nothing = np.zeros((vectors, spec.logical_rows), np.int16)
        for macro in self._each("offsets", self.macros):
            codes = self._multiply(macro, nothing, wide_range(spec)).codes
            found[macro] = Idle(vectors, codes.mean(0, dtype=np.float64), codes.std(0, dtype=np.float64))
        return found

    def stuck_cells(self, reads: int, doubtful: dict[int, NDArray[np.bool_]] | None = None) -> dict[int, Stuck]:
        """SET and read all cells, or the ``doubtful`` ones, then RESET and read them, to find stuck cells."""
        spec, found = self.spec.macro, {}
        for macro in self._each("stuck cells", self.macros):
            wanted = np.ones((spec.rows, spec.columns), np.bool_) if doubtful is None else doubtful[macro]
            high, high_pulses = self._fill(macro, spec.levels_us[-1], wanted, reads)
            low, low_pulses = self._fill(macro, spec.levels_us[0], wanted, reads)
            found[macro] = Stuck(high, low, high_pulses + low_pulses)
        return found

    def _fill(self, macro: int, target_us: float, wanted: NDArray[np.bool_], reads: int) -> tuple[Floats32, int]:
        targets = np.where(wanted, np.float32(target_us), np.float32(np.nan))
        if not wanted.any():
            return targets, 0
        outcome = self.driver.program_cells(macro, targets, sample=self.sample())
        readings = self.driver.read_cells(macro, reads=reads, sample=self.sample(), rounded=True)
        return np.where(wanted, readings, np.float32(np.nan)), int(outcome.pulses.sum(dtype=np.int64))

    def pattern_targets_us(self, macro: int) -> Floats32:
        """Targets of the test pattern of a macro, (rows, columns)."""
        return pattern_targets_us(self.spec.macro, pattern_levels(self.spec.macro, self.rng(macro, "pattern")))

    def write_pattern(self, early_reads: int, early_s: float) -> dict[int, Pattern]:
        """The test pattern of every macro; each is read ``early_s`` after its own last pulse."""
        written = {}
        for macro in self._each("pattern", self.macros):
            targets = self.pattern_targets_us(macro)
            outcome = self.driver.program_cells(macro, targets, sample=self.sample())
            done_s = self.now_s
            self.wait(early_s)
            early = self._cells(macro, early_reads)
            written[macro] = Pattern(
                targets, outcome.reached, outcome.pulses.astype(np.int32), early, self.now_s - done_s, done_s
            )
        return written

    def read(self, reads: int, what: str) -> dict[int, MeanReading]:
        found = {}
        for macro in self._each(what, self.macros):
            readings = self._cells(macro, reads)
            found[macro] = MeanReading(readings, self.now_s, reads)
        return found

    def repeat(self, gaps_s: Sequence[float], macros: tuple[int, ...]) -> dict[int, Repeats]:
        """Read the same cells once, and again after each gap."""
        times: dict[int, list[float]] = {m: [] for m in macros}
        readings: dict[int, list[Floats32]] = {m: [] for m in macros}
        for gap in (0.0, *gaps_s):
            self.wait(gap)
            for macro in self._each("repeated reads", macros):
                readings[macro].append(self._cells(macro, BLOCK_READS))
                times[macro].append(self.now_s)
        return {m: Repeats(np.array(times[m]), np.stack(readings[m])) for m in macros}

    def transfer(self, vectors: int, batch: int) -> dict[int, Products]:
        """Raw codes of ramps and random vectors, one read each, over the whole scale."""
        return self._transfer(vectors, "transfer", batch)

    def hot_transfer(self, vectors: int) -> dict[int, Products]:
        """Products at a second temperature, with other random vectors than at the first."""
        return self._transfer(vectors, "hot transfer", 0)

    def _transfer(self, vectors: int, name: str, batch: int) -> dict[int, Products]:
        spec, found = self.spec.macro, {}
        for macro in self._each("transfer", self.macros):
            inputs = transfer_vectors(spec, vectors, self.rng(macro, name, batch))
            found[macro] = self._multiply(macro, inputs, wide_range(spec))
        return found

    def blocks(self, vectors: int, macros: tuple[int, ...]) -> dict[int, Products]:
        """Raw codes of rows driven side by side, near and far: what wires lose depends on where."""
        spec, found = self.spec.macro, {}
        for macro in self._each("near and far rows", macros):
            inputs = block_vectors(spec, vectors, self.rng(macro, "blocks"))
            found[macro] = self._multiply(macro, inputs, wide_range(spec))
        return found

    def steps(self, subsets: int, macros: tuple[int, ...]) -> dict[int, Products]:
        """Raw codes of rows that are all driven alike, with every unit in turn."""
        spec, found = self.spec.macro, {}
        for macro in self._each("steps of the row drivers", macros):
            found[macro] = self._multiply(
                macro, step_vectors(spec, subsets, self.rng(macro, "steps")), wide_range(spec)
            )
        return found

    def small(self, vectors: int) -> dict[int, Products]:
        """Raw codes of reads that drive a single row each: many conversions then see almost no current."""
        spec, found = self.spec.macro, {}
        for macro in self._each("single rows", self.macros):
            found[macro] = self._multiply(
                macro, zero_vectors(spec, vectors, self.rng(macro, "small")), wide_range(spec)
            )
        return found

    def network(self, vectors: int) -> dict[int, NetworkProducts]:
        """Raw codes for inputs distributed like a network's activations, over all bit planes."""
        spec, found = self.spec.macro, {}
        for macro in self._each("network-like products", self.macros):
            inputs = network_vectors(spec, vectors, self.rng(macro, "network"))
            codes = self._raw(macro, inputs, wide_range(spec), spec.inputs.bits)
            found[macro] = NetworkProducts(inputs, codes, wide_range(spec))
        return found

    def _multiply(self, macro: int, inputs: NDArray[np.int16], range_code: int) -> Products:
        spec = self.spec.macro
        bits = max(spec.inputs.bits_per_cycle, 1)
        codes = self._raw(macro, inputs, range_code, bits)[:, 0, :]
        return Products(split_planes(inputs, spec.inputs, bits, False)[0], codes, range_code)

    def _raw(self, macro: int, inputs: NDArray[np.int16], range_code: int, bits: int) -> NDArray[np.int32]:
        spec = self.spec.macro
        result = self.driver.mvm(
            TileAddress(macro, 0, spec.logical_rows, 0, spec.outputs),
            inputs,
            range_code=range_code,
            input_bits=bits,
            input_signed=False,
            sample=self.sample(),
            vectors_per_sample=len(inputs),
            returns=Returns.RAW,
        )
        return result.values

    def _each(self, what: str, macros: tuple[int, ...]) -> Iterator[int]:
        """The macros in turn; the watcher is told the progress of ``what``."""
        for done, macro in enumerate(macros):
            self.watch.step(done, len(macros), f"{what}, macro {macro}", of=what)
            yield macro
        self.watch.step(len(macros), len(macros), what, of=what)


STEP_REQUESTS = 1024  # sample numbers set aside for a step


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The numbers of one step: from ``first`` on, one for each of its turns."""

    name: str
    first: int
    turns: int = 1

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.turns)


@dataclass(frozen=True, slots=True)
class NumberTable:
    """Ranges of numbers below ``limit``, none twice.

    Raises:
        ValueError: two ranges share a name or a number, or one leaves the table.
    """

    limit: int
    ranges: tuple[NumberRange, ...]

    def __post_init__(self) -> None:
        owners: dict[int, str] = {}
        for one in self.ranges:
            if one.turns < 1 or one.first < 0 or one.numbers.stop > self.limit:
                raise ValueError(
                    f"{one.name}: numbers {one.first} to {one.numbers.stop - 1}, not in 0 to {self.limit - 1}"
                )
            if one.name in owners.values():
                raise ValueError(f"{one.name} stands twice in the table")
            for number in one.numbers:
                if number in owners:
                    raise ValueError(f"number {number} is of {owners[number]} and of {one.name}")
                owners[number] = one.name

    def number(self, name: str, turn: int = 0) -> int:
        """The number of a turn of a step, from turn 0 on.

        Raises:
            KeyError: no such step. ValueError: it has fewer turns.
        """
        one = {r.name: r for r in self.ranges}[name]
        if not 0 <= turn < one.turns:
            raise ValueError(f"{name} has numbers for {one.turns} turns, turn {turn} was requested")
        return one.numbers[turn]


# Sample numbers: each step has STEP_REQUESTS of the 2^16 of a calibration.
STEPS = NumberTable(
    (1 << 16) // STEP_REQUESTS,
    (
        NumberRange("idle", 1),
        NumberRange("stuck", 2, turns=6),  # a turn is a cycle of SET and RESET
        NumberRange("pattern", 8),
        NumberRange("age", 9, turns=11),
        NumberRange("repeat", 20),
        NumberRange("cells", 21),
        NumberRange("transfer", 24, turns=14),  # a turn is a batch of vectors
        NumberRange("small", 38),
        NumberRange("blocks", 39),
        NumberRange("network", 40),
        NumberRange("steps", 42),
        NumberRange("before heating", 44),
        NumberRange("hot", 45),
        NumberRange("rows", 46),  # of earlier records
        NumberRange("check", 60),  # whether the pattern is still there when a calibration goes on
    ),
)

# Random targets and vectors of each macro.
VECTORS = NumberTable(
    32,
    (
        NumberRange("pattern", 0),
        NumberRange("blocks", 2),
        NumberRange("network", 3),
        NumberRange("small", 4),
        NumberRange("steps", 5),
        NumberRange("transfer", 16, turns=15),
        NumberRange("hot transfer", 31),
    ),
)
