"""What all phases of one search share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from hil.search_budget import Plan
from hil.search_inputs import SearchInputs
from hil.search_settings import SearchFolder, SearchSettings
from hil.watch import Watch
from search.training import EpochRecord, Machine, Precision, Schedule, Told


@dataclass(frozen=True, slots=True, eq=False)
class SearchRun:
    """A search under way."""

    folder: SearchFolder
    settings: SearchSettings
    inputs: SearchInputs
    plan: Plan
    watch: Watch

    @property
    def machine(self) -> Machine:
        settings = self.settings
        return Machine(settings.device, settings.devices, cast(Precision, settings.precision))

    def schedule(self, epochs: int, **more: Any) -> Schedule:
        settings = self.settings
        return Schedule(epochs, batch=settings.batch, mirror=settings.mirror, seed=settings.seed, **more)

    def told(self, epochs: int, what: str) -> Told:
        """Progress by epoch."""

        def tell(record: EpochRecord) -> None:
            self.watch.step(record.epoch + 1, epochs, what)

        return tell
