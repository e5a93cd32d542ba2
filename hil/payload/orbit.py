"""Orbit files: upset rates and dose of one orbit, each with its source.

Two come with the package (``orbit_names``); a path names one's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cim.chip.field_checks import Check, number, text
from cim.files import read_text
from cim.toml_file import MOST_BYTES
from hil.payload.facts_file import FactsFileError, parse_facts

FORMAT, VERSION = "hil.orbit", (1, 1)
SHIPPED = Path(__file__).parent / "orbits"

_ORBIT: dict[str, Check] = {
    "name": text,
    "altitude_km": number(100.0, 1e6),
    "inclination_deg": number(0.0, 180.0),
    "shielding_mm": number(0.0, 1000.0),
}
_RATE = number(0.0, 1.0)
_UPSETS: dict[str, Check] = {
    "cell_per_day": _RATE,
    "extreme_share": _RATE,
    "high_share": _RATE,
    "memory_bit_per_day": _RATE,
    "register_bit_per_day": _RATE,
    "stored_bit_per_day": _RATE,
    "conversion_per_day": _RATE,
    "sequencer_bit_per_day": _RATE,
}
_SINCE_1_1 = {"upsets.high_share": 0.5}
_DOSE: dict[str, Check] = {
    "krad_per_year": number(0.0, 1e5),
    "cell_shift_per_mrad": number(0.0, 10.0),
    "cell_spread_per_mrad": number(0.0, 10.0),
    "converter_gain_per_mrad": number(0.0, 10.0),
    "converter_offset_codes_per_mrad": number(-1e3, 1e3),
}


@dataclass(frozen=True, slots=True)
class UpsetRates:
    """Upsets of one bit, cell or converter in one day; ``extreme_share`` of upset cells go to an end of the window,
    ``high_share`` of those to the highest level."""

    cell_per_day: float
    extreme_share: float
    high_share: float
    memory_bit_per_day: float
    register_bit_per_day: float
    stored_bit_per_day: float
    conversion_per_day: float
    sequencer_bit_per_day: float


@dataclass(frozen=True, slots=True)
class DoseEffects:
    """Dose of a year behind the shielding, and the shifts of a Mrad(Si) (``hil.payload.radiation.dose``)."""

    krad_per_year: float
    cell_shift_per_mrad: float
    cell_spread_per_mrad: float
    converter_gain_per_mrad: float
    converter_offset_codes_per_mrad: float


@dataclass(frozen=True, slots=True)
class OrbitFile:
    """One orbit; ``sources`` by dotted field, ``digest`` SHA-256 (hex) of the text."""

    name: str
    altitude_km: float
    inclination_deg: float
    shielding_mm: float
    upsets: UpsetRates
    dose: DoseEffects
    sources: Mapping[str, str]
    digest: str

    @property
    def assumed(self) -> tuple[str, ...]:
        """Fields whose value is assumed."""
        return tuple(field for field, source in self.sources.items() if source.startswith("assumed"))


def orbit_names() -> list[str]:
    """Names of the orbit files that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def orbit_path(name_or_path: str | Path) -> Path:
    """The file that a name or a path stands for."""
    path = Path(name_or_path)
    name = str(name_or_path).removesuffix(".toml")
    return SHIPPED / f"{name}.toml" if name in orbit_names() and not path.exists() else path


def load_orbit(name_or_path: str | Path) -> OrbitFile:
    """A shipped orbit by name (``leo-sso``, also with .toml), or a file of one's own.

    Raises:
        hil.payload.facts_file.FactsFileError: no such orbit, or a value that cannot be (with its line).
        hil.payload.facts_file.NewerFactsFile: of a newer major version.
    """
    origin = str(name_or_path)
    try:
        content = read_text(orbit_path(origin), MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(orbit_names())
        raise FactsFileError(origin, 0, "", f"cannot be read ({error})", hint=f"one of {known}, or a path") from error
    file = parse_facts(content, origin, FORMAT, VERSION)
    file.only("orbit", "upsets", "dose")
    sources: dict[str, str] = {}
    return OrbitFile(
        **file.facts("orbit", _ORBIT, sources),
        upsets=UpsetRates(**file.facts("upsets", _UPSETS, sources, _SINCE_1_1)),
        dose=DoseEffects(**file.facts("dose", _DOSE, sources)),
        sources=sources,
        digest=hashlib.sha256(content.encode()).hexdigest(),
    )
