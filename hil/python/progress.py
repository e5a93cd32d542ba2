"""Progress of a call, shown in a notebook or on a terminal; a script in a pipe stays silent."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from hil.watch import Watch

EVERY_S = 0.3  # between two states of a notebook's line
TOLD_S = 0.5  # a stage that took longer stands in the last one


def in_notebook() -> bool:
    """Whether Python runs in a notebook kernel, which displays results of cells."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


@contextlib.contextmanager
def progress(watch: Watch | None) -> Iterator[Watch]:
    """``watch``, or a watch that shows progress in the notebook or terminal."""
    if watch is not None:
        yield watch
    elif in_notebook():
        line = NotebookLine(importlib.import_module("IPython.display").display)
        try:
            yield line
        finally:
            line.close()
    elif sys.stderr.isatty():
        from hil.report.terminal.screen import Screen

        with Screen() as screen:
            yield screen
    else:
        yield Watch()


class NotebookLine(Watch):
    """A progress line below a notebook cell, updated during the work; at the end it shows the time of each stage.

    Notes stay below it. ``display``: IPython's.
    """

    def __init__(self, display: Any) -> None:
        super().__init__()
        self._began_s = self._shown_s = time.monotonic()
        self._said: list[str] = []
        self._handle = display(self._bundle("…"), raw=True, display_id=True)

    def close(self) -> None:
        """Leave the last line, with the total time."""
        self._show(self._took())

    def begin(self, name: str) -> None:
        self._show(self._now())

    def moved(self) -> None:
        if time.monotonic() - self._shown_s >= EVERY_S:
            self._show(self._now())

    def say(self, text: str) -> None:
        self._said.append(text)
        self._show(self._now())

    def _now(self) -> str:
        """ "measuring, 41 %, 12 s in all, about 17 s left"."""
        from hil.report.terminal.screen import spelled

        now, stage = time.monotonic(), self.stages[-1] if self.stages else None
        parts = [] if stage is None else [stage.name] + ([f"{100 * stage.share:.0f} %"] if stage.total else [])
        left_s = None if self.job is None else self.job.left_s(self.stages[0] if self.stages else None, now)
        parts.append(f"{spelled(now - self._began_s)} in all")
        return ", ".join(parts + ([] if left_s is None else [f"about {spelled(left_s)} left"]))

    def _took(self) -> str:
        """ "29 s: calibrating 3.1 s, measuring 20 s"."""
        from hil.report.terminal.screen import spelled

        long = [f"{name} {spelled(took_s)}" for name, took_s in self.timing_s.items() if took_s >= TOLD_S]
        return f"{spelled(time.monotonic() - self._began_s)}{': ' if long else ''}{', '.join(long)}"

    def _show(self, line: str) -> None:
        self._shown_s = time.monotonic()
        self._handle.update(self._bundle(line), raw=True)

    def _bundle(self, line: str) -> dict[str, str]:
        return {"text/plain": "\n".join([line, *(f"note: {text}" for text in self._said)])}
