"""Steps that both training scripts share: crops, a teacher's answers to them, the noisy student.

The student learns from the labels and from a larger network without noise. The teacher answers
a fixed number of random crops of each image once, before the student starts.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from noise_aware import Noise, set_noise
from torch import Tensor, nn
from torch.nn import functional

from hil.datasets.image_set import load_dataset

BATCH = 128
VALIDATION = 5000  # training images kept for choosing
CROPS = 3  # positions a side of a crop from the image padded by one pixel


@dataclass(frozen=True, slots=True)
class Images:
    """Pixels as float (n, C, H, W) in 0..1 and labels."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Images:
        return Images(self.pixels[index], self.labels[index])


@dataclass(frozen=True, slots=True)
class Views:
    """``crop`` (views, n) says which crop of each image, ``logits`` (views, n, classes) the teacher's answer."""

    crop: Tensor
    logits: Tensor


def load_images(name: str, split: str) -> Images:
    data = load_dataset(name, split)
    pixels = torch.tensor(data.images).permute(0, 3, 1, 2).float() / 255
    return Images(pixels.contiguous(), torch.tensor(data.labels))


def split_training(images: Images) -> tuple[Tensor, Tensor]:
    """Indices of the validation and of the training part, always the same."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return order[:VALIDATION], order[VALIDATION:]


def crop(pixels: Tensor, which: Tensor) -> Tensor:
    """Crops number ``which`` (n,) of ``pixels`` (n, C, H, W) padded by one black pixel; odd ones are mirrored."""
    size = pixels.shape[-1]
    padded = functional.pad(pixels, (1, 1, 1, 1))
    shifted = padded.unfold(2, size, 1).unfold(3, size, 1)
    cut = shifted[torch.arange(len(pixels)), :, which // 2 // CROPS, which // 2 % CROPS]
    return torch.where((which % 2 == 1).view(-1, 1, 1, 1), cut.flip(-1), cut)


def random_crops(*shape: int, mirrored: bool = True) -> Tensor:
    """Crop numbers; half of them mirrored, or none."""
    return torch.randint(0, 2 * CROPS**2, shape) if mirrored else 2 * torch.randint(0, CROPS**2, shape)


def forward(model: nn.Module, pixels: Tensor) -> Tensor:
    """Logits in float32; convolutions run in bfloat16, twice as fast on a recent CPU."""
    with torch.autocast("cpu", torch.bfloat16):
        return model(pixels.contiguous(memory_format=torch.channels_last)).float()


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Percent of right answers in float32; leaves the model in evaluation mode."""
    model.eval()
    parts = zip(images.pixels.split(500), images.labels.split(500), strict=True)
    right = sum(int((model(pixels).argmax(1) == labels).sum()) for pixels, labels in parts)
    return 100.0 * right / len(images)


def chip_accuracies(model: nn.Module, images: Images, chips: int) -> np.ndarray:
    """Accuracy in percent on ``chips`` draws of the expected errors, drawn anew for every 500 images."""
    set_noise(model, Noise(strength=1.0))
    return np.array([accuracy(model, images) for _ in range(chips)])


def train_teacher(model: nn.Module, train: Images, validation: Images, epochs: int) -> None:
    """Plain training with crops, mirroring and an erased square of 8 x 8 pixels."""
    steps = len(train) // BATCH
    optimiser = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=epochs * steps, pct_start=0.15)
    line = torch.arange(train.pixels.shape[-1])
    for epoch in range(epochs):
        start, order = time.monotonic(), torch.randperm(len(train))
        model.train()
        for index in order[: steps * BATCH].split(BATCH):
            pixels = crop(train.pixels[index], random_crops(BATCH))
            y, x = (torch.randint(0, len(line), (BATCH, 1)) for _ in range(2))
            rows, columns = (line - y).abs() < 4, (line - x).abs() < 4
            pixels = pixels.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0.0)
            loss = functional.cross_entropy(forward(model, pixels), train.labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"teacher {epoch}: {accuracy(model, validation):.2f} %, {time.monotonic() - start:.0f} s", flush=True)


@torch.no_grad()
def answer_views(teacher: nn.Module, train: Images, views: int, mirrored: bool) -> Views:
    """The teacher's answers to ``views`` random crops of each image."""
    teacher.eval()
    which = random_crops(views, len(train), mirrored=mirrored)
    rows = [
        torch.cat([forward(teacher, crop(p, w)) for p, w in zip(train.pixels.split(500), row.split(500), strict=True)])
        for row in which
    ]
    return Views(which, torch.stack(rows).half())


def train_student(
    model: nn.Module,
    train: Images,
    validation: Images,
    views: Views,
    *,
    epochs: int,
    strength: float,
    checkpoint: Path,
    rate: float = 0.004,
    fresh: bool = True,
) -> nn.Module:
    """Train under ``strength`` times the expected errors; returns the running mean of the weights.

    A fresh network starts with batch statistics, and the errors grow over the first quarter. From half
    way on (from the start when it is not fresh) the statistics are fixed as they will be on the chip,
    so that errors which shift a whole channel count. A checkpoint is written every epoch.
    """
    steps = len(train) // BATCH
    total = epochs * steps
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.03}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=total, pct_start=0.1)
    mean, step = copy.deepcopy(model), 0
    for epoch in range(epochs):
        start = time.monotonic()
        model.train()
        if not fresh or 2 * epoch >= epochs:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for index in torch.randperm(len(train))[: steps * BATCH].split(BATCH):
            view = torch.randint(0, len(views.crop), (BATCH,))
            set_noise(model, Noise(strength=strength * min(1.0, 4 * step / total) if fresh else strength))
            logits = forward(model, crop(train.pixels[index], views.crop[view, index]))
            loss = distillation_loss(logits, train.labels[index], views.logits[view, index].float())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            step += 1
            follow(mean, model, min(0.998, step / (step + 9)))
        set_noise(mean, Noise())
        line = f"student {epoch}: loss {loss.item():.3f}, ideal {accuracy(mean, validation):.2f} %"
        if epoch % 5 == 4 or epoch == epochs - 1:
            line += f", noisy {chip_accuracies(mean, validation, 5).mean():.2f} %"
        print(f"{line}, {time.monotonic() - start:.0f} s", flush=True)
        torch.save(mean.state_dict(), checkpoint)
    return mean


def distillation_loss(logits: Tensor, labels: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """0.3 of the cross-entropy with the labels and 0.7 of the divergence from the teacher (Hinton 2015)."""
    soft = functional.kl_div(
        functional.log_softmax(logits / temperature, 1),
        functional.softmax(teacher / temperature, 1),
        reduction="batchmean",
    )
    return 0.3 * functional.cross_entropy(logits, labels, label_smoothing=0.05) + 0.7 * temperature * soft


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, keep: float) -> None:
    """Move the running mean of parameters and statistics towards the model."""
    for target, value in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if target.is_floating_point():
            target.lerp_(value, 1 - keep)
        else:
            target.copy_(value)
