"""Budget of a search: epochs and networks of each phase, so that it ends in time; kept in ``plan.json``.

Counts that were decided once stay: a search that goes on has the same answer as one that was never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hil.searching.folder import write_record
from hil.watch import Watch
from search.files import read_json

FORMAT = "hil.search-plan"
# Of the time that is left when a phase begins.
SHARES = {
    "teacher epochs": 0.15,
    "stage epochs": 0.2,
    "paths to rate": 0.2,
    "sample networks": 0.5,
    "trained networks": 1.0,
}


class SearchPlan:
    """Numbers of epochs and networks in each phase. ``budget_s`` 0: as the user sets them."""

    def __init__(
        self, path: Path, budget_s: float, watch: Watch, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.budget_s, self.watch, self.clock = path, budget_s, watch, clock
        self.before_s, self.started = 0.0, clock()
        self.counts: dict[str, dict[str, int]] = {}
        if path.exists():
            data: dict[str, Any] = read_json(path, FORMAT, 1)
            self.before_s, self.counts = float(data["spent_s"]), dict(data["counts"])

    @property
    def spent_s(self) -> float:
        """Time that all runs of this search took so far, s."""
        return self.before_s + self.clock() - self.started

    def count(self, name: str, asked: int, least: int, each_s: Callable[[], float]) -> int:
        """How many of ``asked`` networks or epochs the time allows; ``each_s``: time of one, called only under a
        budget.
        """
        if name not in self.counts:
            made = asked
            if self.budget_s and asked > least:
                room = max(self.budget_s - self.spent_s, 0.0) * SHARES[name]
                made = max(least, min(asked, int(room / max(each_s(), 1e-6))))
            self.counts[name] = {"asked": asked, "made": made}
            self.save()
        found = self.counts[name]
        if found["made"] < found["asked"]:
            self.watch.note(f"cut short by the budget: {found['made']} {name} of {found['asked']}")
        return found["made"]

    def save(self) -> None:
        write_record(self.path, FORMAT, {"spent_s": round(self.spent_s, 1), "counts": self.counts})

    def words(self) -> list[str]:
        """A line for each phase that was cut short."""
        return [
            f"cut short by the budget: {count['made']} {name} of {count['asked']}"
            for name, count in self.counts.items()
            if count["made"] < count["asked"]
        ]
