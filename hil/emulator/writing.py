"""Write-verify on the chip: the effect of one pulse on a cell, and pulses until a reading lies in the window."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import MacroSpec, WriteRecipe
from firmware_protocols.messages import Progress
from hil.emulator.sample import MacroSample, SampleParameters

SET_SCALE_V = 0.6  # a step grows by e over this much voltage above the recipe's start
WIDTH_POWER = 0.1  # pulse width hardly matters: step ∝ width^0.1
SLOW_SHARE = 0.1  # of a cell's range, over which steps die away towards its end
SAME_LEVEL_US = 2e-3  # a perfect write takes a target this close for the level itself
ROUNDS_A_PROGRESS = 16
FORM_JITTER_V, BREAKS_V = 0.03, 0.6  # forming: spread of one pulse; a cell breaks down this far above its voltage
FORMED, NEVER = np.float32(-np.inf), np.float32(np.inf)  # as the voltage that forms a cell

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]
Draw = Callable[[Counts, int], Floats]
"""Standard normals for cells at a turn."""


@dataclass(frozen=True, slots=True)
class WriteOrder:
    """Write-verify of a block, in physical units. ``targets_us`` (rows, columns), NaN = leave alone."""

    row0: int
    column0: int
    targets_us: Floats
    tolerance_us: float
    max_pulses: int
    verify_reads: int
    set_v: tuple[float, float, float]  # start, step, stop
    reset_v: tuple[float, float, float]
    width_ns: float
    sample: int


@dataclass(frozen=True, slots=True)
class WrittenCells:
    """Per cell of the block: last verify reading in µS, pulses, whether it ended in the window; and the time taken."""

    readings_us: Floats
    pulses: Counts
    reached: Flags
    lasted_ns: int


@dataclass(frozen=True, slots=True)
class PulseLaw:
    """What one pulse does to the cells of one macro; ``numbers`` count cells row by row."""

    macro: MacroSpec
    recipe: WriteRecipe
    truth: MacroSample
    parameters: SampleParameters
    form_v: Floats | None = None  # (rows, columns): voltage that forms each cell, changed by its pulses; None: all are

    def fresh(self, numbers: Counts) -> Flags:
        """Flags of fresh cells, which do not switch: never formed, or broken down."""
        if self.form_v is None:
            return np.zeros(numbers.shape, np.bool_)
        return np.asarray(self.form_v.flat[numbers] > FORMED)

    def _formed(
        self, g_us: Floats, switched: Floats, numbers: Counts, up: Flags, volts: NDArray[np.floating], z: Floats
    ) -> Floats:
        """Fresh cells stay until a SET pulse reaches their voltage; after it they are in the upper half of their range.

        A pulse ``BREAKS_V`` above it leaves a short that never switches again.
        """
        assert self.form_v is not None
        fresh, low, high = self.fresh(numbers), self.truth.low_us.flat[numbers], self.truth.high_us.flat[numbers]
        over = np.where(fresh & up, volts + FORM_JITTER_V * z - self.form_v.flat[numbers], -1.0)
        forms, breaks = over >= 0.0, over > BREAKS_V
        self.form_v.flat[numbers[forms]] = np.where(breaks[forms], NEVER, FORMED)
        landed = np.where(breaks, 3.0 * high, low + (high - low) * (0.5 + over.clip(0.0, 0.5)))
        found: Floats = np.where(forms, landed, np.where(fresh, g_us, switched)).astype(np.float32)
        return found

    @property
    def perfect(self) -> bool:
        """Whether writes reach their targets exactly: a pulse step of 0 means that."""
        return self.parameters.pulse_step_us == 0.0

    def step(
        self, g_us: Floats, numbers: Counts, up: Flags, volts: NDArray[np.floating], width_ns: float, z: Floats
    ) -> Floats:
        """Conductances after one pulse.

            G ± step · pace · exp((V − V_start) / 0.6 V) · (width / width_recipe)^0.1 · exp(σ z) · room

        z is fresh at each pulse; ``pace`` belongs to the cell and makes pulse counts heavy-tailed;
        room falls from 1 to 0 over the last tenth of the cell's range.
        """
        low, high = self.truth.low_us.flat[numbers], self.truth.high_us.flat[numbers]
        start = np.where(up, self.recipe.set_start_v, self.recipe.reset_start_v)
        drive = np.exp((volts - start) / SET_SCALE_V) * (width_ns / self.recipe.pulse_width_ns) ** WIDTH_POWER
        step = self.parameters.pulse_step_us or self.macro.tolerance_us / 2
        room = np.where(up, high - g_us, g_us - low) / np.maximum(SLOW_SHARE * (high - low), 1e-6)
        size = step * self.truth.pace.flat[numbers] * drive * np.exp(self.parameters.pulse_sigma * z)
        moved = g_us + np.where(up, size, -size) * np.clip(room, 0.0, 1.0)
        inside: Floats = np.clip(moved, low, high).astype(np.float32)
        return inside if self.form_v is None else self._formed(g_us, inside, numbers, up, volts, z)

    def land(self, targets_us: Floats, numbers: Counts) -> Floats:
        """Conductances after a perfect write: the level of each target, limited to the cell's range."""
        levels = np.array(self.macro.levels_us, np.float32)
        nearest = levels[np.abs(targets_us[:, None] - levels).argmin(1)]
        exact = np.where(np.abs(nearest - targets_us) < SAME_LEVEL_US, nearest, targets_us)
        reached: Floats = np.clip(exact, self.truth.low_us.flat[numbers], self.truth.high_us.flat[numbers])
        return reached


