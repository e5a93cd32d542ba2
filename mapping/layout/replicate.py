"""Copies of each layer: the smallest bottleneck that a budget of macros allows.

Layers are stages of a pipeline. A stage of H x W output positions, t reads a position and c
copies, each with a block of a grid of a x b = c blocks (``cim.chip.blocks.grid``), takes

    T(c) = ⌈H / a⌉ · ⌈W / b⌉ · t      reads an image, on c · tiles macros

and the slowest stage sets the pace. The smallest possible T is one of the finitely many T(c), and
the macros that a T needs only fall when T grows, so a search by halves finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cim.chip.blocks import grid

SCANNED = 64  # times between the bound and what a search by halves found that are tried too
FINEST = 4  # copies of a layer that a macro's T is cut for


@dataclass(frozen=True, slots=True)
class LayerReads:
    """One layer: an output map of ``rows`` x ``width`` positions (1 x 1 of a vector), ``reads`` a position.

    A vector has one position, so a fully connected layer never has a second copy.
    """

    layer: str
    tiles: int
    rows: int
    width: int
    reads: int

    def time(self, copies: int) -> int | None:
        """Reads of the busiest copy for one image; None when the map has no grid of so many blocks."""
        try:
            down, across = grid(self.rows, self.width, copies)
        except ValueError:
            return None
        return -(-self.rows // down) * -(-self.width // across) * self.reads

    def times(self, most: int) -> set[int]:
        """T of every possible number of copies up to ``most``."""
        tried = (self.time(copies) for copies in range(1, min(most, self.rows * self.width) + 1))
        return {time for time in tried if time is not None}

    def copies(self, time: int, most: int) -> int | None:
        """Fewest copies, at most ``most``, that take no longer."""
        if time < self.reads:
            return None
        fewest = -(-self.rows * self.width * self.reads // time)
        for copies in range(fewest, min(most, self.rows * self.width) + 1):
            needed = self.time(copies)
            if needed is not None and needed <= time:
                return copies
        return None


def choose_copies(stages: Sequence[LayerReads], budget: int) -> tuple[dict[str, int], int] | None:
    """Copies by layer and the bottleneck T in reads when every tile takes a macro: the smallest T there is.

    None when ``budget`` macros do not hold one copy of each.
    """

    def attempt(time: int) -> dict[str, int] | None:
        copies = fewest_copies(stages, time, budget)
        return copies if copies and sum(copies[s.layer] * s.tiles for s in stages) <= budget else None

    return _smallest(sorted({t for s in stages for t in s.times(budget)}), attempt)


def choose_shared_copies(
    stages: Sequence[LayerReads], budget: int, fits: Callable[[Mapping[str, int], int], bool]
) -> tuple[dict[str, int], int] | None:
    """Choose copies of layers that may share macros: the smallest T that was found, not a proven optimum.

    For every T several numbers of copies are tried: so fine that a few fill a macro's T with least rest, and the
    fewest that take T, a half or a third of it.

    Args:
        fits: whether layers of so many copies can be placed when no macro is read more than T times.
    """

    def attempt(time: int) -> dict[str, int] | None:
        finer = (fewest_copies(stages, time // share, budget * share) for share in range(1, FINEST))
        for copies in (even_copies(stages, time, budget), *finer):
            if copies is not None and fits(copies, time):
                return copies
        return None

    step = min(s.reads for s in stages)
    slowest = max(s.rows * s.width * s.reads for s in stages)
    shares = {-(-total_work(stages) // macros) for macros in range(1, min(budget, 1 << 12) + 1)}
    times = sorted({*range(step, slowest + 1, step), *shares})
    found = _smallest(times, attempt)
    lowest = total_work(stages) // budget
    below = [t for t in times if lowest <= t < (found[1] if found else times[-1])]
    for time in below[:: -(-len(below) // SCANNED) or 1]:  # packing is not a monotone function of T
        copies = attempt(time)
        if copies is not None:
            return copies, time
    return found


def _smallest(
    times: Sequence[int], attempt: Callable[[int], dict[str, int] | None]
) -> tuple[dict[str, int], int] | None:
    """The smallest T with an answer, by halves: what fits in a T fits in every larger one."""
    low, high = 0, len(times)
    found: tuple[dict[str, int], int] | None = None
    while low < high:
        middle = (low + high) // 2
        copies = attempt(times[middle])
        if copies is None:
            low = middle + 1
        else:
            found, high = (copies, times[middle]), middle
    return found


def fewest_copies(stages: Sequence[LayerReads], time: int, most: int) -> dict[str, int] | None:
    """For each layer the fewest copies that take no longer than ``time``."""
    found = {}
    for stage in stages:
        copies = stage.copies(time, most)
        if copies is None:
            return None
        found[stage.layer] = copies
    return found


def even_copies(stages: Sequence[LayerReads], time: int, most: int) -> dict[str, int] | None:
    """For each layer copies of which 1 to ``FINEST`` fill a macro's ``time``: those that waste least of it."""
    found = {}
    for stage in stages:
        options = [(stage.copies(time // share, most * share), share) for share in range(1, FINEST + 1)]
        possible = [(copies / share, copies) for copies, share in options if copies is not None]
        if not possible:
            return None
        found[stage.layer] = min(possible)[1]
    return found


def total_work(stages: Sequence[LayerReads]) -> int:
    """Reads of all tiles together: divided by the macros, no bottleneck is smaller."""
    return sum(s.tiles * s.rows * s.width * s.reads for s in stages)
