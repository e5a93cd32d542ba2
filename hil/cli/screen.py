"""Progress for people: one line on stderr a stage; on the way a bar, or without a terminal a line a minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hil.watch import Watch

EVERY_S = 60.0


class Screen(Watch):
    """A watcher that draws. Bars need a terminal; without one (a log, CI) a long stage says each minute where it is."""

    def __init__(self, *, quiet: bool = False, every_s: float = EVERY_S) -> None:
        super().__init__()
        self.quiet, self.every_s = quiet, every_s
        self.console = Console(stderr=True, highlight=False)
        self.live = not quiet and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[what]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self.task: TaskID | None = None
        self.stage_name, self.started, self.told = "", 0.0, 0.0

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, name: str) -> None:
        self.stage_name, self.started = name, time.monotonic()
        self.told = self.started
        if self.live:
            self.task = self.bar.add_task(name, total=1, what="")

    def end(self, name: str) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        took = time.monotonic() - self.started
        if took >= 0.5 and not self.quiet:
            self.console.print(f"{name:<14} {took:.1f} s", style="dim")

    def step(self, done: int, total: int, what: str = "") -> None:
        if self.task is not None:
            self.bar.update(self.task, completed=done, total=max(total, 1), what=what)
        elif not self.quiet and 0 < done < total and time.monotonic() - self.told >= self.every_s:
            self.told = time.monotonic()
            took = self.told - self.started
            left = f"{took:.0f} s, about {took * (total - done) / done:.0f} s left"
            self.console.print(f"{self.stage_name:<14} {done}/{total} {what}, {left}", style="dim")

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(f"note           {text}")
