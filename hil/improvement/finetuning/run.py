"""Fine-tune a network for a chip: ``net.pt`` in, ``tuned.pt`` out, checkpoints on the way.

    result = finetune("net.pt", "cifar10-jpeg", "tuned.pt", settings=FinetuneSettings(minutes=60))

The folder ``tuned.pt.training`` keeps plan and checkpoint until the network is written; the same call goes on there.

Rate and strength of a fine-tuning by short trials, each judged as deployed on the chips and images that choose.

The error law of training knows neither copies nor the tune, so that a network can gain in training and lose on
chips. A trial of ``STEPS`` steps shows the effect of a rate and a strength.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cim.record.file import load_record
from hil.atomic import output_errors
from hil.datasets.augmentation import augmentation
from hil.deployment.options import DeployOptions
from hil.errors import Interrupted
from hil.improvement.finetuning.as_deployed import (
    FRESH_CHIPS,
    as_deployed,
    choosing_answers,
    judging_images,
    program_as_deployed,
    recipe_judged,
    strength_of,
)
from hil.improvement.finetuning.inputs import FinetuneInputs, load_finetune_inputs
from hil.improvement.finetuning.plan import PLAN, FinetunePlan, fingerprint
from hil.improvement.finetuning.settings import EPOCHS, RATE, STRENGTH, FinetuneSettings, working_folder
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.prediction.promise import Promise
from hil.report.work_folder import GO_ON, WorkFolder, typed
from hil.simulation.chip_workers import THREADS, ChipWorkers
from hil.watch import Watch
from mapping.network.file import load_network, save_network
from search.train.finetune import FinetuneJob, finetune_network, ranged, step_seconds
from search.train.images import Images, Symmetry
from search.train.settings import TrainingSettings
from search.train.training import Machine, Precision, TrainingSchedule, multiplies_bfloat16, report_steps

FEW_IMAGES, FEW_STEPS = 2000, 200  # to train with: below, a network gains little or loses
LEFT = 0.92  # share of the time that is planned; the rest is for what a machine does beside
CHECKPOINT, TRAINED = "training.checkpoint", "trained.pt"  # of the working folder


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """Accuracies in percent of held-out training images; on virtual chips they are simulated.

    ``deployed`` and ``deployed_before``: as ``hil deploy`` treats a network by default
    (``hil.improvement.finetuning.as_deployed``), of ``judged`` images that neither trained nor chose; None where the
    caller judges. ``trained``: whether the network that was written is the trained one; else the original,
    which was better as deployed. ``noisy`` and ``noisy_before``: under the law that training drew its errors from.
    """

    path: Path
    chip: str
    record: str
    float_before: float
    noisy_before: float
    ideal: float
    noisy: float
    held_out: int
    images: int
    epochs: int
    seconds: float
    digest: str
    trained: bool = True
    deployed_before: float | None = None
    deployed: float | None = None
    judged: int = 0
    promise: Promise | None = None  # of one chip with the network that was written
    rate: float = 0.0
    strength: float = 0.0

    def summary(self, network: str, steps: tuple[NextStep, ...] = ()) -> Summary:
        """What ``hil finetune`` prints: before and after, as deployed where that was judged, and what was trained."""
        judged = self.deployed is not None and self.deployed_before is not None
        before, after = (self.deployed_before, self.deployed) if judged else (self.noisy_before, self.noisy)
        gain = (after or 0.0) - (before or 0.0)
        how = f"as deployed, {FRESH_CHIPS} virtual chips, {self.judged:,} images that neither trained nor chose"
        how = how if judged else f"under the chip's errors, {self.held_out:,} training images that were held out"
        written = "" if self.trained else "; WRITTEN UNCHANGED: the training made it worse as deployed"
        text = f"from {before:.1f} % to {after:.1f} % {how}{written}"
        tone = Tone.GOOD if self.trained and gain > 0 else Tone.OPEN
        rows = (
            ("float", f"{self.float_before:.1f} %", "—"),
            ("under errors", f"{self.noisy_before:.1f} %", f"{self.noisy:.1f} %"),
            ("a perfect chip", "—", f"{self.ideal:.1f} %"),
            *((("as deployed", f"{before:.1f} %", f"{after:.1f} %"),) if judged else ()),
        )
        note = f"First three rows: {self.held_out:,} training images held out, simulated, no copies, no tune."
        return Summary(
            f"{network} trained for {self.chip}",
            "SIMULATED",
            Headline(tone, f"{gain:+.1f} points".replace("-", "−"), text),
            (
                Table("Accuracy", ("", "before", "trained"), rows, note),
                *(
                    []
                    if self.promise is None
                    else [Fact("Expected", f"{self.promise.text} (95 %)", aside="as deployed")]
                ),
                Fact("Trained", f"{self.epochs} epochs of {self.images:,} images, {self.seconds / 60:.1f} minutes"),
                Fact("Rests on", f"errors of the {self.record}"),
                Fact("network", str(self.path)),
            ),
            steps,
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def finetune(
    network: str | Path,
    data: str,
    out: str | Path,
    *,
    chip: str = "lab-128",
    macros: int | None = None,
    calibration: str | Path | None = None,
    settings: FinetuneSettings | None = None,
    without: NDArray[np.uint8] | None = None,
    judges: ChipWorkers | None = THREADS,
    restart: bool = False,
    watch: Watch | None = None,
) -> FinetuneResult:
    """Train a network on for the errors of a chip and write it to ``out``; on the chip itself: ``finetune_on_chip``.

    If training made the network worse as deployed, the original is written.

    Args:
        network: a ``net.pt`` of any origin.
        data: name or path of a data set; its training images are used, and never score.
        macros: number of macros of the record's chip, if it differs from the chip file's.
        calibration: record whose errors count; None: the models of the chip file.
        without: images (n, height, width, channels) of the data set that take no part; None: none.
        judges: workers that simulate the judging chips; results do not depend on them. None: the caller
            judges, and the trained network is written.
        restart: forget what an interrupted call with the same ``out`` has done.

    Raises:
        CannotMap: no chip of this kind takes the network.
        Interrupted: Ctrl-C after the first step; the same call goes on there.
        MismatchError: ``out`` was begun with other settings, or the record is of another chip.
        hil.errors.HilError, mapping.errors and the file errors of the rooms below.
    """
    began, asked, watch, out = time.monotonic(), settings or FinetuneSettings(), watch or Watch(), Path(out)
    record = None if calibration is None else Path(calibration)
    folder = working_folder(out)
    with watch.stage("loading"):
        inputs = load_finetune_inputs(
            Path(network),
            data,
            asked,
            watch,
            chip=chip,
            macros=macros,
            calibration=record,
            without=without,
        )
    work = WorkFolder(folder, fingerprint(asked, inputs), kind="hil.finetuning", restart=restart)
    known = None if record is None else load_record(record)
    given = ranged(inputs.network, inputs.train)
    before = after = None
    judging = inputs.kept if judges is None else judging_images(inputs, watch)
    if judges is not None:
        with watch.stage("unchanged network"):
            before = as_deployed(given, judging, inputs.chip, known, asked, watch, judges)
    trained_file = folder / TRAINED

    def tried(rate: float, strength: float) -> float:
        """Accuracy of the network after a short training, on the images that choose."""
        one, few = replace(asked, rate=rate, strength=strength), STEPS * asked.batch
        job = _job(Path(network), inputs, one, data, 1, folder / "trial.pt", folder)
        job = replace(job, checkpoint=folder / "trial.checkpoint")
        job.checkpoint.unlink(missing_ok=True)  # of a trial that was interrupted
        some = inputs.kept.part(np.arange(min(len(inputs.kept), asked.batch)))
        finetune_network(job, _some(inputs.train, few, asked.seed), some)
        short = load_network(job.out)
        for left in (job.out, job.checkpoint):
            left.unlink(missing_ok=True)
        return float(choosing_answers(short, judging, inputs.chip, known, one, watch, judges or THREADS).mean())

    def trials() -> dict[str, Any]:
        if before is None:
            return asdict(TrialChoice(asked.rate or RATE, asked.strength or STRENGTH))
        with watch.stage("trials"):
            epochs = 0 if asked.minutes else asked.epochs or EPOCHS
            steps = epochs * (len(inputs.train) // asked.batch)
            copies = strength_of(program_as_deployed(given, inputs.chip, DeployOptions(recipe=recipe_judged(asked))))
            return asdict(chosen(asked, steps, copies, float(before.choosing.mean()), tried, watch))

    def planned() -> dict[str, Any]:
        with watch.stage("measuring the speed"):
            timed = replace(asked, rate=asked.rate or RATE, strength=asked.strength or STRENGTH)
            job = _job(Path(network), inputs, timed, data, 1, trained_file, folder)
            return asdict(_planned(inputs, asked, job))

    try:
        begun = typed(TrialChoice, work.json_part("trials.json", dict, trials))
        final = replace(asked, rate=begun.rate, strength=begun.strength)
        plan = typed(FinetunePlan, work.json_part(PLAN, dict, planned))
        images = _some(inputs.train, plan.images, final.seed)
        steps = plan.epochs * (len(images) // final.batch)
        if len(images) < FEW_IMAGES or steps < FEW_STEPS:
            watch.note(
                f"{steps} steps, {plan.epochs} epochs of {len(images):,} images: few to train with. Below "
                f"{FEW_IMAGES:,} images a network learns them by heart, below {FEW_STEPS} steps little: try more "
                "--minutes, or --data with more training images"
            )
        if plan.cut:
            watch.note(f"{plan.epochs} epochs of {len(images):,} images, for {final.minutes:g} minutes")
        job = _job(Path(network), inputs, final, data, plan.epochs, trained_file, folder)
        with watch.stage("training"):
            progress = report_steps(
                watch.step, plan.epochs, lambda record: f"{record.score:.1f} % on chips (simulated)"
            )
            found = finetune_network(job, images, inputs.kept, progress)
        trained = load_network(found.path)
        if judges is not None:
            with watch.stage("as deployed"):
                after = as_deployed(trained, judging, inputs.chip, known, final, watch, judges)
    except KeyboardInterrupt:
        if not (folder / CHECKPOINT).exists():
            raise
        raise Interrupted(
            f"fine-tuning of {network} was interrupted; what it learned is kept in {folder}",
            hint=GO_ON,
        ) from None
    written, better = trained, True
    if before is not None and after is not None and not after.beats(before):
        written, better = given, False
        lost = 100.0 * float(before.choosing.mean() - after.choosing.mean())
        watch.note(
            f"the training lost accuracy on chips, {lost:.1f} points as deployed, by the images that choose: {steps} "
            f"steps at a rate of {final.rate:g}; {out} is the unchanged network. Try "
            "hil finetune with a lower --rate, more training images or --strength 0.6"
        )
    with output_errors(out):
        save_network(written, out)
    work.discard()
    result = FinetuneResult(
        out,
        inputs.chip.name,
        inputs.record,
        found.float_before,
        found.noisy_before,
        found.ideal,
        found.noisy,
        len(inputs.kept),
        len(images),
        plan.epochs,
        round(time.monotonic() - began, 1),
        written.digest,
        better,
    )
    if before is None or after is None:
        return result
    promise = (after if better else before).promise
    return replace(
        result,
        deployed_before=before.percent,
        deployed=after.percent,
        judged=before.scoring.shape[1],
        promise=promise,
        rate=final.rate,
        strength=final.strength,
    )


def _job(
    network: Path,
    inputs: FinetuneInputs,
    settings: FinetuneSettings,
    data: str,
    epochs: int,
    out: Path,
    folder: Path,
) -> FinetuneJob:
    shift, symmetry = augmentation(data)
    schedule = TrainingSchedule(
        epochs,
        batch=settings.batch,
        rate=settings.rate,
        decay=0.0,
        warm=0.05,
        shift=shift if settings.shift is None else settings.shift,
        symmetry=cast(Symmetry, settings.symmetry or symmetry),
        crop=settings.crop,
        crop_until=settings.crop_until,
        seed=settings.seed,
    )
    recipe = TrainingSettings(schedule, strength=settings.strength)
    fast = settings.device != "cpu" or multiplies_bfloat16()
    precision = settings.precision or ("bf16-mixed" if fast else "32-true")
    provenance = {"fine-tuning data": inputs.source, "fine-tuned for": f"{inputs.chip.name}, {inputs.record}"}
    return FinetuneJob(
        network.absolute(),
        recipe,
        inputs.chip,
        inputs.noise,
        out.absolute(),
        folder.absolute() / CHECKPOINT,
        provenance,
        Machine(settings.device, cast(Precision, precision)),
        Path(settings.teacher).absolute() if settings.teacher else None,
    )


def _planned(inputs: FinetuneInputs, settings: FinetuneSettings, job: FinetuneJob) -> FinetunePlan:
    """Epochs and images; under a budget of minutes as many as the machine's own speed allows."""
    count = len(inputs.train)
    if not settings.minutes:
        return FinetunePlan(settings.epochs or EPOCHS, count)
    speed = step_seconds(job, inputs.train, inputs.kept)
    share = settings.crop_until if settings.crop else 0.0
    step = share * speed.crop_s + (1.0 - share) * speed.whole_s
    left = LEFT * 60.0 * settings.minutes - 3.0 * speed.start_s
    epoch = count // settings.batch * step + speed.score_s
    if left >= epoch:
        return FinetunePlan(int(left / epoch), count, cut=True)
    some = int(max(left - speed.score_s, 0.0) / step) * settings.batch
    return FinetunePlan(1, min(count, max(some, settings.batch)), cut=True)


