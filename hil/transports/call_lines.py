"""A maker's library as a line: each line that is written is one call or several, and what they give is an answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hil.errors import UsageError
from hil.transports.base import CLEAN_PAYLOAD, lost


class CallLines:
    """Lines of calls in, lines of answers out.

    Args:
        carry_out: carries out a line, and gives its answer, if it has one.
        give_free: called at the end.
    """

    def __init__(self, address: str, carry_out: Callable[[str], str | None], give_free: Callable[[], None]) -> None:
        self.address, self._carry_out, self._give_free = address, carry_out, give_free
        self._pending, self._answers = bytearray(), deque[bytes]()

    @property
    def max_payload(self) -> int:
        return CLEAN_PAYLOAD

    def write(self, data: bytes) -> None:
        self._pending += data
        while (at := self._pending.find(b"\n")) >= 0:
            line = self._pending[:at].decode("ascii")
            del self._pending[: at + 1]
            try:
                answer = self._carry_out(line)
            except UsageError:
                raise
            except Exception as error:
                raise lost(self.address, error) from error
            if answer is not None:
                self._answers.append(answer.encode() + b"\n")

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        return self._answers.popleft() if self._answers else b""

    def close(self) -> None:
        self._give_free()
