"""Write targets off the levels, so that a cell has drifted to its level at the planned age.

With μ(t, age) the mean error of cells that were written to t (a programming law),

    t_k + μ(t_k, age) = g_0 + r + s (g_k − g_0)

g_k being the levels. r and s are 0 and 1 unless cells cannot be written far enough: a cell of level 0 keeps g_0 as
its target when it relaxes upwards, and where cells come in pairs all levels then move by the same r, which the
difference of two cells takes out; no target lies above the highest level by more than the write-verify window, and
where that is not enough all levels shrink by the same s, which the column correction takes out.

Example: cells of 40 µS lose 0.5 µS in an hour: they are written to 40.5 µS.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cim.cells.programming_law import ProgrammingLaw, law_at
from cim.chip.spec import MacroSpec
from mapping.program.checks import highest_aim_us
from mapping.program.conductance import Aims, ConductanceProgram
from mapping.program.file import held_digest_at, program_digest

Floats = NDArray[np.float64]

RANKS = ndtri((np.arange(400) + 0.5) / 400)
ROUNDS = 12  # of the fixed point; each takes the error down by the slope of the drift, a few per cent
DECIMALS = 4  # of a target, µS
LEAST_GAP = 0.1  # of the distance of two levels: targets never come closer


def mean_error_us(law: ProgrammingLaw, targets_us: Floats, age_s: float) -> Floats:
    """Mean of conductance − target at an age, for each target: tails and skew are in it."""
    return np.asarray(law_at(law, targets_us[:, None], age_s).quantile(RANKS).mean(axis=1))


def aims_of(law: ProgrammingLaw, spec: MacroSpec, age_s: float, source: str) -> Aims:
    """Targets of every level for cells that follow ``law``, to be right at ``age_s``."""
    levels, top = np.array(spec.levels_us), highest_aim_us(spec)
    lowest = _written_for(law, levels[:1], age_s, levels[0], top)
    left = float((lowest + mean_error_us(law, lowest, age_s) - levels[:1])[0]) if spec.paired else 0.0
    reach = top + float(mean_error_us(law, np.array([top]), age_s)[0]) - levels[0] - left
    shrunk = min(1.0, reach / (levels[-1] - levels[0]))
    wanted = levels[0] + left + max(shrunk, LEAST_GAP) * (levels - levels[0])
    targets = _written_for(law, wanted, age_s, levels[0], top)
    gap = LEAST_GAP * float(np.diff(levels).min())
    targets[0] = lowest[0]
    for k in range(1, len(targets)):
        targets[k] = max(targets[k], targets[k - 1] + gap)
    targets = np.minimum(targets, top - gap * np.arange(len(levels))[::-1])
    return Aims(tuple(float(t) for t in np.round(targets, DECIMALS)), age_s, source)


def _written_for(law: ProgrammingLaw, wanted_us: Floats, age_s: float, low_us: float, high_us: float) -> Floats:
    """Targets whose cells stand at ``wanted_us`` at that age, within limits: t = wanted − μ(t), again and again."""
    targets = wanted_us.copy()
    for _ in range(ROUNDS):
        targets = np.clip(wanted_us - mean_error_us(law, targets, age_s), low_us, high_us)
    return targets


def aimed(program: ConductanceProgram, aims: Aims | None) -> ConductanceProgram:
    """The program with these targets; a chip holds its cells under a digest of program and age, whoever's law it was.

    Example: a program that was aimed for 1 h from an old record is held by a chip; the same program aimed for 1 h from
    a newer record is the same to that chip.
    """
    plain = replace(program, aims=None, held_as=None)
    plain = replace(plain, digest=program_digest(plain))
    if aims is None:
        return plain
    found = replace(plain, aims=aims, held_as=held_digest_at(plain.digest, aims.age_s), digest="")
    return replace(found, digest=program_digest(found))
