"""Two more physics for chip roles beside those of ``foreign_chips``; no limit was set on them.

=============  ====================================================  ================================================
               Tandem                                                Ratchet
=============  ====================================================  ================================================
write error    Student's t with four degrees of freedom              uniform, within the steps of a pulse
ageing         towards a middle conductance, as a power of time      exponential losses, a time constant a cell
lasting noise  a walk from decade to decade of chip time             three states a cell, changed at its own period
read noise     two values                                            Laplace, in proportion to G
converters     successive approximation, each bit off by itself      integrating: a gradient of gains, floor
column gain    alternates from column to column, and normal          along the macro, and one of each eight columns
offset         of the converter                                      of the column, exponential
wires          none                                                  rows lose by the square of their distance
=============  ====================================================  ================================================
"""

from __future__ import annotations

import numpy as np
from foreign_chips import Floats, ForeignChip
from numpy.typing import NDArray

from cim.chip.converters import code_limits


class Tandem(ForeignChip):
    """See the module."""

    def draw(self, shape: tuple[int, ...], columns: int) -> None:
        rng = self.rng
        self.stuck = rng.random(shape) < 0.003
        self.cells_us[self.stuck] = rng.choice([0.8, 41.0], int(self.stuck.sum()))
        self.pull = np.abs(rng.normal(0.012, 0.006, shape))
        self.steps = rng.standard_normal((12, *shape)).astype(np.float32)
        self.gain = 1.0 + 0.03 * np.where(np.arange(columns) % 2, 1, -1) + rng.normal(0, 0.02, columns)
        adcs = int(self.adcs[-1]) + 1
        self.bits = rng.normal(0, 0.25, (adcs, self.spec.macro.adc.bits))
        self.offset = rng.normal(0, 1.2, adcs)

    def write_error(self, targets_us: Floats) -> Floats:
        return 0.45 * self.rng.standard_t(4, targets_us.shape)

    def aged(self, macro: int, age_s: Floats, now_s: float) -> Floats:
        g = self.cells_us[macro]
        decades = int(np.clip(np.log10(max(now_s, 1e-3)) + 3, 0, 11))
        walk = self.steps[:decades, macro].sum(0) if decades else 0.0
        return g + self.pull[macro] * (14.0 - g) * ((1.0 + age_s) ** 0.06 - 1.0) + self.lasting_us * walk

    def fresh(self, g_us: Floats, reads: int) -> Floats:
        return 1.1 * self.rng.choice([-1.0, 1.0], g_us.shape) / np.sqrt(reads)

    def product_noise(self, squares: Floats, columns: int) -> Floats:
        return 1.1 * np.sqrt(2 * squares) * self.rng.standard_normal((*squares.shape[:-1], columns))

    def convert(self, y: Floats, at: NDArray[np.intp]) -> Floats:
        low, high = code_limits(self.spec.macro.adc.bits, self.spec.macro.adc_signed)
        adcs = self.adcs[at]
        codes = np.clip(np.rint(y * self.gain[at] + self.offset[adcs]), low, high).astype(np.int64)
        raised = codes - low
        wrong = sum(((raised >> b) & 1) * self.bits[adcs, b] for b in range(self.bits.shape[1]))
        return np.rint(codes + wrong - self.bits[adcs].sum(axis=1) / 2)


class Ratchet(ForeignChip):
    """See the module."""

    def draw(self, shape: tuple[int, ...], columns: int) -> None:
        rng = self.rng
        self.stuck = rng.random(shape) < 0.002
        self.cells_us[self.stuck] = 0.3
        self.time_s = 10.0 ** rng.uniform(1, 9, shape)
        self.period_s = 10.0 ** rng.uniform(-2, 6, shape)
        self.salt = int(rng.integers(1 << 31))
        place = np.arange(columns) / columns
        self.gain = 1.0 + 0.08 * (place - 0.5) + 0.03 * (np.arange(columns) % 8 == 3) + rng.normal(0, 0.01, columns)
        self.offset = rng.exponential(1.0, columns) - 1.0

    def write_error(self, targets_us: Floats) -> Floats:
        return self.rng.uniform(-1.1, 1.1, targets_us.shape)

    def aged(self, macro: int, age_s: Floats, now_s: float) -> Floats:
        g = self.cells_us[macro] * (1.0 - 0.06 * (1.0 - np.exp(-age_s / self.time_s[macro])))
        turn = np.floor(now_s / self.period_s[macro]).astype(np.int64) & 0xFFFFFF
        number = np.arange(g.size, dtype=np.int64).reshape(g.shape)
        mixed = (turn * 1103515245 + number * 12345 + self.salt) & 0x7FFFFFFF
        state = (((mixed >> 7) ^ mixed) * 48271 % 0x7FFFFFFF) % 3
        return g + 2.0 * self.lasting_us * (state - 1.0)

    def fresh(self, g_us: Floats, reads: int) -> Floats:
        return 0.02 * np.maximum(g_us, 0.0) * self.rng.laplace(0, 1, g_us.shape) / np.sqrt(reads)

    def product_noise(self, squares: Floats, columns: int) -> Floats:
        return 0.02 * 20.0 * np.sqrt(2 * 2 * squares) * self.rng.standard_normal((*squares.shape[:-1], columns))

    def convert(self, y: Floats, at: NDArray[np.intp]) -> Floats:
        return np.floor(y * self.gain[at] + self.offset[at] + 0.5)

    def row_share(self, rows: NDArray[np.intp]) -> Floats:
        return 1.0 - 0.03 * (rows / self.spec.macro.logical_rows) ** 2
