"""Writing again the cells that left their window soon after they were written (relax and rewrite).

A cell relaxes most in its first second. After a wait its reading is compared with where the law expects
the mean cell of its target by then; cells that lie farther off than the write-verify window are written
again, and so on. A cell that is left alone lies inside the window at that age, and so do most a day later.
Three rounds took the spread of doi 10.1038/s41586-022-04992-8 from 2.8 to 2 µS.

What is done to a chip by ``hil.deployment.rewriting`` is done here to the cells of a virtual one, from its law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.cells.history import CellHistory
from cim.cells.programming_law import ProgrammingLaw, law_at, redraw_law
from cim.record.calibration import CalibrationRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """``times`` rounds, each ``after_s`` after the one before; a reading is the mean of ``reads``."""

    times: int
    after_s: float = 1.0
    reads: int = 8

    def __post_init__(self) -> None:
        if not (1 <= self.times <= 100 and 0.0 < self.after_s < 1e6 and 1 <= self.reads <= 255):
            raise ValueError(
                f"{self.times} rewrites, each {self.after_s} s after the one before, by {self.reads} reads"
            )

    @property
    def words(self) -> str:
        return f"cells that left their window written again, {self.times} times, {self.after_s:g} s after the last"


def expected_us(law: ProgrammingLaw, targets_us: NDArray[np.floating], after_s: float) -> Floats:
    """Where the middle cell of each target lies after the wait, µS; any shape, NaN stays."""
    found = np.full(targets_us.shape, np.nan)
    used = np.isfinite(targets_us)
    levels, which = np.unique(np.asarray(targets_us, np.float64)[used], return_inverse=True)
    if len(levels):
        found[used] = (levels + law_at(law, levels, after_s).loc_us)[which]
    return found


def left_window(readings_us: NDArray[np.floating], expected: Floats, tolerance_us: float) -> NDArray[np.bool_]:
    """Cells whose reading lies farther from where they should be than the window; False where nothing is written."""
    return np.asarray(np.abs(np.nan_to_num(readings_us - expected)) > tolerance_us)


def rewritten_share(law: ProgrammingLaw, levels_us: Floats, after_s: float, tolerance_us: float) -> Floats:
    """Share of the cells of each level that a rewrite is expected to write again."""
    from scipy.special import ndtri

    here = law_at(law, levels_us[:, None], after_s)
    errors = here.quantile(ndtri((np.arange(400) + 0.5) / 400))
    return np.asarray((np.abs(errors - here.loc_us) > tolerance_us).mean(axis=1))


def rewrite_history(
    cells: CellHistory, record: CalibrationRecord, law: ProgrammingLaw, rewrite: Rewrite, tolerance_us: float,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Do to virtual cells what is done to a chip's; gives the time at which the last ones were written, s."""
    now_s = cells.now_s
    expected = expected_us(law, cells.targets_us, rewrite.after_s)
    for _ in range(rewrite.times):
        now_s += rewrite.after_s
        g = cells.conductance_us(now_s)
        noise = np.sqrt(record.read_noise.at(g) / rewrite.reads)
        cells.refresh(left_window(g + noise * rng.standard_normal(g.shape), expected, tolerance_us), now_s)
    return now_s


def draw_rewritten(
    targets_us: NDArray[np.floating],
    record: CalibrationRecord,
    macro: int,
    age_s: float,
    rewrite: Rewrite,
    tolerance_us: float,
    rng: np.random.Generator,
    law: ProgrammingLaw | None = None,
    temperature_c: float | None = None,
) -> NDArray[np.float32]:
    """One macro programmed again and rewritten, at ``age_s`` after the last rewrite; as ``cim.record.device``."""
    law = redraw_law(record.programming, rng) if law is None else law
    used = np.isfinite(targets_us)
    stuck = record.macro(macro).stuck_us[used]
    cells = CellHistory(targets_us[used], law, None, rng, stuck_us=stuck, thermal=record.thermal)
    done_s = rewrite_history(cells, record, law, rewrite, tolerance_us, rng)
    if record.thermal is not None and temperature_c is not None:
        cells.set_temperature(done_s, temperature_c)
    found = np.full(targets_us.shape, np.nan, np.float32)
    found[used] = cells.conductance_us(done_s + age_s)
    return found
