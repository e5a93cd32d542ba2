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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.cells.temperature import Thermal, accelerated_age, conductance_factor

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

RANK_STEP = 0.01
RANKS = np.arange(-700, 701) * RANK_STEP
MOST_LEVELS = 64  # targets that have rows of errors by rank; more of them have errors one by one
AGE_STEP = 1e-3  # decades: ages that lie nearer share their errors by rank (less than 0.001 µS)
MOST_WRITINGS = 32  # times of writing that are kept apart before those without cells are forgotten
TOP = 1.1  # no cell is believed above this multiple of the highest level, as in ``cim.record.device``


class RankedErrors:
    """Errors of one law at the normal scores ``RANKS``, by age and target, cached: all arrays of a chip share them."""

    def __init__(self, law: ProgrammingLaw) -> None:
        self.law = law
        self._rows: dict[tuple[int, float], Floats] = {}
        self._tables: dict[tuple[tuple[int, ...], bytes], Floats] = {}

    def table(self, levels_us: Floats, ages_s: Floats) -> Floats:
        """Errors at every age, level and normal score of ``RANKS``, (ages, levels, ranks) µS."""
        ages = np.rint(np.log10(np.maximum(ages_s, 1e-12)) / AGE_STEP).astype(np.int64).tolist()
        key = (tuple(ages), levels_us.tobytes())
        if key not in self._tables:
            for age, age_s in zip(ages, ages_s.tolist(), strict=True):
                missing = [level for level in levels_us.tolist() if (age, level) not in self._rows]
                if missing:
                    found = law_at(self.law, np.array(missing)[:, None], age_s).quantile(RANKS)
                    self._rows.update(zip(((age, level) for level in missing), found, strict=True))
            self._tables[key] = np.stack([[self._rows[age, level] for level in levels_us.tolist()] for age in ages])
        return self._tables[key]


