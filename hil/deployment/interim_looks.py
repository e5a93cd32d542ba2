"""Interim analyses: the order of the images, the answers so far, and their judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.datasets.seen_images import check_unseen
from hil.deployment.options import DeployOptions
from hil.deployment.scoring import MOST_NUMBERS, Scoring
from hil.deployment.targets.measured_sums import Conversions
from hil.errors import UsageError
from hil.verdict.as_calibrated import LayerLines
from hil.verdict.statistics import FEWEST_CHIPS, FEWEST_IMAGES, FEWEST_REPEATS, planned_looks
from hil.verdict.verdict import Judgement, Mode, judge
from hil.watch import Watch
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram


@dataclass
class RunAnswers:
    """Logit codes and scores of the samples seen so far, in run order, and the interim judgements on them.

    Logits are those of the first samples only where outputs are wide; scores are those of all.
    """

    ideal: list[NDArray[np.int32]] = field(default_factory=list)
    floats: list[NDArray[np.float32]] = field(default_factory=list)
    measured: list[NDArray[np.int32]] = field(default_factory=list)  # each (m, n, classes)
    simulated: list[NDArray[np.int32]] = field(default_factory=list)  # each (S, n, classes), conditioned
    again: list[NDArray[np.int32]] = field(default_factory=list)  # each (S, n, classes), programmed again
    scores: dict[str, list[NDArray[Any]]] = field(default_factory=dict)  # of each of the above by name
    this_chip: Judgement | None = None
    other_chips: Judgement | None = None
    conversions: int = 0
    saturated: int = 0
    simulated_saturated_share: float = 0.0
    times_ns: list[int] = field(default_factory=list)  # chip time at the ends of measuring
    ages_s: tuple[float, float] | None = None  # youngest and oldest macro read, where times do not say it
    lines: list[LayerLines] = field(default_factory=list)  # of the outputs, look after look
    before: RunAnswers | None = None  # with the tune, where it was left out and the chip measured twice

    def count(self, conversions: Mapping[str, Conversions]) -> None:
        """Note the chip's conversions, by layer."""
        self.conversions = sum(c.total for c in conversions.values())
        self.saturated = sum(c.saturated for c in conversions.values())

    @property
    def seen(self) -> int:
        return sum(len(part) for part in self.scores.get("ideal", ()))

    def add(self, name: str, logits: NDArray[Any], targets: NDArray[Any], scoring: Scoring) -> None:
        """Score the logits of further samples, (…, n, width), and keep them while there is room."""
        self.scores.setdefault(name, []).append(scoring.task.scores(logits, targets))
        kept: list[NDArray[Any]] = getattr(self, name)
        if scoring.task.kind is not TaskKind.CLASSIFY:
            room = MOST_NUMBERS - sum(part.size for part in kept)
            logits = logits[..., : max(1 if not kept else 0, room * logits.shape[-2] // max(logits.size, 1)), :]
        if logits.size:
            kept.append(logits)

    def score(self, name: str) -> NDArray[Any]:
        """Scores (…, n) or evidence (…, n, k) of all samples seen so far."""
        parts = self.scores[name]
        return np.concatenate(parts, axis=0 if name in ("ideal", "floats") else 1)


def plan_images(
    data: Dataset, program: ConductanceProgram, options: DeployOptions, watch: Watch | None = None
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Order of the images, fixed by the seed, and the image counts at which interim analyses are planned.

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
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, 0x0BDE]))
    most = min(options.samples, len(data))
    order = rng.permutation(len(data))[:most]
    check_unseen(data, program, order, watch)
    return order, (most,) if options.all_images else planned_looks(most)


def say_what_is_excluded(images: int, options: DeployOptions, watch: Watch) -> None:
    """Say, before the chip is asked for anything, that the run is too short to end in *agree*."""
    needs = (
        (images, FEWEST_IMAGES, "images", f"--samples {FEWEST_IMAGES}, of a set of so many"),
        (options.repeats, FEWEST_REPEATS, "repeats of the chip", f"--repeat {FEWEST_REPEATS}"),
        (options.virtual_chips, FEWEST_CHIPS, "virtual chips", "more of them"),
    )
    for has, least, what, more in needs:
        if has < least:
            watch.message(f"this run cannot end in agree: that needs at least {least} {what}, it has {has} ({more})")


def judged(
    answers: RunAnswers,
    simulated: str,
    look: int,
    looks: tuple[int, ...],
    scoring: Scoring,
) -> Judgement:
    """Judge the answers so far; at half the error rate if the chip is measured a second time, without its tune.

    Args:
        simulated: which virtual chips: "simulated" with cells as read back, "again" with cells programmed anew.
    """
    alpha = 0.05 if answers.before is None else 0.025
    measured, virtual = np.concatenate(answers.measured, axis=1), np.concatenate(getattr(answers, simulated), axis=1)
    ideal = np.concatenate(answers.ideal)
    kept = min(measured.shape[1], virtual.shape[1], len(ideal))
    return judge(
        answers.score("measured"),
        answers.score(simulated),
        answers.score("ideal"),
        mode=Mode.CONDITIONED if simulated == "simulated" else Mode.UNCONDITIONAL,
        tolerance=scoring.tolerance,
        look=look,
        looks=looks,
        alpha_p=alpha,
        alpha_e=alpha,
        measured_logits=measured[:, :kept],
        simulated_logits=virtual[:, :kept],
        ideal_logits=ideal[:kept],
        metric=scoring.task.metric,
        set_score=scoring.task.set_score,
    )
