"""Errors between a network and a conductance program: one base, and the kinds that a caller tells apart.

Each error class of the room is one of these kinds (``hil.cli.failures``) and stands beside the code
that raises it; ``CannotMap`` and the errors of program files, raised in many places, stand here.
"""

from __future__ import annotations

from dataclasses import dataclass


class MappingError(Exception):
    """Base of everything that ``mapping`` raises on purpose."""


class MappingFileError(MappingError):
    """A network or program file is missing, broken, unsafe, or its content does not hold together."""


class MappingMismatch(MappingError):
    """A file of a newer major version."""


class MappingUsageError(MappingError):
    """A call lacks something, or asks for what this installation does not have."""


class NotMappable(MappingError):
    """A network that no program carries out: an operation without a node, or more than the chip has."""


@dataclass(frozen=True, slots=True)
class LayerNeed:
    """The macros, rows and columns that one layer needs on a chip."""

    layer: str
    rows: int
    outputs: int
    tiles: int


class CannotMap(NotMappable):
    """A network does not fit a chip; says by how much, and what would fit."""

    def __init__(
        self,
        reason: str,
        *,
        chip: str,
        macros_needed: int = 0,
        macros_available: int = 0,
        largest: tuple[LayerNeed, ...] = (),
        would_fit: tuple[str, ...] = (),
    ) -> None:
        lines = [reason]
        lines += [
            f"  largest {n.layer}: {n.rows} rows x {n.outputs} outputs, {n.tiles} tile{'s' * (n.tiles != 1)}"
            for n in largest
        ]
        lines += [f"  try     {text}" for text in would_fit]
        super().__init__("\n".join(lines))
        self.reason, self.chip, self.largest, self.would_fit = reason, chip, largest, would_fit
        self.macros_needed, self.macros_available = macros_needed, macros_available


class ProgramFileError(MappingFileError):
    """A program file is broken, or does not hold together; holds the path and the reason."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path, self.text = path, text


class NewerVersion(ProgramFileError, MappingMismatch):
    """The file was written for a newer major version of the format."""
