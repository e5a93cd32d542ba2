"""Techniques tried from cheap to dear on held-out training images, until the target or the budget is reached.

A technique stays if its gain exceeds the standard error. If a network's accuracy is at chance, leading techniques
(``Offer.leads``) are tried first and stay. Every trial is in ``trials`` of the output
folder as soon as it is done: the same command resumes after an interruption, and continues with more time or another
target. Test images are read once, for the finished program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.files import private_folder
from hil.atomic import new_file, output_errors, write_text
from hil.datasets.image_set import Dataset
from hil.datasets.input_values import with_pixels
from hil.datasets.seen_images import check_unseen, seen_images, shared_images
from hil.deployment.options import DeployOptions
from hil.deployment.plan import plan_of
from hil.deployment.scoring import targets_of
from hil.errors import FileError, UsageError
from hil.improvement.context import Candidate, Score, TrialContext
from hil.improvement.trials import Trial, trials_of
from hil.prediction.promise import Promise, promised
from hil.report.work_folder import WorkFolder, load_json, typed
from hil.verdict.metric import ACCURACY
from hil.watch import PlannedStage
from mapping.network.file import NetworkFile
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program
from mapping.recipe.recipe import Recipe, with_recipe
from mapping.recipe.registry import offers

FORMAT = "hil.improvement/1.0"
IMPROVEMENT, PROGRAM, TRIALS = "improvement.json", "program.h5", "trials"
CHIP_IMAGE_S = 1e-3  # of a virtual chip on one core, for the bundled network
TRAINING = "finetune"  # the trial that takes what is left
FEW_CHIPS, FEW_SHARE = 2, 4  # of a first trial: chips, and what part of the images
CLEARLY_WORSE = 0.03  # in a first trial: the trial is let go without another
MOST_SHARE = 1 / 3  # of the minutes that are left: a trial that takes more waits for the others
LEAST_HELD_OUT = 100  # training images that decide


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial. Accuracies on held-out training images; ``skipped`` says why it was not tried."""

    name: str
    words: str
    kept: bool
    recipe: Mapping[str, Any]
    chips: tuple[float, ...] = ()
    gain: float = 0.0
    gain_se: float = 0.0
    macros: int = 0
    cells: int = 0
    pulses: int = 0  # expected: wear
    write_s: float = 0.0  # chip time to write them, with the waits between writings
    energy_uj: float | None = None  # of one image
    latency_us: float | None = None
    edp_mj_ms: float | None = None
    minutes: float = 0.0
    skipped: str = ""

    @property
    def mean(self) -> float:
        return float(np.mean(self.chips)) if self.chips else 0.0

    @property
    def sd(self) -> float:
        return float(np.std(self.chips, ddof=1)) if len(self.chips) > 1 else 0.0

    @property
    def text(self) -> str:
        """Result of the trial in one line."""
        if self.skipped:
            return f"{self.name}: not tried, {self.skipped}"
        gain = f"{100 * self.gain:+.2f} ± {100 * self.gain_se:.2f} points"
        return f"{self.name}: {100 * self.mean:.2f} %, {gain}, {'kept' if self.kept else 'let go'}"


@dataclass(frozen=True, slots=True)
class Improvement:
    """Result of an improvement: trials, and the recipe that was kept.

    ``test``: prediction for one further chip with the finished program, from images and chips that chose nothing;
    None: no test images.
    """

    trials: tuple[TrialResult, ...]
    recipe: Mapping[str, Any]
    images: int
    chips: int
    age_s: float
    source: str
    stopped: str
    deploy: tuple[str, ...] = ()  # options of ``hil deploy`` that treat the program as the last kept trial did
    test: Promise | None = None
    test_ideal: float = 0.0
    test_images: int = 0
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "trials": [asdict(result) for result in self.trials]}


