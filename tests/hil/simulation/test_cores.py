"""Simulation while the chip is at work: in order, and forgotten at once when the block ends by an error."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from hil.simulation.cores import BackgroundPool


def test_results_come_by_item_and_errors_with_their_result() -> None:
    with BackgroundPool() as cores:
        found = cores.begin(lambda n: 1 // n, (1, 0))
        assert found[0].result() == 1
        assert isinstance(found[1].exception(), ZeroDivisionError)


def test_a_block_that_fails_waits_for_nothing_and_begins_nothing_more() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)
    found: list[Future[None]] = []

    def hold(number: int) -> None:
        begun.release()
        assert gate.wait(300.0)

    def fail() -> None:
        with BackgroundPool() as cores:
            found.extend(cores.begin(hold, range(1000)))
            begun.acquire()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert found[-1].cancelled()
    assert not found[0].done()  # at work still: the block has not waited for it
    gate.set()
