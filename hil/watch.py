"""Observer of a long job: stages, progress, notes; the silent one is the default."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """Silent watcher; keeps how long each stage took. The command line has one that draws bars."""

    def __init__(self) -> None:
        self.timing_s: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A part of the job; its wall time goes into ``timing_s``."""
        start = time.monotonic()
        self.begin(name)
        try:
            yield
        finally:
            self.timing_s[name] = self.timing_s.get(name, 0.0) + time.monotonic() - start
            self.end(name)

    def note(self, text: str) -> None:
        """Something the user must know; it also goes into the report."""
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def begin(self, name: str) -> None:
        pass

    def end(self, name: str) -> None:
        pass

    def step(self, done: int, total: int, what: str = "") -> None:
        """Progress within the stage."""

    def say(self, text: str) -> None:
        """One line for people."""
