"""One network of a space, and its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.errors import FileError
from search.files import read_json, write_text

FORMAT = "hil.architecture"
VERSION = (1, 0)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The choices that make one network; ``search.space.Space`` says what they mean.

    ``skeleton`` is the digest of what all networks of the space have in common, so that a
    choice is never read with another space's channels. ``adc_bits`` are those of the converters.
    """

    space: str
    skeleton: str
    operators: tuple[str, ...]  # one a position
    widths: tuple[float, ...]  # one a stage
    weight_bits: int
    activation_bits: int
    adc_bits: int

    @property
    def digest(self) -> str:
        """SHA-256 of all choices, 64 hex digits: the key of caches and files."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        widths = ",".join(f"{w:g}" for w in self.widths)
        bits = f"W{self.weight_bits}A{self.activation_bits} ADC{self.adc_bits}"
        return f"{' '.join(self.operators)} x{widths} {bits}"


def to_json(architecture: Architecture) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(architecture).items()}


def from_json(data: Any, origin: str) -> Architecture:
    """Read what ``to_json`` gave; ``origin`` names the file in errors."""
    wanted: dict[str, type] = {"space": str, "skeleton": str, "operators": list, "widths": list}
    wanted |= {"weight_bits": int, "activation_bits": int, "adc_bits": int}
    if not isinstance(data, dict):
        raise FileError(origin, 0, "", "an architecture is a JSON object")
    for name, kind in wanted.items():
        if type(data.get(name)) is not kind:
            raise FileError(origin, 0, name, f"must be a {kind.__name__}, not {data.get(name)!r:.60}")
    if not all(isinstance(o, str) for o in data["operators"]):
        raise FileError(origin, 0, "operators", "must be names")
    if not all(isinstance(w, (int, float)) and not isinstance(w, bool) for w in data["widths"]):
        raise FileError(origin, 0, "widths", "must be numbers")
    return Architecture(
        data["space"], data["skeleton"], tuple(data["operators"]), tuple(float(w) for w in data["widths"]),
        data["weight_bits"], data["activation_bits"], data["adc_bits"],
    )  # fmt: skip


def write_architecture(path: Path, architecture: Architecture) -> None:
    head = {"format": FORMAT, "version": f"{VERSION[0]}.{VERSION[1]}"}
    write_text(path, json.dumps(head | to_json(architecture), indent=1) + "\n")


def read_architecture(path: Path) -> Architecture:
    """Raises ``FileError`` for a file that is missing, wrong or of a later major version."""
    return from_json(read_json(path, FORMAT, VERSION[0]), str(path))
