"""Progress for people: one line on stderr a stage; on the way a bar, or without a terminal a line a minute.

Elapsed time counts from the beginning of the stage. The time left follows from the steps of the set at hand: where a
stage begins a second set, counted anew, its pace is that of this set.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from hil.watch import Watch

EVERY_S = 60.0
STEPS = "working"  # what steps belong to that no stage was begun for


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
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[what]}  {task.fields[time]}"),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self.task: TaskID | None = None
        self.stage_name, self.started, self.told = "", 0.0, 0.0
        self.set_started, self.set_first, self.last = 0.0, 0, (0, 0)  # of the set of steps at hand; (done, total)

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stage_name == STEPS:
            self.end(STEPS)
        self.bar.stop()

    def begin(self, name: str) -> None:
        if self.stage_name == STEPS:  # steps before a stage are one of their own
            self.end(STEPS)
        self.stage_name, self.started = name, time.monotonic()
        self.told = self.set_started = self.started
        self.set_first, self.last = 0, (0, 0)
        if self.live:
            self.task = self.bar.add_task(name, total=1, what="", time="")

    def end(self, name: str) -> None:
        self.stage_name = ""
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        took = time.monotonic() - self.started
        if took >= 0.5 and not self.quiet:
            self.console.print(f"{name:<14} {took:.1f} s", style="dim")

    def step(self, done: int, total: int, what: str = "") -> None:
        if not self.stage_name:
            self.begin(STEPS)
        now = time.monotonic()
        if done < self.last[0] or total != self.last[1]:  # another set
            self.set_started, self.set_first = (self.started, 0) if self.last == (0, 0) else (now, done)
        self.last = (done, total)
        if self.task is not None:
            self.bar.update(self.task, completed=done, total=max(total, 1), what=what, time=self._time(now))
        elif not self.quiet and 0 < done < total and now - self.told >= self.every_s:
            self.told = now
            self.console.print(f"{self.stage_name:<14} {done}/{total} {what}, {self._time(now)}", style="dim")

    def _time(self, now: float) -> str:
        """``12 s, about 48 s left``."""
        done, total = self.last
        made, took = done - self.set_first, now - self.set_started
        text = f"{now - self.started:.0f} s"
        return text if made <= 0 or done >= total else f"{text}, about {took * (total - done) / made:.0f} s left"

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(f"note           {text}")
