"""Errors between a network and a conductance program."""

from __future__ import annotations

from dataclasses import dataclass


class MappingError(Exception):
    """A network cannot become, or a file is not, a program."""


@dataclass(frozen=True, slots=True)
class LayerNeed:
    """Macros that one layer needs."""

    layer: str
    rows: int
    outputs: int
    tiles: int


class CannotMap(MappingError):
    """A network does not fit a chip; holds by how much, and what would fit."""

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


class ProgramFileError(MappingError):
    """A program file is broken, or does not hold together; holds the path and the reason."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path, self.text = path, text


class NewerVersion(ProgramFileError):
    """The file was written for a newer major version of the format."""
