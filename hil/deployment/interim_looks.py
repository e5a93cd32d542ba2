"""Look after look: images on the chip and in the virtual chips, until the verdict stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset, image_digests
from hil.deployment.deployment import Deployment
from hil.deployment.inference import Conversions, MeasuredLayers, MeasuredSums, measured_multiply
from hil.deployment.options import DeployOptions
from hil.errors import FileError, UsageError
from hil.samples import INFER, REPEAT
from hil.verdict.agreement import Judgement, Mode, correct_answers, judge, planned_looks
from hil.watch import Watch
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run

IMAGES_IN_FLIGHT = 32


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
        FileError: an image to be scored served calibration (decision 0008).
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
    return order, planned_looks(most)


def run_looks(
    job: Deployment,
    data: Dataset,
    order: NDArray[np.int64],
    looks: tuple[int, ...],
    graph: NetworkGraph | None,
    watch: Watch,
    measured: NDArray[np.int32] | None = None,
) -> RunAnswers:
    """Run look after look until *this chip* is judged to agree or disagree, or the plan ends.

    Args:
        measured: logit codes (repeats, n, classes) of all images, where the chip has run already
            (``hil.deployment.rounds``); conversions and times are then the caller's to fill in.
    """
    answers = RunAnswers()
    ideal = IdealMultiply(job.program)
    chip = None if measured is not None else measured_multiply(job.driver, job.running, job.corrections)
    conditioned, again = job.virtual_chips(conditioned=True), job.virtual_chips(conditioned=False)
    first = 0
    for look, until in enumerate(looks, 1):
        images = data.images[order[first:until]]
        with watch.stage("ideal"):
            answers.ideal.append(run(job.program, images, ideal))
            if graph is not None:
                answers.floats.append(float_logits(graph, images))
        if measured is not None:
            answers.measured.append(measured[:, first:until])
        elif chip is not None:
            with watch.stage("measuring"):
                answers.times_ns.append(job.driver.chip_time_ns)
                answers.measured.append(measure(job, chip, images, first, watch))
                answers.times_ns.append(job.driver.chip_time_ns)
        with watch.stage("simulating"):
            answers.simulated.append(conditioned.run(images, first, watch))
            answers.again.append(again.run(images, first, watch))
        labels = data.labels[order[:until]]
        answers.this_chip = judged(Mode.CONDITIONED, answers, answers.simulated, labels, look, looks, job.options)
        answers.such_chips = judged(Mode.UNCONDITIONAL, answers, answers.again, labels, look, looks, job.options)
        first = until
        if answers.this_chip.final:
            break
    if chip is not None:
        answers.count(chip.conversions)
    answers.simulated_saturated_share = conditioned.saturated_share
    return answers


def measure(
    job: Deployment, chip: MeasuredSums | MeasuredLayers, images: NDArray[np.uint8], first: int, watch: Watch
) -> NDArray[np.int32]:
    """Logit codes of the chip, (repeats, n, classes); repeats are whole passes."""
    passes = []
    batch = IMAGES_IN_FLIGHT
    total = job.options.repeats * len(images)
    for repeat in range(job.options.repeats):
        parts = []
        for at in range(0, len(images), batch):
            watch.step(repeat * len(images) + at, total, f"repeat {repeat + 1} of {job.options.repeats}")
            sample = INFER + repeat * REPEAT + first + at
            parts.append(run(job.running, images[at : at + batch], chip, sample=sample, batch=batch))
        passes.append(np.concatenate(parts))
    return np.stack(passes)


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
