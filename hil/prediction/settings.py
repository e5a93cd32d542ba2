"""Settings of a prediction, besides network, images, record and techniques."""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import UsageError
from mapping.settings import check_limits, setting

AGES = "Age"  # group of options


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """``target``: a fraction; the yield is the share of chips that reach it. ``tune_at``: "each", "never" or an age."""

    ages_s: tuple[float, ...] = setting(
        (3600.0,), "age after programming; several ages give a table: 1h,1d,30d", option="age", unit="s", group=AGES
    )
    temperature_c: float | None = setting(
        None, "temperature of the reads, 60 or 60C; default: the record's",
        option="temperature", unit="°C", group=AGES, unset=True,
    )  # fmt: skip
    target: float | None = setting(
        None, "accuracy in percent that chips should reach; prints the yield, the share that does",
        option="target-accuracy", unit="%", group="Simulation", unset=True,
    )  # fmt: skip
    tune_at: str = setting(
        "each", "age at which gains and biases of each chip are fitted: each, never, or one age: 1h", group=AGES
    )

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
