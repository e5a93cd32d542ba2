"""Observer of a long job: stages, progress, notes; the silent one is the default.

A job is planned before it begins (``Watch.plan``): its stages in order, each with the work that it is expected to take.
The share that is done, of a stage and of the whole, only grows: a stage that is passed over counts as done, one that
nobody planned counts as nothing, and sets of steps that follow each other within a stage share it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

LEAST_SHARE = 0.02  # of a stage that is done before its pace tells when it ends
PRIOR = 0.05  # of the planned work: how much of it outweighs the plan's own idea of the pace


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage to come. ``work_s``: expected time, s, times its chance where it may not be needed; the pace of the
    stages before corrects it.

    ``waits_s``: time that it waits besides, by the clock, at no pace.
    """

    name: str
    work_s: float
    waits_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SetOfSteps:
    """Steps of one kind within a stage, counted by themselves; ``weight`` beside the stage's other sets."""

    name: str = ""
    weight: float = 1.0


@dataclass
class Waits:
    """Time that passed by the clock and not by work: waits that are over, and the one that lasts."""

    _over_s: float = 0.0
    _began_s: float | None = None
    _ends_s: float = 0.0

    @property
    def lasts(self) -> bool:
        return self._began_s is not None

    def begin(self, now_s: float, seconds: float) -> None:
        self._began_s, self._ends_s = now_s, now_s + seconds

    def end(self, now_s: float) -> None:
        self._over_s, self._began_s = self.past_s(now_s), None

    def past_s(self, now_s: float) -> float:
        return self._over_s + (0.0 if self._began_s is None else max(now_s - self._began_s, 0.0))

    def left_s(self, now_s: float) -> float:
        return 0.0 if self._began_s is None else max(self._ends_s - now_s, 0.0)


@dataclass
class StageProgress:
    """Progress of a stage. ``share``: 0 to 1; ``what``: the work under way, in words."""

    name: str
    started_s: float
    sets: Sequence[SetOfSteps] = (SetOfSteps(),)
    share: float = 0.0
    done: int = 0
    total: int = 0
    what: str = ""
    waits: Waits = field(default_factory=Waits)
    _stepped_s: float = 0.0  # of work, when the last step was made
    _at: int = -1  # of the sets
    _low: float = 0.0
    _high: float = 1.0

    def __post_init__(self) -> None:
        weights = [s.weight for s in self.sets]
        self._ends = [end / sum(weights) for end in accumulate(weights)]

    def step(self, done: int, total: int, what: str, of: str = "") -> None:
        """Note ``done`` of ``total`` steps; counted from less, or out of another total, they are the next set's."""
        current = self.sets[self._at].name if 0 <= self._at < len(self.sets) else ""
        if self._at < 0 or done < self.done or total != self.total or of != current:
            self._next_set(of)
        self.done, self.total, self.what = done, total, what
        self._stepped_s = self.worked_s(time.monotonic())
        reached = min(done / total, 1.0) if total > 0 else 0.0
        self.share = max(self.share, self._low + (self._high - self._low) * reached)

    def _next_set(self, of: str) -> None:
        later = [n for n in range(self._at + 1, len(self.sets)) if self.sets[n].name == of]
        if later:
            self._at = later[0]
            self._low = max(self.share, self._ends[self._at - 1] if self._at else 0.0)
            self._high = max(self._low, self._ends[self._at])
        else:  # one more than was planned: it gets half of what is left
            self._low, self._high = self.share, (self.share + 1.0) / 2.0

    def worked_s(self, now_s: float) -> float:
        """Time since the stage began, without waits, s."""
        return max(now_s - self.started_s - self.waits.past_s(now_s), 0.0)

    def silent_s(self, now_s: float) -> float:
        """Time since the last step, or since the stage began, without waits, s."""
        return max(self.worked_s(now_s) - self._stepped_s, 0.0)

    def left_s(self, now_s: float) -> float | None:
        """Time that the rest takes at the pace up to the last step, and the wait that lasts, s; None where unknown.

        A step that takes longer than the whole rest was expected to take tells nothing of how long that rest is.
        """
        waits_s = self.waits.left_s(now_s)
        if self.share < LEAST_SHARE:
            return waits_s if waits_s and not self.total else None
        left_s = self._stepped_s * (1.0 - self.share) / self.share - self.silent_s(now_s)
        return None if left_s < 0.0 and not waits_s else waits_s + max(left_s, 0.0)


