"""Interim analyses: the order of the images, the answers so far, and their judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset, image_digests
from hil.deployment.inference import Conversions
from hil.deployment.options import DeployOptions
from hil.errors import FileError, UsageError
from hil.verdict.agreement import Judgement, Mode, correct_answers, judge, planned_looks
from mapping.network.file import image_keys
from mapping.program.conductance import ConductanceProgram


@dataclass
class RunAnswers:
    """Logit codes of the images seen so far, in run order, and what was judged of them."""

    ideal: list[NDArray[np.int32]] = field(default_factory=list)
    floats: list[NDArray[np.float32]] = field(default_factory=list)
    measured: list[NDArray[np.int32]] = field(default_factory=list)  # each (m, n, classes)
    simulated: list[NDArray[np.int32]] = field(default_factory=list)  # each (S, n, classes), conditioned
    again: list[NDArray[np.int32]] = field(default_factory=list)  # each (S, n, classes), programmed again
    this_chip: Judgement | None = None
    such_chips: Judgement | None = None
    conversions: int = 0
    saturated: int = 0
    simulated_saturated_share: float = 0.0
    times_ns: list[int] = field(default_factory=list)  # chip time at the ends of measuring
    ages_s: tuple[float, float] | None = None  # youngest and oldest macro read, where times do not say it

    def count(self, conversions: Mapping[str, Conversions]) -> None:
        """Note the chip's conversions, by layer."""
        self.conversions = sum(c.total for c in conversions.values())
        self.saturated = sum(c.saturated for c in conversions.values())

    @property
    def seen(self) -> int:
        return sum(len(part) for part in self.ideal)


def plan_images(
    data: Dataset, program: ConductanceProgram, options: DeployOptions
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Order of the images (fixed by the seed before the first one) and the planned looks.

    Raises:
        FileError: an image to be scored served calibration or fine-tuning (decision 0008).
        UsageError: no images, or of another shape than the network takes.
    """
    channels, height, width = program.input.shape
    if len(data) == 0 or data.images.shape[1:] != (height, width, channels):
        raise UsageError(
            f"{data.name} has {len(data)} images of {data.images.shape[1:]}, "
            f"the network takes {(height, width, channels)}",
            hint="name a data set of that shape: --data",
        )
    if int(data.labels.max()) >= len(program.classes):
        raise UsageError(
            f"{data.name} has labels up to {data.labels.max()}, the network {len(program.classes)} classes"
        )
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, 0x0BDE]))
    most = min(options.samples, len(data))
    order = rng.permutation(len(data))[:most]
    used = set(image_digests(program.calibration_images))
    overlap = [int(i) for i, d in zip(order, image_digests(data.images[order]), strict=True) if d in used]
    if overlap:
        raise FileError(
            f"{len(overlap)} of the images to be scored calibrated the network (first: number {overlap[0]})",
            likely="the training split was named, or the network was imported with test images",
            hint="score the test split, or import the network again with training images",
        )
    seen = int(np.isin(image_keys(data.images[order]), program.trained_on).sum()) if program.trained_on.size else 0
    if seen:
        raise FileError(
            f"{seen} of the images to be scored are among those that the network was fine-tuned on",
            likely="the training split was named, or a file that serves as both",
            hint="score images that hil finetune has not seen",
        )
    return order, planned_looks(most)


def judged(
    mode: Mode,
    answers: RunAnswers,
    simulated: list[NDArray[np.int32]],
    labels: NDArray[np.int64],
    look: int,
    looks: tuple[int, ...],
    options: DeployOptions,
) -> Judgement:
    measured, virtual = np.concatenate(answers.measured, axis=1), np.concatenate(simulated, axis=1)
    ideal = np.concatenate(answers.ideal)
    return judge(
        correct_answers(measured, labels),
        correct_answers(virtual, labels),
        correct_answers(ideal, labels),
        mode=mode,
        tolerance=options.tolerance,
        look=look,
        looks=looks,
        measured_logits=measured,
        simulated_logits=virtual,
        ideal_logits=ideal,
    )
