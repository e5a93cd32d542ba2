"""Settings of an estimate of cost, besides network, chip and techniques."""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import UsageError
from mapping.settings import check_limits, setting

ESTIMATE = "Estimate"  # group of options


@dataclass(frozen=True, slots=True)
class EstimateOptions:
    """``shape``: channels,height,width; "": the architecture's own. ``options``: NAME=VALUE of the MNSIM 2.0 model."""

    shape: str = setting("", "channels,height,width of an architecture", option="input", group=ESTIMATE, unset=True)
    batch: int = setting(1, "number of images that follow each other", low=1, group=ESTIMATE)
    options: tuple[str, ...] = setting(
        (), "NAME=VALUE, an option of the MNSIM 2.0 model; may be repeated", option="set", group=ESTIMATE, unset=True
    )

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
