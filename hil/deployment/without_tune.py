"""A chip without its tune: the baseline of the tune, and whether the chip is as it was calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.deployment.chip_run import ChipRun
from hil.deployment.deployment import Deployment
from hil.deployment.interim_looks import RunAnswers
from hil.simulation.cores import in_threads
from hil.verdict.as_calibrated import AsCalibrated, LayerAtEnd, as_calibrated, layer_at_end
from hil.verdict.movements import SumsBeside
from hil.verdict.tune_harm import tune_harm
from hil.verdict.tuning import TuneSummary, summarise_tune
from hil.verdict.verdict import Judgement, Mode, judge
from hil.watch import Watch
from mapping.program.adapter import adapter_share
from mapping.program.execute import IdealMultiply, run
from mapping.recipe.tune import TunedChannels
from mapping.tune.channel_affine import fit_channels

UNTUNED_CHIPS = 5  # virtual chips that are also run without the tune


@dataclass(frozen=True, slots=True)
class BesideTune:
    """The tune of a run and what stands beside it. ``untuned`` and ``tuned_alike`` are of the same images; all but
    ``as_calibrated`` None where the chip was not tuned."""

    untuned: Judgement | None
    tuned_alike: Judgement | None
    tune: TuneSummary | None
    as_calibrated: AsCalibrated | None


def without_harmful_tune(
    job: Deployment, chip: ChipRun, answers: RunAnswers, order: NDArray[np.int64], watch: Watch
) -> Deployment:
    """The run without its tune where that makes the chip worse (``hil.verdict.tune_harm``), or with the harm of a tune
    that it cannot leave out; the same run where it does not.

    ``answers``: so far, with the tune.
    """
    if chip.untuned is None or job.targets is None:
        return job
    n, task, stored = min(chip.untuned.shape[1], answers.seen), job.scoring.task, len(job.targets.images)
    without, tuned = task.scores(chip.untuned[:, :n], job.scoring.targets[order[:n]])[0], answers.score("measured")
    found = tune_harm(without, tuned[:, :n], task.metric, left_out=job.program.rounds == 1, stored=stored)
    if found is None:
        return job
    watch.note(found.text)
    job = replace(job, harm=found)
    if not chip.leave_tune():
        return job
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
    """Judge the first images without the tune, compare its lines and the layers' sums with the virtual chips'.

    Args:
        measured: logit codes (1, n, classes) of the first images without the tune; None: the chip was not tuned. A tune
            that harmed it was left out, and is not judged.
        sums: of every layer after the last image, without the tune.
    """
    with watch.stage("without the tune"):
        untuned, alike = judge_untuned(job, data, order, answers, measured, watch)
    with watch.stage("comparing tunes"):
        tune = tune_summary(job, watch)
        judged = as_calibrated(untuned, tune, [at_end(one) for one in sums], sums)
    return BesideTune(untuned, alike, tune, judged)


def judge_untuned(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    answers: RunAnswers,
    measured: NDArray[np.int32] | None,
    watch: Watch,
) -> tuple[Judgement | None, Judgement | None]:
    """Judgement of the first images without the tune, on the chip and on a few virtual chips, and of the same images
    with it."""
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
    """What the tune did, and whether the virtual chips of the run were tuned alike."""
    if job.tuned is None or job.targets is None:
        return None
    exact = job.virtual_chips(conditioned=True)  # lines of the fast mode stand beside a chip's by a standard deviation
    fits = []
    for done, tuned in enumerate(in_threads(lambda n: exact.tune(n, exact.chip(n)), range(exact.chips)), 1):
        watch.step(done, exact.chips, f"tune of virtual chip {done} of {exact.chips}")
        fits.append(tuned.fits)
    found = summarise_tune(job.tuned.fits, fits, job.targets)
    return replace(found, rank=job.targets.rank, adapter_share=adapter_share(job.running))


def at_end(sums: SumsBeside) -> LayerAtEnd:
    """A layer after the last image, by the lines of its sums."""
    fits = [fit_channels(sums.layer, np.rint(one).astype(np.int32), sums.ideal) for one in (sums.chip, *sums.virtual)]
    return layer_at_end(fits[0], fits[1:], sums)
