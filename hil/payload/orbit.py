"""Orbit files: upset rates and dose of one orbit, each with its source.

Two files are shipped (``orbit_names``); a path names a user's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cim.chip.field_checks import number, text
from hil.payload.facts_file import FactsFileError, field_of, open_facts

FORMAT, VERSION = "hil.orbit", (1, 1)
SHIPPED = Path(__file__).parent / "orbits"
_SHARE, _SHIFT = number(0.0, 1.0), number(0.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsetRates:
    """Upsets of one bit, cell or converter in one day; ``extreme_share`` of upset cells go to an end of the window,
    ``high_share`` of those to the highest level."""

    cell_per_day: float = field_of(_SHARE)
    extreme_share: float = field_of(_SHARE)
    high_share: float = field_of(_SHARE, 0.5)  # since 1.1
    memory_bit_per_day: float = field_of(_SHARE)
    register_bit_per_day: float = field_of(_SHARE)
    stored_bit_per_day: float = field_of(_SHARE)
    conversion_per_day: float = field_of(_SHARE)
    sequencer_bit_per_day: float = field_of(_SHARE)


@dataclass(frozen=True, slots=True)
class DoseEffects:
    """Dose of a year behind the shielding, and the shifts of a Mrad(Si) (``hil.payload.radiation.timeline``)."""

    krad_per_year: float = field_of(number(0.0, 1e5))
    cell_shift_per_mrad: float = field_of(_SHIFT)
    cell_spread_per_mrad: float = field_of(_SHIFT)
    converter_gain_per_mrad: float = field_of(_SHIFT)
    converter_offset_codes_per_mrad: float = field_of(number(-1e3, 1e3))


@dataclass(frozen=True, slots=True)
class OrbitPlace:
    """Name, altitude, inclination and shielding for which the rates of an orbit file hold."""

    name: str = field_of(text)
    altitude_km: float = field_of(number(100.0, 1e6))
    inclination_deg: float = field_of(number(0.0, 180.0))
    shielding_mm: float = field_of(number(0.0, 1000.0))


@dataclass(frozen=True, slots=True)
class OrbitFile:
    """One orbit; ``sources`` by dotted field, ``digest`` SHA-256 (hex) of the text."""

    place: OrbitPlace
    upsets: UpsetRates
    dose: DoseEffects
    sources: Mapping[str, str]
    digest: str

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def assumed(self) -> tuple[str, ...]:
        """Fields whose value is assumed."""
        return tuple(field for field, source in self.sources.items() if source.startswith("assumed"))


def orbit_names() -> list[str]:
    """Names of the orbit files that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def orbit_path(name_or_path: str | Path) -> Path:
    """The path of an orbit file, from its shipped name or a path."""
    path = Path(name_or_path)
    name = str(name_or_path).removesuffix(".toml")
    return SHIPPED / f"{name}.toml" if name in orbit_names() and not path.exists() else path


def load_orbit(name_or_path: str | Path) -> OrbitFile:
    """A shipped orbit by name (``leo-sso``, also with .toml), or a user's file.

    Raises:
        hil.payload.facts_file.FactsFileError: no such orbit, or an impossible value (with its line).
        hil.payload.facts_file.NewerFactsFile: of a newer major version.
    """
    path = orbit_path(name_or_path)
    if not path.exists():
        known = ", ".join(orbit_names())
        raise FactsFileError(str(name_or_path), 0, "", "there is no such file", hint=f"one of {known}, or a path")
    file = open_facts(path, FORMAT, VERSION, ("orbit", "upsets", "dose"))
    sources: dict[str, str] = {}
    place = file.facts("orbit", OrbitPlace, sources)
    upsets = file.facts("upsets", UpsetRates, sources)
    return OrbitFile(place, upsets, file.facts("dose", DoseEffects, sources), sources, file.digest)
