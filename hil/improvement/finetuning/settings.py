"""What a fine-tuning was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hil.deployment.options import check_device
from hil.errors import UsageError

EPOCHS = 12  # where neither epochs nor minutes are asked for
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SYMMETRIES = ("none", "mirror", "turn")


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """All that the answer depends on, besides network, images and record.

    ``epochs`` 0 and ``minutes`` 0: the usual number of epochs. ``shift`` None and ``symmetry`` "": what suits the data
    set. Training begins on squares of side ``crop`` (0: whole images) for ``crop_until`` of its steps.
    ``teacher_weight`` of the loss is that of the float network's answers, the rest that of the labels. ``precision``
    "": bfloat16 where the processor multiplies it. ``aimed``: the chip writes cells beside their levels, so that the
    mean cell stands on its level at ``age_s``; else the mean drift counts as an error, too.
    """

    epochs: int = 0
    minutes: float = 0.0
    age_s: float = 3600.0
    aimed: bool = True
    rate: float = 0.0015
    batch: int = 128
    shift: int | None = None
    symmetry: str = ""
    crop: int = 0
    crop_until: float = 0.6
    teacher_weight: float = 1.0
    strength: float = 1.0
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
            (0 < self.rate < 1, f"learning rate: {self.rate}, not between 0 and 1"),
            (self.batch >= 2 and self.batch % 2 == 0, f"batch: {self.batch}, an even number of images is needed"),
            (self.shift is None or 0 <= self.shift <= 64, f"shift: {self.shift} pixels"),
            (self.symmetry in ("", *SYMMETRIES), f"symmetry {self.symmetry!r}: one of {', '.join(SYMMETRIES)}"),
            (
                self.crop >= 0 and 0 <= self.crop_until <= 1,
                f"squares of {self.crop} for a share of {self.crop_until}",
            ),
            (0 <= self.teacher_weight <= 1, f"teacher weight: {self.teacher_weight}, not from 0 to 1"),
            (0 < self.strength <= 10, f"strength of the errors: {self.strength}, not above 0"),
            (self.held_out >= 2, f"images held out: {self.held_out}, at least 2 are needed"),
            (0 <= self.seed < 1 << 63, f"seed: {self.seed}, not from 0 to 2^63 - 1"),
            (self.devices >= 1, f"devices: {self.devices}"),
            (self.precision in ("", *PRECISIONS), f"precision {self.precision!r}: one of {', '.join(PRECISIONS)}"),
        ):
            if not good:
                raise UsageError(text)
        check_device(self.device)


def working_folder(out: Path) -> Path:
    """Where a fine-tuning that is not done yet lies: ``tuned.pt`` -> ``tuned.pt.training``."""
    return out.with_name(out.name + ".training")
