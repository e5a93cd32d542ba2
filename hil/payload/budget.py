"""Budgets that can fail: every limit of ``mission.toml`` beside what a network needs, with margin and source."""

from __future__ import annotations

import enum
import math
from dataclasses import asdict, dataclass
from typing import Any

from hil.errors import UsageError
from hil.payload.image_energy import ImageEnergy, image_energy
from hil.payload.requirements import MissionPlan
from mapping.program.conductance import ConductanceProgram

FORMAT = "hil.budget/1.0"
FRAMING = 1.05  # bytes sent for a byte of a file: packet headers and checksums (assumed)


class BudgetStatus(enum.StrEnum):
    """Whether a limit is kept."""

    KEPT = "kept"
    BROKEN = "broken"
    OPEN = "open"  # nothing is known of the value


@dataclass(frozen=True, slots=True)
class KnownAccuracy:
    """The accuracy that may be counted on, a fraction, and where it comes from."""

    low: float
    source: str


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One limit. ``margin``: share of the limit that is left; negative where it is broken; None where open."""

    name: str
    value: float | None
    limit: float
    unit: str
    at_most: bool
    source: str

    @property
    def status(self) -> BudgetStatus:
        if self.value is None:
            return BudgetStatus.OPEN
        kept = self.value <= self.limit if self.at_most else self.value >= self.limit
        return BudgetStatus.KEPT if kept else BudgetStatus.BROKEN

    @property
    def margin(self) -> float | None:
        if self.value is None:
            return None
        left = self.limit - self.value if self.at_most else self.value - self.limit
        if self.limit == 0.0:
            return 0.0 if left == 0.0 else math.copysign(math.inf, left)
        return left / abs(self.limit)

    @property
    def text(self) -> str:
        """The line as words: value, limit, margin."""
        value = "not known" if self.value is None else f"{self.value:.4g} {self.unit}"
        margin = "" if self.margin is None else f", margin {100 * self.margin:+.0f} %"
        return f"{self.name}: {value}, {'at most' if self.at_most else 'at least'} {self.limit:.4g} {self.unit}{margin}"


@dataclass(frozen=True, slots=True)
class MissionBudget:
    """All lines of one mission for one network."""

    mission: str
    network: str
    chip: str
    lines: tuple[BudgetLine, ...]
    image: ImageEnergy
    digest: str

    @property
    def broken(self) -> tuple[BudgetLine, ...]:
        return tuple(line for line in self.lines if line.status is BudgetStatus.BROKEN)

    @property
    def open(self) -> tuple[BudgetLine, ...]:
        return tuple(line for line in self.lines if line.status is BudgetStatus.OPEN)

    def to_json(self) -> dict[str, Any]:
        """One versioned object; infinite margins are null."""
        return {
            "format": FORMAT,
            "mission": self.mission,
            "network": self.network,
            "chip": self.chip,
            "program_digest": self.digest,
            "broken": len(self.broken),
            "open": len(self.open),
            "lines": [
                {
                    "name": line.name,
                    "value": line.value,
                    "limit": line.limit,
                    "unit": line.unit,
                    "rule": "at most" if line.at_most else "at least",
                    "margin": line.margin if line.margin is not None and math.isfinite(line.margin) else None,
                    "held": str(line.status),
                    "source": line.source,
                }
                for line in self.lines
            ],
            "image": {
                "energy_j": self.image.energy_j,
                "seconds": self.image.seconds,
                "chip_s": self.image.chip_s,
                "link_s": self.image.load.link_s,
                "host_s": self.image.load.host_s,
                "shares": [asdict(share) for share in self.image.shares],
            },
            "host": {
                "operations": self.image.load.operations,
                "operations_by_step": dict(self.image.load.operations_by_step),
                "link_bits": self.image.load.link_bits,
                "ram_bytes": self.image.load.ram_bytes,
                "flash_bytes": self.image.load.flash_bytes,
                "program_bytes": self.image.load.program_bytes,
            },
        }


def check_budget(
    program: ConductanceProgram,
    plan: MissionPlan,
    *,
    network: str = "network",
    accuracy: KnownAccuracy | None = None,
    accuracy_at_end: KnownAccuracy | None = None,
    temperatures_c: tuple[float, float] | None = None,
) -> MissionBudget:
    """Set every limit of a mission beside what a program needs.

    Args:
        accuracy: lower end that may be counted on; None: the floor stays open.
        accuracy_at_end: the same at the end of the mission, from a campaign; None: that line stays open.
        temperatures_c: coldest and warmest at which the accuracy is known; None: those limits stay open.

    Raises:
        UsageError: the mission names no limit.
        cim.cost.network_cost.NoCostModel: the chip file has no [cost] section.
    """
    image, limits = image_energy(program, plan), plan.limits
    load, orbit_s, pass_s = image.load, 60.0 * plan.orbit_minutes, 60.0 * plan.pass_minutes
    work_j = image.energy_j - image.idle_j
    orbit_j = plan.images_per_orbit * work_j + plan.host.idle_w * orbit_s
    counted = "estimated: cost model, counted operations, figures of mission.toml"
    memory = "estimated: counted from the program; code and stack of mission.toml"
    sent = load.program_bytes * FRAMING
    rate = limits.uplink_bit_per_s
    passes = None if rate is None else math.ceil(8 * sent / (rate * pass_s))
    fits = pass_s / image.seconds
    low, high = temperatures_c or (None, None)
    simulated = (
        "simulated: where virtual chips of the record keep the accuracy floor"
        if temperatures_c
        else "nothing is known of other temperatures: --data and a --calibration that holds their coefficients"
    )
    floor_source = accuracy.source if accuracy else "no accuracy was given: name a run folder, or --data to simulate"
    candidates: tuple[tuple[str, float | None, float | None, str, bool, str], ...] = (
        ("power, average", orbit_j / orbit_s, limits.power_average_w, "W", True, counted),
        ("power, peak", image.peak_w, limits.power_peak_w, "W", True, counted),
        ("energy an orbit", orbit_j, limits.energy_per_orbit_j, "J", True, counted),
        ("energy an image", 1e3 * image.energy_j, limits.energy_per_image_mj, "mJ", True, counted),
        ("images a pass", fits, limits.images_per_pass, "images", False, counted),
        ("images an orbit", orbit_s / image.seconds, plan.images_per_orbit, "images", False, counted),
        ("host RAM", load.ram_bytes, limits.host_ram_bytes, "bytes", True, memory),
        ("host flash", load.flash_bytes, limits.host_flash_bytes, "bytes", True, memory),
        (
            "uplink of a program",
            sent,
            limits.uplink_bytes,
            "bytes",
            True,
            f"estimated: packed program, framing {FRAMING:g} assumed",
        ),
        ("passes for a program", passes, limits.upload_passes, "passes", True, "estimated: bytes over rate and pass"),
        ("accuracy", accuracy.low if accuracy else None, limits.accuracy_floor, "", False, floor_source),
        (
            f"accuracy after {plan.years:g} years",
            accuracy_at_end.low if accuracy_at_end else None,
            limits.accuracy_floor,
            "",
            False,
            accuracy_at_end.source if accuracy_at_end else "no campaign was given: hil campaign, then --campaign",
        ),
        ("coldest", low, limits.temperature_low_c, "°C", True, simulated),
        ("warmest", high, limits.temperature_high_c, "°C", False, simulated),
    )
    lines = tuple(
        BudgetLine(name, None if value is None else float(value), float(limit), unit, at_most, source)
        for name, value, limit, unit, at_most, source in candidates
        if limit is not None
    )
    if not lines:
        raise UsageError("the mission names no limit", hint="give mission.toml a section [limits]")
    return MissionBudget(plan.name, network, program.spec.name, lines, image, program.digest)