def _some(images: Images, count: int, seed: int) -> Images:
    """At most ``count`` of the images, drawn by the seed."""
    return images if count >= len(images) else images.split(count / len(images), seed)[1]


STEPS = 60  # of a trial
LEAST_STEPS = 400  # of a training that is worth trials
SHARE = 0.25  # of the minutes of training that trials may take beside them
RATES = (0.0004, RATE, 0.0001)


@dataclass(frozen=True, slots=True)
class TrialChoice:
    """Learning rate and error strength of a training, and how many trials chose them."""

    rate: float
    strength: float
    trials: int = 0


def chosen(
    settings: FinetuneSettings,
    steps: int,
    copies: float,
    before: float,
    tried: Callable[[float, float], float],
    watch: Watch,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> TrialChoice:
    """Rate and strength as the user set them, else those of the best trial.

    Args:
        steps: of the training; 0: as many as fit into the minutes.
        copies: strength of the errors of layers as deployed, copies averaged.
        before: share of right answers of the unchanged network; ``tried``: of one that a trial has trained.
    """
    if settings.rate and settings.strength:
        return TrialChoice(settings.rate, settings.strength)
    if 0 < steps < LEAST_STEPS:
        return TrialChoice(settings.rate or RATE, settings.strength or STRENGTH)
    start, found = clock(), dict[tuple[float, float], float]()

    def best() -> tuple[float, float]:
        return max(found, key=lambda key: found[key])

    first = settings.strength or copies
    asked = [(rate, first) for rate in ((settings.rate,) if settings.rate else RATES)]
    planned = len(asked) + (not settings.strength)
    while asked:
        rate, strength = asked.pop(0)
        found[rate, strength] = tried(rate, strength)
        gain = f"{100 * (found[rate, strength] - before):+.1f}".replace("-", "−")
        watch.note(f"trial of {STEPS} steps: rate {rate:g}, strength {strength:g}: {gain} points as deployed")
        if settings.minutes and len(found) == 1:
            each = (clock() - start) / 60.0
            planned = max(1, min(planned, int(SHARE * settings.minutes / max(each, 1e-9))))
            word = "trial takes" if planned == 1 else "trials take"
            watch.message(
                f"{planned} {word} about {planned * each:.1f} minutes, beside the {settings.minutes:g} of training"
            )
        if len(found) >= planned:
            break
        other = (best()[0], STRENGTH)
        if not asked and not settings.strength and other not in found:
            asked.append(other)
    return TrialChoice(*best(), len(found))
