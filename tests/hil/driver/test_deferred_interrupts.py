"""Ctrl-C and its like come between steps of work, not within."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from hil.driver.deferred_interrupts import deferred_interrupts, end_soon


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, end_soon)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_to_end_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


COMPILER_WORK = """
def work():
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.1)
    done.append(True)
"""


def test_a_signal_within_the_compiler_of_kernels_is_raised_once_that_is_done() -> None:
    """An exception of a signal makes a ``SystemError`` in the compiler's C code, or ends the process."""
    done: list[bool] = []
    compiler = {"__name__": "numba.core.dispatcher", "signal": signal, "time": time, "done": done}
    exec(COMPILER_WORK, compiler)  # a function of that module

    def work_and_wait() -> None:
        compiler["work"]()  # type: ignore[operator]
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        work_and_wait()
    assert done == [True]


def test_a_signal_within_a_deferring_block_is_raised_at_its_end() -> None:
    done: list[bool] = []

    def block() -> None:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGTERM)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [True]
    assert signal.getsignal(signal.SIGTERM) is end_soon
