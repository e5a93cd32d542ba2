"""Training of teachers: one of our own, or a given network further on the images of now.

Ours is of densely connected stages (Huang et al., doi 10.1109/CVPR.2017.243), a family that no space offers: a teacher
built of the candidates would only find itself again. Imports torch: import this module late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
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
    space: Space, images: Images, validation: Images, schedule: TrainingSchedule, *, classes: Sequence[str],
    growth: int = 16, layers: int = 2, checkpoint: Path | None = None, machine: Machine | None = None,
    progress: ProgressCallback | None = None,
) -> NetworkFile:  # fmt: skip
    """A dense teacher of our own for a space; its validation accuracy is in the provenance.

    Args:
        checkpoint: file that a training that was killed resumes from; None: there is none.
    """

    def made() -> nn.Module:
        return DenseTeacher(space, growth, layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    key = f"teacher {space.skeleton} {growth} {layers}"
    trained, score = _taught(made, key, images, validation, schedule, checkpoint, machine, progress)
    channels = space.input_shape[0]
    graph = capture(
        trained.cpu().eval(),
        torch.zeros(1, *space.input_shape),
        preprocess=Preprocess((0.0,) * channels, (1.0,) * channels),
        classes=tuple(classes),
        provenance={
            "trained by": f"hil search, dense teacher, growth {growth}, {schedule.epochs} epochs, seed {schedule.seed}",
            "training images": images.digest,
            "validation accuracy": f"{score:.2f} % of {len(validation)} training images kept out",
        },
    )
    few = _first(images)
    return NetworkFile(graph, 8, 8, few.pixels, few.labels)


def refine_teacher(
    network: NetworkFile, images: Images, validation: Images, schedule: TrainingSchedule, *,
    checkpoint: Path | None = None, machine: Machine | None = None, progress: ProgressCallback | None = None,
) -> NetworkFile:  # fmt: skip
    """Go on training a network that was trained elsewhere, on the images of now; batch norms are merged, then fixed.

    Args:
        checkpoint: file that a training that was killed resumes from; None: there is none.

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

    def made() -> nn.Module:
        return PixelGraph(GraphPart(merged(graph.nodes), INPUT, trained=True), graph.preprocess)

    key = f"given teacher {network.digest}"
    trained, score = _taught(made, key, images, validation, schedule, checkpoint, machine, progress)
    assert isinstance(trained, PixelGraph)
    provenance = {
        **graph.provenance,
        "trained further by": f"hil search, {schedule.epochs} epochs, seed {schedule.seed}",
        "training images": images.digest,
        "validation accuracy": f"{score:.2f} % of {len(validation)} images kept out of that training",
    }
    graph, few = replace(graph, nodes=trained.part.graph_nodes(), provenance=provenance), _first(images)
    return replace(
        network, graph=graph, calibration_images=few.pixels, calibration_labels=few.labels, calibration_keys=NO_KEYS
    )


def _taught(
    made: Callable[[], nn.Module], key: str, images: Images, validation: Images, schedule: TrainingSchedule,
    checkpoint: Path | None, machine: Machine | None, progress: ProgressCallback | None,
) -> tuple[nn.Module, float]:  # fmt: skip
    """A network after training, and its validation accuracy; ``key`` names what it begins as."""
    on = machine or Machine()

    def run(fabric: Fabric, progress: ProgressCallback | None) -> tuple[nn.Module, float]:
        torch.manual_seed(schedule.seed)
        task, full = _Teaching(made(), validation, fabric.device), f"{key} {validation.digest} {on.precision}"
        trained, records = fit(fabric, task, images, schedule, checkpoint=checkpoint, key=full, progress=progress)
        return trained, records[-1].score

    return on.run(run, progress=progress)


def _first(images: Images) -> Images:
    """Images that a compiler calibrates with."""
    return images.part(np.arange(min(CALIBRATION_IMAGES, len(images))))
