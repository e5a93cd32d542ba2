"""Code that Ctrl-C does not tear apart: blocks of ours, and the compiler of the kernels."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ASKS_TO_END = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
COMPILER = ("numba", "llvmlite")  # its C code makes another error of an exception that a signal raises, or aborts
AGAIN_S = 0.02


def end_soon(number: int, frame: FrameType | None) -> None:
    """Signal handler that raises ``KeyboardInterrupt``: at once, or as soon as the compiler of the kernels is done.

    Example:
        >>> before = signal.signal(signal.SIGTERM, end_soon)
    """
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in COMPILER:
            again = threading.Timer(AGAIN_S, _thread.interrupt_main, (number,))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """A signal that would raise ``KeyboardInterrupt`` raises it at the end of the block, not within.

    For short blocks; handlers of others are left alone, and threads other than the main one get no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def later(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in ASKS_TO_END}
    waiting = {n: handler for n, handler in before.items() if handler in (signal.default_int_handler, end_soon)}
    for number in waiting:
        signal.signal(number, later)
    try:
        yield
    finally:
        for number, handler in waiting.items():
            signal.signal(number, handler)
        if came:
            raise KeyboardInterrupt
