"""What a fine-tuning was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from hil.errors import UsageError
from hil.simulation.torch_device import check_device

EPOCHS = 12  # where neither epochs nor minutes are asked for
RATE, STRENGTH = 0.0015, 1.0  # of a training that is too short for trials
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SYMMETRIES = ("none", "mirror", "turn")
MOST_MEASURED = 100_000  # images


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """All that the answer depends on, besides network, images and record.

    ``epochs`` 0 and ``minutes`` 0: the usual number of epochs. ``shift`` None and ``symmetry`` "": what suits the data
    set. Training begins on squares of side ``crop`` (0: whole images) for ``crop_until`` of its steps.
    ``teacher_weight`` of the loss is that of the float network's answers, the rest that of the labels. ``precision``
    "": bfloat16 where the processor multiplies it. ``aimed``: the chip writes cells beside their levels, so that the
    mean cell stands on its level at ``age_s``; else the mean drift counts as an error, too. ``rate`` 0 and ``strength``
    0: by short trials (``hil.improvement.finetuning.trials``).
    """

    epochs: int = 0
    minutes: float = 0.0
    age_s: float = 3600.0
    aimed: bool = True
    rate: float = 0.0
    batch: int = 128
    shift: int | None = None
    symmetry: str = ""
    crop: int = 0
    crop_until: float = 0.6
    teacher_weight: float = 1.0
    strength: float = 0.0
    held_out: int = 2000
    seed: int = 0
    device: str = "cpu"
    devices: int = 1
    precision: str = ""

    def __post_init__(self) -> None:
        for good, text in (
            (self.epochs >= 0, f"epochs: {self.epochs}"),
            (0 <= self.minutes < math.inf, f"minutes: {self.minutes}"),
            (not (self.epochs and self.minutes), "epochs and minutes exclude each other"),
            (0 <= self.age_s < math.inf, f"age: {self.age_s} s"),
            (0 <= self.rate < 1, f"learning rate: {self.rate}, not from 0 to 1"),
            (self.batch >= 2 and self.batch % 2 == 0, f"batch: {self.batch}, an even number of images is needed"),
            (self.shift is None or 0 <= self.shift <= 64, f"shift: {self.shift} pixels"),
            (self.symmetry in ("", *SYMMETRIES), f"symmetry {self.symmetry!r}: one of {', '.join(SYMMETRIES)}"),
            (
                self.crop >= 0 and 0 <= self.crop_until <= 1,
                f"squares of {self.crop} for a share of {self.crop_until}",
            ),
            (0 <= self.teacher_weight <= 1, f"teacher weight: {self.teacher_weight}, not from 0 to 1"),
            (0 <= self.strength <= 10, f"strength of the errors: {self.strength}, not from 0 to 10"),
            (self.held_out >= 2, f"images held out: {self.held_out}, at least 2 are needed"),
            (0 <= self.seed < 1 << 63, f"seed: {self.seed}, not from 0 to 2^63 - 1"),
            (self.devices >= 1, f"devices: {self.devices}"),
            (self.precision in ("", *PRECISIONS), f"precision {self.precision!r}: one of {', '.join(PRECISIONS)}"),
        ):
            if not good:
                raise UsageError(text)
        check_device(self.device)


ON_CHIP = FinetuneSettings(epochs=4, rate=0.0003, strength=STRENGTH, batch=64, held_out=400)
"""Usual settings where layers are trained behind those that a chip holds."""


def working_folder(out: Path) -> Path:
    """Where a fine-tuning that is not done yet lies: ``tuned.pt`` -> ``tuned.pt.training``."""
    return out.with_name(out.name + ".training")


@dataclass(frozen=True, slots=True)
class OnChipSettings:
    """What a fine-tuning on the chip was asked for, besides network, images and record.

    ``groups``: layers are written in so many groups, one after the other. ``images``: most training images that are
    measured. ``tune_images``: most stored training images that gains and biases are fitted to. ``training``: of the
    layers behind each group; its epochs count for each.
    """

    groups: int = 4
    images: int = 2000
    tune_images: int = 128
    training: FinetuneSettings = field(default_factory=lambda: ON_CHIP)

    def __post_init__(self) -> None:
        asked = self.training
        for good, text in (
            (self.groups >= 2, f"groups of layers: {self.groups}, at least 2 are needed"),
            (2 <= self.images <= MOST_MEASURED, f"images to measure: {self.images}, not from 2 to {MOST_MEASURED}"),
            (self.tune_images >= 2, f"images to tune with: {self.tune_images}, at least 2 are needed"),
            (asked.rate > 0, "the learning rate on a chip is asked for: --rate"),
            (asked.epochs >= 1 and not asked.minutes, "epochs of a fine-tuning on the chip are counted: --epochs"),
            (not asked.crop and not asked.shift, "images are measured as they are: neither --crop nor --shift"),
            (asked.symmetry in ("", "none"), "images are measured as they are: no --symmetry"),
            (asked.aimed, "cells are written beside their levels, for the planned age: no --no-aims"),
            (asked.devices == 1, f"devices: {asked.devices}; layers behind a chip are trained on one"),
        ):
            if not good:
                raise UsageError(text)
