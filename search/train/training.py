"""One training loop for teacher, stages and networks: resumable, the same answer for the same seed.

Device and mixed precision are Lightning Fabric's (``Machine``); on a CPU it adds nothing to plain torch. Every epoch
seeds torch anew from (seed, epoch), so a run that was killed and resumed at an epoch's end gives the same bits as one
that was not. Imports torch: import this module late.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import llvmlite.binding
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from search.train.checkpoint import load_checkpoint, write_tensors
from search.train.images import Images, Symmetry, batches, moved, on_device

T = TypeVar("T")
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
EPOCH_SEED = 0x5EA7  # purpose tag of the seeds of epochs
LAYOUT = 2  # of checkpoints: those of another are refused


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; on others it takes more than twice as long as float32."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16", "bf16"))


@dataclass(frozen=True, slots=True)
class Machine:
    """Machine that trains."""

    accelerator: str = "cpu"  # or "cuda", "auto"
    precision: Precision = "32-true"

    def run(self, function: Callable[..., T], *args: Any, progress: ProgressCallback | None = None) -> T:
        """``function(fabric, *args, progress=…)`` there."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it tells the precision of every job
        fabric = Fabric(accelerator=self.accelerator, devices=1, precision=self.precision)
        launch: Callable[..., T] = fabric.launch
        return launch(function, *args, progress=progress)


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """AdamW; the rate rises over ``warm`` of all steps, then falls as a cosine to zero.

    ``shift``: images are moved by up to so many pixels; ``symmetry``: and mirrored or turned.
    ``crop``: until ``crop_until`` of all steps the model sees squares of that side instead, cut out anywhere, which
    take less time; 0: whole images from the first step.
    ``average``: what is scored and kept is the running mean of weights and statistics.
    """

    epochs: int
    batch: int = 128
    rate: float = 0.006
    decay: float = 0.02
    warm: float = 0.15
    clip: float = 2.0
    shift: int = 1
    symmetry: Symmetry = "mirror"
    crop: int = 0
    crop_until: float = 0.6
    average: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or self.rate <= 0 or not 0 <= self.warm < 1 or self.crop < 0:
            raise ValueError(f"no schedule: {self}")

    def rate_at(self, progress: float) -> float:
        """Learning rate when ``progress`` (0..1) of the steps are done."""
        if progress < self.warm:
            return self.rate * (progress / self.warm * 0.96 + 0.04)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * (progress - self.warm) / (1.0 - self.warm)))

    def crop_at(self, progress: float) -> int:
        """Side of the squares that are cut out; 0: the whole images."""
        return self.crop if progress < self.crop_until else 0


