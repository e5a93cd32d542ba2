"""Progress for people on stderr: on a terminal bars of the stage and of the whole, in a log a line now and then.

Elapsed time and the time left come from ``hil.watch``; both are shown for the stage at work and, where the job was
planned, for the whole. A stage without steps shows that its time goes on. Each finished stage leaves a line; in a job
of phases (``hil deploy``) each finished phase does, with what it found.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.prompt import Prompt
from rich.text import Text

from hil.report.terminal.lines import fitted, printable
from hil.watch import StageProgress, Watch

EVERY_S = 60.0  # lines of a log
LEAST_SHOWN_S = 0.05
TOLD_S = 0.5  # a stage that took longer leaves a line
WHOLE = "in all"
NAME, NAME_IN_PHASE = 14, 25  # columns of "calibrating" and of "measure: simulating"
BAR, PERCENT, ROOM_FOR_BARS = 20, 7, 80  # columns of a terminal


class Screen(Watch):
    """A watcher that draws. Bars need a terminal; without one (a log, CI) a long stage says where it is each minute.

    Args:
        phases: of the job, in order, each with its stages, the one that it is named for first. A stage that belongs to
            a phase that is over, or to none, counts to the phase at work.
        asks: whether somebody at the terminal may be asked; else the first answer is taken.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        every_s: float = EVERY_S,
        phases: Mapping[str, Sequence[str]] | None = None,
        asks: bool = False,
    ) -> None:
        super().__init__()
        self.quiet, self.every_s, self.phases, self.asks = quiet, every_s, dict(phases or {}), asks
        self._phase, self._phase_s, self._found = "", 0.0, dict[str, str]()
        self.console = Console(stderr=True, highlight=False)
        self.live = not quiet and sys.stderr.isatty()
        bar = [BarColumn(bar_width=BAR)] if self.console.width >= ROOM_FOR_BARS else []
        self._wide = bool(bar)
        name = NAME_IN_PHASE if self.phases and self._wide else NAME
        self.bar = Progress(
            TextColumn(f"{{task.description:<{name}}}", markup=False),
            *bar,
            TextColumn("{task.percentage:3.0f} %", markup=False),
            _Times(self, self.console.width - name - PERCENT - len(bar) * (BAR + 1)),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self.began_s = self.told_s = time.monotonic()  # the whole; the last line of a log
        self._whole: TaskID | None = None  # its bar, where the job was planned
        self._stage: TaskID | None = None
        self._over = threading.Event()
        self._teller: threading.Thread | None = None

    def __enter__(self) -> Screen:
        self.bar.start()
        if not self.live and not self.quiet:
            self._teller = threading.Thread(target=self._tell_now_and_then, daemon=True)
            self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._teller is not None:
            self._teller.join()
        self._end_phase(whole=kind is None)
        self.bar.stop()

    def begin(self, name: str) -> None:
        self.told_s = time.monotonic()
        if len(self.stages) == 1:
            self._reach(next((phase for phase, stages in self.phases.items() if name in stages), ""))
        self._draw()

    def end(self, name: str) -> None:
        self.told_s = time.monotonic()
        if self._phase:
            self._phase_s += 0.0 if self.stages else self.took_s
        elif self.took_s >= TOLD_S and not self.quiet:
            self._print(f"{name:<{NAME}} {spelled(self.took_s)}", "dim")
        self._draw()

    def found(self, phase: str, text: str) -> None:
        if phase in self.phases:
            self._reach(phase)
            self._found[phase] = text

    def _reach(self, phase: str) -> None:
        """Begin the phase of a stage; a phase that is over is not begun again."""
        order = list(self.phases)
        if phase and (not self._phase or order.index(phase) > order.index(self._phase)):
            self._end_phase(whole=True)
            self._phase, self._phase_s = phase, 0.0

    def _end_phase(self, *, whole: bool) -> None:
        """Print the line of the finished phase; ``whole``: it was not cut short."""
        if self._phase and not self.quiet:
            found = self._found.get(self._phase, "") if whole else "not finished"
            took = spelled(self._phase_s) if self._phase_s >= LEAST_SHOWN_S else ""
            self._print(f"{self._phase:<{NAME}} {'   '.join(filter(None, (found, took)))}")
        self._phase = ""

    def named(self, stage: str) -> str:
        """A stage as its bar and the lines of a log call it: "measure: simulating", or alone where there is no room."""
        if not self._phase or not self._wide:
            return stage
        return self._phase if stage == self.phases[self._phase][0] else f"{self._phase}: {stage}"

    def moved(self) -> None:
        if self.live:
            if self._whole is not None and self.job is not None:
                self.bar.update(self._whole, completed=self.job.share(self.stages[0] if self.stages else None))
            if self._stage is not None and self.stages:
                self.bar.update(self._stage, completed=self.stages[-1].share)
        elif time.monotonic() - self.told_s >= self.every_s:
            self._tell()

    def message(self, text: str) -> None:
        if not self.quiet:
            self._print(f"{'note':<{NAME}} {text}")

    def choose(self, question: str, answers: Sequence[str]) -> int:
        if not (self.live and self.asks and sys.stdin.isatty()):
            return super().choose(question, answers)
        self.bar.stop()
        try:
            self.message(question)
            for number, answer in enumerate(answers, 1):
                self._print(f"{number:>14} {answer}")
            numbers = [str(number) for number in range(1, len(answers) + 1)]
            return int(Prompt.ask("choose", console=self.console, choices=numbers, default="1")) - 1
        finally:
            self.bar.start()

    def words(self, whole: bool, room: int | None = None) -> str:
        """ "measuring" or the whole, in words: ``12 s, about 48 s left  320/1500 repeat 1 of 3``.

        ``room``: columns there are; what does not fit into them is left out, the last first.
        """
        now = time.monotonic()
        stage = self.stages[-1] if self.stages else None
        if whole:
            left = None if self.job is None else self.job.left_s(self.stages[0] if self.stages else None, now)
            inner = [s for s in (one.left_s(now) for one in self.stages[1:]) if s is not None]
            left = None if left is None else max([left, *inner])
            return _fitting(room, spelled(now - self.began_s), _left(left))
        if stage is None:
            return ""
        steps = (f"  {stage.done}/{stage.total}", f" {stage.what}".rstrip()) if stage.total else ()
        return _fitting(room, spelled(now - stage.started_s), _left(stage.left_s(now)), *steps)

    def _draw(self) -> None:
        """Draw the bars of the stages that are at work."""
        if not self.live:
            return
        if self._stage is not None:
            self.bar.remove_task(self._stage)
            self._stage = None
        if self.job is not None and self._whole is None:
            self._whole = self.bar.add_task(WHOLE, total=1.0)
        if self.stages:
            self._stage = self.bar.add_task(self.named(self.stages[-1].name), total=1.0)
        self.moved()

    def _tell_now_and_then(self) -> None:
        """Lines of a log while a stage makes no steps."""
        while not self._over.wait(max(min(self.every_s, 1.0), 0.05)):
            if self.stages and time.monotonic() - self.told_s >= self.every_s:
                self._tell()

    def _tell(self) -> None:
        stage: StageProgress | None = self.stages[-1] if self.stages else None
        if stage is None or self.quiet:
            return
        self.told_s = time.monotonic()
        whole = "" if self.job is None else f"; {WHOLE} {self.words(whole=True)}"
        self._print(f"{self.named(stage.name):<{NAME}} {self.words(whole=False)}{whole}", "dim")

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(fitted(printable(text), sys.stderr), style=style, markup=False, soft_wrap=True)


class _Times(TextColumn):
    """Times of a bar, as they are when it is drawn."""

    def __init__(self, screen: Screen, room: int) -> None:
        super().__init__("")
        self.screen, self.room = screen, room

    def render(self, task: Task) -> Text:
        return Text(self.screen.words(task.description == WHOLE, self.room))


def _left(left_s: float | None) -> str:
    """``, about 48 s left``."""
    return "" if left_s is None else f", about {spelled(left_s)} left"


def _fitting(room: int | None, *parts: str) -> str:
    """As many of the parts, from the first, as there is room for."""
    text = ""
    for part in parts:
        if room is not None and len(text) + len(part) > room:
            break
        text += part
    return text


def spelled(seconds: float) -> str:
    """3725 -> "1 h 2 min"; 200 -> "3 min 20 s"; 21 -> "21 s"; 2.34 -> "2.3 s"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
