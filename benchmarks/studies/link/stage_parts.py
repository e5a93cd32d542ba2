"""What each outer stage of a command takes, by counters that only grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hil.watch import Watch


class StageParts(Watch):
    """By outer stage, how far each counter of ``read`` went; "between" stages too."""

    def __init__(self, read: Callable[[], Sequence[float]]) -> None:
        super().__init__()
        self.parts: dict[str, list[float]] = {}
        self._read, self._at = read, read()

    def begin(self, name: str) -> None:
        if len(self.stages) == 1:
            self._note("between")

    def end(self, name: str) -> None:
        if not self.stages:
            self._note(name)

    def _note(self, name: str) -> None:
        now = self._read()
        before = self.parts.get(name, [0.0] * len(now))
        self.parts[name] = [was + b - a for was, a, b in zip(before, self._at, now, strict=True)]
        self._at = now