@dataclass(frozen=True, slots=True)
class At:
    """Position in training: ``step`` of ``steps`` in all, those of other epochs among them, in ``epoch``."""

    epoch: int
    step: int
    steps: int

    @property
    def progress(self) -> float:
        return self.step / self.steps


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``pixels`` float 0..1 (n, channels, height, width), ``labels`` int64 (n,), ``index`` (n,) among all images."""

    pixels: Tensor
    labels: Tensor
    index: Tensor


@dataclass(frozen=True, slots=True)
class EpochRecord:
    epoch: int
    loss: float
    score: float
    seconds: float


ProgressCallback = Callable[[EpochRecord | At], None]
"""Hears after each step where the training is, and after each epoch what it was like."""


def only_epochs(report: Callable[[EpochRecord], None]) -> ProgressCallback:
    """Progress callback that passes on whole epochs and leaves out single batches."""
    return lambda said: report(said) if isinstance(said, EpochRecord) else None


def report_steps(
    step: Callable[[int, int, str], None], epochs: int, words: Callable[[EpochRecord], str] | None = None
) -> ProgressCallback:
    """Calls ``step(done, all, "steps, epoch 2 of 5, …")`` as training goes on; ``words``: of the last whole epoch."""
    said = ""

    def report(what: EpochRecord | At) -> None:
        nonlocal said
        if isinstance(what, At):
            step(what.step, what.steps, f"steps, epoch {what.epoch + 1} of {epochs}{said}")
        elif words is not None:
            said = f", {words(what)}"

    return report


class TrainingTask:
    """A model, its loss on a batch, and its score after each epoch (higher is better)."""

    model: nn.Module

    def begin(self, model: nn.Module, at: At) -> None:
        """Called before each epoch, with the model in training mode."""

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        raise NotImplementedError

    def after(self, model: nn.Module, at: At) -> None:
        """Called after each step of the weights."""

    def score(self, model: nn.Module) -> float:
        """Score of the model (or of the mean of its weights), asked for after each epoch."""
        return math.nan

    def extra(self) -> dict[str, Any]:
        """Further content of a checkpoint: tensors and plain data."""
        return {}

    def restore(self, extra: dict[str, Any]) -> None:
        """Restore the state that ``extra`` gave for a checkpoint."""


def fit(
    fabric: Fabric,
    task: TrainingTask,
    images: Images,
    schedule: TrainingSchedule,
    *,
    checkpoint: Path | None = None,
    key: str = "",
    progress: ProgressCallback | None = None,
) -> tuple[nn.Module, tuple[EpochRecord, ...]]:
    """Train; give the model (its running mean, if the schedule wants one) and what each epoch was like.

    Args:
        checkpoint: written after each epoch, and within the first where Ctrl-C ends it; resumed from when it is there.
        key: names everything else that the answer depends on.

    Raises ``ResumeError`` when the checkpoint was made with another key, schedule or images.
    """
    steps = len(images) // schedule.batch
    if not steps:
        raise ValueError(f"{len(images)} images are less than a batch of {schedule.batch}")
    key = hashlib.sha256(repr((LAYOUT, key, asdict(schedule), len(images), images.digest)).encode()).hexdigest()
    saved = load_checkpoint(checkpoint, key)
    torch.manual_seed(schedule.seed)
    mean = copy.deepcopy(task.model).to(fabric.device) if schedule.average else None
    optimiser = torch.optim.AdamW(groups(task.model, schedule.decay), schedule.rate)
    model, optimiser = fabric.setup(task.model, optimiser)
    records: list[EpochRecord] = []
    within: dict[str, Any] = {}  # of an epoch that was ended on the way
    if saved is not None:
        records, within = _restore(saved, task, mean, optimiser), saved.get("within", {})
    pixels, labels = on_device(images, fabric.device)
    for epoch in range(len(records), schedule.epochs):
        start, total = time.monotonic(), torch.zeros((), device=fabric.device)
        torch.manual_seed(epoch_seed(schedule.seed, epoch))
        model.train()
        task.begin(task.model, At(epoch, epoch * steps, schedule.epochs * steps))
        order = torch.randperm(len(labels))[: steps * schedule.batch]
        first = 0
        if within:
            first, total = int(within["steps"]), total + within["loss"]
            torch.set_rng_state(within["rng"])
            within = {}
        for number, index in enumerate(order.split(schedule.batch)[first:], first):
            at = At(epoch, epoch * steps + number, schedule.epochs * steps)
            own = index.to(fabric.device)
            learned, drawn = number, torch.get_rng_state()
            try:
                seen = moved(pixels[own], schedule.shift, schedule.symmetry, schedule.crop_at(at.progress))
                total += _learn(fabric, task, model, optimiser, schedule, Batch(seen, labels[own], own), at)
                if mean is not None:
                    follow(mean, task.model, min(0.998, (at.step + 1) / (at.step + 10)))
                learned, drawn = number + 1, torch.get_rng_state()
                if progress is not None:
                    progress(replace(at, step=at.step + 1))
            except KeyboardInterrupt:
                if checkpoint is not None and learned and not records:
                    rest = {"steps": learned, "loss": float(total), "rng": drawn}
                    write_tensors(checkpoint, {"key": key, "within": rest, **_state(task, mean, optimiser, records)})
                raise
        kept = mean if mean is not None else task.model
        record = EpochRecord(epoch, float(total) / steps, task.score(kept), time.monotonic() - start)
        records.append(record)
        if checkpoint is not None:
            write_tensors(checkpoint, {"key": key, **_state(task, mean, optimiser, records)})
        if progress is not None:
            progress(record)
    return (mean if mean is not None else task.model), tuple(records)


def _learn(
    fabric: Fabric, task: TrainingTask, model: Any, optimiser: Any, schedule: TrainingSchedule, batch: Batch, at: At
) -> Tensor:
    """One step of the weights; the loss before it."""
    with fabric.autocast():  # of a teacher too
        loss = task.loss(model, batch, at)
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate_at(at.progress)
    if loss.requires_grad:  # else it went through skips alone, and nothing learns
        optimiser.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimiser, max_norm=schedule.clip, error_if_nonfinite=False)
        optimiser.step()
    with fabric.autocast():
        task.after(task.model, at)  # Fabric's own wants its backward pass
    return loss.detach()


def _state(
    task: TrainingTask, mean: nn.Module | None, optimiser: Any, records: Sequence[EpochRecord]
) -> dict[str, Any]:
    """Content of a checkpoint; ``_restore`` takes it back and gives the epochs that are done."""
    return {
        "model": task.model.state_dict(),
        "mean": mean.state_dict() if mean is not None else {},
        "optimiser": optimiser.state_dict(),
        "extra": task.extra(),
        "records": [[r.epoch, r.loss, r.score, r.seconds] for r in records],
    }


def _restore(saved: dict[str, Any], task: TrainingTask, mean: nn.Module | None, optimiser: Any) -> list[EpochRecord]:
    task.model.load_state_dict(saved["model"])
    if mean is not None:
        mean.load_state_dict(saved["mean"])
    optimiser.load_state_dict(saved["optimiser"])
    task.restore(saved["extra"])
    return [EpochRecord(*record) for record in saved["records"]]


def groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Trained parameters; weights decay, steps, norms and biases do not."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    weights = [p for name, p in trained if p.dim() > 1 and not name.endswith("log_step")]
    others = [p for name, p in trained if p.dim() <= 1 or name.endswith("log_step")]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, EPOCH_SEED, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, keep: float) -> None:
    """Move the running mean of parameters and statistics towards the model."""
    for target, value in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if target.is_floating_point():
            target.lerp_(value, 1.0 - keep)
        else:
            target.copy_(value)


@torch.no_grad()
def accuracy(model: nn.Module, images: Images, device: torch.device, size: int = 500) -> float:
    """Percent right, in evaluation mode; with errors on, ``size`` images share the virtual chips."""
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches(images, size, device))
    return 100.0 * right / len(images)


@torch.no_grad()
def fixed_statistics(model: nn.Module) -> None:
    """Batch norms as they will stand on the chip, so that errors which shift a whole channel count."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
