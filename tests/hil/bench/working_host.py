"""A host that reads the cells of a chip without end, to be ended from outside."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import traceback
from multiprocessing.connection import Connection
from types import FrameType

from hil.driver.open_chip import open_chip
from hil.server.bench import chip as _imported_before_hosts_are_forked  # noqa: F401

RAISE = signal.SIGUSR1
WORKING = "working"


def work(address: str, told: Connection) -> None:
    """Read for ever; ``RAISE`` raises an error where it stands. Ends as a script of one's own does, and says why."""
    signal.signal(RAISE, _raise)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with open_chip(address) as chip:
            told.send(WORKING)
            while True:
                chip.read_cells(0)
    except BaseException:
        with contextlib.suppress(OSError):  # nobody listens any more
            told.send(traceback.format_exc())
    atexit._run_exitfuncs()  # multiprocessing leaves them out
    os._exit(1)


def _raise(_signal: int, _frame: FrameType | None) -> None:
    raise RuntimeError("as a script of one's own may")
