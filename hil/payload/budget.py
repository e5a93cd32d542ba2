"""Budgets that can fail: every limit of ``mission.toml`` beside what a network needs, with margin and source.

Energy and time of one image count chip, digital operations, host, link and idling.

    E = E_chip + E_digital + E_link + P_idle · t      t = t_chip + t_link + t_host, one after the other

E_chip is ``cim.cost.network_cost`` without its own host link (and without what chip logic does where the host
does it); E_digital = (P_active − P_idle) · operations / rate.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from cim.cost.network_cost import estimate
from hil.errors import UsageError
from hil.pages.summary import Bar, Bars, Fact, Headline, Summary, Tone
from hil.pages.tables import Table
from hil.payload.built_memory import BuiltMemory
from hil.payload.host_load import HostLoad, host_load
from hil.payload.requirements import MissionPlan
from mapping.program.conductance import ConductanceProgram
from mapping.workload import program_workload

FORMAT = "hil.budget/3.0"
NOT_BUILT = BuiltMemory("not built: hil mission check builds it")
FRAMING = 1.05  # bytes sent for a byte of a file: packet headers, checksums, repeats (assumed)
ON_HOST = ("activation", "pooling", "multiplier", "accumulator")  # modules of the cost model that the host replaces


@dataclass(frozen=True, slots=True)
class EnergyShare:
    """One part of the energy of an image, the origin of its figure, and the weakest source of its prices:
    *measured*, *published* or *assumed*."""

    name: str
    energy_j: float
    source: str
    basis: str


@dataclass(frozen=True, slots=True)
class ImageEnergy:
    """Energy, time and peak power of one image."""

    shares: tuple[EnergyShare, ...]
    chip_s: float
    load: HostLoad
    peak_w: float
    idle_j: float

    @property
    def energy_j(self) -> float:
        return math.fsum(share.energy_j for share in self.shares)

    @property
    def seconds(self) -> float:
        return self.chip_s + self.load.link_s + self.load.host_s


def image_energy(program: ConductanceProgram, plan: MissionPlan) -> ImageEnergy:
    """Shares of the energy of one image.

    Raises:
        cim.cost.network_cost.NoCostModel: the chip file has no [cost] section.
    """
    host = plan.host
    cost = estimate(program_workload(program), program.spec)
    load = host_load(program, host)
    modules = cost.energy_by_module_pj
    left_out = ("host_link", *(ON_HOST if host.digital_on_host else ()))
    chip_pj = math.fsum(pj for name, pj in modules.items() if name not in left_out)
    chip_s = (cost.latency_ns - cost.host_ns) * 1e-9
    idle_j = host.idle_w * (chip_s + load.link_s + load.host_s)
    prices = [source for field, source in program.spec.provenance.items() if field.startswith("cost.")]
    assumed = sum(source.startswith("assumed") for source in prices)

    def given(*fields: str) -> str:
        return weakest(plan.sources[f"host.{field}"] for field in fields)

    shares = (
        EnergyShare(
            "chip",
            chip_pj * 1e-12,
            f"estimated: cost model, {assumed} of {len(prices)} prices of {cost.chip} assumed",
            weakest(prices),
        ),
        EnergyShare(
            "digital operations on the host",
            (host.active_w - host.idle_w) * load.host_s,
            f"estimated: {load.operations:,} integer operations counted; power and rate of mission.toml",
            given("active_w", "idle_w", "operations_per_s"),
        ),
        EnergyShare(
            "link",
            load.link_bits * host.link_pj_per_bit * 1e-12,
            f"estimated: {load.link_bits:,} bits counted; price of mission.toml",
            given("link_pj_per_bit"),
        ),
        EnergyShare(
            "idle host", idle_j, "estimated: idle power of mission.toml over the time of an image", given("idle_w")
        ),
    )
    return ImageEnergy(shares, chip_s, load, cost.peak_power_w + host.active_w, idle_j)


def busy_share(program: ConductanceProgram, plan: MissionPlan) -> float:
    """Share of the time in which the chip processes images: images in an orbit times seconds of one, at most 1."""
    return min(1.0, plan.images_per_second * image_energy(program, plan).seconds)


def weakest(sources: Iterable[str]) -> str:
    """The weakest kind of source: assumed before borrowed, published and measured; assumed without any source."""
    kinds = [source.split(":")[0] for source in sources]
    return next((kind for kind in ("assumed", "borrowed from", "published", "measured") if kind in kinds), "assumed")


class BudgetStatus(enum.StrEnum):
    """Whether a limit is kept."""

    KEPT = "kept"
    BROKEN = "broken"
    OPEN = "open"  # nothing is known of the value


@dataclass(frozen=True, slots=True)
class KnownAccuracy:
    """The accuracy that a budget may rely on, a fraction, and where it comes from."""

    low: float
    source: str


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One limit of a mission. ``margin``: unused share of the limit; negative if broken; None if unknown."""

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
        image = asdict(self.image)
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
                    **asdict(line),
                    "margin": line.margin if line.margin is not None and math.isfinite(line.margin) else None,
                    "held": str(line.status),
                }
                for line in self.lines
            ],
            "host": image.pop("load"),
            "image": {**image, "energy_j": self.image.energy_j, "seconds": self.image.seconds},
        }

    def summary(self) -> Summary:
        """Summary of a budget: broken limits, then open ones (without a known value), and the cost of one image."""
        broken, still_open = len(self.broken), len(self.open)
        tone = Tone.BAD if broken else Tone.OPEN if still_open else Tone.GOOD
        word = "BROKEN" if broken else "OPEN" if still_open else "KEPT"
        text = f"{broken} of {len(self.lines)} limits broken, {still_open} open"
        image = self.image
        shares = tuple(
            Bar(share.name, f"{1e3 * share.energy_j:.3g} mJ", share.energy_j, share.basis)
            for share in sorted(image.shares, key=lambda share: -share.energy_j)
        )
        return Summary(
            f"{self.mission}: {self.network} on {self.chip}",
            f"program {self.digest[:12]}",
            Headline(tone, word, text),
            (
                self.limits_table(),
                Fact(
                    "One image costs", f"{1e3 * image.energy_j:.4g} mJ, {1e3 * image.seconds:.4g} ms", aside="estimated"
                ),
                Bars("Energy of one image", shares),
            ),
        )

    def limits_table(self) -> Table:
        """Every limit beside its known value: broken, open, kept."""
        rank = (BudgetStatus.BROKEN, BudgetStatus.OPEN, BudgetStatus.KEPT)
        rows = []
        for line in sorted(self.lines, key=lambda line: rank.index(line.status)):
            value = "—" if line.value is None else f"{line.value:.5g} {line.unit}"
            margin = "—" if line.margin is None else f"{100 * line.margin:+.0f} %"
            limit = f"{'≤' if line.at_most else '≥'} {line.limit:.5g}"
            mark = "BROKEN" if line.status is BudgetStatus.BROKEN else str(line.status)
            rows.append((line.name, mark, value, limit, margin, line.source))
        return Table("Limits", ("limit", "", "value", "required", "margin", "source"), tuple(rows))


