"""The ladder: levers tried from cheap to dear on held-out training images, until the target or the budget is reached.

A lever that gives more than its standard error stays, another is let go. Every step is in ``rungs`` of the output
folder as soon as it is done, so that an interrupted ladder goes on where it stopped, and one with more time or another
target where it ended. Test images are read once, for the finished program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.files import private_folder
from hil.atomic import new_file, output_errors, write_text
from hil.datasets.image_set import Dataset, image_digests
from hil.datasets.input_values import with_pixels
from hil.datasets.seen_images import check_unseen, seen_images
from hil.deployment.options import DeployOptions
from hil.deployment.plan import plan_of
from hil.deployment.scoring import targets_of
from hil.errors import FileError, UsageError
from hil.improvement.levers import Candidate, Lever, LeverBench, Score, levers
from hil.prediction.promise import Promise, promised
from hil.report.work_folder import WorkFolder, load_json, typed
from hil.verdict.metric import ACCURACY
from hil.watch import PlannedStage
from mapping.network.file import NetworkFile
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program
from mapping.recipe.recipe import Recipe, with_recipe

FORMAT = "hil.ladder/1.3"
LADDER, PROGRAM, RUNGS = "ladder.json", "program.h5", "rungs"
CHIP_IMAGE_S = 1e-3  # of a virtual chip on one core, for the bundled network
TRAINING = "finetune"  # the lever that takes what is left
FEW_CHIPS, FEW_SHARE = 2, 4  # of a first trial: chips, and what part of the images
CLEARLY_WORSE = 0.03  # in a first trial: the lever is let go without another
MOST_SHARE = 1 / 3  # of the minutes that are left: a lever that takes more waits for the others
LEAST_HELD_OUT = 100  # training images that decide


@dataclass(frozen=True, slots=True)
class Rung:
    """One lever tried. Accuracies on held-out training images; ``skipped`` says why it was not tried."""

    lever: str
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
        """What it gave, as one line."""
        if self.skipped:
            return f"{self.lever}: not tried, {self.skipped}"
        gain = f"{100 * self.gain:+.2f} ± {100 * self.gain_se:.2f} points"
        return f"{self.lever}: {100 * self.mean:.2f} %, {gain}, {'kept' if self.kept else 'let go'}"


@dataclass(frozen=True, slots=True)
class Improvement:
    """A finished ladder. ``test``: what one further chip will score with the finished program, by test images and chips
    that chose nothing; None: no images were given."""

    rungs: tuple[Rung, ...]
    recipe: Mapping[str, Any]
    images: int
    chips: int
    age_s: float
    source: str
    stopped: str
    deploy: tuple[str, ...] = ()  # options of ``hil deploy`` that treat the program as the last kept lever did
    test: Promise | None = None
    test_ideal: float = 0.0
    test_images: int = 0
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "rungs": [asdict(rung) for rung in self.rungs]}


def improve(
    bench: LeverBench,
    folder: Path,
    test: Dataset | None,
    *,
    target: float | None = None,
    minutes: float | None = None,
    tried: Sequence[Lever] | None = None,
    restart: bool = False,
) -> Improvement:
    """Climb the ladder and leave ``program.h5`` and ``ladder.json`` in ``folder``; rungs that are there are taken.

    Args:
        test: images that are scored once, for the finished program; None: none.
        tried: levers, from cheap to dear; None: all.
        target: accuracy (fraction) on the held-out images at which to stop.
        minutes: after which no further lever is begun; training takes what is left of them.
        restart: forget the rungs in the folder.

    Raises:
        UsageError: too few held-out images.
        MismatchError: the rungs are of another network, chip, record or setting.
        FileError: a test image served the network or the ladder.
    """
    if len(bench.images) < LEAST_HELD_OUT:
        raise UsageError(
            f"{len(bench.images)} training images are left to decide with, at least {LEAST_HELD_OUT} are needed",
            hint="--data with more training images",
        )
    if test is not None:
        test = with_pixels(test, bench.network.graph.input_shape, bench.network.graph.preprocess)
        check_apart(bench, test)
    with output_errors(folder):
        private_folder(folder)
    work = WorkFolder(folder / RUNGS, _key(bench), kind="hil.ladder", restart=restart)
    rungs = [work.load(name, lambda path: stored_rung(load_json(path))) for name in work.parts("[0-9]*.json")]

    def keep(rung: Rung) -> None:
        work.keep_json(f"{len(rungs):02d}-{rung.lever}.json", asdict(rung))
        rungs.append(rung)

    start, spent = time.monotonic(), sum(r.minutes for r in rungs)
    recipe, best = _standing(bench, rungs)
    if best is None:
        with bench.watch.stage("as compiled"):
            began = time.monotonic()
            best = bench.score(recipe)
            keep(_rung(bench, "compiled", "as compiled", recipe, best, best, began, kept=True))
    done, stopped = {r.lever for r in rungs}, "every lever was tried"
    waiting = [lever for lever in tried or levers() if lever.name not in done]
    waited: set[str] = set()
    while waiting:
        lever = waiting.pop(0)
        used = spent + (time.monotonic() - start) / 60
        if target is not None and best.mean >= target:
            stopped = f"target of {target:.1%} reached"
            break
        if minutes is not None and used >= minutes:
            stopped = f"{minutes:g} minutes are spent"
            break
        with bench.watch.stage(lever.name):
            left = None
            if minutes is not None:  # less a score, which takes about as long as the longest rung
                left = minutes - used - max(r.minutes for r in rungs)
            others = [one for one in waiting if one.name != TRAINING and one.name not in waited]
            may_wait = minutes is not None and bool(others) and lever.name not in waited
            pulled = _pulled(replace(bench, minutes_left=left), lever, recipe, best, may_wait=may_wait)
            if isinstance(pulled, float):
                bench.watch.say(f"{lever.name}: waits, for it takes about {pulled:.1f} of {minutes:g} minutes")
                waited.add(lever.name)
                waiting.insert(len(waiting) - (waiting[-1].name == TRAINING), lever)
                continue
            rung, recipe, best = pulled
            keep(rung)
            bench.watch.say(rung.text)
    program = with_recipe(bench.program(recipe), recipe.recipe)
    with new_file(folder / PROGRAM) as part:
        part.unlink()
        save_program(program, part)
    found = Improvement(
        tuple(rungs), recipe.to_json(), len(bench.images), bench.chips, bench.age_s, bench.source, stopped,
        bench.deploy_options(), metric=bench.task.metric.name,
    )  # fmt: skip
    if test is not None:
        with bench.watch.stage("test images"):
            found = _tested(found, bench, program, test)
    write_text(folder / LADDER, json.dumps({**found.to_json(), "key": _key(bench)}, indent=1) + "\n")
    return found


def _standing(bench: LeverBench, rungs: Sequence[Rung]) -> tuple[Candidate, Score | None]:
    """The candidate of the last rung that was kept, and its score; None before the first."""
    kept = [rung for rung in rungs if rung.kept]
    return (Candidate.from_json(kept[-1].recipe), Score(np.array(kept[-1].chips))) if kept else (bench.begun, None)


def _pulled(
    bench: LeverBench, lever: Lever, recipe: Candidate, best: Score, *, may_wait: bool = False
) -> tuple[Rung, Candidate, Score] | float:
    """Try a lever, with few chips and images first: its rung, and the recipe and score that stand after it.

    Where it ``may_wait``, and takes more than ``MOST_SHARE`` of the minutes that are left, the minutes that it takes.
    """
    began = time.monotonic()
    pulled = lever.pull(bench, recipe)
    if isinstance(pulled, str):
        return Rung(lever.name, lever.words, False, recipe.to_json(), skipped=pulled), recipe, best
    if bench.chips > FEW_CHIPS and lever.name != TRAINING:
        few = bench.few(FEW_CHIPS, len(bench.images) // FEW_SHARE)
        before, start = few.score(recipe), time.monotonic()
        first = few.score(pulled)
        expected = (time.monotonic() - start) / 60 * bench.chips / FEW_CHIPS * len(bench.images) / len(few.images)
        if first.mean - before.mean < -CLEARLY_WORSE:
            return _rung(bench, lever.name, lever.words, pulled, first, before, began, kept=False), recipe, best
        if may_wait and bench.minutes_left is not None and expected > MOST_SHARE * bench.minutes_left:
            return expected
    score = bench.score(pulled)
    gain, error = score.gain_over(best)
    kept = gain > error
    rung = _rung(bench, lever.name, lever.words, pulled, score, best, began, kept=kept)
    return (rung, pulled, score) if kept else (rung, recipe, best)


def check_apart(bench: LeverBench, test: Dataset) -> None:
    """Refuse test images that the network or the ladder has seen."""
    check_unseen(test.images, bench.network)
    seen = set(image_digests(bench.images))
    overlap = sum(digest in seen for digest in image_digests(test.images))
    if overlap:
        raise FileError(
            f"{overlap} test images are among the training images that the ladder uses",
            likely="the training split was named twice",
            hint="name a data set with a split of its own for testing",
        )


def held_out(training: Dataset, network: NetworkFile, count: int, seed: int) -> NDArray[np.int64]:
    """Positions of ``count`` training images that the network has not seen, ascending.

    Raises:
        FileError: it was fine-tuned on so many of them that too few are left.
    """
    stored, trained = seen_images(training.images, network)
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


def _tested(found: Improvement, bench: LeverBench, program: ConductanceProgram, test: Dataset) -> Improvement:
    """With the promise of the finished program, treated as ``hil deploy`` treats its file."""
    from mapping.program.execute import IdealMultiply, run

    check_unseen(test.images, program)
    task, targets = bench.task, targets_of(bench.task, test, program.preprocess)
    ideal = float(task.totals(task.scores(run(program, test.images, IdealMultiply(program)), targets)))
    options = DeployOptions(
        virtual_chips=bench.chips, age_s=bench.age_s, seed=bench.seed, recipe=Recipe.of_text(program.recipe or "[]")
    )
    promise = promised(program, bench.record, options, test.images, targets, task, bench.watch, bench.crew)
    return replace(found, test=promise, test_ideal=ideal, test_images=len(test))


def _rung(
    bench: LeverBench,
    name: str,
    words: str,
    recipe: Candidate,
    score: Score,
    before: Score,
    began: float,
    *,
    kept: bool,
) -> Rung:
    gain, error = score.gain_over(before) if score is not before else (0.0, 0.0)
    price = plan_of(bench.program(recipe), bench.recipe(recipe), bench.record)
    return Rung(
        lever=name,
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


def _key(bench: LeverBench) -> dict[str, Any]:
    """What rungs belong to."""
    return {
        "network": bench.network.digest,
        "chip": bench.spec.digest,
        "macros": bench.macros,
        "source": bench.source,
        "age_s": bench.age_s,
        "chips": bench.chips,
        "seed": bench.seed,
        "images": len(bench.images),
        "asked": str(bench.asked),
        **({} if bench.task.metric == ACCURACY else {"metric": bench.task.metric.name}),
    }


def expected_ladder(images: int, chips: int, test_images: int, *, measured: bool) -> tuple[PlannedStage, ...]:
    """Stages of a ladder of all levers, and about how long they take, s; ``measured``: a chip is calibrated first."""
    rung = images * chips * CHIP_IMAGE_S
    first = (PlannedStage("calibrating", 60.0),) if measured else ()
    rungs = (PlannedStage(name, rung) for name in ("as compiled", *(lever.name for lever in levers())))
    last = PlannedStage("test images", 2 * test_images * chips * CHIP_IMAGE_S)
    return (*first, PlannedStage("compiling", 5.0), *rungs, last)


def stored_rung(row: Any) -> Rung:
    """A rung of a file, whose values have the types that they say.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: they have not.
    """
    recipe, chips = Candidate.from_json(row["recipe"]), tuple(float(c) for c in row["chips"])
    return typed(Rung, row, recipe=recipe.to_json(), chips=chips)
