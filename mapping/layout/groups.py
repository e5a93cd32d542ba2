"""Macros that come in groups: which part of which group each layer gets.

A group works in one of a chip's modes; each part of the mode is a run of macros for one layer
(``cim.chip.spec.MacroGroups``). The largest layers choose first; each part goes to the first group that has
a mode for it beside the parts already there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cim.chip.spec import MacroGroups


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand of one layer: a number of macros, each read so often by one image."""

    macros: int
    reads: int = 0


@dataclass(slots=True)
class _LayerShare:
    owner: int
    macros: int


@dataclass(slots=True)
class _MacroGroup:
    capacities: tuple[tuple[int, ...], ...]  # of each part of each mode, macros that exist
    parts: list[_LayerShare] = field(default_factory=list)
    reads: int = 0

    def fit(self, parts: Sequence[_LayerShare]) -> tuple[int, list[int]] | None:
        """A mode and each part's position in it: the largest parts get the largest runs that are left."""
        for mode, capacities in enumerate(self.capacities):
            left = list(range(len(capacities)))
            where: dict[int, int] = {}
            for i in sorted(range(len(parts)), key=lambda i: (-parts[i].macros, i)):
                good = [p for p in left if capacities[p] >= parts[i].macros]
                if not good:
                    break
                where[i] = min(good, key=lambda p: (capacities[p], p))
                left.remove(where[i])
            else:
                return mode, [where[i] for i in range(len(parts))]
        return None


def arrange(
    demands: Sequence[Demand], groups: MacroGroups, macros: int, most_reads: float = math.inf
) -> tuple[tuple[int, ...], ...]:
    """The macros of each layer, as many as it wants; beyond ``macros`` when the chip is too small.

    Args:
        macros: of the chip; a last group may be cut short by its end.
        most_reads: layers share a group only while their reads add up to no more (they run one
            after the other).
    """
    opened: list[_MacroGroup] = []
    homes: list[list[tuple[int, int]]] = [[] for _ in demands]  # (group, position in its parts)
    order = sorted(range(len(demands)), key=lambda i: (-demands[i].macros, i))
    for owner in order:
        for wanted in _split(demands[owner].macros, groups):
            part = _LayerShare(owner, wanted)
            for number in range(len(opened) + macros // groups.size + 2):
                if number == len(opened):
                    opened.append(_MacroGroup(_capacities(groups, number, macros)))
                group = opened[number]
                if any(p.owner == owner for p in group.parts):
                    continue
                if group.parts and group.reads + demands[owner].reads > most_reads:
                    continue
                if group.fit([*group.parts, part]) is not None:
                    homes[owner].append((number, len(group.parts)))
                    group.parts.append(part)
                    group.reads += demands[owner].reads
                    break
            else:
                raise AssertionError("an empty group beyond the chip holds any part")
    return tuple(_macros_of(home, opened, groups) for home in homes)


def _macros_of(home: Sequence[tuple[int, int]], opened: Sequence[_MacroGroup], groups: MacroGroups) -> tuple[int, ...]:
    found: list[int] = []
    for number, position in home:
        fitted = opened[number].fit(opened[number].parts)
        assert fitted is not None
        mode, where = fitted
        start = number * groups.size + sum(groups.modes[mode][: where[position]])
        found += range(start, start + opened[number].parts[position].macros)
    return tuple(found)


def _split(macros: int, groups: MacroGroups) -> list[int]:
    """Whole groups first; the rest in one part, or in several of different groups where that takes fewer macros.

    Example, parts of 8, 4 and 2: 13 macros are 8 + 4 + 1, 15 are 8 + 7.
    """
    sizes = sorted({n for mode in groups.modes for n in mode}, reverse=True)
    whole, rest = divmod(macros, sizes[0])
    parts = [sizes[0]] * whole
    if not rest:
        return parts
    pieces, left = [], rest
    for size in sizes:
        while left >= size:
            pieces.append(size)
            left -= size
    taken = sum(pieces)
    if left:
        pieces.append(left)
        taken += min(size for size in sizes if size >= left)
    single = min(size for size in sizes if size >= rest)
    return parts + (pieces if taken < single else [rest])


def _capacities(groups: MacroGroups, number: int, macros: int) -> tuple[tuple[int, ...], ...]:
    """Macros that exist of each part of each mode; a group wholly beyond the chip counts as whole."""
    first = number * groups.size
    if first >= macros:
        return groups.modes
    found = []
    for mode in groups.modes:
        starts = [first + sum(mode[:i]) for i in range(len(mode))]
        found.append(tuple(max(0, min(n, macros - start)) for n, start in zip(mode, starts, strict=True)))
    return tuple(found)
