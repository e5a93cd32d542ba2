"""How many copies each layer gets: the smallest bottleneck that a budget of macros allows.

Layers are stages of a pipeline. A stage of H rows of W output positions, t reads a position and
c copies takes

    T(c) = ⌈H / c⌉ · W · t      reads an image, on c · tiles macros

and the slowest stage sets the pace. The smallest possible T is one of the finitely many T(c), and
the macros that a T needs only fall when T grows, so a search by halves finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One layer: an output map of ``rows`` x ``width`` positions (1 x 1 of a vector), ``reads`` a position.

    A vector has one position, so a fully connected layer never has a second copy.
    """

    layer: str
    tiles: int
    rows: int
    width: int
    reads: int

    def time(self, copies: int) -> int:
        """Reads that one image asks of the busiest copy."""
        return -(-self.rows // copies) * self.width * self.reads

    def copies(self, time: int) -> int | None:
        """Fewest copies that take no longer; None when even one row a copy does."""
        rows = time // (self.width * self.reads)
        return -(-self.rows // rows) if rows else None


def choose_copies(
    stages: Sequence[Stage], budget: int, fits: Callable[[Mapping[str, int], int], bool] | None = None
) -> tuple[dict[str, int], int] | None:
    """Copies by layer and the bottleneck T in reads; None when not even one copy of each fits.

    Args:
        budget: macros in all.
        fits: whether layers of so many copies can be placed when no macro is read more than T times;
            default: each tile takes a macro. With that default the result is the smallest T there
            is; with a placer that is no exact optimum, the smallest found.
    """
    fits = fits or (lambda copies, time: sum(copies[s.layer] * s.tiles for s in stages) <= budget)
    times = candidate_times(stages, budget)
    low, high = 0, len(times)  # times[high:] fit as far as was tried
    found: tuple[dict[str, int], int] | None = None
    while low < high:
        middle = (low + high) // 2
        copies = _copies(stages, times[middle])
        if copies is not None and fits(copies, times[middle]):
            found, high = (copies, times[middle]), middle
        else:
            low = middle + 1
    return found


def candidate_times(stages: Sequence[Stage], budget: int) -> list[int]:
    """Every T that a number of copies gives, and, for macros that layers share, every even share of the work."""
    times = {stage.time(copies) for stage in stages for copies in range(1, stage.rows + 1)}
    work = total_work(stages)
    times |= {-(-work // macros) for macros in range(1, min(budget, 1 << 12) + 1)}
    return sorted(times)


def total_work(stages: Sequence[Stage]) -> int:
    """Reads of all tiles together: divided by the macros, no bottleneck is smaller."""
    return sum(s.tiles * s.rows * s.width * s.reads for s in stages)


def _copies(stages: Sequence[Stage], time: int) -> dict[str, int] | None:
    found = {}
    for stage in stages:
        copies = stage.copies(time)
        if copies is None:
            return None
        found[stage.layer] = copies
    return found
