"""Cells that a layout leaves free, and copies of layers that take them.

Alone on its macro, a layer of 16 outputs leaves three quarters of the columns free, and one of 16 inputs most rows.
Copies of it fit there, on other macros in use, or on macros that hold nothing. The sums of copies are added
(``mapping.tune.averaged``).

How many copies of which layer is decided by an estimate e_l of what layer l adds to the mean square error of the
logits: with n_l copies Σ e_l / n_l is left. Copies that take no further macro come first, then the copy that takes
most of the error away for each macro.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec

MOST_COPIES = 8  # of a layer: beyond, its rounding and the others are what is left


@dataclass(frozen=True, slots=True)
class Area:
    """Cells of one tile: ``rows`` x ``outputs`` of a macro from its logical row and output, written in a round."""

    macro: int
    row0: int
    output0: int
    rows: int
    outputs: int
    round: int = 0


Copies = Mapping[str, tuple[tuple[Area, ...], ...]]
"""Further copies of layers, by layer: where the tiles of each copy lie, in the order of the layer's own."""


class FreeCells:
    """The free cells of a chip in each round; ``allowed`` are macros that copies may lie on."""

    def __init__(self, spec: ChipSpec, areas: Iterable[Area], allowed: Collection[int]) -> None:
        self._shape = (len(spec.macro.word_lines), spec.macro.outputs)
        self._own_macro_only = spec.groups is not None  # other macros may be ones that the layer cannot be joined with
        self._allowed = frozenset(allowed)
        self._taken: dict[
            tuple[int, int], NDArray[np.bool_]
        ] = {}  # by round and macro, in the order of their first use
        self._free: dict[tuple[int, int], int] = {}  # cells that are left there
        self._too_large: dict[tuple[int, int], list[tuple[int, int]]] = {}  # rectangles that found no room there
        for area in areas:
            self._take(area)

    def put(self, areas: Sequence[Area], *, further: bool) -> tuple[Area, ...] | None:
        """Reserve places for one more copy of the tiles; None, and no place is reserved, where they do not fit.

        Args:
            further: also on macros that hold nothing in that round.
        """
        found: list[Area] = []
        for area in areas:
            there = self._beside(area) or (self._alone(area) if further else None)
            if there is None:
                for taken in reversed(found):
                    self._give_back(taken)
                return None
            self._take(there)
            found.append(there)
        return tuple(found)

    def _beside(self, area: Area) -> Area | None:
        """Free cells on a macro in use in that round: on the tile's own first, and in its own rows first."""
        own = [(area.round, area.macro)]
        others = [] if self._own_macro_only else [key for key in self._taken if key[0] == area.round and key != own[0]]
        for key in own + others:
            if key[1] not in self._allowed or self._free[key] < area.rows * area.outputs:
                continue
            known = self._too_large.setdefault(key, [])  # cells only become fewer, so what had no room has none
            if any(rows <= area.rows and outputs <= area.outputs for rows, outputs in known):
                continue
            room = _corners(self._taken[key], area.rows, area.outputs)
            if room.any():
                row = area.row0 if area.row0 < len(room) and room[area.row0].any() else int(room.any(axis=1).argmax())
                return replace(area, macro=key[1], row0=row, output0=int(room[row].argmax()))
            known.append((area.rows, area.outputs))
        return None

    def _alone(self, area: Area) -> Area | None:
        """A macro that holds nothing in that round."""
        macro = min((m for m in self._allowed if (area.round, m) not in self._taken), default=None)
        return None if macro is None else replace(area, macro=macro)

    def _take(self, area: Area) -> None:
        key = (area.round, area.macro)
        if key not in self._taken:
            self._taken[key], self._free[key] = np.zeros(self._shape, bool), self._shape[0] * self._shape[1]
        self._cells(area)[:] = True
        self._free[key] -= area.rows * area.outputs

    def _give_back(self, area: Area) -> None:
        key = (area.round, area.macro)
        self._cells(area)[:] = False
        self._free[key] += area.rows * area.outputs
        self._too_large.pop(key, None)
        if self._free[key] == self._shape[0] * self._shape[1]:
            del self._taken[key], self._free[key]

    def _cells(self, area: Area) -> NDArray[np.bool_]:
        taken = self._taken[area.round, area.macro]
        return taken[area.row0 : area.row0 + area.rows, area.output0 : area.output0 + area.outputs]


def choose_copies_to_average(
    layers: Mapping[str, Sequence[Area]],
    spec: ChipSpec,
    errors: Mapping[str, float] | None = None,
    *,
    allowed: Collection[int] | None = None,
    most: int = MOST_COPIES,
) -> Copies:
    """Further copies of layers, where they help most.

    Args:
        layers: cells of every layer's tiles, once.
        errors: by layer, what it adds to the mean square error of the logits with one copy; None: all the same.
        allowed: macros that copies may lie on; None: those that the layers lie on, so that no further one is taken.
        most: copies of a layer, the first counted.
    """
    areas = [area for own in layers.values() for area in own]
    cells = FreeCells(spec, areas, {area.macro for area in areas} if allowed is None else allowed)
    found: dict[str, list[tuple[Area, ...]]] = {name: [] for name in layers}
    further, full = False, set[str]()  # layers that fit no more: cells only become fewer
    while True:
        gains: dict[str, float] = {}
        for name, own in found.items():
            error, n = 1.0 if errors is None else errors.get(name, 0.0), 1 + len(own)
            if error > 0.0 and n < most and name not in full:
                gains[name] = error / (n * (n + 1)) / (len({a.macro for a in layers[name]}) if further else 1)
        for name in sorted(gains, key=lambda n: -gains[n]):
            there = cells.put(layers[name], further=further)
            if there is not None:
                found[name].append(there)
                break
            full.add(name)
        else:
            if further or allowed is None:
                return {name: tuple(copies) for name, copies in found.items() if copies}
            further, full = True, set()


def _corners(taken: NDArray[np.bool_], rows: int, outputs: int) -> NDArray[np.bool_]:
    """Where a rectangle may begin so that all its cells are free, (rows left, outputs left)."""
    sums = np.zeros((taken.shape[0] + 1, taken.shape[1] + 1), np.int64)
    sums[1:, 1:] = taken.cumsum(0).cumsum(1)
    within = sums[rows:, outputs:] - sums[:-rows, outputs:] - sums[rows:, :-outputs] + sums[:-rows, :-outputs]
    return np.asarray(within == 0)
