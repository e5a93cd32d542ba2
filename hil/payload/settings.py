"""Settings of campaigns, of accuracies over the years, and of flights, with their usual values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from hil.payload.radiation.kinds import FaultKind
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, setting

FEWEST_IMAGES = 100  # that one injection is judged on
DAY_S = 86400.0
AS_COMPILED, FLOWN_RECIPE = Recipe(), USUAL_RECIPE.without("aims")
FAULTS, FLOWN, LINK = "Faults", "Flight", "Link"  # groups of options
FRAME_BYTES = 4 + 6 + 2  # checksum, header of a space packet, synchronisation (assumed)
MOST_LOST = 0.999  # of all packets


@dataclass(frozen=True, slots=True)
class CampaignOptions:
    """How a campaign is made. ``injections`` 0: as many as margin and confidence need; ``widen_images`` and
    ``alarm_images``: fault-free images that widen the guards, and that false alarms are counted on; ``recipe``: what
    is done to the network on the chip; as compiled where it is empty."""

    margin: float = setting(0.01, "margin of the share of harmful faults, a fraction", group=FAULTS)
    confidence: float = setting(0.95, "of the margin", group=FAULTS)
    injections: int = setting(
        0, "number of injections; 0: as many as the margin needs", low=0, high=(1 << 31) - 1, group=FAULTS
    )
    images: int = setting(FEWEST_IMAGES, "images that each injection is judged on", low=FEWEST_IMAGES, group="Images")
    golden: int = 8
    widen_images: int = 1000
    alarm_images: int = 3000
    age_s: float = setting(3600.0, "age after programming", low=0, high=1e10, unit="s", group="Chip")
    seed: int = 0
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)
    workers: int = setting(1, "processes side by side", low=1, group="Machine")
    scheduler: str | None = setting(None, "tcp://host:port of a Dask cluster that injects", group="Machine", unset=True)
    recipe: Recipe = AS_COMPILED

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        for good, text in (
            (self.golden >= 1, f"{self.golden} golden images"),
            (self.widen_images >= 1 and self.alarm_images >= 1, "no fault-free images"),
            (0 <= self.seed < 1 << 63, f"seed: {self.seed}, not from 0 to 2^63 - 1"),
            (bool(self.kinds), "no kind of fault"),
        ):
            if not good:
                raise UsageError(text)


class MitigationScenario(enum.StrEnum):
    """What mitigates upsets on the way (``hil.payload.radiation.timeline.MITIGATIONS``)."""

    WITHOUT = "without"
    SCRUBBED = "scrubbed"
    TUNED = "scrubbed and tuned"
    SCRUB_ALONE = "scrubbing alone"
    ECC_ALONE = "ecc alone"
    REGISTERS_ALONE = "register-readback alone"
    TUNE_ALONE = "re-tuning alone"
    NO_SCRUB = "all but scrubbing"
    NO_ECC = "all but ecc"
    NO_REGISTERS = "all but register-readback"


MAIN = (MitigationScenario.WITHOUT, MitigationScenario.SCRUBBED, MitigationScenario.TUNED)


@dataclass(frozen=True, slots=True)
class TimelineOptions:
    """``scrub_s``: between two scrubs; ``left_out``: kinds left out of the upsets (to see what they do); ``scenarios``:
    those that are simulated; ``recipe`` as ``CampaignOptions``, when the chip is first written."""

    years: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0)
    chips: int = 20
    images: int = setting(500, "images of the accuracy over years", low=1, option="year-images", group="Images")
    scrub_s: float = setting(
        DAY_S, "time between two scrubs, in the accuracy with scrubbing", low=1, unit="s", group="Years in orbit"
    )
    seed: int = 0
    left_out: tuple[FaultKind, ...] = ()
    scenarios: tuple[MitigationScenario, ...] = MAIN
    recipe: Recipe = AS_COMPILED

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        for good, text in (
            (2 <= self.chips <= 10_000, f"{self.chips} virtual chips, from 2 to 10,000"),
            (bool(self.years) and all(0 <= y <= 100 for y in self.years), f"years {self.years}"),
        ):
            if not good:
                raise UsageError(text)


def years_text(years: tuple[float, ...]) -> str:
    """Years as an option takes them: (0.0, 0.5, 1.0) is 0,0.5,1."""
    return ",".join(f"{year:g}" for year in years)


def years_of(text: str) -> tuple[float, ...]:
    """Years of "0,0.5,1,3", ascending and once each."""
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of years", hint="write 0,0.5,1,3") from None


@dataclass(frozen=True, slots=True)
class FlightOptions:
    """``chips`` emulated ones, seeds from ``first_seed``; ``virtual_chips`` for each; ``left_out``: kinds that the
    belief leaves out, to see that the verdict notices; ``recipe`` as ``CampaignOptions``, of both."""

    years: tuple[float, ...] = (1.0, 3.0)
    chips: int = setting(20, "emulated chips", low=1, group=FLOWN)
    images: int = setting(500, "images", low=2, group="Images")
    virtual_chips: int = setting(
        20, "virtual chips that each is judged against", low=2, option="virtual-chips", group=FLOWN
    )
    first_seed: int = 100
    seed: int = setting(0, "seed of the host: image order and virtual chips", low=0, high=(1 << 63) - 1, group=FLOWN)
    left_out: tuple[FaultKind, ...] = ()
    recipe: Recipe = FLOWN_RECIPE

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        if not self.years or not all(0 < y <= 50 for y in self.years):
            raise UsageError(f"years {self.years}, not from 0 to 50")


@dataclass(frozen=True, slots=True)
class HardenOptions:
    """``floor`` None: that of the mission. ``always``, ``never``: mitigations, comma-separated."""

    floor: float | None = setting(
        None, "accuracy at the end, in percent; default: the mission's accuracy_floor", unit="%", unset=True
    )
    detection: float = setting(
        0.99, "percent of harmful faults to be noticed", low=0, high=1, unit="%", option="detect"
    )
    scrub_s: float | None = setting(
        None, "time between two scrubs, for its price; default: the campaign's", unit="s", unset=True
    )
    always: str = setting("", "required mitigations, comma-separated: timer,step-signature", option="with", unset=True)
    never: str = setting("", "excluded mitigations, comma-separated", option="without", unset=True)


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """What a link does. Rates in bit/s up (to the spacecraft) and down; ``delay_s`` one way; shares are of packets."""

    up_bit_per_s: float = setting(
        64e3, "uplink in bit/s: 64k, 1M", low=1, high=1e12, unit="bit/s", option="rate", group=LINK
    )
    down_bit_per_s: float = setting(
        256e3, "downlink in bit/s", low=1, high=1e12, unit="bit/s", option="down-rate", group=LINK
    )
    bit_errors: float = setting(0.0, "bit error rate", low=0, high=0.01, option="ber", group=LINK)
    delay_s: float = setting(0.0, "one way, at most 5s", low=0, high=5, unit="s", group=LINK)
    bus_delay_s: float = setting(
        0.0, "of the store-and-forward bus before the chip, at most 5s", low=0, high=5, unit="s", group=LINK
    )
    lost_share: float = setting(
        0.0, "share of packets that are lost besides, a fraction", low=0, high=MOST_LOST, option="lost", group=LINK
    )

    def __post_init__(self) -> None:
        check_limits(self, UsageError)

    @property
    def round_trip_s(self) -> float:
        return 2.0 * (self.delay_s + self.bus_delay_s)

    def lost_chance(self, size: int) -> float:
        """Chance that a packet of so many bytes does not arrive."""
        return 1.0 - (1.0 - self.lost_share) * (1.0 - self.bit_errors) ** (8 * (size + FRAME_BYTES))
