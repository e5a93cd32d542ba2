"""Settings of ``hil improve``."""

from __future__ import annotations

from dataclasses import dataclass

from hil.deployment.options import TRAINING
from hil.errors import UsageError
from mapping.settings import check_limits, setting

IMAGES, AIM, CHIP = "Images", "Aim and time", "Chip"  # groups of options


@dataclass(frozen=True, slots=True)
class ImproveSettings:
    """Besides network, images, record and task.

    ``target``: a share at which it stops; ``minutes``: no technique begins after so many; None: neither ends it.
    """

    age_s: float = setting(3600.0, "planned age after programming: 30s, 1h, 2d", low=0, unit="s", group=CHIP)
    images: int = setting(500, "held-out training images that select techniques", low=100, group=IMAGES)
    test_images: int = setting(1000, "test images that score the final program; 0: no score", low=0, group=IMAGES)
    effort: int = setting(
        TRAINING, "techniques to try: 0: none, 1: without further macros, 2: without training, 3: all",
        low=0, high=TRAINING, group=AIM,
    )  # fmt: skip
    target: float | None = setting(
        None, "accuracy on held-out training images at which to stop", unit="%", group=AIM, unset=True
    )
    minutes: float | None = setting(
        None, "time limit to begin a technique; training takes the time left", low=0, group=AIM, unset=True
    )
    chips: int = setting(8, "number of virtual chips", low=2, group=AIM)
    seed: int = setting(0, "seed of the host: image order and virtual chips", low=0, high=(1 << 63) - 1, group=AIM)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
