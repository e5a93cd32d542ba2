"""``mission.toml``: what a spacecraft gives a payload and asks of it, and the host that runs beside the chip.

[mission]  name, years, orbit_minutes, images_per_orbit, pass_minutes
[limits]   every line that can fail; a limit that is left out is not judged
[host]     figures of the processor and its link, each with its source
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from cim.chip.field_checks import Check, count, number, text
from hil.payload.facts_file import open_facts

FORMAT, VERSION = "hil.mission", (1, 0)

MOST = 1e12
_MISSION: dict[str, Check] = {
    "name": text,
    "years": number(0.001, 50.0),
    "orbit_minutes": number(80.0, 50000.0),
    "images_per_orbit": count(1, 10**9),
    "pass_minutes": number(0.1, 1500.0),
}
_LIMITS: dict[str, Check] = {
    "power_average_w": number(0.0, 1e4),
    "power_peak_w": number(0.0, 1e4),
    "energy_per_orbit_j": number(0.0, MOST),
    "energy_per_image_mj": number(0.0, MOST),
    "images_per_pass": count(1, 10**9),
    "host_ram_bytes": count(0, 1 << 40),
    "host_flash_bytes": count(0, 1 << 40),
    "uplink_bytes": count(0, 1 << 40),
    "uplink_bit_per_s": number(1.0, MOST),
    "upload_passes": count(1, 10**6),
    "accuracy_floor": number(0.0, 1.0),
    "temperature_low_c": number(-273.15, 500.0),
    "temperature_high_c": number(-273.15, 500.0),
}
_HOST: dict[str, Check] = {
    "active_w": number(0.0, 1e3),
    "idle_w": number(0.0, 1e3),
    "operations_per_s": number(1.0, 1e15),
    "link_bit_per_s": number(1.0, 1e13),
    "link_pj_per_bit": number(0.0, 1e6),
    "code_bytes": count(0, 1 << 40),
    "stack_bytes": count(0, 1 << 40),
    "digital_on_host": count(0, 1),
}


@dataclass(frozen=True, slots=True)
class MissionLimits:
    """Limits of ``mission.toml``; None: not judged. Units are in the names; ``accuracy_floor`` is a fraction."""

    power_average_w: float | None = None
    power_peak_w: float | None = None
    energy_per_orbit_j: float | None = None
    energy_per_image_mj: float | None = None
    images_per_pass: int | None = None
    host_ram_bytes: int | None = None
    host_flash_bytes: int | None = None
    uplink_bytes: int | None = None
    uplink_bit_per_s: float | None = None
    upload_passes: int | None = None
    accuracy_floor: float | None = None
    temperature_low_c: float | None = None
    temperature_high_c: float | None = None


@dataclass(frozen=True, slots=True)
class HostFigures:
    """The processor beside the chip. ``operations_per_s``: integer operations at ``active_w``; ``digital_on_host``: 1
    where the digital operations between products run there, 0 where chip logic runs the whole plan; ``code_bytes`` and
    ``stack_bytes`` are those of its program."""

    active_w: float
    idle_w: float
    operations_per_s: float
    link_bit_per_s: float
    link_pj_per_bit: float
    code_bytes: int
    stack_bytes: int
    digital_on_host: int


@dataclass(frozen=True, slots=True)
class MissionPlan:
    """One ``mission.toml``; ``sources`` of the host's figures by dotted field."""

    name: str
    years: float
    orbit_minutes: float
    images_per_orbit: int
    pass_minutes: float
    limits: MissionLimits
    host: HostFigures
    sources: Mapping[str, str]


def load_mission(path: str | Path) -> MissionPlan:
    """Read and check a mission file.

    Raises:
        hil.payload.facts_file.FactsFileError: missing, or a value that cannot be (with its line).
        hil.payload.facts_file.NewerFactsFile: of a newer major version.
    """
    file = open_facts(path, FORMAT, VERSION)
    file.only("mission", "limits", "host")
    sources: dict[str, str] = {}
    mission = file.plain("mission", _MISSION, {})
    limits = MissionLimits(**file.plain("limits", _LIMITS, {f.name: None for f in fields(MissionLimits)}))
    host = HostFigures(**file.facts("host", _HOST, sources))
    low, high = limits.temperature_low_c, limits.temperature_high_c
    if low is not None and high is not None and low >= high:
        raise file.fail("limits.temperature_low_c", f"{low:g} °C is not below temperature_high_c, {high:g} °C")
    if mission["pass_minutes"] > mission["orbit_minutes"]:
        raise file.fail("mission.pass_minutes", "a pass is longer than the orbit")
    if host.idle_w > host.active_w:
        raise file.fail("host.idle_w", f"{host.idle_w:g} W idle is more than {host.active_w:g} W at work")
    if limits.upload_passes is not None and limits.uplink_bit_per_s is None:
        raise file.fail("limits.upload_passes", "passes need a rate: give uplink_bit_per_s")
    return MissionPlan(**mission, limits=limits, host=host, sources=sources)
