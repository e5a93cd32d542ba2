"""State that all phases of one search share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from hil.campaign.budget import SearchPlan
from hil.campaign.inputs import SearchInputs
from hil.campaign.settings import SearchFolder, SearchSettings
from hil.watch import Watch
from search.train.training import EpochRecord, Machine, Precision, Told, TrainingSchedule
from search.train.workers import worker_count


@dataclass(frozen=True, slots=True, eq=False)
class SearchRun:
    """A search under way."""

    folder: SearchFolder
    settings: SearchSettings
    inputs: SearchInputs
    plan: SearchPlan
    watch: Watch
    client: Any = None  # of Dask workers that do jobs side by side; None: this process does them in turn

    @property
    def side_by_side(self) -> int:
        return worker_count(self.client)

    @property
    def machine(self) -> Machine:
        settings = self.settings
        return Machine(settings.device, settings.devices, cast(Precision, settings.precision))

    def schedule(self, epochs: int, **more: Any) -> TrainingSchedule:
        return schedule(self.settings, epochs, **more)

    def told_of(self, epochs: int, what: str, jobs: int) -> Callable[[int, EpochRecord], None]:
        """Progress by epoch of jobs that run side by side; other records count as epochs behind the last one."""
        finished: set[tuple[int, int]] = set()

        def tell(number: int, record: EpochRecord) -> None:
            finished.add((number, record.epoch))
            self.watch.step(len(finished), epochs * jobs, f"epochs of {jobs} {what}")

        return tell

    def told(self, epochs: int, what: str) -> Told:
        """Progress by epoch."""

        def tell(record: EpochRecord) -> None:
            self.watch.step(record.epoch + 1, epochs, what)

        return tell


def schedule(settings: SearchSettings, epochs: int, **more: Any) -> TrainingSchedule:
    """Training schedule of everything in a search."""
    same: dict[str, Any] = {
        "batch": settings.batch,
        "shift": settings.shift,
        "symmetry": settings.symmetry,
        "seed": settings.seed,
    }
    return TrainingSchedule(epochs, **(same | more))
