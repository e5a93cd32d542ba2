"""The time between two scrubs, planned against upsets and drift.

    upsets   T_u = h / Σ_k λ_k p_k        h harmful upsets that may stand between two scrubs, over kinds that stay
    drift    T_d = the longest age at which the rms error of cells is at most (1 + g) of that at 1 h

λ_k upsets of a kind in a day, p_k the share of them that did harm in the campaign. The shorter one is the interval.
Example: 1e-3 harmful upsets a day that stay and h = 0.01: ten days, if cells drift less than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cim.cells.programming_law import ProgrammingLaw, law_at
from hil.pages.tables import duration
from hil.payload.radiation.kinds import KINDS, FaultKind

MOST_HARMFUL, DRIFT_SHARE = 0.01, 0.1
FIRST_S, LAST_S, STEPS = 3600.0, 3.2e8, 60
DAY_S = 86400.0
DRAWS, DRAW_SEED = 4000, 0x5C7B


@dataclass(frozen=True, slots=True)
class ScrubPlan:
    """Both intervals, seconds; infinite where nothing asks for a scrub."""

    by_upsets_s: float
    by_drift_s: float

    @property
    def interval_s(self) -> float:
        return min(self.by_upsets_s, self.by_drift_s)

    @property
    def text(self) -> str:
        upsets, drift = (duration(t) if math.isfinite(t) else "never" for t in (self.by_upsets_s, self.by_drift_s))
        return f"every {min((self.by_upsets_s, upsets), (self.by_drift_s, drift))[1]} (upsets {upsets}, drift {drift})"

    def to_json(self) -> dict[str, Any]:
        return {
            name: value if math.isfinite(value) else None
            for name, value in (
                ("interval_s", self.interval_s),
                ("by_upsets_s", self.by_upsets_s),
                ("by_drift_s", self.by_drift_s),
            )
        }


def plan_scrub(kinds: Mapping[str, Any], law: ProgrammingLaw) -> ScrubPlan:
    """Plan from the kinds of a campaign (``campaign.json``) and the law of a record."""
    harmful = sum(
        about["upsets_per_day"] * (about["harmful"]["share"] or 0.0)
        for name, about in kinds.items()
        if KINDS[FaultKind(name)].lasts
    )
    by_upsets = MOST_HARMFUL / harmful * DAY_S if harmful > 0 else math.inf
    return ScrubPlan(by_upsets, _drift_s(law))


def _drift_s(law: ProgrammingLaw) -> float:
    ages = np.geomspace(FIRST_S, LAST_S, STEPS)
    limit = (1.0 + DRIFT_SHARE) * _rms_us(law, FIRST_S)
    kept = [age for age in ages if _rms_us(law, float(age)) <= limit]
    return math.inf if len(kept) == STEPS else float(kept[-1]) if kept else FIRST_S


def _rms_us(law: ProgrammingLaw, age_s: float) -> float:
    """Root mean square error of a cell over all levels; the same draws at every age."""
    targets = np.resize(law.levels_us, DRAWS)
    errors = law_at(law, targets, age_s).draw(targets.shape, np.random.default_rng(DRAW_SEED))
    return float(np.sqrt(np.mean(errors**2)))
