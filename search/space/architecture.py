"""One network of a space, and its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cim.files import write_text
from search.errors import SearchFileError
from search.files import read_json

FORMAT = "hil.architecture"
VERSION = (1, 1)
BITS = ("weight_bits", "activation_bits")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The choices that make one network of a ``search.space.genes.Space``.

    ``skeleton`` is the digest of what all networks of the space have in common, so that a
    choice is never read with another space's channels. Bits of weights and activations are one number for the
    whole network, one a stage or one a position; ``adc_bits`` are those of the converters.
    """

    space: str
    skeleton: str
    operators: tuple[str, ...]  # one a position
    widths: tuple[float, ...]  # one a stage
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    adc_bits: int

    @property
    def choices(self) -> tuple[str | float | int, ...]:
        """Choices of the network, in the order of the genes of its space."""
        return (*self.operators, *self.widths, *self.weight_bits, *self.activation_bits, self.adc_bits)

    @property
    def digest(self) -> str:
        """SHA-256 of all choices, 64 hex digits: the key of caches and files."""
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        widths = ",".join(f"{w:g}" for w in self.widths)
        weights, activations = (",".join(map(str, bits)) for bits in (self.weight_bits, self.activation_bits))
        return f"{' '.join(self.operators)} x{widths} W{weights}A{activations} ADC{self.adc_bits}"


def to_json(architecture: Architecture) -> dict[str, Any]:
    """Bits of the whole network are a number, others a list."""
    data = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(architecture).items()}
    return data | {k: data[k][0] for k in BITS if len(data[k]) == 1}


def from_json(data: Any, origin: str) -> Architecture:
    """Read what ``to_json`` gave; ``origin`` names the file in errors."""
    wanted: dict[str, type] = {"space": str, "skeleton": str, "operators": list, "widths": list}
    wanted |= {"adc_bits": int} | dict.fromkeys(BITS, list)
    if not isinstance(data, dict):
        raise SearchFileError(origin, 0, "", "an architecture is a JSON object")
    data = data | {k: [data[k]] for k in BITS if type(data.get(k)) is int}
    for name, kind in wanted.items():
        if type(data.get(name)) is not kind:
            raise SearchFileError(origin, 0, name, f"must be a {kind.__name__}, not {data.get(name)!r:.60}")
    if not all(isinstance(o, str) for o in data["operators"]):
        raise SearchFileError(origin, 0, "operators", "must be names")
    if not all(isinstance(w, (int, float)) and not isinstance(w, bool) for w in data["widths"]):
        raise SearchFileError(origin, 0, "widths", "must be numbers")
    for name in BITS:
        if not data[name] or not all(type(bits) is int for bits in data[name]):
            raise SearchFileError(origin, 0, name, "must be whole numbers")
    return Architecture(
        data["space"], data["skeleton"], tuple(data["operators"]), tuple(float(w) for w in data["widths"]),
        tuple(data["weight_bits"]), tuple(data["activation_bits"]), data["adc_bits"],
    )  # fmt: skip


def write_architecture(path: Path, architecture: Architecture) -> None:
    """Write ``architecture.json``, whole or not at all."""
    head = {"format": FORMAT, "version": f"{VERSION[0]}.{VERSION[1]}"}
    write_text(path, json.dumps(head | to_json(architecture), indent=1) + "\n")


def read_architecture(path: Path) -> Architecture:
    """Raises ``SearchFileError`` for a file that is missing, wrong or of a later major version."""
    return from_json(read_json(path, FORMAT, VERSION[0]), str(path))