def check_budget(
    program: ConductanceProgram,
    plan: MissionPlan,
    *,
    network: str = "network",
    accuracy: KnownAccuracy | None = None,
    accuracy_at_end: KnownAccuracy | None = None,
    memory: BuiltMemory = NOT_BUILT,
) -> MissionBudget:
    """Set every limit of a mission beside what a program needs.

    Args:
        accuracy: lower end of the known accuracy; None: the floor stays open.
        accuracy_at_end: the same at the end of the mission, from a campaign; None: that line stays open.
        memory: of the compiled package; the board's own code and stack come on top (``[host]``).

    Raises:
        UsageError: the mission names no limit.
        cim.cost.network_cost.NoCostModel: the chip file has no [cost] section.
    """
    image, limits = image_energy(program, plan), plan.limits
    load, orbit_s, pass_s = image.load, 60.0 * plan.mission.orbit_minutes, 60.0 * plan.mission.pass_minutes
    work_j = image.energy_j - image.idle_j
    orbit_j = plan.mission.images_per_orbit * work_j + plan.host.idle_w * orbit_s
    counted = "estimated: cost model, counted operations, figures of mission.toml"
    ram, flash = memory.beside(plan.host.stack_bytes, plan.host.code_bytes)
    sent = load.packed_bytes * FRAMING
    rate = limits.uplink_bit_per_s
    passes = None if rate is None else math.ceil(8 * sent / (rate * pass_s))
    fits = pass_s / image.seconds
    floor_source = accuracy.source if accuracy else "no accuracy was given: name a run folder, or --data to simulate"
    candidates: tuple[tuple[str, float | None, float | None, str, bool, str], ...] = (
        ("power, average", orbit_j / orbit_s, limits.power_average_w, "W", True, counted),
        ("power, peak", image.peak_w, limits.power_peak_w, "W", True, counted),
        ("energy an orbit", orbit_j, limits.energy_per_orbit_j, "J", True, counted),
        ("energy an image", 1e3 * image.energy_j, limits.energy_per_image_mj, "mJ", True, counted),
        ("images a pass", fits, limits.images_per_pass, "images", False, counted),
        ("images an orbit", orbit_s / image.seconds, plan.mission.images_per_orbit, "images", False, counted),
        ("host RAM", ram, limits.host_ram_bytes, "bytes", True, memory.source),
        ("host flash", flash, limits.host_flash_bytes, "bytes", True, memory.source),
        (
            "uplink of a program",
            sent,
            limits.uplink_bytes,
            "bytes",
            True,
            f"estimated: program as packed, framing {FRAMING:g} assumed",
        ),
        ("passes for a program", passes, limits.upload_passes, "passes", True, "estimated: bytes over rate and pass"),
        ("accuracy", accuracy.low if accuracy else None, limits.accuracy_floor, "", False, floor_source),
        (
            f"accuracy after {plan.mission.years:g} years",
            accuracy_at_end.low if accuracy_at_end else None,
            limits.accuracy_floor,
            "",
            False,
            accuracy_at_end.source if accuracy_at_end else "no campaign was given: hil campaign, then --campaign",
        ),
    )
    lines = tuple(
        BudgetLine(name, None if value is None else float(value), float(limit), unit, at_most, source)
        for name, value, limit, unit, at_most, source in candidates
        if limit is not None
    )
    if not lines:
        raise UsageError("the mission names no limit", hint="give mission.toml a section [limits]")
    return MissionBudget(plan.mission.name, network, program.spec.name, lines, image, program.digest)
