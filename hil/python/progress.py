"""Progress of a call where somebody looks: in a notebook, or on a terminal. A script in a pipe stays silent."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from hil.watch import Watch

EVERY_S = 5.0  # lines of a notebook, whose bars cannot move


def in_notebook() -> bool:
    """Whether this is a kernel whose cells show what they return."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


@contextlib.contextmanager
def progress(watch: Watch | None) -> Iterator[Watch]:
    """``watch``, or what shows progress here."""
    if watch is not None:
        yield watch
    elif in_notebook() or sys.stderr.isatty():
        from hil.cli.terminal.screen import Screen

        with Screen(every_s=EVERY_S) as screen:
            yield screen
    else:
        yield Watch()
