"""Needles of a prober: to a die, down on it, and up again however a session ends."""

from __future__ import annotations

import numpy as np

from hil.errors import UsageError
from hil.server.bench.faults import InstrumentFault
from hil.server.bench.instrument import Instrument
from hil.server.bench.roles import Answer


class Needles:
    """Needles of a bench, and the die that its file names; None: where they are is a person's matter.

    What a session brought down it takes up again; what stood on a die before stays there.
    """

    def __init__(self, prober: Instrument | None, die: tuple[int, int] | None) -> None:
        self._prober, self._die, self._ours = prober, die, False

    def check(self) -> Instrument:
        """The prober; raises ``UsageError`` where there is none."""
        if self._prober is None:
            raise UsageError("the bench has no prober", hint='prober = "name of an instrument" under [roles]')
        return self._prober

    def bring_down(self) -> None:
        """Go to the die of the bench file, unless they are there; outputs are off."""
        if self._die is not None and not self._ours:
            self.move_to(*self._die)
            self._ours = True

    def move_to(self, die_x: int, die_y: int) -> None:
        """Up, to a die, and down on it once the prober says that it is that die; up again where anything goes wrong.

        Raises:
            InstrumentSilent, InstrumentFault: it refuses, is not done in time, or stands at another die.
        """
        prober = self.check()
        try:
            prober.exchange(prober.off())
            _check_die(prober, (die_x, die_y), prober.exchange(prober.move(die_x, die_y))[-1])
            if down := prober.contact():
                prober.exchange(down)
            prober.check_errors("when it moved")
        except BaseException:
            self.take_up()
            raise

    def let_go(self) -> None:
        """They are up, if they were ours: a session ends."""
        if self._ours:
            self.take_up()

    def take_up(self) -> None:
        self._ours = False
        self.check().make_safe()

    def are_up(self) -> None:
        """Somebody else takes them up: the guard."""
        self._ours = False


def _check_die(prober: Instrument, wanted: tuple[int, int], answer: Answer) -> None:
    """Where a prober says at which die it stands, that is the right one; raises ``InstrumentFault``."""
    if isinstance(answer, np.ndarray) and (found := answer[:2].tolist()) != list(wanted):
        raise InstrumentFault(
            f"{prober.entry.name} ({prober.model.name}) was sent to die {wanted[0]}, {wanted[1]}, and stands "
            f"at {', '.join(f'{x:g}' for x in found)} as it says; the needles are up",
            where=prober.entry.port,
            likely="another map or origin in the prober's program, or a move that ended early",
        )
