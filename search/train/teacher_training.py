"""Training of teachers: one of our own, or a given network further on the images of now.

Ours is of densely connected stages (Huang et al., doi 10.1109/CVPR.2017.243), a family that no space offers: a teacher
built of the candidates would only find itself again. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from cim.cost.workload import INPUT
from mapping.network.capture import capture
from mapping.network.file import NO_KEYS, NetworkFile
from mapping.network.graph import Preprocess
from search.space.genes import Space
from search.train.graph_part import GraphPart, PixelGraph, merged
from search.train.images import Images
from search.train.teacher import TeacherError
from search.train.training import At, Batch, Machine, ProgressCallback, TrainingSchedule, TrainingTask, accuracy, fit

CALIBRATION_IMAGES = 128


class DenseTeacher(nn.Module):
    """Stages of convolutions that read all earlier maps of the stage, joined by 1x1 convolutions and max pooling.

    ``growth`` channels a convolution in the first stage, as many more times as the space's stages are wider.
    """

    def __init__(self, space: Space, growth: int = 16, layers: int = 2) -> None:
        super().__init__()
        inputs = growth
        self.stem = _block(space.input_shape[0], inputs, 3, space.stem.stride)
        self.strides, self.depth = [], layers
        self.dense, self.joins = nn.ModuleList(), nn.ModuleList()
        for number, stage in enumerate(space.stages):
            wide = max(growth * stage.channels // space.stages[0].channels, 4)
            self.strides.append(max(p.stride for p in space.positions if p.stage == number))
            self.dense.append(nn.ModuleList(_block(inputs + i * wide, wide, 3) for i in range(layers)))
            self.joins.append(_block(inputs + layers * wide, 2 * wide, 1))
            inputs = 2 * wide
        self.classifier = nn.Linear(inputs, space.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stride, dense, join in zip(self.strides, self.dense, self.joins, strict=True):
            if stride > 1:
                x = functional.max_pool2d(x, stride, ceil_mode=bool(x.shape[2] % stride))
            for layer in dense if isinstance(dense, nn.ModuleList) else ():
                x = torch.cat([x, layer(x)], 1)
            x = join(x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class _Teaching(TrainingTask):
    def __init__(self, model: nn.Module, validation: Images, device: torch.device) -> None:
        self.model, self.validation, self.device = model, validation, device

    def loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        return functional.cross_entropy(model(batch.pixels), batch.labels, label_smoothing=0.05)

    def score(self, model: nn.Module) -> float:
        return accuracy(model, self.validation, self.device)


def train_teacher(
    space: Space,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    *,
    classes: Sequence[str],
    growth: int = 16,
    layers: int = 2,
    checkpoint: Path | None = None,
    machine: Machine | None = None,
    progress: ProgressCallback | None = None,
) -> NetworkFile:
    """A dense teacher of our own for a space; its validation accuracy stands in the provenance.

    Args:
        checkpoint: file that a training that was killed resumes from; None: none.
    """
    machine = machine or Machine()
    return machine.run(
        _train, space, images, validation, schedule, tuple(classes), growth, layers, checkpoint, machine.precision,
        progress=progress,
    )  # fmt: skip


def refine_teacher(
    network: NetworkFile,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    *,
    checkpoint: Path | None = None,
    machine: Machine | None = None,
    progress: ProgressCallback | None = None,
) -> NetworkFile:
    """Go on training a network that was trained elsewhere, on the images of now; batch norms are merged, then fixed.

    Args:
        checkpoint: file that a training that was killed resumes from; None: none.

    Raises:
        TeacherError: its input or its classes are others than those of the images.
    """
    graph, most = network.graph, int(images.labels.max())
    height, width, channels = images.pixels.shape[1:]
    if graph.input_shape != (channels, height, width) or most >= len(graph.classes):
        raise TeacherError(
            f"a teacher of {graph.input_shape} images and {len(graph.classes)} classes; "
            f"the training images are {(channels, height, width)}, with labels up to {most}"
        )
    machine = machine or Machine()
    return machine.run(_refine, network, images, validation, schedule, checkpoint, machine.precision, progress=progress)


def _train(
    fabric: Fabric,
    space: Space,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    classes: tuple[str, ...],
    growth: int,
    layers: int,
    checkpoint: Path | None,
    precision: str,
    progress: ProgressCallback | None,
) -> NetworkFile:
    torch.manual_seed(schedule.seed)
    model = DenseTeacher(space, growth, layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = _Teaching(model, validation, fabric.device)
    key = f"teacher {space.skeleton} {growth} {layers} {validation.digest} {precision}"
    trained, records = fit(fabric, task, images, schedule, checkpoint=checkpoint, key=key, progress=progress)
    channels = space.input_shape[0]
    graph = capture(
        trained.cpu().eval(),
        torch.zeros(1, *space.input_shape),
        preprocess=Preprocess((0.0,) * channels, (1.0,) * channels),
        classes=classes,
        provenance={
            "trained by": f"hil search, dense teacher, growth {growth}, {schedule.epochs} epochs, seed {schedule.seed}",
            "training images": images.digest,
            "validation accuracy": f"{records[-1].score:.2f} % of {len(validation)} training images kept out",
        },
    )
    few = images.pixels[: min(CALIBRATION_IMAGES, len(images))]
    return NetworkFile(graph, 8, 8, few, images.labels[: len(few)])


def _refine(
    fabric: Fabric,
    network: NetworkFile,
    images: Images,
    validation: Images,
    schedule: TrainingSchedule,
    checkpoint: Path | None,
    precision: str,
    progress: ProgressCallback | None,
) -> NetworkFile:
    torch.manual_seed(schedule.seed)
    graph = network.graph
    model = PixelGraph(GraphPart(merged(graph.nodes), INPUT, trained=True), graph.preprocess)
    task = _Teaching(model, validation, fabric.device)
    key = f"given teacher {network.digest} {validation.digest} {precision}"
    trained, records = fit(fabric, task, images, schedule, checkpoint=checkpoint, key=key, progress=progress)
    assert isinstance(trained, PixelGraph)
    provenance = {
        **graph.provenance,
        "trained further by": f"hil search, {schedule.epochs} epochs, seed {schedule.seed}",
        "training images": images.digest,
        "validation accuracy": f"{records[-1].score:.2f} % of {len(validation)} images kept out of that training",
    }
    few = images.pixels[: min(CALIBRATION_IMAGES, len(images))]
    graph = replace(graph, nodes=trained.part.graph_nodes(), provenance=provenance)
    labels = images.labels[: len(few)]
    return replace(network, graph=graph, calibration_images=few, calibration_labels=labels, calibration_keys=NO_KEYS)
