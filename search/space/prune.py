"""A space on one chip: without what the chip cannot do, and without operators that waste its arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from search.errors import NothingFits, SpaceError
from search.space.architecture import Architecture
from search.space.candidate import workload
from search.space.genes import Position, Space
from search.space.limits import LEAST_SHARE
from search.space.operators import SLOT, Layer, Slot
from search.space.target import ArraySize, Target


@dataclass(frozen=True, slots=True)
class Dropped:
    """An operator that a space lost at a position, and the share of its last array at the best width."""

    position: str
    operator: str
    last_array_share: float

    def __str__(self) -> str:
        return f"{self.operator} at {self.position}: the last array is {self.last_array_share:.0%} used"


@dataclass(frozen=True, slots=True)
class DroppedBits:
    """Weight bits that a space lost because wider weights cost the same there."""

    bits: int
    as_wide: int

    def __str__(self) -> str:
        return f"{self.bits}-bit weights: {self.as_wide} bits take the same cells, time and energy"


def fitted(
    space: Space, target: Target, *, least_share: float = LEAST_SHARE
) -> tuple[Space, tuple[Dropped | DroppedBits, ...]]:
    """Give the part of a space that makes sense on a target, and the operators and weight bits that it lost.

    An operator goes where at every width some layer of it leaves the last of several arrays less
    than ``least_share`` used (0 keeps all); a layer that fits one array shares it with others.
    Weight bits go where a network costs the same with more of them: 2 and 3 beside 4 on
    cells of eight levels.

    Raises:
        NothingFits: a position has no operator left.
        SpaceError: no bits left, or even the smallest network has too many macros.
    """
    positions: list[Position] = []
    dropped: list[Dropped | DroppedBits] = []
    for i, place in enumerate(space.positions):
        shares = {name: _best_share(space, name, space.slots(i), target.array) for name in place.operators}
        lost = [Dropped(place.name, name, share) for name, share in shares.items() if share < least_share]
        left = tuple(name for name, share in shares.items() if share >= least_share)
        if not left:
            raise NothingFits(space.name, target.name, f"position {place.name}", tuple(map(str, lost)))
        positions.append(Position(place.name, place.stage, place.first, place.stride, left))
        dropped += lost
    made = replace(
        space,
        positions=tuple(positions),
        activation_bits=_some(space, target, "activation", space.activation_bits, range(1, target.input_bits + 1)),
        adc_bits=(target.adc_bits,),
    )
    _check_edges(made, target)
    _check_smallest(made, target)
    wide, narrow = _weight_bits(made, target)
    return replace(made, weight_bits=wide), (*dropped, *narrow)


def last_array_share(rows: int, outputs: int, groups: int, array: ArraySize) -> float:
    """Share of the last array that a layer uses, by rows or outputs, whichever is less; 1 for a layer on one array.

    Args:
        rows, outputs: of one group. Groups that fit an array stand in it together, on its diagonal.

    Example: 144 rows on arrays of 128 leave the second array 16/128 used.
    """
    together = min(array.rows // rows, array.outputs // outputs)
    if together:
        return 1.0 if groups <= together else _last(groups, together)
    return min(_last(rows, array.rows), _last(outputs, array.outputs))


def _covered(rows: int, outputs: int, groups: int, array: ArraySize) -> int:
    """Weight positions under a layer's tiles; blocks on a diagonal cover the zeros beside them too."""
    together = min(array.rows // rows, array.outputs // outputs, groups)
    return groups * rows * outputs * max(together, 1)


def _last(need: int, holds: int) -> float:
    return 1.0 if need <= holds else (need - (math.ceil(need / holds) - 1) * holds) / holds


def _best_share(space: Space, name: str, slots: tuple[Slot, ...], array: ArraySize) -> float:
    return max(
        min((last_array_share(*size, array) for size in _matrices(space, name, slot)), default=1.0) for slot in slots
    )


def _matrices(space: Space, name: str, slot: Slot) -> Iterator[tuple[int, int, int]]:
    """Rows and outputs of a group, and groups, of an operator's layers on cells."""
    channels = {SLOT: slot.inputs}
    for layer in space.operators[name].layers(slot):
        if layer.kind.on_cells:
            yield _matrix(layer, channels[layer.inputs[0]])
        channels[layer.name] = layer.outputs


def _matrix(layer: Layer, inputs: int) -> tuple[int, int, int]:
    return layer.kernel**2 * inputs // layer.groups, layer.outputs // layer.groups, layer.groups


def _some(
    space: Space, target: Target, what: str, bits: tuple[int, ...], can: range | tuple[int, ...]
) -> tuple[int, ...]:
    left = tuple(b for b in bits if b in can)
    if not left:
        raise SpaceError(f"space {space.name} has {what} bits {bits}; {target.name} can do {min(can)} to {max(can)}")
    return left


def _check_edges(space: Space, target: Target) -> None:
    if space.edges and space.edges.activation > target.input_bits:
        raise SpaceError(
            f"space {space.name} gives its stem {space.edges.activation}-bit inputs; "
            f"{target.name} takes {target.input_bits} bits"
        )


def _weight_bits(space: Space, target: Target) -> tuple[tuple[int, ...], tuple[DroppedBits, ...]]:
    """Weight bits that cost less than all wider ones, and the others."""
    network = _narrow(space, target, max)  # one with cells wherever there is a choice
    every = {b: replace(network, weight_bits=(b,) * len(space.bit_groups)) for b in space.weight_bits}
    cost = {b: target.cost(workload(space, one)) for b, one in every.items()}
    as_wide = {b: max((w for w in cost if w > b and cost[w] == cost[b]), default=b) for b in cost}
    kept = tuple(b for b, wide in as_wide.items() if wide == b)
    return kept, tuple(DroppedBits(b, wide) for b, wide in as_wide.items() if wide > b)


def _narrow(space: Space, target: Target, most: Callable[..., str]) -> Architecture:
    """The network with the smallest widths and, at each position, the operator whose weights cover the fewest cells
    (``most`` is ``min``) or the most (``max``)."""
    narrow = [min(stage.widths) for stage in space.stages]
    names = []
    for i, place in enumerate(space.positions):
        slot = space.slot(i, narrow)
        covered = {n: sum(_covered(*m, target.array) for m in _matrices(space, n, slot)) for n in place.operators}
        names.append(place.operators.index(most(covered, key=lambda name: covered[name])))
    chosen = (*names, *(stage.widths.index(w) for stage, w in zip(space.stages, narrow, strict=True)))
    return space.decode((*chosen, *(0,) * (len(space.choices) - len(chosen))))


def _check_smallest(space: Space, target: Target) -> None:
    smallest = _narrow(space, target, min)
    cost = target.cost(workload(space, smallest))
    if not cost.feasible:
        raise SpaceError(
            f"no network of space {space.name} fits {target.name}: the smallest needs {cost.macros} macros, "
            f"there are {cost.macros_available}\n  smallest {smallest}\n"
            "  try     fewer layers, smaller widths, or a chip with more macros"
        )
