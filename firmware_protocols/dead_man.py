"""The dead-man timer of a chip: no voltage stays on the array for a host that is gone."""

from __future__ import annotations

from typing import Any

from firmware_protocols.handlers import DRIVING
from firmware_protocols.messages import Capability, OutputsOff, Request, Reset

SINCE = 0x0103  # the version that has it
DEAD_MAN_S = 10.0  # without a good frame of the host
OFF = (OutputsOff, Reset)  # requests that take all voltages off, and end all work


class DeadMan:
    """Knows whether voltages may be on the array, and since when nobody was there for whom they could be.

    ``version``: the highest that the chip speaks. ``heard_s`` is always when the host was last heard, None: never.
    """

    def __init__(self, version: int) -> None:
        self._works = version >= SINCE
        self._outputs_on = False
        self._missed_s: float | None = None  # when the host was last heard, once it is missed
        self.missed = False  # and work has not gone on since

    @property
    def capability(self) -> Capability:
        return Capability.DEAD_MAN if self._works else Capability(0)

    def see(self, request: Request[Any]) -> None:
        """Note a request that starts or resumes: whether the outputs are on from now on."""
        self._outputs_on = (self._outputs_on or isinstance(request, DRIVING)) and not isinstance(request, OFF)

    def due_s(self, heard_s: float | None) -> float | None:
        """When the outputs must go off unless the host is heard before; None: they are off."""
        return heard_s + DEAD_MAN_S if self._works and self._outputs_on and heard_s is not None else None

    def miss(self, heard_s: float | None) -> None:
        """The host is taken for dead until it is heard again."""
        self._missed_s, self.missed = heard_s, True

    def holds_up(self, heard_s: float | None) -> bool:
        """Whether work waits for the host."""
        return self.missed and self._missed_s == heard_s
