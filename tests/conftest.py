"""What every test runs under: Ctrl-C reaches children, whatever started this process, and its time is written down."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

SLOW = Path(__file__).with_name("slow.txt")  # the slowest tests of a whole run, by docs/rooms_of_tests.py


def pytest_configure(config: pytest.Config) -> None:
    """A shell ignores SIGINT for what it starts in the background, and children inherit that: take it back."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("busy machines", deadline=None)
    hypothesis.settings.load_profile("busy machines")
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="hil-state-")  # locks of this run of the tests only
    config.addinivalue_line("markers", "slow: of the slowest tests of a whole run, left out by `make test`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = set(SLOW.read_text("utf-8").splitlines()) if SLOW.exists() else set()
    for item in items:
        if item.nodeid in slow:
            item.add_marker("slow")


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