def improve(
    context: TrialContext,
    folder: Path,
    test: Dataset | None,
    *,
    target: float | None = None,
    minutes: float | None = None,
    tried: Callable[[TrialContext], Sequence[Trial]] = trials_of,
    restart: bool = False,
) -> Improvement:
    """Try techniques; leave ``program.h5`` and ``improvement.json`` in ``folder``. Finished trials are reused.

    Args:
        test: images that are scored once, for the finished program; None: no test.
        tried: gives the trials, from cheap to dear.
        target: accuracy (fraction) on the held-out images at which to stop.
        minutes: budget after which no trial starts; training uses the rest of it.
        restart: forget the trials in the folder.

    Raises:
        UsageError: too few held-out images.
        MismatchError: the trials are of another network, chip, record or setting.
        FileError: a test image served the network or an earlier trial.
    """
    if len(context.images) < LEAST_HELD_OUT:
        raise UsageError(
            f"{len(context.images)} training images are left to decide with, at least {LEAST_HELD_OUT} are needed",
            hint="--data with more training images",
        )
    if test is not None:
        test = with_pixels(test, context.network.graph.input_shape, context.network.graph.preprocess)
        check_apart(context, test)
    with output_errors(folder):
        private_folder(folder)
    work = WorkFolder(folder / TRIALS, _key(context), kind="hil.improvement", restart=restart)
    results = [work.load(name, lambda path: stored_result(load_json(path))) for name in work.parts("[0-9]*.json")]

    def keep(result: TrialResult) -> None:
        work.keep_json(f"{len(results):02d}-{result.name}.json", asdict(result))
        results.append(result)

    recipe, stopped = climb(context, context.begun, tried, results, keep, target=target, minutes=minutes)
    program = with_recipe(context.program(recipe), recipe.recipe)
    with new_file(folder / PROGRAM) as part:
        part.unlink()
        save_program(program, part)
    found = Improvement(
        tuple(results), recipe.to_json(), len(context.images), context.chips, context.age_s, context.source,
        stopped, context.deploy_options(), metric=context.task.metric.name,
    )  # fmt: skip
    if test is not None:
        with context.watch.stage("test images"):
            found = _tested(found, context, program, test)
    write_text(folder / IMPROVEMENT, json.dumps({**found.to_json(), "key": _key(context)}, indent=1) + "\n")
    return found


def climb(
    context: TrialContext,
    begun: Candidate,
    tried: Callable[[TrialContext], Sequence[Trial]],
    results: Sequence[TrialResult],
    keep: Callable[[TrialResult], None],
    *,
    target: float | None = None,
    minutes: float | None = None,
    errors: float = 1.0,
) -> tuple[Candidate, str]:
    """Go on from the last kept of ``results``, or from ``begun``, until a target, the minutes or the trials end: the
    candidate that stands, and why it ended. ``keep`` adds to ``results``; a gain is above so many standard ``errors``.
    """
    start, spent, standing = time.monotonic(), sum(r.minutes for r in results), [r for r in results if r.kept]
    if standing:
        recipe, best = Candidate.from_json(standing[-1].recipe), Score(np.array(standing[-1].chips))
    else:
        with context.watch.stage("as compiled"):
            began = time.monotonic()
            recipe, best = begun, context.score(begun)
            keep(_result(context, "compiled", "as compiled", recipe, best, best, began, kept=True))
    done, waited, waiting = {r.name for r in results}, set[str](), list[Trial]()
    used = spent + (time.monotonic() - start) / 60
    if not (stopped := _stopped(best, used, target, minutes)):
        with context.watch.stage("pricing"):
            waiting += [trial for trial in tried(context) if trial.name not in done]
        context.watch.plan([PlannedStage(trial.name, 60 * results[0].minutes) for trial in waiting])
    while waiting:
        used = spent + (time.monotonic() - start) / 60
        if stopped := _stopped(best, used, target, minutes):
            break
        trial = waiting.pop(_next(waiting, waited, lost=at_chance(context, best)))
        with context.watch.stage(trial.name):
            left = None
            if minutes is not None:  # less a score, which takes about as long as the longest trial
                left = minutes - used - max(r.minutes for r in results)
            others = [one for one in waiting if one.name != TRAINING and one.name not in waited]
            may_wait = minutes is not None and bool(others) and trial.name not in waited
            found = _tried(replace(context, minutes_left=left), trial, recipe, best, may_wait=may_wait, errors=errors)
            if isinstance(found, float):
                context.watch.message(f"{trial.name}: waits, for it takes about {found:.1f} of {minutes:g} minutes")
                waited.add(trial.name)
                waiting.insert(len(waiting) - (waiting[-1].name == TRAINING), trial)
                continue
            result, recipe, best = found
            keep(result)
            context.watch.message(result.text)
    return recipe, stopped or "every technique was tried"


