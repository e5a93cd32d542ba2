"""Fine-tuning of a given network for the errors of its chip, distilled from its own float self or another network.

The student is the network on arrays (``search.train.graph_net``), the teacher the network as it came, or the one that
it was made smaller from, which also shows where its blocks are strong. It answers for every batch as its images were
moved. Errors of virtual chips are there almost from the first step; the rate falls as a cosine. All training images
and few epochs: a few thousand images overfit. Imports torch: import this module late.

Features of blocks that a student and its teacher have in common, whatever their widths: where their maps are strong.

For a map x, a = Σ_c x_c² over its places, brought to the length 1; two maps of equal size differ by |a_s − a_t|²
(Zagoruyko and Komodakis, arXiv:1612.03928). So a network of fewer channels can be shown where its teacher looks.
Imports torch: import this module late.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from cim.chip.spec import ChipSpec
from cim.simulator.training_errors import ArrayNoise
from mapping.compile import LayoutOptions, compile_network
from mapping.network.file import NO_KEYS, NetworkFile, image_keys, load_network, save_network
from mapping.network.graph import NetworkGraph
from mapping.operators.fused import FusedOp, MatrixOp
from mapping.operators.joins import Add
from mapping.operators.node import INPUT, NodeOp
from mapping.operators.products import Conv
from mapping.program.conductance import ConductanceProgram
from mapping.quantise.lower import lower
from mapping.quantise.weight_scales import ScaleRule
from search.train.arrays import forget_ranges, noise_digest
from search.train.graph_net import GraphNet, graph_net, tuned_file
from search.train.graph_part import GraphPart, PixelGraph, merged
from search.train.images import Images
from search.train.losses import distillation
from search.train.settings import TrainingSettings
from search.train.training import (
    At,
    Batch,
    EpochRecord,
    Machine,
    ProgressCallback,
    TrainingTask,
    accuracy,
    fit,
)

FEW = 64  # fewer stored images than this, and others of the training images take their place
STORED = 256
ROOM = 4096  # macros
TIMED = 6  # batches whose time is taken, after as many that are not


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneJob:
    """One network to be tuned; picklable. ``network`` is the ``net.pt`` as it came, ``out`` the one to be.

    ``checkpoint`` is written after each epoch. ``noise``: errors of the chip. ``provenance`` goes into the file.
    ``teacher``: ``net.pt`` of another network that teaches; None: the network itself, as it came.
    """

    network: Path
    recipe: TrainingSettings
    chip: ChipSpec
    noise: ArrayNoise
    out: Path
    checkpoint: Path
    provenance: Mapping[str, str] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    teacher: Path | None = None


@dataclass(frozen=True, slots=True)
class Finetuned:
    """Percent of the images kept out that are right: of the float network as it came, of the tuned one exactly, and
    on virtual chips of the training law before and after (simulated)."""

    path: Path
    float_before: float
    noisy_before: float
    ideal: float
    noisy: float
    epochs: tuple[EpochRecord, ...]
    digest: str = ""


def finetune_network(
    job: FinetuneJob, images: Images, validation: Images, progress: ProgressCallback | None = None
) -> Finetuned:
    """Train and write ``job.out``. Killed, it goes on from the last whole epoch. Never give it test images."""
    return job.machine.run(_finetune, job, images, validation, progress=progress)


@dataclass(frozen=True, slots=True)
class TrainingSpeed:
    """Seconds, on the machine as it is now: of a step on cut-out squares and on whole images, of a score after an
    epoch, and of what comes before the first step."""

    crop_s: float
    whole_s: float
    score_s: float
    start_s: float


def step_seconds(job: FinetuneJob, images: Images, validation: Images) -> TrainingSpeed:
    """Train a few steps and score once, to know how long they take."""
    return job.machine.run(_step_seconds, job, images, validation)


def _step_seconds(
    fabric: Fabric, job: FinetuneJob, images: Images, validation: Images, progress: ProgressCallback | None
) -> TrainingSpeed:
    schedule, steps = job.recipe.schedule, []
    few = images.spread(TIMED * schedule.batch)
    start = time.monotonic()
    task = _Finetuning(ranged(load_network(job.network), images), job, validation, fabric.device, full=True)
    begun = time.monotonic() - start
    for crop in dict.fromkeys((schedule.crop, 0)):
        short = replace(schedule, epochs=2, crop=crop, crop_until=1.0)
        again = copy.deepcopy(task)
        _, records = fit(fabric, again, few, short)
        steps.append(records[-1].seconds / (len(few) // schedule.batch))
    start = time.monotonic()
    task.full = False
    task.score(task.model)
    return TrainingSpeed(steps[0], steps[-1], time.monotonic() - start, begun)


def _finetune(
    fabric: Fabric, job: FinetuneJob, images: Images, validation: Images, progress: ProgressCallback | None
) -> Finetuned:
    network, recipe = load_network(job.network), job.recipe
    task = _Finetuning(ranged(network, images), job, validation, fabric.device)
    given = network.digest, repr(recipe), job.machine.precision, noise_digest(job.noise), validation.digest, task.taught
    key = hashlib.sha256(repr(given).encode()).hexdigest()
    before = task.before()
    trained, records = fit(fabric, task, images, recipe.schedule, checkpoint=job.checkpoint, key=key, progress=progress)
    assert isinstance(trained, GraphNet)
    found = Finetuned(job.out, *before, task.exact(trained), task.noisy(trained, validation), records)
    file = _file(job, network, trained.cpu(), images, validation, found)
    save_network(file, job.out)
    return replace(found, digest=file.digest)


def _file(
    job: FinetuneJob, network: NetworkFile, trained: GraphNet, images: Images, validation: Images, found: Finetuned
) -> NetworkFile:
    calibrated = ranged(network, images)
    schedule = job.recipe.schedule
    more = {
        "fine-tuned by": f"hil finetune, {schedule.epochs} epochs of {len(images)} images, seed {schedule.seed}",
        "fine-tuned from": network.digest,
        "fine-tuning images": images.digest,
        "errors": noise_digest(job.noise),
        **({"taught by": load_network(job.teacher).digest} if job.teacher else {}),
        "accuracy on images kept out": f"float {found.float_before:.2f} %, tuned {found.ideal:.2f} % exact and "
        f"{found.noisy:.2f} % on virtual chips of the training law (simulated; {found.noisy_before:.2f} % before), of "
        f"{len(validation)} training images",
    }
    keys = [network.trained_on, image_keys(images.pixels), image_keys(validation.pixels)]
    return tuned_file(
        trained,
        calibrated,
        images=calibrated.calibration_images,
        labels=calibrated.calibration_labels,
        provenance={**more, **job.provenance},
        trained_on=np.unique(np.concatenate(keys)),
    )


def ranged(network: NetworkFile, images: Images) -> NetworkFile:
    """The network with images enough to calibrate with: its own, or, where they are few, training images."""
    if len(network.calibration_images) >= FEW:
        return network
    few = images.spread(STORED)
    return replace(network, calibration_images=few.pixels, calibration_labels=few.labels, calibration_keys=NO_KEYS)


def beginning(network: NetworkFile, chip: ChipSpec) -> ConductanceProgram:
    """The program that training begins with, each layer once; the chip may be too small for it.

    Scales for single cells stand further out from their errors than those for copies, and networks that were trained
    from them lost less on chips, copies or not.
    """
    roomy = replace(chip, macros=max(chip.macros, ROOM))
    return compile_network(network, roomy, options=LayoutOptions(halves=False), scale_rule=ScaleRule.OUTPUT)


def _answering(network: NetworkFile, device: torch.device) -> PixelGraph:
    """A network that only answers: in evaluation mode, without gradients."""
    module = PixelGraph(GraphPart(merged(network.graph.nodes), INPUT), network.graph.preprocess)
    return module.to(device).eval().requires_grad_(False)


class _Finetuning(TrainingTask):
    def __init__(
        self, network: NetworkFile, job: FinetuneJob, validation: Images, device: torch.device, *, full: bool = False
    ) -> None:
        recipe = job.recipe
        torch.manual_seed(recipe.schedule.seed)
        self.model: GraphNet = graph_net(network, beginning(network, job.chip), job.noise).to(device)
        self.own, self.blocks, self.taught = _answering(network, device), dict[str, str](), ""
        self.teacher = self.own
        if job.teacher is not None:
            other = load_network(job.teacher)
            self.teacher, self.taught = _answering(other, device), other.digest
            self.blocks = shared_blocks(self.model.ops, other.graph)
        self.recipe, self.validation, self.device, self.full = recipe, validation, device, full

    def before(self) -> tuple[float, float]:
        """Percent right of the float network, and of the compiled one on virtual chips."""
        with torch.no_grad():
            exact = accuracy(self.own, self.validation, self.device)
        return exact, self.noisy(self.model, self.validation)

    def begin(self, model: nn.Module, at: At) -> None:
        forget_ranges(self.model)

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        recipe = self.recipe
        strength = recipe.strength if self.full else recipe.strength_at(at.progress)
        self.model.set_errors(strength, recipe.chips, recipe.chip_batches)
        if not self.blocks:
            with torch.no_grad():
                wanted = self.teacher(batch.pixels).float()
            found = model(batch.pixels).float()
            return distillation(found, batch.labels, wanted, recipe.teacher_weight, recipe.temperature)
        theirs, ours = dict[str, Tensor](), dict[str, Tensor]()
        self.model.seen = ours
        with torch.no_grad():
            wanted = self.teacher(batch.pixels, theirs).float()
        found = model(batch.pixels).float()
        self.model.seen = None
        loss = distillation(found, batch.labels, wanted, recipe.teacher_weight, recipe.temperature)
        return loss + recipe.feature_weight * feature_loss(ours, theirs, self.blocks)

    def score(self, model: nn.Module) -> float:
        """Percent on virtual chips of the training law, of a part of the images kept out."""
        if self.full:
            return 0.0
        some = min(len(self.validation), self.recipe.scored_images)
        return self.noisy(model, self.validation.part(np.arange(some)))

    def exact(self, model: nn.Module) -> float:
        """Percent of all images kept out, without errors."""
        assert isinstance(model, GraphNet)
        model.set_errors(0.0)
        return accuracy(model, self.validation, self.device)

    def noisy(self, model: nn.Module, images: Images) -> float:
        """Percent right on virtual chips, new ones every 100 images."""
        assert isinstance(model, GraphNet)
        forget_ranges(model)
        model.set_errors(1.0)
        return accuracy(model, images, self.device, 100)


def shared_blocks(ops: Sequence[FusedOp], teacher: NetworkGraph) -> dict[str, str]:
    """Operations of a student, and the node of its teacher that gives what they give.

    These are additions at the ends of blocks; of networks without any, convolutions. They have the same names and maps
    of the same size in both.
    """
    sums = [op for op in ops if isinstance(op, NodeOp) and isinstance(op.node, Add)]
    ends, node_kind = (sums, Add) if sums else ([op for op in ops if isinstance(op, MatrixOp)], Conv)
    named = {node.name for node in teacher.nodes if isinstance(node, node_kind)}
    theirs = {op.name: op for op in lower(teacher) if op.name in named and len(op.output_shape) == 3}
    return {
        op.name: theirs[op.name].output_node
        for op in ends
        if op.name in theirs and op.output_shape[1:] == theirs[op.name].output_shape[1:]
    }


def feature_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], blocks: Mapping[str, str]) -> Tensor:
    """Mean over blocks and images of |a_s − a_t|²."""
    each = [(_strength(student[own]) - _strength(teacher[node])).square().sum(1).mean() for own, node in blocks.items()]
    return torch.stack(each).mean()


def _strength(x: Tensor) -> Tensor:
    return functional.normalize(x.float().square().sum(1).flatten(1), dim=1)
