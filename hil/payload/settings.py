"""Settings of campaigns, accuracies over the years and hardening, with their usual values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hil.errors import UsageError
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, setting

AS_COMPILED = Recipe()
FEWEST_IMAGES = 100  # that one injection is judged on
DAY_S = 86400.0
FAULTS, YEARS, MITIGATIONS = "Faults", "Years in orbit", "Mitigations"  # groups of options


class FaultKind(enum.StrEnum):
    """Kinds of faults: the part of a chip that an upset strikes, and its effect."""

    CELL_NEIGHBOUR = "cell-neighbour"  # a cell moves by one level
    CELL_EXTREME = "cell-extreme"  # a cell goes to the lowest or highest level
    CONVERTER_TRIM = "converter-trim"  # a bit of the offset register of one converter
    CONVERTER_RANGE = "converter-range"  # a bit of the range register of a macro
    ROW_ENABLE = "row-enable"  # the enable bit of a word line
    CONVERSION = "conversion"  # a bit of one converted code, in one read of an image
    ACCUMULATOR = "accumulator"  # a bit of one 32-bit sum
    ACTIVATION = "activation"  # a bit of one stored code
    IMAGE_LEVEL = "image-level"  # a bit of a weight in the program image, before it is written to cells
    IMAGE_TABLE = "image-table"  # a bit of the table from pixels to codes
    CORRECTION = "correction"  # a bit of a column correction
    REQUANTISE = "requantise"  # a bit of a bias, multiplier or shift
    SEQUENCER = "sequencer"  # a bit of the number of the step under way


class Mitigation(enum.StrEnum):
    """Mitigations against radiation that can be switched on (``hil.payload.harden``)."""

    TIMER = "timer"
    RANGE = "range-guards"
    SCRUB = "scrubbing"
    GOLDEN = "golden-vectors"
    PARITY = "parity"
    ECC = "ecc"
    REGISTERS = "register-readback"
    SIGNATURE = "step-signature"
    TRIPLE = "triple-layer"
    TUNE = "re-tuning"


RELOADED = (Mitigation.SCRUB, Mitigation.ECC, Mitigation.REGISTERS)
MENDING = (*RELOADED, Mitigation.TUNE)
"""Mitigations that the accuracy over the years depends on."""
SCENARIOS: dict[str, frozenset[Mitigation]] = {
    "without": frozenset(),
    "scrubbed": frozenset(RELOADED),
    "scrubbed and tuned": frozenset(MENDING),
    **{f"{one} alone": frozenset((one,)) for one in MENDING},
    **{f"all but {one}": frozenset(MENDING) - {one} for one in RELOADED},
}
"""What mitigates upsets until a year, by the name of the scenario."""
WITHOUT, SCRUBBED, TUNED = MAIN = tuple(SCENARIOS)[:3]


@dataclass(frozen=True, slots=True)
class OrbitSettings:
    """How faults of an orbit are injected, followed over the years and mitigated.

    ``widen_images``, ``alarm_images``: fault-free images that widen the guards, and images for counting false alarms.
    ``left_out``: kinds left out of the upsets over the years, to see what they do.
    ``recipe``: techniques for the network on the chip; empty: as compiled.
    """

    margin: float = setting(0.01, "error margin of the share of harmful faults, a fraction", group=FAULTS)
    confidence: float = setting(0.95, "confidence level of the margin", group=FAULTS)
    injections: int = setting(
        0, "number of injections; 0: as many as the margin needs", low=0, high=(1 << 31) - 1, group=FAULTS
    )
    images: int = setting(FEWEST_IMAGES, "images run with each injected fault", low=FEWEST_IMAGES, group="Images")
    golden: int = 8
    widen_images: int = 1000
    alarm_images: int = 3000
    age_s: float = setting(3600.0, "age after programming", low=0, high=1e10, unit="s", group="Chip")
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)
    years: tuple[float, ...] = setting((0.0, 0.5, 1.0, 2.0, 3.0), "times in orbit, in years", group=YEARS)
    chips: int = setting(20, "virtual chips for accuracy over the years; 0: skip it", low=0, group=YEARS)
    year_images: int = setting(500, "images for accuracy over the years", low=1, group="Images")
    scrub_s: float = setting(DAY_S, "interval of scrubs, which rewrite changed cells", low=1, unit="s", group=YEARS)
    scenarios: tuple[str, ...] = MAIN
    left_out: tuple[FaultKind, ...] = ()
    floor: float | None = None  # accuracy at the end, a share; None: the mission's accuracy_floor
    detection: float = setting(
        0.99, "percent of harmful faults to detect", low=0, high=1, unit="%", option="detect", group=MITIGATIONS
    )
    always: str = setting(
        "", "required mitigations, comma-separated: timer,step-signature", option="with", unset=True, group=MITIGATIONS
    )
    never: str = setting("", "excluded mitigations, comma-separated", option="without", unset=True, group=MITIGATIONS)
    seed: int = setting(
        0, "seed of the host: sites, image order and virtual chips", low=0, high=(1 << 63) - 1, group=FAULTS
    )
    workers: int | str = 1  # processes, or tcp://host:port of a Dask cluster
    recipe: Recipe = AS_COMPILED

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        if not self.kinds or min(self.golden, self.widen_images, self.alarm_images) < 1:
            raise UsageError("no kind of fault, or no golden or fault-free image")
        if not self.years or not all(0 <= year <= 100 for year in self.years):
            raise UsageError(f"years {self.years}, not from 0 to 100")
        object.__setattr__(self, "years", tuple(sorted(set(self.years))))
