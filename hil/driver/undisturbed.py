"""Blocks of code that Ctrl-C does not tear apart."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_ASKS_TO_END = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A signal that would raise ``KeyboardInterrupt`` raises it at the end of the block, not within.

    For short blocks; handlers of others are left alone, and threads other than the main one get no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def later(number: int, _: FrameType | None) -> None:
        came.append(number)

    waiting = [s for s in _ASKS_TO_END if signal.getsignal(s) is signal.default_int_handler]
    for number in waiting:
        signal.signal(number, later)
    try:
        yield
    finally:
        for number in waiting:
            signal.signal(number, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
