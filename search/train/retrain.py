"""Phase C: a chosen network trained for its chip from scratch, written as ``net.pt``.

Cross-entropy and a teacher's answers (τ 4), learned quantisation steps from the first step on, the
errors of the chip annealed in, statistics of batch norms fixed towards the end: as they will
stand on the chip, so that errors which shift a whole channel count. Imports torch: import this module late.

A trained network of a search as ``net.pt``: weights on their grid, the ends of its codes as clamps.

Compilers find the grid of the weights again (``mapping.quantise.rounding``) and, with the ends as clamps, choose the
scales of codes. Imports torch: import this module late.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from cim.cost.workload import INPUT, WorkKind
from cim.simulator.training_errors import ArrayNoise
from mapping.bits import LayerBits
from mapping.network.file import NetworkFile, load_network, save_network
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import HardTanh
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add
from mapping.operators.node import Node
from mapping.operators.padding import PadMap
from mapping.operators.pools import GlobalAvgPool
from mapping.operators.products import Conv, Linear
from search.space.architecture import Architecture
from search.space.genes import Space
from search.space.operators import Layer
from search.space.precision import precision
from search.train.arrays import forget_ranges, noise_digest, set_strength
from search.train.images import Images
from search.train.losses import distillation
from search.train.modules import LayerNet, network
from search.train.settings import TrainingSettings
from search.train.teacher import answers, split_graph
from search.train.training import (
    At,
    Batch,
    EpochRecord,
    Machine,
    ProgressCallback,
    TrainingTask,
    accuracy,
    fit,
    fixed_statistics,
)


@dataclass(frozen=True, slots=True)
class RetrainSettings(TrainingSettings):
    """The same of a network of a space, which begins without errors.

    Statistics are fixed from ``fixed_from`` of all steps. The teacher answers for every batch, as its images were
    moved, or ``asked_once``: for whole images, before training. ``calibration_images`` training images go into the
    file.
    """

    teacher_weight: float = 0.5
    errors_from: float = 0.45
    errors_full: float = 0.6
    strength: float = 1.2
    chip_batches: int = 4
    scored_images: int = 2000
    fixed_from: float = 0.7
    asked_once: bool = False
    calibration_images: int = 128

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)  # not by super(): a class with slots is made twice
        if not 0 <= self.fixed_from <= 1:
            raise ValueError(f"statistics are fixed from a share of training: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class RetrainJob:
    """One network to be trained; picklable. ``teacher``: a ``net.pt``, or None for labels alone.

    ``noise``: errors of the chip, None for an ideal one. ``folder`` takes checkpoint and ``net.pt``.
    """

    space: Space
    architecture: Architecture
    settings: RetrainSettings
    teacher: Path | None
    noise: ArrayNoise | None
    folder: Path
    classes: tuple[str, ...]
    data: str  # name of the images, for the provenance
    machine: Machine = field(default_factory=Machine)

    @property
    def path(self) -> Path:
        return self.folder / "net.pt"


@dataclass(frozen=True, slots=True)
class Retrained:
    """``ideal`` and ``noisy``: percent of validation images right, exact and on the training law's virtual chips."""

    path: Path
    ideal: float
    noisy: float
    epochs: tuple[EpochRecord, ...]


def retrain(job: RetrainJob, images: Images, validation: Images, progress: ProgressCallback | None = None) -> Retrained:
    """Train, write ``net.pt``. Killed, it goes on from the last whole epoch. Never give it test images."""
    job.folder.mkdir(parents=True, exist_ok=True)
    return job.machine.run(_retrain, job, images, validation, progress=progress)


def _retrain(
    fabric: Fabric, job: RetrainJob, images: Images, validation: Images, progress: ProgressCallback | None
) -> Retrained:
    settings = job.settings
    torch.manual_seed(settings.schedule.seed)
    net = network(job.space, job.architecture, job.noise)
    teacher = None if job.teacher is None else load_network(job.teacher)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = None if teacher is None else _answering(job, teacher, images, fabric)
    task = _Retraining(net, wanted, settings, validation, job.noise is not None, fabric.device)
    trained, records = fit(
        fabric,
        task,
        images,
        settings.schedule,
        checkpoint=job.folder / "retrain.checkpoint",
        key=_key(job, teacher.digest if teacher else "", validation),
        progress=progress,
    )
    assert isinstance(trained, LayerNet)
    ideal, noisy = task.scores(trained)
    found = Retrained(job.path, ideal, noisy, records)
    digest = teacher.digest if teacher else "none"
    save_network(_file(job, digest, trained, images, validation, found), job.path)
    return found


def _answering(job: RetrainJob, network: NetworkFile, images: Images, fabric: Fabric) -> Callable[[Batch], Tensor]:
    """Source of the teacher's logits for a batch."""
    teacher = split_graph(network.graph, job.space).to(fabric.device)
    if not job.settings.asked_once:
        return lambda batch: teacher(batch.pixels).float()
    with fabric.autocast():
        known = answers(teacher, images, job.settings.schedule.symmetry, fabric.device).float()
    return lambda batch: known[batch.index]


def _file(
    job: RetrainJob,
    teacher: str,
    trained: LayerNet,
    images: Images,
    validation: Images,
    found: Retrained,
) -> NetworkFile:
    few = images.spread(job.settings.calibration_images)
    noise = "none" if job.noise is None else noise_digest(job.noise)
    schedule = job.settings.schedule
    return network_file(
        trained,
        job.space.input_shape,
        classes=job.classes,
        images=few.pixels,
        labels=few.labels,
        provenance={
            "trained by": f"hil search, phase C, {schedule.epochs} epochs, seed {schedule.seed}",
            "space": f"{job.space.name} {job.space.skeleton}",
            "architecture": f"{job.architecture} {job.architecture.digest}",
            "data": job.data,
            "training images": images.digest,
            "teacher": teacher,
            "errors": noise,
            "validation accuracy": f"{found.ideal:.2f} % exact, {found.noisy:.2f} % on virtual chips of the training "
            f"law (simulated), of {len(validation)} training images kept out",
        },
    )


