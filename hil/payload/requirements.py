"""``mission.toml``: a spacecraft's limits and requirements for a payload, and the host processor beside the chip.

[mission]  name, years, orbit_minutes, images_per_orbit, pass_minutes
[limits]   limits to check; an omitted limit is not judged
[host]     figures of the processor and its link, each with its source
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cim.chip.field_checks import count, number, text
from hil.payload.facts_file import field_of, open_facts

FORMAT, VERSION = "hil.mission", (1, 0)
_BYTES, _SIZE = count(0, 1 << 40), number(0.0, 1e12)


@dataclass(frozen=True, slots=True)
class MissionLimits:
    """Limits of ``mission.toml``; None: not judged. Units are in the names; ``accuracy_floor`` is a fraction."""

    power_average_w: float | None = field_of(number(0.0, 1e4), None)
    power_peak_w: float | None = field_of(number(0.0, 1e4), None)
    energy_per_orbit_j: float | None = field_of(_SIZE, None)
    energy_per_image_mj: float | None = field_of(_SIZE, None)
    images_per_pass: int | None = field_of(count(1, 10**9), None)
    host_ram_bytes: int | None = field_of(_BYTES, None)
    host_flash_bytes: int | None = field_of(_BYTES, None)
    uplink_bytes: int | None = field_of(_BYTES, None)
    uplink_bit_per_s: float | None = field_of(number(1.0, 1e12), None)
    upload_passes: int | None = field_of(count(1, 10**6), None)
    accuracy_floor: float | None = field_of(number(0.0, 1.0), None)


@dataclass(frozen=True, slots=True)
class HostFigures:
    """The processor beside the chip. ``operations_per_s``: integer operations at ``active_w``; ``digital_on_host``: 1
    where the digital operations between products run there, 0 where chip logic runs the whole plan; ``code_bytes`` and
    ``stack_bytes`` are those of its own program, beside the network's."""

    active_w: float = field_of(number(0.0, 1e3))
    idle_w: float = field_of(number(0.0, 1e3))
    operations_per_s: float = field_of(number(1.0, 1e15))
    link_bit_per_s: float = field_of(number(1.0, 1e13))
    link_pj_per_bit: float = field_of(number(0.0, 1e6))
    code_bytes: int = field_of(_BYTES)
    stack_bytes: int = field_of(_BYTES)
    digital_on_host: int = field_of(count(0, 1))


@dataclass(frozen=True, slots=True)
class MissionFrame:
    """Duration of a mission, and its images and ground contact in an orbit."""

    name: str = field_of(text)
    years: float = field_of(number(0.001, 50.0))
    orbit_minutes: float = field_of(number(80.0, 50000.0))
    images_per_orbit: int = field_of(count(1, 10**9))
    pass_minutes: float = field_of(number(0.1, 1500.0))


@dataclass(frozen=True, slots=True)
class MissionPlan:
    """Content of a ``mission.toml``; ``sources``: origin of the host's figures, by dotted field."""

    mission: MissionFrame
    limits: MissionLimits
    host: HostFigures
    sources: Mapping[str, str]

    @property
    def images_per_second(self) -> float:
        """Mean rate of images, over a whole orbit."""
        return self.mission.images_per_orbit / (60.0 * self.mission.orbit_minutes)


def load_mission(path: str | Path) -> MissionPlan:
    """Read and check a mission file.

    Raises:
        hil.payload.facts_file.FactsFileError: missing, or an impossible value (with its line).
        hil.payload.facts_file.NewerFactsFile: of a newer major version.
    """
    file = open_facts(path, FORMAT, VERSION, ("mission", "limits", "host"))
    sources: dict[str, str] = {}
    mission, limits = file.plain("mission", MissionFrame), file.plain("limits", MissionLimits)
    host = file.facts("host", HostFigures, sources)
    if mission.pass_minutes > mission.orbit_minutes:
        raise file.fail("mission.pass_minutes", "a pass is longer than the orbit")
    peak, average = limits.power_peak_w, limits.power_average_w
    if peak is not None and average is not None and peak < average:
        raise file.fail("limits.power_peak_w", f"{peak:g} W at the peak is less than {average:g} W on average")
    if host.idle_w > host.active_w:
        raise file.fail("host.idle_w", f"{host.idle_w:g} W idle is more than {host.active_w:g} W at work")
    if limits.upload_passes is not None and limits.uplink_bit_per_s is None:
        raise file.fail("limits.upload_passes", "passes need a rate: give uplink_bit_per_s")
    return MissionPlan(mission, limits, host, sources)
