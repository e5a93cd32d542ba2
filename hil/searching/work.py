"""State that all phases of one search share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from hil.errors import Interrupted, LinkError
from hil.report.work_folder import GO_ON
from hil.searching.budget import SearchPlan
from hil.searching.folder import SearchFolder
from hil.searching.inputs import SearchInputs
from hil.searching.settings import SearchSettings
from hil.watch import PlannedStage, Watch
from search.errors import SearchError
from search.train.training import EpochRecord, Machine, Precision, ProgressCallback, TrainingSchedule, report_steps
from search.train.workers import check_shared, worker_count, workers

Inputs = TypeVar("Inputs")
# About what a search takes on one core, s: an image trained once, a network simulated, an image on a virtual chip.
TRAINED_IMAGE_S, SIMULATED_NETWORK_S, CHIP_IMAGE_S = 1e-3, 0.02, 1e-3
PRUNED_S = 10.0  # a network with weights in closed form, measured
USUAL_IMAGES, USUAL_STAGES = 50_000, 3


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
        return Machine(settings.device, precision=cast(Precision, settings.precision))

    def schedule(self, epochs: int, **more: Any) -> TrainingSchedule:
        """Training schedule with the search's batch size, augmentation and seed."""
        same = {name: getattr(self.settings, name) for name in ("batch", "shift", "symmetry", "seed")}
        return TrainingSchedule(epochs, **(same | more))

    def report_jobs(self, epochs: int, what: str, jobs: int) -> Callable[[int, EpochRecord], None]:
        """Progress by epoch of jobs that run side by side; other records count as epochs behind the last one."""
        finished: set[tuple[int, int]] = set()

        def report(number: int, record: EpochRecord) -> None:
            finished.add((number, record.epoch))
            self.watch.step(len(finished), epochs * jobs, f"epochs of {jobs} {what}")

        return report

    def report(self, epochs: int) -> ProgressCallback:
        """Progress of one training."""
        return report_steps(self.watch.step, epochs)


def expected_phases(settings: SearchSettings) -> tuple[PlannedStage, ...]:
    """Phases of a search and about how long each takes, s, from its epochs and images; the pace corrects them."""
    if settings.pruned:
        pruned = {"loading": 8.0, "candidates": PRUNED_S * settings.candidates, "writing": 90.0}
        return tuple(PlannedStage(name, work_s) for name, work_s in pruned.items())
    images, side = settings.subset or USUAL_IMAGES, max(settings.workers, 1)
    brief = settings.brief_images or images
    simulated = settings.networks * settings.chips * settings.images * CHIP_IMAGE_S
    phases = {
        "loading": 5.0,
        "teacher": settings.teacher_epochs * images * TRAINED_IMAGE_S,
        "stages": USUAL_STAGES * settings.stage_epochs * brief * TRAINED_IMAGE_S / side,
        "sample networks": settings.samples * settings.sample_epochs * brief * TRAINED_IMAGE_S / side,
        "front": settings.simulations * SIMULATED_NETWORK_S / side,
        "networks": (settings.networks * settings.epochs * images * TRAINED_IMAGE_S + simulated) / side,
    }
    return tuple(PlannedStage(name, work_s) for name, work_s in phases.items())


@contextlib.contextmanager
def running(
    folder: SearchFolder, settings: SearchSettings, watch: Watch, scheduler: str | None,
    load: Callable[[SearchFolder, SearchSettings, Watch], Inputs],
) -> Iterator[tuple[Inputs, Any]]:  # fmt: skip
    """Inputs and workers of a search."""
    try:
        with watch.stage("loading"):
            inputs = load(folder, settings, watch)
        with _client(folder, settings, scheduler) as client:
            yield inputs, client
    except KeyboardInterrupt:
        raise Interrupted(f"the search in {folder.root} was interrupted; what is done is kept", hint=GO_ON) from None


@contextlib.contextmanager
def _client(folder: SearchFolder, settings: SearchSettings, scheduler: str | None) -> Iterator[Any]:
    """A client of the cluster that is named, else of workers of this machine; None where there are none."""
    if scheduler is None and not settings.workers:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(workers(scheduler or settings.workers))
            check_shared(client, folder.settings)
        except SearchError as error:
            raise LinkError(str(error)) from error
        yield client
