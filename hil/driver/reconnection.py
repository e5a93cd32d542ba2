"""Waiting for a line that is silent or gone: the time limit, the messages meanwhile, and opening it again."""

from __future__ import annotations

import time
from collections.abc import Callable

from hil.errors import LinkError, PortError
from hil.transports.base import Transport

REPORT_EVERY_S = 10.0
TRY_EVERY_S = 0.25


class Reconnection:
    """How long a line may be gone before it counts as lost.

    Args:
        budget_s: of one outage, s; 0: a lost line is lost.
        reopen: opens the same line again, wherever it is now; None: what broke stays broken.
        report: called with one line of text at the beginning, every 10 s, and at the end of an outage.
    """

    def __init__(
        self,
        budget_s: float = 0.0,
        reopen: Callable[[], Transport] | None = None,
        report: Callable[[str], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.budget_s, self._reopen, self._report = budget_s, reopen, report
        self._clock, self._sleep = clock, sleep
        self._since_s: float | None = None
        self._error: LinkError | PortError | None = None
        self._told_s = 0.0

    @property
    def waiting(self) -> bool:
        """Whether an outage lasts."""
        return self._since_s is not None

    def line_again(self, transport: Transport, error: LinkError | PortError, *, broke: bool) -> Transport:
        """The transport for the next hello: the same, or, if it ``broke``, one opened again.

        Raises:
            LinkError, PortError: ``error``, when the budget is spent or nothing can be opened again.
        """
        if self.budget_s <= 0 or (broke and self._reopen is None):
            raise error
        if self._since_s is None:
            self._since_s, self._error = self._clock(), error
            self.say(f"{error.what}; waiting up to {self.budget_s:g} s for it (hil deploy --reconnect-timeout)")
        elif broke:  # it can be opened, and nobody serves us there
            self._sleep(TRY_EVERY_S)
        self.go_on(transport)
        if not broke or self._reopen is None:
            return transport
        transport.close()
        while True:
            try:
                return self._reopen()
            except (PortError, LinkError):
                self._sleep(TRY_EVERY_S)
                self.go_on(transport)

    def heard(self) -> None:
        """End the outage, since the chip answers again, and report how long it lasted."""
        if self._since_s is not None:
            self.say(f"the chip answers again after {self._clock() - self._since_s:.1f} s")
            self._since_s = None

    def go_on(self, transport: Transport) -> None:
        """Report the time left now and then; raises the error that began the outage when no time is left."""
        if self._since_s is None or self._error is None:
            return
        left_s = self._since_s + self.budget_s - self._clock()
        if left_s <= 0:
            raise self._error
        if self._clock() - self._told_s >= REPORT_EVERY_S:
            self.say(f"still waiting for {transport.address}: {left_s:.0f} s left")

    def say(self, text: str) -> None:
        self._told_s = self._clock()
        if self._report is not None:
            self._report(text)
