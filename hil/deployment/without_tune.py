"""The chip without its tune: baseline for the tune's gain, and a check that it is as it was calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.deployment.chip_run import ChipRun, LeavesTune
from hil.deployment.deployment import Deployment
from hil.deployment.interim_looks import RunAnswers
from hil.simulation.cores import in_threads
from hil.verdict.as_calibrated import AsCalibrated, LayerLines, as_calibrated
from hil.verdict.movements import SumsBeside
from hil.verdict.tune_harm import TuneHarm, tune_harm
from hil.verdict.tuning import LEAST_CHIPS, TuneSummary, effect_of, summarise_tune
from hil.verdict.verdict import Judgement, Mode, Verdict, judge
from hil.watch import Watch
from mapping.program.adapter import adapter_share
from mapping.program.execute import IdealMultiply, run
from mapping.recipe.tune import TunedChannels
from mapping.tune.channel_affine import fit_channels

UNTUNED_CHIPS = 5  # virtual chips that are also run without the tune


@dataclass(frozen=True, slots=True)
class BesideTune:
    """Judgements that show the effect of a tune. ``untuned`` and ``tuned_alike`` cover the same images; all but
    ``as_calibrated`` are None for a chip without tune."""

    untuned: Judgement | None
    tuned_alike: Judgement | None
    tune: TuneSummary | None
    as_calibrated: AsCalibrated | None


def without_harmful_tune(
    job: Deployment, chip: ChipRun, answers: RunAnswers, order: NDArray[np.int64], watch: Watch
) -> Deployment:
    """The run without its tune if the tune makes the chip worse (``hil.verdict.tune_harm``), or with a note of the harm
    if the tune cannot be undone; else the same run.

    A drifting chip is worse with the tune, too. So the tune is blamed only if the tuned chip agrees with virtual chips
    tuned alike, and the chip is better without the tune both before and after.

    ``answers``: judged answers of the first interim analysis, with the tune.
    """
    if chip.untuned is None or job.targets is None or answers.this_chip is None:
        return job
    n, whole = min(chip.untuned.shape[1], answers.seen), chip if isinstance(chip, LeavesTune) else None
    tuned, targets, task = answers.score("measured")[:, :n], job.scoring.targets[order[:n]], job.scoring.task

    def harm(untuned: NDArray[np.int32]) -> TuneHarm | None:
        without = task.scores(untuned[:, :n], targets)
        stored = 0 if job.targets is None else len(job.targets.images)
        return tune_harm(without, tuned, task.metric, left_out=whole is not None, stored=stored)

    suspected = harm(chip.untuned)
    if suspected is None:
        return job
    alike = answers.this_chip.verdict is not Verdict.DISAGREE and all(one.plausible for one in answers.lines)
    found = harm(whole.untuned_again(watch)) if alike and whole is not None else suspected
    if found is None or not alike:
        why = "are not those of virtual chips" if not alike else "are no better when it is measured again without it"
        watch.note(f"the tune is kept, although the chip is worse with it: its answers {why}")
        return job
    watch.note(found.text)
    job = replace(job, harm=found)
    if whole is None:
        return job
    whole.leave_tune()
    tune = TunedChannels.name
    names = [t.name for t in job.options.recipe.techniques if t.name == tune or tune in t.needs]
    return replace(
        job, tuned=None, targets=None, options=replace(job.options, recipe=job.options.recipe.without(*names))
    )


def beside_tune(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    measured: NDArray[np.int32] | None,
    sums: Sequence[SumsBeside],
    watch: Watch,
) -> BesideTune:
    """Judge the first images without the tune; compare outputs and layer sums with those of virtual chips.

    Args:
        job: the run as written, with its tune even if the tune was undone since.
        measured: logit codes (passes, n, classes) of the first images without the tune; None: the chip was not tuned.
        sums: level sums of every layer after the last image, without the tune.
    """
    with watch.stage("without the tune"):
        untuned, alike = judge_untuned(job, data, order, answers.before or answers, measured, watch)
    with watch.stage("comparing tunes"):
        tune = tune_summary(job, watch)
        looks = [*(() if answers.before is None else answers.before.lines), *answers.lines]
        judged = as_calibrated(untuned, tune, [at_end(one) for one in sums], sums, looks)
    return BesideTune(untuned, alike, tune, judged)


def judge_untuned(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    measured: NDArray[np.int32] | None,
    watch: Watch,
) -> tuple[Judgement | None, Judgement | None]:
    """Judge the first images without the tune, chip against a few virtual chips; and the same images with the tune."""
    if measured is None or job.tuned is None:
        return None, None
    n = min(measured.shape[1], answers.seen)
    scoring = job.scoring
    images, targets = data.images[order[:n]], scoring.targets[order[:n]]
    chips = min(UNTUNED_CHIPS, job.options.virtual_chips)
    virtual = job.virtual_chips(conditioned=True, chips=chips, tuned=False)
    simulated, ideal = virtual.run(images, 0, watch), run(job.program, images, IdealMultiply(job.program))
    found = [scoring.task.scores(logits, targets) for logits in (measured[:, :n], simulated, ideal)]
    judged = partial(
        judge,
        mode=Mode.CONDITIONED,
        tolerance=scoring.tolerance,
        metric=scoring.task.metric,
        set_score=scoring.task.set_score,
    )
    tuned = judged(answers.score("measured")[:, :n], answers.score("simulated")[:, :n], found[2])
    return judged(found[0], found[1], found[2]), tuned


def tune_summary(job: Deployment, watch: Watch) -> TuneSummary | None:
    """Effect of the tune on this chip, and whether the virtual chips of the run were tuned alike."""
    if job.tuned is None or job.targets is None:
        return None
    exact = job.virtual_chips(conditioned=True)  # lines of the fast mode stand beside a chip's by a standard deviation
    fits = []
    for done, tuned in enumerate(in_threads(lambda n: exact.tune(n, exact.chip(n)), range(exact.chips)), 1):
        watch.step(done, exact.chips, f"tune of virtual chip {done} of {exact.chips}")
        fits.append(tuned.fits)
    found = summarise_tune(job.tuned.fits, fits, job.targets)
    return replace(found, rank=job.targets.rank, adapter_share=adapter_share(job.running))


def at_end(sums: SumsBeside) -> LayerLines:
    """Gain and offset errors of a layer after the last image, from its level sums beside virtual chips'."""
    return lines_beside(sums.layer, np.rint(sums.chip[None]).astype(np.int32), sums.ideal, sums.virtual)


