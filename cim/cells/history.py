"""Virtual cells that keep their history: ageing along one path, reads, refresh.

    cells = CellHistory(targets_us, law, rng)             # programmed at 0 s
    early = cells.read(1.0)
    cells.refresh(np.abs(early - targets_us) > window_us, 2.0)  # what left its window is written again
    late = cells.read(86_400.0)

A cell's rank among its like is a standard normal z(t) = W(V(age)) / √V(age): a random walk W
over the law's clock V (``ProgrammingLaw.clock``), so that z keeps its distribution and forgets
slowly. The law of that age turns the rank into a conductance:

    G = clip(target + quantile(z), 0, top)

Writing a cell again starts its walk anew; cells that are left alone go on along theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.cells.temperature import Thermal, accelerated_age, conductance_factor

RankedErrors = dict[tuple[float, float], "Floats"]
"""Errors at ``RANKS`` of one law, by age and target: what the arrays of a chip have in common."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

RANK_STEP = 0.01
RANKS = np.arange(-700, 701) * RANK_STEP
MOST_LEVELS = 64  # targets that have rows of errors by rank; more of them have errors one by one
TOP = 1.1  # no cell is believed above this multiple of the highest level, as in ``cim.record.device``


class CellHistory:
    """An array of cells from their programming on. Time runs forward only.

    Whoever reads the cells adds the noise of a read. Where the law holds one read (``memory_fresh_share`` > 0), each
    read draws that share of the rank anew.

    Args:
        targets_us: any shape, µS; all cells are programmed at ``now_s``.
        law: of this chip (draw it with ``redraw_law`` for a virtual one).
        stuck_us: conductance of stuck cells, NaN elsewhere; None: no cell is stuck.
        thermal: coefficients; with them ``set_temperature`` speeds relaxation and scales G.
        ranked: filled and read where other arrays follow the same law; None: this one is alone.
    """

    def __init__(
        self,
        targets_us: NDArray[np.floating],
        law: ProgrammingLaw,
        rng: np.random.Generator,
        *,
        now_s: float = 0.0,
        stuck_us: NDArray[np.floating] | None = None,
        thermal: Thermal | None = None,
        ranked: RankedErrors | None = None,
    ) -> None:
        self.ranked = ranked
        self.targets_us = np.asarray(targets_us, np.float64)
        self.law, self.thermal, self.now_s = law, thermal, now_s
        self._rng = rng
        self._stuck = np.full(self.targets_us.shape, np.nan) if stuck_us is None else np.asarray(stuck_us, np.float64)
        self._temperature_c = None if thermal is None else thermal.reference_c
        shape = self.targets_us.shape
        self._age, self._walk, self._clock = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._missed = np.full(shape, np.nan)  # errors of cells that missed their window
        self.refresh(np.ones(shape, bool), now_s)

    def advance(self, time_s: float) -> None:
        """Let all cells relax until ``time_s``.

        Raises:
            ValueError: that is before the last time.
        """
        step = time_s - self.now_s
        if step < 0.0:
            raise ValueError(f"time runs from {self.now_s} s back to {time_s} s")
        if step == 0.0 and self._clock.any():
            return
        if self.thermal is not None and self._temperature_c is not None:
            step = accelerated_age(step, self._temperature_c, self.thermal)
        self.now_s = time_s
        self._age = self._age + step
        clock = self.law.clock(self._age)
        self._walk = self._walk + np.sqrt(clock - self._clock) * self._rng.standard_normal(clock.shape)
        self._clock = clock

    def conductance_us(self, time_s: float) -> Floats:
        """Conductances at ``time_s``, µS: the part that lasts from read to read."""
        self.advance(time_s)
        return self._at_rank(np.sqrt(1.0 - self.law.memory_fresh_share) * self._walk / np.sqrt(self._clock))

    def read(self, time_s: float) -> Floats:
        """Conductances in one read of every cell at ``time_s``, µS, with what the law says is new at every read."""
        now = self.conductance_us(time_s)
        fresh = self.law.memory_fresh_share
        if fresh == 0.0:
            return now
        lasting = np.sqrt(1.0 - fresh) * self._walk / np.sqrt(self._clock)
        return self._at_rank(lasting + np.sqrt(fresh) * self._rng.standard_normal(now.shape))

    def refresh(self, which: Mask, time_s: float) -> None:
        """Write the cells ``which`` again at ``time_s``: a new walk from age 0, a new chance to miss the window."""
        self.advance(time_s)
        anew, start = int(np.count_nonzero(which)), float(self.law.clock(0.0))
        self._age[which], self._clock[which] = 0.0, start
        self._walk[which] = np.sqrt(start) * self._rng.standard_normal(anew)
        errors = self.law.unreached_us
        if errors.size and self.law.unreached_share > 0.0:
            missed = self._rng.random(anew) < self.law.unreached_share
            self._missed[which] = np.where(missed, self._rng.choice(errors, anew), np.nan)

    def set_temperature(self, time_s: float, temperature_c: float) -> None:
        """From ``time_s`` on the cells are at this temperature.

        Raises:
            ValueError: no thermal coefficients are known.
        """
        if self.thermal is None:
            raise ValueError("no thermal coefficients: the pace of relaxation at another temperature is not known")
        self.advance(time_s)
        self._temperature_c = temperature_c

    def _at_rank(self, z: Floats) -> Floats:
        """Conductances of cells of rank ``z``; cells of one age share one law."""
        error, ages = np.empty(z.shape), np.unique(self._age)
        for age in ages:
            here = self._age == age if len(ages) > 1 else np.ones(z.shape, bool)
            error[here] = errors_at_rank(self.law, self.targets_us[here], float(age), z[here], self.ranked)
        error = np.where(np.isnan(self._missed), error, self._missed)
        cells = np.clip(self.targets_us + error, 0.0, TOP * float(self.law.levels_us[-1]))
        cells = np.where(np.isnan(self._stuck), cells, self._stuck)
        if self.thermal is not None and self._temperature_c is not None:
            cells = cells * conductance_factor(self._temperature_c, self.thermal)
        return np.asarray(cells)


def errors_at_rank(
    law: ProgrammingLaw, targets_us: Floats, age_s: float, z: Floats, ranked: RankedErrors | None = None
) -> Floats:
    """Errors of cells of rank ``z``, (cells,) µS, as ``law_at(…).quantile(z)`` gives them.

    Many cells that share few targets (a chip's levels) are read off a table of ranks 0.01 apart; the
    straight line between two is off by less than 0.002 µS within 3.5 sigma. With ``ranked`` rows of that table are
    kept, and few cells are read off it, too.
    """
    levels = np.unique(targets_us)
    if len(levels) > MOST_LEVELS or (ranked is None and len(levels) * len(RANKS) >= z.size):
        return law_at(law, targets_us, age_s).quantile(z)
    rows = {} if ranked is None else ranked
    missing = [level for level in levels.tolist() if (age_s, level) not in rows]
    if missing:
        found = law_at(law, np.array(missing)[:, None], age_s).quantile(RANKS)
        rows.update(zip(((age_s, level) for level in missing), found, strict=True))
    table = np.stack([rows[age_s, level] for level in levels.tolist()])  # (levels, ranks)
    place = (np.clip(z, RANKS[0], RANKS[-1]) - RANKS[0]) / RANK_STEP
    low = np.minimum(place.astype(np.intp), len(RANKS) - 2)
    share = place - low
    at = np.searchsorted(levels, targets_us) * len(RANKS) + low
    here, above = table.ravel()[at], table.ravel()[at + 1]
    return np.asarray(here + share * (above - here))
