"""Settings of a calibration, besides the chip and its macros."""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import UsageError
from mapping.settings import check_limits, setting

MEASUREMENT = "Measurement"  # group of options


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """``second_temperature_c``: all measurements are repeated at this chip temperature; None: one temperature only."""

    age_s: float = setting(3600.0, "age at which cells and columns are measured", low=0, unit="s", group=MEASUREMENT)
    quick: bool = setting(False, "fewer vectors and reads, larger standard errors", group=MEASUREMENT)
    full: bool = setting(False, "more vectors, reads and ages, smaller standard errors", group=MEASUREMENT)
    second_temperature_c: float | None = setting(
        None, "repeat all measurements once the chip has this temperature: 60 or 60C",
        option="second-temperature", unit="°C", group=MEASUREMENT, unset=True,
    )  # fmt: skip
    seed: int = setting(
        0, "seed of the host: which cells, vectors and rows are measured", low=0, high=(1 << 63) - 1, group=MEASUREMENT
    )

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        if self.quick and self.full:
            raise UsageError("--quick and --full exclude each other")
