"""What a tune is judged by: the chip without it, and the virtual chips, tuned to their own answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.deployment.deployment import Deployment
from hil.errors import MismatchError
from hil.simulation.cores import in_threads
from hil.verdict.tuning import TuneSummary, summarise_tune
from hil.verdict.verdict import Judgement, Mode, judge
from hil.watch import Watch
from mapping.program.adapter import adapter_share
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.recipe.recipe import Recipe

UNTUNED_CHIPS = 5  # virtual chips that are also run without the tune


def note_aims(program: ConductanceProgram, recipe: Recipe, watch: Watch) -> None:
    """Note where the program has targets of its own that are for another time than cells are read at."""
    read_s = recipe.read_s(program)
    if program.aims is not None and program.aims.age_s != read_s:
        watch.note(
            f"the program's targets are for {program.aims.age_s:g} s after programming ({program.aims.source}), "
            f"this run reads at {read_s:g} s"
        )


def check_untuned(program: ConductanceProgram) -> None:
    """Refuse a program that holds the gains and biases of one chip already.

    Raises:
        MismatchError: with the serial number of that chip.
    """
    if program.tuned_to is not None:
        raise MismatchError(
            f"the program is tuned to chip {program.tuned_to}: its digital part is that chip's own",
            hint="take the program or network that it was made from; it is tuned anew",
        )


def judge_untuned(
    job: Deployment, data: Dataset, order: NDArray[np.int64], measured: NDArray[np.int32] | None, watch: Watch
) -> Judgement | None:
    """Judgement of the first images without the tune, on the chip and on a few virtual chips: the baseline of the tune.

    Args:
        measured: logit codes (1, n, classes) of the first images; None: the chip was not tuned.
    """
    if measured is None:
        return None
    n = measured.shape[1]
    scoring = job.scoring
    images, targets = data.images[order[:n]], scoring.targets[order[:n]]
    chips = min(UNTUNED_CHIPS, job.options.virtual_chips)
    virtual = job.virtual_chips(conditioned=True, chips=chips, tuned=False)
    simulated, ideal = virtual.run(images, 0, watch), run(job.program, images, IdealMultiply(job.program))
    found = [scoring.task.scores(logits, targets) for logits in (measured, simulated, ideal)]
    return judge(
        found[0],
        found[1],
        found[2],
        mode=Mode.CONDITIONED,
        tolerance=scoring.tolerance,
        metric=scoring.task.metric,
        set_score=scoring.task.set_score,
    )


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
