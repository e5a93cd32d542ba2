"""Inputs and outputs of an improvement: network, data set and record in files; its page, and next steps."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hil.atomic import write_text
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.options import TRAINING, DeployOptions, NetworkOptions, TechniqueOptions
from hil.improvement.account import account_of
from hil.improvement.begin import context_of
from hil.improvement.context import TrialContext
from hil.improvement.further_training import FurtherTraining
from hil.improvement.improve import PROGRAM, Improvement, expected_improvement
from hil.improvement.settings import ImproveSettings
from hil.improvement.trials import Trial, begun_with, trials_of
from hil.pages.shell import page
from hil.pages.summary import NextStep
from hil.simulation.chip_workers import THREADS, ChipWorkers
from hil.watch import Watch
from mapping.settings import as_options

PAGE = "improvement.html"


@dataclass(frozen=True, slots=True)
class ImproveOptions:
    """Inputs of an improvement.

    ``source``: chip, and the data set whose training images decide and whose test images are read once. ``treated``:
    techniques of every trial, and techniques not to try. ``scoring``: task and metric.
    """

    network: Path
    source: NetworkOptions
    settings: ImproveSettings
    treated: TechniqueOptions
    scoring: DeployOptions

    def images(self) -> tuple[Dataset, Dataset | None]:
        """Training images, and test images if any are asked for.

        Raises:
            FileError: they are missing or broken.
        """
        named, last = self.source.data or "", self.settings.test_images
        training = load_dataset(named, "train", any_kind=True)
        return training, load_dataset(named, "test", limit=last, any_kind=True) if last else None

    def trials(self, context: TrialContext) -> Sequence[Trial]:
        """Trials, from cheap to dear."""
        return trials_of(context, self.treated.without, self.settings.effort)

    def context(
        self, out: Path, *, record: Path | None, crew: ChipWorkers = THREADS, restart: bool, watch: Watch
    ) -> tuple[TrialContext, Dataset | None]:
        """Context of the trials for ``hil.improvement.improve.improve``, which works in ``out``, and the test images.

        Args:
            record: of a chip or of cells; None: the models of the chip file.
            restart: forget what was trained in ``out``.

        Raises:
            UsageError, MismatchError, FileError: as ``context_of``.
        """
        source, settings = self.source, self.settings
        watch.plan(expected_improvement(settings.images, settings.chips, settings.test_images))
        training, test = self.images()
        further = FurtherTraining(self.network, source.data or "", source.chip, source.macros, record, out)
        if restart:
            further.forget()
        context = context_of(
            self.network,
            training,
            source,
            settings,
            watch,
            record=record,
            asked=begun_with(self.treated),
            scoring=self.scoring,
            further=further if settings.effort == TRAINING else None,
        )
        return replace(context, crew=crew), test


def write_page(found: Improvement, out: Path, name: str) -> Path:
    """The page of an improvement of the network ``name`` in its folder."""
    write_text(out / PAGE, page(account_of(found, name)))
    return out / PAGE


def next_steps(found: Improvement, out: Path, asked: ImproveOptions) -> tuple[NextStep, ...]:
    """Next commands after an improvement: deploy its program, and estimate its cost."""
    program = shlex.quote(f"{out}/{PROGRAM}")
    named = as_options(asked.source) + as_options(asked.scoring, "task", "metric")
    return (
        NextStep(" ".join(("hil deploy", program, *found.deploy)) + " --emulated" + named, "what the chip makes of it"),
        NextStep(f"hil estimate {program}", "cost of every layer"),
    )
