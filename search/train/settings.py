"""Settings of a training under the errors of a chip: one set, of which each kind of training has its own defaults."""

from __future__ import annotations

from dataclasses import dataclass

from search.train.training import TrainingSchedule


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a network is trained under the errors of a chip, taught by another.

    ``teacher_weight`` of the loss is the teacher's, the rest is the labels'. Errors rise from ``errors_from`` of
    all steps and are as the record says, times ``strength``, from ``errors_full``; ``chips`` virtual chips share
    a batch and stay for ``chip_batches``. ``scored_images`` of those kept out score each epoch.
    ``feature_weight`` of what blocks differ by from those of another network that teaches (``block_features``).
    """

    schedule: TrainingSchedule
    teacher_weight: float = 1.0
    temperature: float = 4.0
    errors_from: float = 0.0
    errors_full: float = 0.2
    strength: float = 1.0
    chips: int = 2
    chip_batches: int = 1
    scored_images: int = 1000
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.errors_from <= self.errors_full <= 1 or not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"errors rise between two shares of training, and a weight is one: {self}")
        if self.schedule.batch % self.chips:
            raise ValueError(f"a batch of {self.schedule.batch} does not divide among {self.chips} virtual chips")

    def strength_at(self, progress: float) -> float:
        """Errors as a multiple of the record's."""
        rise = max(self.errors_full - self.errors_from, 1e-9)
        return self.strength * min(1.0, max(0.0, (progress - self.errors_from) / rise))