def _key(job: RetrainJob, teacher: str, validation: Images) -> str:
    noise = "" if job.noise is None else noise_digest(job.noise)
    bits, run = repr(precision(job.space, job.architecture)), (repr(job.settings), job.machine.precision)
    what = (job.space.skeleton, job.architecture.digest, bits, run, teacher, noise, validation.digest)
    return hashlib.sha256(repr(what).encode()).hexdigest()


class _Retraining(TrainingTask):
    def __init__(
        self,
        model: LayerNet,
        wanted: Callable[[Batch], Tensor] | None,
        settings: RetrainSettings,
        validation: Images,
        noisy: bool,
        device: torch.device,
    ) -> None:
        self.model: LayerNet = model
        self.wanted, self.settings, self.validation = wanted, settings, validation
        self.noisy, self.device = noisy, device

    def begin(self, model: nn.Module, at: At) -> None:
        forget_ranges(self.model)

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        settings = self.settings
        if at.progress >= settings.fixed_from:
            fixed_statistics(self.model)
        set_strength(self.model, settings.strength_at(at.progress), settings.chips, settings.chip_batches)
        wanted = None if self.wanted is None else self.wanted(batch)
        found = model(batch.pixels).float()
        return distillation(found, batch.labels, wanted, settings.teacher_weight, settings.temperature)

    def score(self, model: nn.Module) -> float:
        """Percent on virtual chips of the training law, from a part of the validation images."""
        return self.scores(
            model, self.validation.part(np.arange(min(len(self.validation), self.settings.scored_images)))
        )[1]

    def scores(self, model: nn.Module, images: Images | None = None) -> tuple[float, float]:
        """Percent right, exact and on virtual chips (a new one every 500 images)."""
        some = self.validation if images is None else images
        set_strength(model, 0.0)
        ideal = accuracy(model, some, self.device)
        if not self.noisy:
            return ideal, ideal
        forget_ranges(model)
        set_strength(model, 1.0)
        return ideal, accuracy(model, some, self.device)


def network_file(
    net: LayerNet,
    input_shape: tuple[int, int, int],
    *,
    classes: Sequence[str],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    provenance: Mapping[str, str],
) -> NetworkFile:
    """``images`` (n, height, width, channels) are training images that calibrate; pixels count as 0..1."""
    pixels = Preprocess((0.0,) * input_shape[0], (1.0,) * input_shape[0])
    graph = NetworkGraph(input_shape, plain_nodes(net), pixels, tuple(classes), dict(provenance))
    common = net.bits.common
    own = {layer.name: net.bits.of(layer) for layer in net.layers if layer.kind.on_cells}
    others = {name: LayerBits(b.weight, b.activation) for name, b in own.items() if b != common}
    return NetworkFile(graph, common.weight, common.activation, images, labels, others)


@torch.no_grad()
def plain_nodes(net: LayerNet) -> tuple[Node, ...]:
    """Ordinary nodes that answer as the module does without errors and without rounding of activations."""
    nodes: list[Node] = []
    made, counts = {net.source: INPUT}, Counter[str]()

    def add(kind: type[Node], inputs: tuple[str, ...], name: str = "", **fields: Any) -> tuple[str, ...]:
        if not name:  # the kind, and a number from the second on
            counts[kind.kind] += 1
            name = kind.kind if counts[kind.kind] == 1 else f"{kind.kind}_{counts[kind.kind]}"
        nodes.append(kind(name=name, inputs=inputs, **fields))
        return (name,)

    for layer in net.layers:
        last = tuple(made[name] for name in layer.inputs)
        unit, ends = net.unit(layer), net.ends(layer)
        if unit.array is None:
            last = add(Add if layer.kind is WorkKind.ADD else GlobalAvgPool, last)
        elif layer.kind is WorkKind.LINEAR:
            weight = _array(unit.array.quantiser(unit.array.weight))
            last = add(Linear, last, layer.name, weight=weight, bias=_array(unit.array.bias))
        else:
            if layer.before != layer.after:
                last = add(PadMap, last, top=layer.before, left=layer.before, bottom=layer.after, right=layer.after)
            last = add(Conv, last, layer.name, weight=_array(unit.array.quantiser(unit.array.weight)), **_window(layer))
        if (norm := unit.norm) is not None:
            parts = {"scale": norm.weight, "shift": norm.bias, "mean": norm.running_mean, "variance": norm.running_var}
            arrays = {name: _array(values) for name, values in parts.items()}
            last = add(BatchNorm, last, f"{layer.name}_norm", eps=norm.eps, **arrays)
        if ends is not None:
            last = add(HardTanh, last, low=0.0 if layer.relu else ends[0], high=ends[1])
        made[layer.name] = last[0]
    return tuple(nodes)


def _window(layer: Layer) -> dict[str, Any]:
    pad = layer.before if layer.before == layer.after else 0
    return {"stride": (layer.stride,) * 2, "padding": (pad,) * 2, "groups": layer.groups}


def _array(values: Tensor | None) -> NDArray[np.float32]:
    assert values is not None
    return np.array(values.detach().cpu().float().numpy(), np.float32, order="C")
