"""State of one macro's cells over time: written conductance, relaxation since, and readings."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec, ReadPath
from firmware_protocols.messages import Progress
from hil.emulator import radiation, traps
from hil.emulator.noise import FORM, PROGRAM, PULSE, READ, TRACE, VERIFY, fold_key, hashed_normals, hashed_uniforms
from hil.emulator.relaxation import RelaxationTable, choose_traces, shift_us
from hil.emulator.sample import ROOM_C, STUCK_HIGH, STUCK_LOW, ChipSample, line_gains
from hil.emulator.writing import NEVER, PulseLaw, WriteOrder, WriteVerify, WrittenCells

MOST_PULSES = 65536  # pulses of one write that have a noise number of their own


class MacroCells:
    """State of one macro's cells. Times are chip time in nanoseconds.

    A cell keeps conductance and time of its last pulse, and the number of the measured cell
    whose relaxation it follows. ``version`` counts writes and moves of traps, to invalidate caches.
    """

    def __init__(self, spec: ChipSpec, sample: ChipSample, macro: int, measured: RelaxationTable) -> None:
        self._spec, self._seed, self._macro = spec, sample.seed, macro
        self._parameters, self._truth = sample.parameters, sample.macros[macro]
        fresh = spec.form is not None and not spec.form.formed
        form_v = self._forming_voltages() if fresh else None
        self._law = PulseLaw(spec.macro, spec.write, self._truth, self._parameters, form_v)
        self._written_us = self._truth.low_us * np.float32(0.05) if fresh else self._truth.formed_us.copy()
        self._written_ns = np.zeros(self._written_us.shape, np.int64)
        self._trace = np.full(self._written_us.shape, -1, np.int32)
        self._measured = measured
        self._scale = max(1.0, spec.macro.levels_us[-1] / measured.full_scale_us)
        self.pulses = np.zeros(self._written_us.shape, np.int64)
        self.version = 0
        self._trapped_ns = 0  # when traps moved last, where that is later than ages are counted to

    def _forming_voltages(self) -> NDArray[np.float32]:
        """Voltage that forms each cell, normal; infinite for the share that never forms."""
        p, numbers = self._parameters, self._numbers(np.s_[:, :])
        z = hashed_normals(fold_key(self._seed, FORM, self._macro, 0), numbers)
        lot = hashed_uniforms(fold_key(self._seed, FORM, self._macro, 1), numbers)
        return np.where(lot < p.never_form_share, NEVER, p.form_v + p.form_sigma_v * z).astype(np.float32)

    @property
    def programmed(self) -> int:
        """Cells that took at least one pulse."""
        return int(np.count_nonzero(self.pulses))

    def conductance_us(self, now_ns: int, block: tuple[slice, slice] = np.s_[:, :]) -> NDArray[np.float32]:
        """True conductances at an age given by ``now_ns``, float32 (rows, columns); never sent to anyone."""
        p = self._parameters
        g, trace = self._written_us[block].copy(), self._trace[block]
        moving = trace >= 0
        if p.relaxation > 0.0 and moving.any():
            age_s = np.maximum(now_ns - self._written_ns[block][moving], 0) * 1e-9
            shift = shift_us(self._measured, trace[moving], g[moving] / self._scale, age_s, p.read_variance_us2)
            g[moving] += np.float32(p.relaxation * self._scale) * shift
        if moving.any():
            g[moving] = self._in_orbit(g[moving], now_ns, block, moving)
        if p.lasting_noise_us > 0.0 and moving.any():
            g[moving] += traps.shift_us(
                self._written_us[block][moving], self._numbers(block)[moving], self._written_ns[block][moving],
                max(now_ns, self._trapped_ns), self._seed, self._macro, p.lasting_noise_us,
                self._spec.macro.levels_us[-1],
            ).astype(np.float32)  # fmt: skip
        return np.maximum(g, np.float32(0.0)) * self._warmth(now_ns)

    def move_traps(self, now_ns: int) -> None:
        """Advance lasting read noise (traps) to ``now_ns``, if this chip has any."""
        if self._parameters.lasting_noise_us > 0.0:
            self._trapped_ns = now_ns
            self.version += 1

    def _in_orbit(
        self, g: NDArray[np.float32], now_ns: int, block: tuple[slice, slice], moving: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Written cells after late ageing, dose and upsets since their write."""
        p, levels = self._parameters, self._spec.macro.levels_us
        written_ns = self._written_ns[block][moving]
        age_s = np.maximum(now_ns - written_ns, 0) * 1e-9
        lot = radiation.lots(self._numbers(block)[moving], written_ns)
        slow = radiation.aged(g, age_s, lot, self._seed, self._macro, p.late_ageing * min(p.relaxation, 1.0))
        if p.dose_krad_per_year > 0.0:
            krad = p.dose_krad_per_year * age_s / (365.25 * radiation.DAY_S)
            slow = radiation.dosed(slow, krad, levels[0], levels[-1])
        if p.upsets > 0.0:
            slow = radiation.upset(slow, age_s, lot, self._seed, self._macro, p.upsets, levels[-1])
        return slow.astype(np.float32)

    def read(self, now_ns: int, block: tuple[slice, slice], reads: int, sample: int) -> NDArray[np.float32]:
        """Mean of ``reads`` readings through the chip's read path, µS (rows, columns).

        reading = a (G + z √(v / reads)), z fresh per cell and request; a is the gain of the
        macro's sense amplifier, or of the column's converter. Cell reads integrate long
        enough that the converter's offset and step do not show.
        """
        g = self.conductance_us(now_ns, block)
        sigma = np.float32(np.sqrt(self._parameters.read_variance_us2 / reads))
        if sigma > 0.0:
            g += sigma * hashed_normals(fold_key(self._seed, READ, self._macro, sample), self._numbers(block))
        return g * self._path_gain(block)

    def pulse(
        self,
        now_ns: int,
        block: tuple[slice, slice],
        volts: NDArray[np.float64],
        up: bool,
        width_ns: float,
        sample: int,
    ) -> None:
        """Pulse the cells of the block whose ``volts`` (rows, columns) are above 0, once each."""
        hit = volts > 0.0
        numbers = self._numbers(block)[hit]
        g = self.conductance_us(now_ns, block)[hit]
        z = hashed_normals(fold_key(self._seed, PULSE, self._macro, sample), numbers)
        g = self._law.step(g, numbers, np.full(g.shape, up), volts[hit], width_ns, z)
        when = np.full(g.shape, now_ns, np.int64)
        self._settle(numbers, g / self._warmth(now_ns), when, np.ones(g.shape, np.int64), sample)

    def write(
        self, now_ns: int, order: WriteOrder, lasts: Callable[[], bool] = lambda: True
    ) -> Generator[Progress, None, WrittenCells]:
        """Write-verify, telling its progress. Cells are written one after the other on
        the chip's clock, row by row, so a block cut in two gives what the whole would.
        Where ``lasts`` is false at the end, the supply failed on the way and no pulse was given."""
        rows, columns = order.targets_us.shape
        block = np.s_[order.row0 : order.row0 + rows, order.column0 : order.column0 + columns]
        wanted = ~np.isnan(order.targets_us)
        gain = np.broadcast_to(self._path_gain(block), (rows, columns))[wanted]
        numbers = self._numbers(block)[wanted]
        state = WriteVerify(
            self._law, order, numbers, self.conductance_us(now_ns, block)[wanted], order.targets_us[wanted], gain
        )
        verify_key = fold_key(self._seed, VERIFY, self._macro, order.sample)
        pulse_key = fold_key(self._seed, PROGRAM, self._macro, order.sample)
        lasted = np.zeros(1, np.int64)
        try:
            yield from state.rounds(
                lambda cells, turn: hashed_normals(verify_key, cells * MOST_PULSES + turn),
                lambda cells, turn: hashed_normals(pulse_key, cells * MOST_PULSES + turn),
            )
        finally:  # pulses given before an interruption stay given
            timing, moved = self._spec.timing, state.pulses > 0
            spent = state.pulses * timing.pulse_ns + state.verifies * timing.verify_ns
            lasted = np.append(0, np.cumsum(np.rint(spent).astype(np.int64)))
            cold = state.g_us[moved] / self._warmth(now_ns)
            if lasts():
                self._settle(numbers[moved], cold, now_ns + lasted[1:][moved], state.pulses[moved], order.sample)
        outcome = WrittenCells(
            np.zeros((rows, columns), np.float32),
            np.zeros((rows, columns), np.int64),
            np.zeros((rows, columns), np.bool_),
            int(lasted[-1]),
        )
        outcome.readings_us[wanted], outcome.pulses[wanted] = state.readings_us, state.pulses
        outcome.reached[wanted] = state.reached
        return outcome

    def _settle(
        self,
        numbers: NDArray[np.int64],
        cold: NDArray[np.float32],
        when: NDArray[np.int64],
        pulses: NDArray[np.int64],
        sample: int,
    ) -> None:
        """Store pulsed cells: conductance at room temperature, time, and the measured cell that each follows."""
        if not len(numbers):
            return
        self._written_us.flat[numbers] = cold
        self._written_ns.flat[numbers] = when
        self.pulses.flat[numbers] += pulses
        lot = hashed_uniforms(fold_key(self._seed, TRACE, self._macro, sample), numbers)
        kind = self._truth.kind.flat[numbers]
        stuck = (kind == STUCK_LOW) | (kind == STUCK_HIGH) | self._law.fresh(numbers)
        self._trace.flat[numbers] = np.where(stuck, -1, choose_traces(self._measured, cold / self._scale, lot))
        self.version += 1

    def _warmth(self, now_ns: int) -> np.float32:
        """Factor of every conductance at the chip's temperature."""
        p = self._parameters
        return np.float32(1.0 + p.conductance_per_k * (p.temperature_at(now_ns) - ROOM_C))

    def _path_gain(self, block: tuple[slice, slice]) -> NDArray[np.float32]:
        """Gain of the read path, (1,) or (columns,)."""
        if self._spec.macro.read_path is ReadPath.SENSE:
            return np.array([self._truth.sense_gain], np.float32)
        return line_gains(self._spec.macro, self._truth.gain)[block[1]]

    def _numbers(self, block: tuple[slice, slice]) -> NDArray[np.int64]:
        """Number of each cell of a block within the macro."""
        rows, columns = np.arange(self._spec.macro.rows)[block[0]], np.arange(self._spec.macro.columns)[block[1]]
        return rows[:, None] * self._spec.macro.columns + columns