def lines_of_look(
    images: range, chip: NDArray[np.int32], ideal: NDArray[np.int32], virtual: NDArray[np.int32]
) -> LayerLines:
    """Gain and offset errors of the network's outputs for ``images`` (numbers from 0), by pass, beside virtual chips'.

    Args:
        chip: logit codes (passes, n, width); ``ideal`` (n, width); ``virtual`` (S, n, width).
    """
    n, width = ideal.shape
    shape = (n, width, 1) if width < n else (n, 1, width)  # of wide outputs one line for all
    name = f"of images {images.start + 1:,} to {images.stop:,}"
    return lines_beside(name, *(x.reshape(*x.shape[:-2], *shape) for x in (chip, ideal, virtual)))


def lines_beside(
    name: str, chip: NDArray[np.int32], ideal: NDArray[np.int32], virtual: NDArray[np.int32]
) -> LayerLines:
    """Largest effect of gain and offset errors in a pass, (passes, n, outputs, places), beside virtual chips' (S, …).

    0 if there are too few virtual chips to compare with.
    """
    if len(virtual) < LEAST_CHIPS:
        return LayerLines(name, 0.0)
    others = [fit_channels(name, np.rint(one).astype(np.int32), ideal) for one in virtual]
    return LayerLines(name, max(effect_of(fit_channels(name, one, ideal), others, ideal) for one in chip))
