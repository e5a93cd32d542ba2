"""What every test runs under: Ctrl-C reaches children, whatever this process was started with."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell ignores SIGINT for what it starts in the background, and children inherit that: take it back."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