def _stopped(best: Score, used: float, target: float | None, minutes: float | None) -> str:
    """The reason why no further trial starts; "": another may start."""
    if target is not None and best.mean >= target:
        return f"target of {target:.1%} reached"
    return "" if minutes is None or used < minutes else f"{minutes:g} minutes are spent"


def at_chance(context: TrialContext, score: Score) -> bool:
    """Whether accuracy is at chance, within two standard errors, so that the gain of a technique would not
    show."""
    chance = 1 / max(1, len(context.network.graph.classes))
    limit = chance + 2 * np.sqrt(chance * (1 - chance) / len(context.images))
    return context.task.metric == ACCURACY and bool(score.mean < limit)


def _next(waiting: Sequence[Trial], waited: Collection[str], *, lost: bool) -> int:
    """Index of the next trial; if accuracy is at chance (``lost``), the first trial that leads."""
    leading = [at for at, trial in enumerate(waiting) if trial.leads and trial.name not in waited]
    return leading[0] if lost and leading else 0


def _tried(
    context: TrialContext, trial: Trial, recipe: Candidate, best: Score, *, may_wait: bool, errors: float
) -> tuple[TrialResult, Candidate, Score] | float:
    """Run a trial, on few chips and images first: its result, and the recipe and score to go on with.

    With ``may_wait``, a trial of more than ``MOST_SHARE`` of the remaining minutes is postponed: returns its minutes.
    """
    began = time.monotonic()
    proposed = trial.propose(context, recipe)
    if isinstance(proposed, str):
        return TrialResult(trial.name, trial.words, False, recipe.to_json(), skipped=proposed), recipe, best
    if context.chips > FEW_CHIPS and trial.name != TRAINING:
        few = context.few(FEW_CHIPS, len(context.images) // FEW_SHARE)
        before, start = few.score(recipe), time.monotonic()
        first = few.score(proposed)
        expected = (time.monotonic() - start) / 60 * context.chips / FEW_CHIPS * len(context.images) / len(few.images)
        if first.mean - before.mean < -CLEARLY_WORSE:
            return _result(context, trial.name, trial.words, proposed, first, before, began, kept=False), recipe, best
        if may_wait and context.minutes_left is not None and expected > MOST_SHARE * context.minutes_left:
            return expected
    score = context.score(proposed)
    gain, error = score.gain_over(best)
    kept = gain > errors * error or (trial.leads and at_chance(context, score) and at_chance(context, best))
    result = _result(context, trial.name, trial.words, proposed, score, best, began, kept=kept)
    return (result, proposed, score) if kept else (result, recipe, best)


def check_apart(context: TrialContext, test: Dataset) -> None:
    """Refuse test images that the network or an earlier trial has seen."""
    check_unseen(test, context.network, watch=context.watch)
    overlap = int(shared_images(test.images, context.images, context.watch).sum())
    if overlap:
        raise FileError(
            f"{overlap} test images are among the training images that hil improve uses",
            likely="the training split was named twice",
            hint="name a data set with a split of its own for testing",
        )


def held_out(training: Dataset, network: NetworkFile, count: int, seed: int) -> NDArray[np.int64]:
    """Positions of ``count`` training images that the network has not seen, ascending.

    Raises:
        FileError: the network was fine-tuned on too many of them.
    """
    stored, trained = seen_images(training.images, network, training.inputs)
    order = np.random.default_rng(np.random.SeedSequence([seed, 0x1ADD])).permutation(len(training))
    chosen = order[~(stored | trained)[order]][:count]
    if trained.any() and len(chosen) < LEAST_HELD_OUT:
        raise FileError(
            f"{int(trained.sum())} of the {len(training)} training images are among those that the network was "
            f"fine-tuned on; {len(chosen)} are left to decide with, at least {LEAST_HELD_OUT} are needed",
            likely="hil finetune had the same data set",
            hint="hil improve with the network of before, which it trains last (--minutes), or --data with others",
        )
    return np.sort(chosen)


def _tested(found: Improvement, context: TrialContext, program: ConductanceProgram, test: Dataset) -> Improvement:
    """The improvement with the predicted score of its finished program on test images, run as by ``hil deploy``."""
    from mapping.program.execute import IdealMultiply, run

    check_unseen(test, program)
    task, targets = context.task, targets_of(context.task, test, program.preprocess)
    ideal = float(task.totals(task.scores(run(program, test.images, IdealMultiply(program)), targets)))
    options = DeployOptions(
        virtual_chips=context.chips,
        age_s=context.age_s,
        seed=context.seed,
        recipe=Recipe.of_text(program.recipe or "[]"),
    )
    promise = promised(program, context.record, options, test.images, targets, task, context.watch, context.crew)
    return replace(found, test=promise, test_ideal=ideal, test_images=len(test))


def _result(
    context: TrialContext,
    name: str,
    words: str,
    recipe: Candidate,
    score: Score,
    before: Score,
    began: float,
    *,
    kept: bool,
) -> TrialResult:
    gain, error = score.gain_over(before) if score is not before else (0.0, 0.0)
    price = plan_of(context.program(recipe), context.recipe(recipe), context.record)
    return TrialResult(
        name=name,
        words=words,
        kept=kept,
        recipe=recipe.to_json(),
        chips=tuple(map(float, score.chips)),
        gain=gain,
        gain_se=error,
        macros=price.macros,
        cells=price.cells,
        pulses=price.pulses + price.pulses_again,
        write_s=price.write_s,
        energy_uj=price.energy_uj,
        latency_us=price.latency_us,
        edp_mj_ms=price.edp_mj_ms,
        minutes=(time.monotonic() - began) / 60,
    )


def _key(context: TrialContext) -> dict[str, Any]:
    """Digests and settings that must agree for trials in a folder to be reused."""
    return {
        "network": context.network.digest,
        "chip": context.spec.digest,
        "macros": context.macros,
        "source": context.source,
        "age_s": context.age_s,
        "chips": context.chips,
        "seed": context.seed,
        "images": len(context.images),
        "asked": str(context.asked),
        **({} if context.task.metric == ACCURACY else {"metric": context.task.metric.name}),
    }


def expected_improvement(images: int, chips: int, test_images: int) -> tuple[PlannedStage, ...]:
    """Stages of all trials, with their usual times, s."""
    each_s = images * chips * CHIP_IMAGE_S
    trials = PlannedStage("trials", each_s * (len(offers()) + 2))  # planned one by one once they are priced
    last = PlannedStage("test images", 2 * test_images * chips * CHIP_IMAGE_S)
    return (PlannedStage("compiling", 5.0), PlannedStage("as compiled", each_s), trials, last)


def stored_result(row: Any) -> TrialResult:
    """A trial result read from a file, with types checked.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: a value is missing or of another type.
    """
    recipe, chips = Candidate.from_json(row["recipe"]), tuple(float(c) for c in row["chips"])
    return typed(TrialResult, row, recipe=recipe.to_json(), chips=chips)
