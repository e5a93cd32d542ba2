"""The steps of a calibration, in order; each stops when precise enough or when its budget is spent.

Offsets with nothing driven; stuck cells; the test pattern and how writing went; its cells at
log-spaced ages; repeated reads; the cells once more, averaged; ramps and random vectors; near
and far rows; each unit of a read of several bits; network-like vectors; and all that matters
again at a second temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import max_unit
from cim.cells.read_noise import ReadNoise
from cim.fit.cells import MIN_CELLS, levels_with_cells, nearest_level
from cim.fit.column_products import ColumnProducts
from cim.fit.measured import (
    BLOCK_READS,
    Idle,
    MeanReading,
    NetworkProducts,
    Pattern,
    Products,
    Repeats,
    Stuck,
    joined,
)
from cim.fit.pattern_cells import good_targets, held_and_fitted, merge_stuck, read_noise, stuck_states
from cim.record.calibration import CellState
from hil.calibration.measurements import Probes
from hil.calibration.plan import FIRST_AGE_S, CalibrationPlan, StepPrecision, later_ages
from hil.calibration.store import read_step, write_step
from hil.driver.chip_driver import ChipDriver
from hil.errors import DeviceError, UsageError
from hil.report.work_folder import GO_ON, WorkFolder
from hil.watch import Watch

AFTER_WRITING = (
    "pattern",
    "age",
    "repeat",
    "cells",
    "transfer",
    "small",
    "blocks",
    "steps",
    "network",
    "hot",
)  # need the pattern
DOUBT = 1e-3  # share of cells on which two SET/RESET cycles may disagree
CLOSE_C = 1.0  # a temperature is reached when the chip's status is this near
HEATING_SHARE = 0.02  # of the age, between two looks at the thermometer: cells hardly move meanwhile
HEATING_S = 7 * 86400.0  # an oven that takes longer is none
HELD = 0.7  # correlation of readings and targets of a pattern that is still there

Flags = NDArray[np.bool_]
T = TypeVar("T")
Arguments = ParamSpec("Arguments")


@dataclass
class Measured:
    """Everything measured, by macro, and how precise each step became."""

    temperature_c: float
    idle: dict[int, Idle] = field(default_factory=dict)
    states: dict[int, NDArray[np.int8]] = field(default_factory=dict)  # stuck or not, by the SET/RESET cycles
    stuck_pulses: int = 0
    pattern: dict[int, Pattern] = field(default_factory=dict)
    aged: list[dict[int, MeanReading]] = field(default_factory=list)  # at the ages after the first, the last included
    repeats: dict[int, Repeats] = field(default_factory=dict)
    noise: ReadNoise | None = None
    transfer: dict[int, Products] = field(default_factory=dict)
    small: dict[int, Products] = field(default_factory=dict)
    blocks: dict[int, Products] = field(default_factory=dict)
    steps: dict[int, Products] = field(default_factory=dict)  # where a read takes several bits
    network: dict[int, NetworkProducts] = field(default_factory=dict)
    hot: SecondTemperature | None = None
    precision: list[StepPrecision] = field(default_factory=list)

    def good_targets(self, macros: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """Targets of the cells of each macro, flat; NaN for cells that are stuck or unused."""
        return {m: good_targets(self.pattern[m], self.states[m]) for m in macros}


@dataclass(frozen=True, slots=True)
class SecondTemperature:
    """The same cells at a second temperature: two mean readings before heating, one after, repeats and products."""

    cold_c: float
    hot_c: float
    earlier: dict[int, MeanReading]
    cold: dict[int, MeanReading]
    hot: dict[int, MeanReading]
    repeats: dict[int, Repeats]
    products: dict[int, Products]


@dataclass(frozen=True, slots=True)
class Climate:
    """Chip temperatures reported by STATUS during a step."""

    temperature_c: float


class CalibrationSteps:
    """Measures, or reads back what was measured before an interruption."""

    def __init__(
        self,
        driver: ChipDriver,
        macros: tuple[int, ...],
        plan: CalibrationPlan,
        seed: int,
        work: WorkFolder,
        watch: Watch,
    ) -> None:
        self.driver, self.macros, self.plan, self.work, self.watch = driver, macros, plan, work, watch
        self.probes = Probes(driver, macros, seed, watch)
        self.spec = driver.spec.macro

    def run(self, age_s: float, second_c: float | None) -> Measured:
        self._check_size()
        self._check_pattern()
        climate = self._once("climate", Climate, self._climate)
        found = Measured(climate[0].temperature_c)
        self.probes.begin("idle")
        found.idle = self._once("idle", Idle, self.probes.idle, self.plan.idle_vectors)
        self._stuck(found)
        self._pattern_and_ages(found, age_s)
        self._transfer(found)
        self.probes.begin("small")
        found.small = self._once("small", Products, self.probes.small, self.plan.zero_vectors)
        self._wires(found)
        self._drive(found)
        self.probes.begin("network")
        found.network = self._once("network", NetworkProducts, self.probes.network, self.plan.real_vectors)
        if second_c is not None:
            self._hot(found, second_c)
        return found

    # --- the steps ----------------------------------------------------------------------------

    def _stuck(self, found: Measured) -> None:
        """Target conductances of the cells of each macro, flat, µS; NaN for cells that are stuck or unused."""
        cycles: list[dict[int, NDArray[np.int8]]] = []
        doubtful: dict[int, Flags] = {}
        doubt, cells = 0.0, self.spec.rows * self.spec.columns * len(self.macros)
        for cycle in range(self.plan.stuck_cycles):
            self.probes.begin("stuck", cycle)
            asked = doubtful if cycle else None
            name = f"stuck-{cycle + 1}"
            parts = self._once(name, Stuck, self.probes.stuck_cells, self.plan.stuck_reads, asked)
            found.stuck_pulses += sum(p.pulses for p in parts.values())
            cycles.append({m: stuck_states(self.spec, p) for m, p in parts.items()})
            if cycle == 0:
                doubtful = {m: states != CellState.GOOD for m, states in cycles[0].items()}
                continue
            doubtful = {m: (cycles[-1][m] != cycles[-2][m]) & doubtful[m] for m in doubtful}
            doubt = sum(int(d.sum()) for d in doubtful.values()) / cells
            if doubt <= DOUBT:
                break
        found.states = {m: merge_stuck([c[m] for c in cycles]) for m in self.macros}
        if len(cycles) > 1:  # one cycle alone says nothing about its own doubt
            self._tell(
                found, StepPrecision("stuck map", doubt, DOUBT, "of the cells in doubt", f"{len(cycles)} cycles")
            )

    def _pattern_and_ages(self, found: Measured, age_s: float) -> None:
        plan, probes = self.plan, self.probes
        probes.begin("pattern")
        found.pattern = self._once("pattern", Pattern, probes.write_pattern, plan.early_reads, FIRST_AGE_S)
        written = [p.time_s for p in found.pattern.values()]
        ages = later_ages(age_s, max(written) - min(written), plan)
        middle = float(np.mean(written))
        for number, age in enumerate(ages[:-1]):
            probes.begin("age", number)
            found.aged.append(self._once(f"age-{number + 1}", MeanReading, self._at, middle + age))
        probes.begin("repeat")
        some = self.macros[:: max(1, len(self.macros) // plan.noise_macros)][: plan.noise_macros]
        gaps = tuple(g for g in plan.noise_gaps_s if g <= age_s / 30.0)
        found.repeats = self._once("repeat", Repeats, self._repeat, middle + age_s, gaps, some)
        noise = read_noise(np.array(self.spec.levels_us), found.repeats, found.good_targets(some))
        worst = float(noise.variance_us2.max())
        reads = plan.reads(worst)
        probes.begin("cells")
        found.noise = noise
        found.aged.append(self._once("cells", MeanReading, probes.read, reads, "aged cells"))
        reached = float(np.sqrt(worst / found.aged[-1][self.macros[0]].reads))
        self._tell(found, StepPrecision("cell readings", reached, plan.reading_target_us, "µS", f"{reads} reads"))

    def _at(self, time_s: float) -> dict[int, MeanReading]:
        self.probes.wait_until(time_s)
        return self.probes.read(self.plan.early_reads, "cells")

    def _repeat(self, until_s: float, gaps_s: tuple[float, ...], macros: tuple[int, ...]) -> dict[int, Repeats]:
        """Read cells again after each of ``gaps_s``, timed so that the last reading is taken at ``until_s``."""
        self.probes.wait_until(until_s - sum(gaps_s))
        return self.probes.repeat(gaps_s, macros)

    def _transfer(self, found: Measured) -> None:
        """Vectors in rounds until the gains of the first macro are known well enough."""
        plan, first = self.plan, self.macros[0]
        batch, error = 0, np.inf
        while error > plan.gain_target and (batch + 1) * plan.batch <= plan.most_vectors:
            self.probes.begin("transfer", batch)
            parts = self._once(f"transfer-{batch + 1}", Products, self.probes.transfer, plan.batch, batch)
            found.transfer = {m: joined(found.transfer.get(m), p) for m, p in parts.items()}
            assert found.noise is not None
            aged = found.aged[-1][first]
            columns = ColumnProducts.of(self.spec, found.transfer[first], aged.readings_us, found.noise, aged.reads)
            error = float(np.median(columns.quick().gain_se))
            batch += 1
        spent = f"{batch * plan.batch:,} vectors a macro"
        self._tell(found, StepPrecision("column gain", error, plan.gain_target, "", spent))

    def _wires(self, found: Measured) -> None:
        plan = self.plan
        some = self.macros[:: max(1, len(self.macros) // plan.wire_macros)][: plan.wire_macros]
        self.probes.begin("blocks")
        found.blocks = self._once("blocks", Products, self.probes.blocks, plan.wire_vectors, some)

    def _drive(self, found: Measured) -> None:
        """Rows at one unit all, with every unit in turn: only inputs of several bits a read have more than one."""
        if max_unit(self.spec) > 1:
            self.probes.begin("steps")
            some = tuple(found.blocks)
            found.steps = self._once("steps", Products, self.probes.steps, self.plan.drive_subsets, some)

    def _hot(self, found: Measured, second_c: float) -> None:
        """Wait for the bench to reach the second temperature, reading cold cells on the way."""
        plan, probes = self.plan, self.probes
        last = found.aged[-1]
        reads = last[self.macros[0]].reads
        written = float(np.mean([p.time_s for p in found.pattern.values()]))
        probes.begin("before heating")
        if self.work.has("hot-before.h5"):
            before, cold = (self._kept(name, MeanReading) for name in ("hot-earlier", "hot-before"))
        else:
            before, cold = self._cold_until(second_c, last, found.temperature_c, written)
            self.work.keep("hot-earlier.h5", before, write_step)
            self.work.keep("hot-before.h5", cold, write_step)
        probes.begin("hot")
        hot = self._once("hot-cells", MeanReading, probes.read, reads, "cells at the second temperature")
        climate = self._once("hot-climate", Climate, self._climate)
        some = tuple(found.repeats)
        repeats = self._once("hot-repeat", Repeats, probes.repeat, (0.0,), some)
        products = self._once("hot-transfer", Products, probes.hot_transfer, plan.batch)
        found.hot = SecondTemperature(
            found.temperature_c, climate[0].temperature_c, before, cold, hot, repeats, products
        )

    def _cold_until(
        self, second_c: float, last: dict[int, MeanReading], first_c: float, written_s: float
    ) -> tuple[dict[int, MeanReading], dict[int, MeanReading]]:
        """The last two readings of cold cells before the chip has the second temperature; waits for it."""
        probes, reads = self.probes, last[self.macros[0]].reads
        started, earlier, cold = probes.now_s, last, last
        while abs(self.driver.status().temperature_c - second_c) > CLOSE_C:
            here_c = self.driver.status().temperature_c
            if probes.now_s - started > HEATING_S:
                raise DeviceError(
                    f"the chip's status says {here_c:.1f} °C; {second_c:g} °C were not reached in a week",
                    hint=f"heat the bench; {GO_ON}",
                )
            self.watch.step(0, 1, f"waiting for {second_c:g} °C, now {here_c:.1f} °C")
            if abs(here_c - first_c) <= CLOSE_C:
                reading = probes.read(reads, "cells before heating")
                if abs(self.driver.status().temperature_c - first_c) <= CLOSE_C:  # still as cold
                    earlier, cold = cold, reading
            self.driver.wait(max(1.0, HEATING_SHARE * (probes.now_s - written_s)), self.watch)
        return earlier, cold

    # --- shared -------------------------------------------------------------------------------

    def _once(
        self, name: str, kind: type[T], measure: Callable[Arguments, dict[int, T]],
        *about: Arguments.args, **options: Arguments.kwargs,
    ) -> dict[int, T]:  # fmt: skip
        """Results of ``measure`` by macro, or those of an interrupted calibration where they are stored."""
        if self.work.has(f"{name}.h5"):
            return self._kept(name, kind)
        parts = measure(*about, **options)
        self.work.keep(f"{name}.h5", parts, write_step)
        return parts

    def _kept(self, name: str, kind: type[T]) -> dict[int, T]:
        return self.work.load(f"{name}.h5", partial(read_step, kind=kind))

    def _climate(self) -> dict[int, Climate]:
        return {0: Climate(self.driver.temperature_c)}

    def _check_pattern(self) -> None:
        """After an interruption: discard steps after the test pattern, unless a macro's cells still hold it."""
        if not self.work.has("pattern.h5"):
            return
        pattern = self._kept("pattern", Pattern)
        macro = self.macros[0]
        self.probes.begin("check")
        self.driver.known_status()
        readings = self.driver.read_cells(macro, reads=BLOCK_READS, sample=self.probes.sample())
        part = pattern[macro]
        good = part.reached & np.isfinite(part.targets_us)
        alike = float(np.corrcoef(readings[good], part.targets_us[good])[0, 1])
        if self.probes.now_s >= max(p.time_s for p in pattern.values()) and alike > HELD:
            return
        self.watch.note("the chip does not hold the test pattern any more: it is written again, later steps are redone")
        self.work.forget(*(name for name in self.work.parts("*.h5") if name.startswith(AFTER_WRITING)))

    def _check_size(self) -> None:
        """Refuse macros with too few cells for a law before any is written."""
        targets_us, levels = np.zeros(0), np.array(self.spec.levels_us)
        for macro in self.macros:
            targets_us = np.append(targets_us, self.probes.pattern_targets_us(macro))
            fitted = targets_us[held_and_fitted(len(targets_us))[1]]
            left = levels_with_cells(levels, fitted)
            fewest = int(np.bincount(nearest_level(fitted, left), minlength=len(left)).min())
            if fewest >= MIN_CELLS:
                return
        raise UsageError(
            f"the macros to calibrate have {targets_us.size} cells, and {fewest} of them show how the lowest or the "
            f"highest conductances are written; a law needs {MIN_CELLS}",
            hint="calibrate more macros of the chip; without a record: hil simulate --chip",
        )

    def _tell(self, found: Measured, precision: StepPrecision) -> None:
        found.precision.append(precision)
        self.watch.found("calibrate", ", ".join(p.words() for p in found.precision))