@dataclass
class JobProgress:
    """Progress of the whole job."""

    stages: Sequence[PlannedStage]
    started_s: float
    waits: Waits = field(default_factory=Waits, repr=False)
    _begun: int = field(default=-1, repr=False)
    _finished: bool = field(default=False, repr=False)
    _shown: float = field(default=0.0, repr=False)

    def begin(self, name: str) -> None:
        """A stage begins; those planned before it are over."""
        later = [n for n in range(self._begun + 1, len(self.stages)) if self.stages[n].name == name]
        if later:
            self._begun, self._finished = later[0], False

    def end(self, name: str) -> None:
        if self._begun >= 0 and self.stages[self._begun].name == name:
            self._finished = True

    def share(self, stage: StageProgress | None) -> float:
        """Share of the planned work that is done, of 1."""
        total = sum(s.work_s for s in self.stages)
        if self._begun < 0 or total <= 0.0:
            return self._shown
        here = self.stages[self._begun]
        part = 1.0 if self._finished else stage.share if stage is not None and stage.name == here.name else 0.0
        done = sum(s.work_s for s in self.stages[: self._begun]) + part * here.work_s
        self._shown = max(self._shown, min(done / total, 1.0))
        return self._shown

    def left_s(self, stage: StageProgress | None, now_s: float) -> float | None:
        """Time that the rest is expected to take, s: the planned work at the pace so far, and the waits to come.

        Never less than the stage at work says of itself. None where a step of that stage has taken longer than was
        planned for the rest of it: nothing is known of how long it still takes.
        """
        total = sum(s.work_s for s in self.stages)
        share, prior = self.share(stage), PRIOR * total
        worked_s = max(now_s - self.started_s - self.waits.past_s(now_s), 0.0)
        silent_s = here_s = 0.0
        own_s = None if stage is None else stage.left_s(now_s)
        if stage is not None and self._at_work(stage):
            silent_s = stage.silent_s(now_s)
            here_s = self.stages[self._begun].work_s * (1.0 - stage.share)
        pace = (max(worked_s - silent_s, 0.0) + prior) / (share * total + prior) if total > 0.0 else 0.0
        if stage is not None and silent_s > pace * here_s and own_s is None and not stage.waits.lasts:
            return None
        left_s = max(pace * (1.0 - share) * total - silent_s, 0.0) + self._waits_s(stage, now_s)
        return left_s if own_s is None else max(left_s, own_s)

    def _at_work(self, stage: StageProgress) -> bool:
        """Whether the stage is the planned one that was begun last."""
        return (
            0 <= self._begun < len(self.stages) and self.stages[self._begun].name == stage.name and not self._finished
        )

    def _waits_s(self, stage: StageProgress | None, now_s: float) -> float:
        """Waits that are still to come and the one that lasts, s."""
        later_s = sum(s.waits_s for s in self.stages[max(self._begun + 1, 0) :])
        if stage is None:
            return later_s
        planned_s = 0.0
        if self._at_work(stage):
            planned_s = self.stages[self._begun].waits_s
        return later_s + max(planned_s - stage.waits.past_s(now_s), stage.waits.left_s(now_s))


class Watch:
    """Silent watcher; keeps how long each stage took. The command line has one that draws bars.

    Example:
        >>> class Lines(Watch):
        ...     def note(self, text):
        ...         print("note:", text)
        >>> Lines().note("columns as the chip file says")
        note: columns as the chip file says
    """

    def __init__(self) -> None:
        self.timing_s: dict[str, float] = {}
        self.notes: list[str] = []
        self.job: JobProgress | None = None
        self.stages: list[StageProgress] = []  # at work, the outer ones first
        self.took_s = 0.0  # by the stage that ended last

    def plan(self, stages: Sequence[PlannedStage]) -> None:
        """The stages that are to come, in order, before the first of them."""
        self.job = JobProgress(stages, time.monotonic())

    @contextmanager
    def stage(self, name: str, sets: Sequence[SetOfSteps] = (SetOfSteps(),)) -> Iterator[None]:
        """A part of the job; its wall time goes into ``timing_s``. ``sets``: of steps, in order, that share it."""
        start = time.monotonic()
        if self.job is not None and not self.stages:
            self.job.begin(name)
        self.stages.append(StageProgress(name, start, sets))
        self.begin(name)
        try:
            yield
        finally:
            self.took_s = time.monotonic() - start
            self.timing_s[name] = self.timing_s.get(name, 0.0) + self.took_s
            self.stages.pop()
            if self.job is not None and not self.stages:
                self.job.end(name)
            self.end(name)

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        """Progress within the stage at work: ``done`` of ``total`` steps of the set ``of``. Without a stage: none."""
        if self.stages:
            self.stages[-1].step(done, total, what, of)
            self.moved()

    def choose(self, question: str, answers: Sequence[str]) -> int:
        """The place of the answer that whoever watches takes; where nobody can be asked the first, and that is said."""
        self.message(f"{question}: {answers[0]}, unless you choose otherwise: {'; '.join(answers[1:])}")
        return 0

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """A wait of known length within the stage at work; what is left of it is told by the clock."""
        told = [*(stage.waits for stage in self.stages), *([] if self.job is None else [self.job.waits])]
        for waits in told:
            waits.begin(time.monotonic(), seconds)
        try:
            yield
        finally:
            for waits in told:
                waits.end(time.monotonic())

    def note(self, text: str) -> None:
        """Something the user must know; it also goes into the report."""
        if text not in self.notes:
            self.notes.append(text)
            self.message(text)

    def found(self, phase: str, text: str) -> None:
        """Findings of a phase so far (of ``hil deploy``: compile, calibrate, write, …): the last text counts.

        Told by a watcher that was given the phases.
        """

    def begin(self, name: str) -> None:
        """A stage begins."""

    def end(self, name: str) -> None:
        """A stage is over."""

    def moved(self) -> None:
        """A step was made."""

    def message(self, text: str) -> None:
        """One line for people."""
