"""Handlers in a thread of their own, so that a busy board does not silence its link.

Each verb becomes a generator that lets the link take its turn while the thread works; the
handlers themselves still see one call at a time, all from the same thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from firmware_protocols.handlers import Answer, ChipHandlers, Refusal, RunsPlans, call, prepare
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    Done,
    ErrorCode,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    OutputsOff,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Request,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan

log = logging.getLogger(__name__)

T = TypeVar("T")
Q = TypeVar("Q")

_TURN_S = 0.005  # how long the link waits for a result before it looks at its own bytes


def planner(handlers: ChipHandlers) -> RunsPlans:
    """The handlers' sequencer; raises ``Refusal`` (UNSUPPORTED) where they have none."""
    if not isinstance(handlers, RunsPlans):
        raise Refusal(ErrorCode.UNSUPPORTED, "this board has no sequencer")
    return handlers


class InBackground:
    """``ChipHandlers`` around others. Leaving the block switches the outputs off."""

    def __init__(self, handlers: ChipHandlers) -> None:
        self._handlers = handlers
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="board")
        self._ended = False
        self._prepared: Future[None] = self._thread.submit(lambda: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._thread.submit(call, self._handlers, OutputsOff()).result()
        finally:
            self._thread.shutdown()
            self._ended = True

    @property
    def capabilities(self) -> Capability:
        return self._handlers.capabilities

    @property
    def chip_time_ns(self) -> int:
        return self._handlers.chip_time_ns

    def prepare(self, request: Request[Any]) -> None:
        self._prepared = self._thread.submit(prepare, self._handlers, request)

    def describe(self) -> Generator[Progress | None, None, Description]:
        return self._steps(self._handlers.describe)

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        return self._steps(lambda: self._handlers.program_tile(request))

    def pulse(self, request: Pulse) -> Generator[Progress | None, None, Done]:
        return self._steps(lambda: self._handlers.pulse(request))

    def read_cells(self, request: ReadCells) -> Generator[Progress | None, None, CellReadings]:
        return self._steps(lambda: self._handlers.read_cells(request))

    def mvm(self, request: Mvm) -> Generator[Progress | None, None, MvmResult]:
        return self._steps(lambda: self._handlers.mvm(request))

    def sweep(self, request: Sweep) -> Generator[Progress | None, None, MvmResult]:
        return self._steps(lambda: self._handlers.sweep(request))

    def load_layer(self, request: LoadLayer) -> Generator[Progress | None, None, Done]:
        return self._steps(lambda: self._handlers.load_layer(request))

    def load_plan(self, request: LoadPlan) -> Generator[Progress | None, None, Done]:
        return self._steps(lambda: planner(self._handlers).load_plan(request))

    def run_plan(self, request: RunPlan) -> Generator[Progress | None, None, PlanResult]:
        return self._steps(lambda: planner(self._handlers).run_plan(request))

    def hold_program(self, request: HoldProgram) -> Generator[Progress | None, None, Done]:
        return self._steps(lambda: self._handlers.hold_program(request))

    def status(self) -> Generator[Progress | None, None, StatusReply]:
        return self._steps(self._handlers.status)

    def wait(self, request: Wait) -> Generator[Progress | None, None, Done]:
        return self._steps(lambda: self._handlers.wait(request))

    def outputs_off(self) -> Generator[Progress | None, None, Done]:
        """Switches the outputs off after the present step, even if nobody waits for the answer."""
        return self._answers(self._submit(self._handlers.outputs_off))

    def reset(self) -> Generator[Progress | None, None, Done]:
        return self._answers(self._submit(self._handlers.reset))

    def _submit(self, what: Callable[[], T]) -> Future[T]:
        """Let the thread call ``what``; a failure is logged, since nobody may look at the outcome."""
        future = self._thread.submit(what)
        future.add_done_callback(_note_failure)
        return future

    def _steps(self, verb: Callable[[], Answer[T]]) -> Generator[Progress | None, None, T]:
        return self._run(verb, self._prepared)

    def _run(self, verb: Callable[[], Answer[T]], prepared: Future[None]) -> Generator[Progress | None, None, T]:
        """Call a verb in the thread, unless it was refused."""
        yield from _until_done(prepared)
        return (yield from self._answers(self._thread.submit(verb)))

    def _answers(self, future: Future[Answer[T]]) -> Generator[Progress | None, None, T]:
        """Step through what a verb gave; closed early, it ends the verb after the step in hand."""
        answer = yield from _until_done(future)
        if not isinstance(answer, Generator):
            return answer
        try:
            while True:
                progress: Progress | _Last[T] | None = yield from _until_done(self._thread.submit(_next, answer))
                if isinstance(progress, _Last):
                    return progress.value
                yield progress
        finally:
            if self._ended:
                answer.close()
            else:
                self._submit(answer.close)


class _Last(Generic[T]):
    """The return value of a generator; StopIteration itself cannot pass through a future."""

    def __init__(self, value: T) -> None:
        self.value = value


def _next(steps: Generator[Progress | None, None, T]) -> Progress | _Last[T] | None:
    try:
        return next(steps)
    except StopIteration as end:
        return _Last(end.value)


def _until_done(future: Future[T]) -> Generator[None, None, T]:
    while not wait((future,), timeout=_TURN_S).done:
        yield None
    return future.result()


def _note_failure(future: Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("the board failed: %s: %s", type(error).__name__, error)