class WriteVerify:
    """One write under way; arrays hold one entry per cell to be written.

    Every round: read each open cell ``verify_reads`` times; those inside the window are done
    (noise can let a cell pass wrongly); the others take one pulse towards the target, one
    voltage step above the last of the same direction, from the start voltage again after a
    change of direction.
    """

    def __init__(
        self, law: PulseLaw, order: WriteOrder, numbers: Counts, g_us: Floats, targets_us: Floats, gain: Floats
    ) -> None:
        self._law, self._order, self._targets, self._gain = law, order, targets_us, gain
        self.numbers, self.g_us = numbers, g_us
        count = len(numbers)
        self.readings_us = np.zeros(count, np.float32)
        self.reached = np.zeros(count, np.bool_)
        self.pulses, self.verifies = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._ramp, self._up = np.zeros(count, np.int64), np.zeros(count, np.bool_)

    def rounds(self, verify_z: Draw, pulse_z: Draw) -> Generator[Progress, None, None]:
        """Write until all cells are done or out of pulses; tells its progress now and then."""
        count, here = len(self.numbers), np.arange(len(self.numbers))
        for turn in range(self._order.max_pulses + 1):
            here = self._verify(here, turn, verify_z)
            if not len(here) or turn == self._order.max_pulses:
                return
            self._pulse(here, turn, pulse_z)
            if turn % ROUNDS_A_PROGRESS == ROUNDS_A_PROGRESS - 1:
                yield Progress(count - len(here), count, 0)

    def _verify(self, here: Counts, turn: int, verify_z: Draw) -> Counts:
        """Read the open cells; returns those still outside the window."""
        p = self._law.parameters
        sigma = np.sqrt((p.read_variance_us2 + p.verify_noise_us**2) / self._order.verify_reads)
        noise = sigma * verify_z(self.numbers[here], turn) if sigma > 0.0 else 0.0
        self.readings_us[here] = self._gain[here] * (self.g_us[here] + noise)
        self.verifies[here] += self._order.verify_reads
        inside = np.abs(self.readings_us[here] - self._targets[here]) <= self._order.tolerance_us
        if self._law.perfect and turn == 0:  # being near is not enough for a perfect write
            inside[:] = False
        self.reached[here] = inside
        still: Counts = here[~inside]
        return still

    def _pulse(self, here: Counts, turn: int, pulse_z: Draw) -> None:
        numbers, up = self.numbers[here], self.readings_us[here] < self._targets[here]
        again = (self.pulses[here] > 0) & (self._up[here] == up)
        self._ramp[here] = np.where(again, self._ramp[here] + 1, 0)
        self._up[here] = up
        self.pulses[here] += 1
        if self._law.perfect:
            self.g_us[here] = self._law.land(self._targets[here], numbers)
            return
        (set_0, set_step, set_stop), (reset_0, reset_step, reset_stop) = self._order.set_v, self._order.reset_v
        ramp = self._ramp[here]
        rising = np.minimum(set_0 + set_step * ramp, set_stop)
        falling = np.minimum(reset_0 + reset_step * ramp, reset_stop)
        volts = np.where(up, rising, falling)
        z = pulse_z(numbers, turn)
        self.g_us[here] = self._law.step(self.g_us[here], numbers, up, volts, self._order.width_ns, z)
