"""A verdict on several chips whose answers were measured elsewhere: their mean compared with that of virtual chips.

One chip is judged with the spread between chips against it. The mean of several independently written chips is known
better, so that smaller errors of the model show (``hil.prediction.judge_chips``).
Every chip and every virtual one answers the same images, so that the choice of images affects both sides.

Several chips judged by their mean: runs of real chips against runs of virtual ones, none of them the same.

One chip is asked whether it is one of its kind (``hil.verdict.verdict``). Of several, each written for itself, the
mean is known better than any of them: is it that of virtual chips, within the tolerance?

    D = Σ ± mean(group),    SE² = Σ s² / n,    t of Satterthwaite's degrees of freedom

over independent groups of scores: real chips count up and virtual ones down. Where both were compared with the float
network on images of their own, those scores are groups of the other sign, and D is a difference of losses.

Example: ten real runs of 86.0 ± 0.5 % and twenty virtual ones of 86.3 ± 0.3 %: D = −0.30 points, SE 0.17.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from cim.record.file import load_record
from hil.datasets.input_values import with_pixels
from hil.deployment.network_source import images_asked, program_of
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.deployment.scoring import scoring_of
from hil.errors import FileError, UsageError
from hil.pages.summary import Fact, Headline, Scale, ScaleRow, Summary, Tone
from hil.pages.tables import duration
from hil.prediction.answers_file import read_chips
from hil.prediction.answers_fit import age_notes, images_of
from hil.prediction.judge import SuchChips, codes_of
from hil.prediction.measured_answers import MeasuredAnswers
from hil.prediction.predict import OF_CELLS
from hil.verdict.statistics import LAST_MARGIN, Equivalence, PredictionTest
from hil.verdict.verdict import Verdict, decide
from hil.watch import Watch
from mapping.network.task import TaskKind

TONES = {Verdict.AGREE: Tone.GOOD, Verdict.DISAGREE: Tone.BAD}


@dataclass(frozen=True, slots=True)
class ChipsReport:
    """Several chips judged: accuracies by name, of virtual chips (S,), and the verdict on their means."""

    judged: SeveralJudged
    chips: dict[str, float]
    simulated: NDArray[np.float64]
    images: int
    age_s: float
    tolerance: float
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return self.judged.verdict

    def summary(self) -> Summary:
        """What ``hil judge --measured-chip all`` prints."""
        found, real = self.judged, np.array(list(self.chips.values()))
        low, high = (100 * end for end in found.interval90)
        text = (
            f"mean of {len(real)} chips, within {100 * self.tolerance:g} points: "
            f"difference {100 * found.difference:+.2f} points, 90 % interval {low:+.2f} … {high:+.2f}"
        )
        rows = (_row("virtual chips", self.simulated), _row("chips", real))
        return Summary(
            "Several chips, judged by their mean",
            "MEASURED ELSEWHERE",
            Headline(TONES.get(self.verdict, Tone.OPEN), self.verdict.value.upper(), text),
            (
                Scale("accuracy", "%", rows, f"mean ± standard deviation between chips, {self.images:,} images"),
                Fact("Chips", ", ".join(f"{name or 'unnamed'} {score:.2%}" for name, score in self.chips.items())),
                Fact("Age", duration(self.age_s)),
                *(Fact("Mind", note, soft=True) for note in self.notes),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        found = self.judged
        return {
            "verdict": self.verdict.value,
            "difference": found.difference,
            "standard_error": found.standard_error,
            "interval90": list(found.interval90),
            "p_value": found.p_value,
            "tolerance": self.tolerance,
            "images": self.images,
            "age_s": self.age_s,
            "chips": self.chips,
            "simulated": self.simulated.tolist(),
            "notes": list(self.notes),
        }


def judge_chips(
    network: str | Path | None,
    source: NetworkOptions,
    answers: str | Path,
    calibration: Path | None,
    options: DeployOptions,
    watch: Watch,
) -> ChipsReport:
    """Judge the mean of all chips of a file by virtual chips of a record of cells, or of the chip file.

    Raises:
        hil.errors.FileError: invalid answers, accuracies alone, or chips that answered different images.
        hil.errors.UsageError: fewer than three chips, or a record of one chip, whose columns are its own.
    """
    found = read_chips(answers)
    if len(found) < FEWEST_RUNS:
        raise UsageError(
            f"answers of {len(found)} chips: {FEWEST_RUNS} are needed to know how they differ",
            hint="hil judge --measured-chip NAME, one at a time",
        )
    whole = [one for one in found if isinstance(one, MeasuredAnswers)]
    if len(whole) < len(found):
        raise FileError(
            "accuracies alone: several chips are judged by answers to the same images", where=str(answers),
            hint="one chip at a time, or one row with their mean, images and runs",
        )  # fmt: skip
    record = load_record(calibration) if calibration else None
    if record is not None and record.kind not in OF_CELLS:
        raise UsageError(
            f"{calibration} is a record of one chip, whose columns the others do not have",
            hint="a record of cells (hil chip fit), or the models of the chip file",
        )
    images = images_asked(source)
    with watch.stage("compiling"):
        program, _ = program_of(network, source, watch, recipe=options.recipe, task=options.task)
    images = with_pixels(images, program.input.shape, program.preprocess)
    scoring = scoring_of(program, images, options)
    if scoring.task.kind is not TaskKind.CLASSIFY or not scoring.task.metric.binary:
        raise UsageError(f"to {scoring.task.kind} by {scoring.task.metric.title}: answers in a file are classes")
    count = scoring.task.class_count
    order = images_of(whole[0], images, program, count)
    ages = [one.origin.age_s for one in whole if one.origin.age_s is not None]
    options = replace(options, age_s=float(np.median(ages)) if ages else options.age_s)
    targets, scores = scoring.targets[order], {}
    notes: list[str] = []
    for one in whole:
        if not np.array_equal(images_of(one, images, program, count), order):
            raise FileError(
                f"chip {one.origin.chip!r} answered other images than {whole[0].origin.chip!r}, or in another order",
                where=one.origin.source, hint="several chips are judged by answers to the same images",
            )  # fmt: skip
        right = scoring.task.totals(scoring.task.scores(codes_of(one, count), targets))
        scores[one.origin.chip] = float(np.mean(right))
        notes += age_notes(one.origin, options.age_s)
    such = SuchChips.of(program, record, options, watch)
    virtual = scoring.task.totals(scoring.task.scores(such.answers(images.images[order], watch), targets))
    judged = judge_several([list(scores.values())], [virtual], tolerance=scoring.tolerance)
    told = (*dict.fromkeys(notes), *such.notes, *watch.notes)
    return ChipsReport(judged, scores, np.asarray(virtual), len(order), options.age_s, scoring.tolerance, told)


def _row(name: str, scores: NDArray[np.float64]) -> ScaleRow:
    mean, sd = 100 * float(scores.mean()), 100 * float(scores.std(ddof=1))
    return ScaleRow(name, f"{mean:.2f} %", mean, mean - sd, mean + sd, f"{len(scores)}, sd {sd:.2f}")


FEWEST_RUNS = 3  # of a group, for its spread to be known at all


@dataclass(frozen=True, slots=True)
class SeveralJudged:
    """Verdict on the mean of several chips; fractions."""

    verdict: Verdict
    difference: float  # real − virtual
    standard_error: float
    freedom: float
    interval90: tuple[float, float]
    p_value: float  # of no difference


def judge_several(real: Sequence[ArrayLike], virtual: Sequence[ArrayLike], *, tolerance: float) -> SeveralJudged:
    """Judge groups of scores whose means add up to ``real`` and to ``virtual``.

    The first group of each is added, further ones (floating point on the same images) are taken away.

    Raises:
        ValueError: a group of fewer than three scores, or with numbers that are none.
    """
    groups = [
        (side if number == 0 else -side, np.asarray(group, np.float64))
        for side, given in ((1, real), (-1, virtual))
        for number, group in enumerate(given)
    ]
    for _, scores in groups:
        if scores.ndim != 1 or len(scores) < FEWEST_RUNS or not np.isfinite(scores).all():
            raise ValueError(f"a group of {scores.shape} scores; {FEWEST_RUNS} finite ones are needed to know a spread")
    difference = sum(sign * float(scores.mean()) for sign, scores in groups)
    parts = [(float(scores.var(ddof=1)) / len(scores), len(scores) - 1) for _, scores in groups]
    variance = max(sum(part for part, _ in parts), np.finfo(float).tiny)
    error = math.sqrt(variance)
    freedom = variance**2 / max(sum(part**2 / n for part, n in parts), np.finfo(float).tiny)
    half, size = float(special.stdtrit(freedom, 0.95)) * error, abs(difference)
    limit = float(special.stdtrit(freedom, 0.975))
    p_value = float(2 * stats.t.sf(size / error, freedom))
    test = PredictionTest(size / error, limit, p_value, math.nan, size / error > limit)
    inside = Equivalence(
        standard_error=error,
        low=difference - half,
        high=difference + half,
        holds=size + half <= tolerance,
        beyond=size - half > tolerance,
        likely_beyond=size > half and size - LAST_MARGIN * error > tolerance,
    )
    verdict = decide(test, inside, last=True)
    return SeveralJudged(verdict, difference, error, freedom, (inside.low, inside.high), p_value)
