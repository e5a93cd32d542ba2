"""Write-verify, turn by turn, for whoever runs it outside a chip: which cells are open, which pulse each takes next.

The recipe is the one that a chip with ``PROGRAM_TILE`` runs by itself: read every open cell,
give those outside the window one pulse, read again. A cell below its window gets SET pulses,
one above it RESET pulses; the voltage starts at the recipe's start, grows by its step while
the direction stays, is held at its stop, and starts anew when the direction turns. A cell is
done, and no longer touched, when a verify finds it inside; it has failed after ``max_pulses``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import ProgramTile, TileProgrammed

LEAVE_ALONE = 0xFFFF  # count that leaves a cell as it is


class WriteRounds:
    """State of a write; arrays are (rows, columns) of the recipe.

    Attributes:
        open: cells that the next verify must read.

    Example: ``while rounds.open.any(): rounds.verify(read(rounds.open)); give(rounds.next_millivolts())``
    """

    def __init__(self, recipe: ProgramTile) -> None:
        shape = recipe.targets.shape
        self._recipe, self._targets = recipe, recipe.targets.astype(np.int32)
        self.open = recipe.targets != LEAVE_ALONE
        self._missed = np.zeros(shape, np.bool_)
        self._readings, self._pulses = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        self._way, self._millivolts = (
            np.zeros(shape, np.int8),
            np.zeros(shape, np.int32),
        )  # +1 SET, −1 RESET, 0 none yet

    def verify(self, readings: NDArray[np.uint16]) -> None:
        """Take counts of the open cells (at others nothing stands), and close those that are done or have failed."""
        self._readings = np.where(self.open, readings, self._readings)
        outside = np.abs(self._readings.astype(np.int32) - self._targets) > self._recipe.tolerance
        spent = self._pulses >= self._recipe.max_pulses
        self._missed |= self.open & outside & spent
        self.open &= outside & ~spent

    def next_millivolts(self) -> NDArray[np.int32]:
        """The pulse that each open cell takes now, mV: above zero SET, below RESET, zero none."""
        recipe = self._recipe
        way = np.where(self._readings < self._targets, 1, -1).astype(np.int8)
        start, step, stop = (
            np.where(way > 0, up, down)
            for up, down in (
                (recipe.set_start_mv, recipe.reset_start_mv),
                (recipe.set_step_mv, recipe.reset_step_mv),
                (recipe.set_stop_mv, recipe.reset_stop_mv),
            )
        )
        again = self._way == way
        self._millivolts = np.where(again, np.minimum(self._millivolts + step, stop), start).astype(np.int32)
        self._way = np.where(self.open, way, self._way)
        self._pulses += self.open
        return np.where(self.open, way * self._millivolts, 0).astype(np.int32)

    @property
    def missed(self) -> int:
        """Cells that have failed until now."""
        return int(self._missed.sum())

    def outcome(self) -> TileProgrammed:
        """What a chip would answer; cells that are still open have not reached their targets."""
        return TileProgrammed(self._recipe.unit_ns, self._readings, self._pulses, ~(self._missed | self.open))