class CellHistory:
    """An array of cells from their programming on. Time runs forward only.

    Read noise is not included: the caller adds it. Where the law was fitted to noisy single reads
    (``memory_fresh_share`` > 0), each read draws that share of the rank anew.

    Args:
        targets_us: any shape, µS; all cells are programmed at ``now_s``.
        law: of this chip (draw it with ``redraw_law`` for a virtual one).
        stuck_us: conductance of stuck cells, NaN elsewhere; None: no cell is stuck.
        thermal: coefficients; with them ``set_temperature`` speeds relaxation and scales G.
        ranked: error tables that arrays of the same law share; None: the array makes its own.
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
        self.law, self.thermal, self.now_s = law, thermal, now_s
        self._rng = rng
        self._stuck = np.asarray(np.float32(np.nan) if stuck_us is None else stuck_us)
        self._temperature_c = None if thermal is None else thermal.reference_c
        shape = np.shape(targets_us)
        self._ranked, self._alone = ranked or RankedErrors(law), ranked is None
        self._levels_us, self._level = _numbered(np.asarray(targets_us, np.float64))
        self._writing = np.zeros(shape, np.uint8)  # which of the times of writing a cell is from
        self._ages_s, self._clocks = np.zeros(1), law.clock(np.zeros(1))  # of the cells of each time of writing
        self._walk = np.sqrt(self._clocks[0]) * rng.standard_normal(shape)
        never = law.unreached_us.size == 0 or law.unreached_share <= 0.0
        self._missed = np.full(() if never else shape, np.nan)  # errors of cells that missed their window
        self._miss(np.ones(shape, bool))

    @property
    def targets_us(self) -> Floats:
        """Write target of every cell, µS."""
        return np.asarray(self._levels_us[self._level], np.float64)

    def advance(self, time_s: float) -> None:
        """Let all cells relax until ``time_s``.

        Raises:
            ValueError: that is before the last time.
        """
        step = time_s - self.now_s
        if step < 0.0:
            raise ValueError(f"time runs from {self.now_s} s back to {time_s} s")
        if step == 0.0:
            return
        if self.thermal is not None and self._temperature_c is not None:
            step = accelerated_age(step, self._temperature_c, self.thermal)
        self.now_s = time_s
        self._ages_s = self._ages_s + step
        clocks = self.law.clock(self._ages_s)
        moved = np.sqrt(clocks - self._clocks)
        self._walk += self._of_cells(moved) * self._rng.standard_normal(self._walk.shape)
        self._clocks = clocks

    def conductance_us(self, time_s: float) -> Floats:
        """Conductances at ``time_s``, µS: the part that lasts from read to read."""
        self.advance(time_s)
        return self._at_rank(np.sqrt(1.0 - self.law.memory_fresh_share), 0.0)

    def read(self, time_s: float) -> Floats:
        """Conductances in one read of every cell at ``time_s``, µS, with the law's noise that is new at every read."""
        self.advance(time_s)
        fresh = self.law.memory_fresh_share
        new = 0.0 if fresh == 0.0 else np.sqrt(fresh) * self._rng.standard_normal(self._walk.shape)
        return self._at_rank(np.sqrt(1.0 - fresh), new)

    def refresh(self, which: Mask, time_s: float, targets_us: NDArray[np.floating] | None = None) -> None:
        """Write the cells ``which`` again at ``time_s``: a new walk from age 0, a new chance to miss the window.

        ``targets_us``: new targets of the rewritten cells, (cells rewritten,); None: targets stay as they are.
        """
        self.advance(time_s)
        which = np.asarray(which)
        if targets_us is not None and not np.array_equal((now_us := self.targets_us)[which], targets_us):
            now_us[which] = targets_us
            self._levels_us, self._level = _numbered(now_us)
        start = self.law.clock(np.zeros(1))
        if len(self._ages_s) >= MOST_WRITINGS:
            kept, self._writing = _numbered(self._writing)
            self._ages_s, self._clocks = self._ages_s[kept], self._clocks[kept]
        if self._ages_s[-1] > 0.0:
            self._ages_s, self._clocks = np.append(self._ages_s, 0.0), np.append(self._clocks, start)
        self._writing[which] = len(self._ages_s) - 1
        self._walk[which] = np.sqrt(start[0]) * self._rng.standard_normal(int(np.count_nonzero(which)))
        self._miss(which)

    def _miss(self, which: Mask) -> None:
        """Draw which of the cells that are written miss their window, and by how much."""
        errors, anew = self.law.unreached_us, int(np.count_nonzero(which))
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

    def _of_cells(self, values: Floats) -> Floats | np.float64:
        """Spread values (writings,), one for each time of writing, to the cells written at that time."""
        return np.float64(values[0]) if len(values) == 1 else values[self._writing]

    def _at_rank(self, share: float, new: Floats | float) -> Floats:
        """Conductances of cells, µS, at the normal score z = ``share`` · (score of the walk) + ``new``."""
        z = share * self._walk / self._of_cells(np.sqrt(self._clocks)) + new
        cells = np.clip(self.targets_us + self._errors(z), 0.0, TOP * float(self.law.levels_us[-1]))
        cells = np.where(np.isnan(self._stuck), cells, self._stuck)
        if self.thermal is not None and self._temperature_c is not None:
            cells = cells * conductance_factor(self._temperature_c, self.thermal)
        return np.asarray(cells)

    def _errors(self, z: Floats) -> Floats:
        """Errors of cells at normal scores ``z``, µS; cells of equal age and target share one law."""
        levels = len(self._levels_us)
        if levels > MOST_LEVELS or (self._alone and levels * len(RANKS) >= z.size):
            ages = np.broadcast_to(self._of_cells(self._ages_s), z.shape)
            error = np.empty(z.shape)
            for age in np.unique(ages):
                here = ages == age
                error[here] = law_at(self.law, self.targets_us[here], float(age)).quantile(z[here])
        else:
            row = self._level.astype(np.intp)
            if len(self._ages_s) > 1:
                row += self._writing.astype(np.intp) * levels
            error = between_ranks(self._ranked.table(self._levels_us, self._ages_s), row, z)
        return np.where(np.isnan(self._missed), error, self._missed)


def _numbered(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.unsignedinteger]]:
    """Distinct values in order, and of each value its number among them, in as few bytes as hold it."""
    distinct, number = np.unique(values, return_inverse=True)
    return distinct, number.reshape(values.shape).astype(np.min_scalar_type(len(distinct)))


def between_ranks(table: Floats, row: NDArray[np.intp], z: Floats) -> Floats:
    """Errors at normal scores ``z``, µS, interpolated in row ``row`` of an error table whose last axis is ``RANKS``.

    The straight line between two ranks is off by less than 0.002 µS within 3.5 sigma.
    """
    place = (np.clip(z, RANKS[0], RANKS[-1]) - RANKS[0]) / RANK_STEP
    low = np.minimum(place.astype(np.intp), len(RANKS) - 2)
    place -= low
    low += row * len(RANKS)
    here = table.ravel()[low]
    low += 1
    return np.asarray(here + place * (table.ravel()[low] - here))
