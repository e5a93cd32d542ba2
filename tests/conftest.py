"""What every test runs under: Ctrl-C reaches children, whatever started this process, and its time is written down."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """A shell ignores SIGINT for what it starts in the background, and children inherit that: take it back."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="hil-state-")  # locks of this run of the tests only


def _spent_s() -> float:
    """Processor time of this process and of those that it waited for."""
    return sum(os.times()[:4])


_BEGAN_S = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[_BEGAN_S] = _spent_s()
    return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """A fixture counts for the test that needed it first; docs/rooms_of_tests.py reads the times in the JUnit file."""
    yield
    item.user_properties.append(("processor_s", f"{_spent_s() - item.stash[_BEGAN_S]:.2f}"))
