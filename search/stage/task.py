"""Training of a stage of phase A, and the rating of its operators (for ``search.stage.rating``).

Imports torch: import this module late.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.space.genes import Bits
from search.stage.net import StageNet, estimate_statistics, fair_paths, listed_paths, marginals
from search.stage.scores import Table
from search.train.arrays import array_layers, forget_ranges, set_strength
from search.train.images import Images, batches
from search.train.losses import noise_to_signal, soft_divergence
from search.train.teacher import StagedTeacher
from search.train.training import At, Batch, EpochRecord, ProgressCallback, TrainingSchedule, TrainingTask, epoch_seed

PATHS, RATING = 0x9A7B, 0x3A7E  # purpose tags of seeds
RATED_PARTS = 4  # progress notes of the rating of a stage, after its epochs
BITS = Bits(4, 8)  # of every layer in phase A


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Settings of training and rating of a stage.

    ``draws`` noisy ratings of a path count as mean + ``kappa`` standard deviations. ``most_strength``: errors in
    training are 0 to so many times the record's. ``rate_images`` held-out images rate a path, after
    ``statistics_batches`` batches of training images. Layers have ``BITS``.
    """

    schedule: TrainingSchedule
    held_out: float = 0.2
    feature_weight: float = 1.0
    logit_weight: float = 0.5
    temperature: float = 2.0
    most_strength: float = 2.0
    chips: int = 2
    most_paths: int = 96
    rate_images: int = 256
    statistics_batches: int = 2
    draws: int = 2
    kappa: float = 1.0

    def __post_init__(self) -> None:
        if self.schedule.average:
            raise ValueError("a supernet has no running mean: statistics belong to a path (average=False)")
        if self.schedule.batch % self.chips:
            raise ValueError(f"a batch of {self.schedule.batch} does not divide among {self.chips} virtual chips")
        if not 0 < self.held_out < 1:
            raise ValueError(f"a share between 0 and 1: {self}")


class Staging(TrainingTask):
    """A stage in training."""

    def __init__(
        self,
        model: StageNet,
        teacher: StagedTeacher,
        stage: int,
        settings: StageSettings,
        held: Images,
        epoch_steps: int,
        device: torch.device,
    ) -> None:
        self.model: StageNet = model
        self.teacher, self.stage, self.settings = teacher, stage, settings
        self.held, self.device = held, device
        seed, schedule = settings.schedule.seed, settings.schedule
        rng = np.random.default_rng(np.random.SeedSequence([seed, PATHS, stage]))
        self.paths = fair_paths(model.choices, epoch_steps * schedule.epochs, rng)

    def begin(self, model: torch.nn.Module, at: At) -> None:
        forget_ranges(model)

    def loss(self, model: torch.nn.Module, batch: Batch, at: At) -> Tensor:
        strength = self.settings.most_strength * float(torch.rand(()))
        set_strength(self.model, strength, self.settings.chips)
        before, after = self.teacher.features(batch.pixels, self.stage)
        student = model(before, self.paths[at.step].tolist())
        return self.loss_of(student, after, self.teacher.suffix(self.stage, after))

    def loss_of(self, student: Tensor, after: Tensor, wanted: Tensor) -> Tensor:
        """L of what the stage makes, against the teacher's features and logits."""
        settings = self.settings
        logits = self.teacher.suffix(self.stage, student)
        return settings.feature_weight * noise_to_signal(student.float(), after.float()) + (
            settings.logit_weight * soft_divergence(logits.float(), wanted.float(), settings.temperature)
        )

    def counts(self) -> tuple[tuple[int, ...], ...]:
        """Number of training steps of each operator."""
        return tuple(
            tuple(int((self.paths[:, i] == o).sum()) for o in range(count))
            for i, count in enumerate(self.model.choices)
        )

    def rate(self, images: Images, progress: ProgressCallback | None = None) -> tuple[Table, Table, int]:
        """Task significance without and with errors, (positions, operators), and from how many paths.

        ``progress`` hears of each of ``RATED_PARTS`` parts of the paths, as of an epoch behind the last one.
        """
        seed = self.settings.schedule.seed
        rng = np.random.default_rng(np.random.SeedSequence([seed, RATING, self.stage]))
        paths = listed_paths(self.model.choices, self.settings.most_paths, rng)
        torch.manual_seed(epoch_seed(seed, self.settings.schedule.epochs))
        clean, noisy = self._ratings(images, paths, progress)
        tables = (marginals(paths, values, self.model.choices) for values in (-clean, -noisy))
        one, other = (tuple(tuple(row) for row in table) for table in tables)
        return one, other, len(paths)

    @torch.no_grad()
    def _ratings(
        self, images: Images, paths: NDArray[np.int64], progress: ProgressCallback | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """L of each path on held-out images: exact, and noisy (mean + κ · standard deviation over draws)."""
        settings, size = self.settings, min(self.settings.schedule.batch, self.settings.rate_images)
        few = images.part(np.arange(min(len(images), size * settings.statistics_batches)))
        settle = [self.teacher.features(x, self.stage)[0] for x, _ in batches(few, size, self.device)]
        kept = min(settings.rate_images, len(self.held)) // size * size or len(self.held)
        rated = self.held.part(np.arange(kept))
        features = [self.teacher.features(x, self.stage) for x, _ in batches(rated, size, self.device)]
        cases = [(before, after, self.teacher.suffix(self.stage, after)) for before, after in features]
        clean, noisy, begun = np.empty(len(paths)), np.empty(len(paths)), time.monotonic()
        for number, path in enumerate(paths.tolist()):

            def value(path: list[int] = path) -> float:
                losses = [float(self.loss_of(self.model(before, path), *wanted)) for before, *wanted in cases]
                return float(np.mean(losses))

            set_strength(self.model, 1.0, 1)
            estimate_statistics(self.model, settle, path)
            draws = [value() for _ in range(settings.draws)] if self._noisy else []
            set_strength(self.model, 0.0, 1)
            clean[number] = value()
            noisy[number] = np.mean(draws) + settings.kappa * np.std(draws) if draws else clean[number]
            for part in range(RATED_PARTS * number // len(paths), RATED_PARTS * (number + 1) // len(paths)):
                if progress is not None:
                    progress(EpochRecord(settings.schedule.epochs + part, math.nan, math.nan, time.monotonic() - begun))
        return clean, noisy

    @property
    def _noisy(self) -> bool:
        return any(layer.noise is not None for layer in array_layers(self.model))
