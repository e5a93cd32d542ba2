"""Energy and time of one image with everything that takes part: chip, digital operations, host, link, idling.

    E = E_chip + E_digital + E_link + P_idle · t      t = t_chip + t_link + t_host, one after the other

E_chip is ``cim.cost.network_cost`` without its own host link (and without what chip logic does where the host
does it); E_digital = (P_active − P_idle) · operations / rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cim.cost.network_cost import Cost, estimate
from hil.payload.host_load import HostLoad, host_load
from hil.payload.requirements import MissionPlan
from mapping.program.conductance import ConductanceProgram
from mapping.workload import program_workload

ON_HOST = ("activation", "pooling", "multiplier", "accumulator")  # modules of the cost model that the host replaces


@dataclass(frozen=True, slots=True)
class EnergyShare:
    """One share of the energy of an image, where its figure comes from, and the weakest source of the prices in it:
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

    def given(*fields: str) -> str:
        return weakest(plan.sources[f"host.{field}"] for field in fields)

    shares = (
        EnergyShare("chip", chip_pj * 1e-12, f"estimated: cost model, {_assumed_share(cost, prices)}", weakest(prices)),
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


def weakest(sources: Iterable[str]) -> str:
    """The weakest of some sources; assumed where there is none."""
    kinds = [source.split(":")[0] for source in sources]
    return next((kind for kind in ("assumed", "borrowed from", "published", "measured") if kind in kinds), "assumed")


def _assumed_share(cost: Cost, prices: Sequence[str]) -> str:
    assumed = sum(source.startswith("assumed") for source in prices)
    return f"{assumed} of {len(prices)} prices of {cost.chip} assumed"
