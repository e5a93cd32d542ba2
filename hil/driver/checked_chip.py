"""A session with a chip whose description has been checked: the base of the verbs on cells and products."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from firmware_protocols.messages import Capability, Description, HelloReply, Progress, Reply, Request
from hil.driver.errors import shown
from hil.driver.program_image import SessionImage
from hil.errors import DeviceError, HilError

_USEFUL_MESSAGE = 1 << 18  # larger messages gain nothing, but hide that the chip is slow

Opened = TypeVar("Opened", bound="OpenChip")
R = TypeVar("R", bound=Reply)


class ChipSession(Protocol):
    """Parts of a session that the verbs use: a session on a wire (``hil.driver.session``), or one that only counts."""

    @property
    def address(self) -> str: ...
    @property
    def hello(self) -> HelloReply: ...
    @property
    def counters(self) -> dict[str, int]: ...
    @property
    def chip_time_ns(self) -> int: ...
    @property
    def image(self) -> SessionImage | None: ...
    @property
    def closed(self) -> bool: ...
    def ask(self, request: Request[R], *, allow_s: float = 0.0) -> R: ...
    def ask_all(
        self, requests: Iterable[Request[R]], watch: Callable[[Progress], None] | None = None
    ) -> Iterator[R]: ...
    def outputs_off(self) -> HilError | None: ...
    def close(self, ending: str = "") -> None: ...


class OpenChip:
    """An open session with a chip that is what its file says.

    Args:
        session: an open session.
        description: what the chip said of itself.
        spec: what its chip file says; the two must agree (``hil.driver.open_chip`` checks).
        sleep: how the host waits when the chip cannot; clock: the host's, s.
    """

    def __init__(
        self,
        session: ChipSession,
        description: Description,
        spec: ChipSpec,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._sleep, self._clock = session, sleep, clock
        self.description, self.spec = description, spec
        self.fallbacks: list[str] = []
        self._held = description.program_digest  # of the program in its cells; zeros: of none that is known
        self._layer_outputs: dict[int, int] = {}
        self._fresh: dict[int, NDArray[np.bool_]] = {}  # by macro: cells that read as never formed
        self._most = min(session.hello.max_message, _USEFUL_MESSAGE)

    def as_a(self, kind: type[Opened]) -> Opened:
        """The same open chip as an object of a class with more verbs."""
        return kind(self._session, self.description, self.spec, sleep=self._sleep, clock=self._clock)

    @property
    def address(self) -> str:
        return self._session.address

    @property
    def whole_name(self) -> str:
        """Chip, firmware or instruments, and address, so that somebody at the bench finds the board."""
        d = self.description
        return f"{shown(d.name)} serial {shown(d.serial)} ({shown(d.firmware)}) at {self.address}"

    @property
    def capabilities(self) -> Capability:
        return self._session.hello.capabilities

    @property
    def max_message(self) -> int:
        """Longest message that is sent, bytes."""
        return self._most

    @property
    def counters(self) -> dict[str, int]:
        """Bytes, frames, retransmissions, requests and so on since the chip was opened."""
        return self._session.counters

    @property
    def chip_time_ns(self) -> int:
        """Chip time of the last reply, ns; for silicon, the host's time since its clock differed from the host's."""
        return self._session.chip_time_ns

    def host_s(self) -> float:
        """The host's clock, s."""
        return self._clock()

    def fall_back(self, text: str) -> None:
        """Note, once a session, a function that the host performs because the chip cannot."""
        if text not in self.fallbacks:
            self.fallbacks.append(text)

    def _unable(self, what: str, why: str) -> DeviceError:
        return DeviceError(
            f"this chip cannot do {what}: {why}",
            where=self.address,
            likely=f"its firmware offers {self.capabilities!r}",
        )
