"""Handlers in a thread of their own, so that a busy board does not silence its link.

Each verb becomes a generator that lets the link take its turn while the thread works; the
handlers themselves still see one call at a time, all from the same thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

from firmware_protocols.handlers import Answer, ChipHandlers
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    Done,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)

T = TypeVar("T")
Q = TypeVar("Q")

_TURN_S = 0.005  # how long the link waits for a result before it looks at its own bytes


class InBackground:
    """``ChipHandlers`` around others. Leaving the block switches the outputs off."""

    def __init__(self, handlers: ChipHandlers) -> None:
        self._handlers = handlers
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="board")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.outputs_off()
        finally:
            self._thread.shutdown()

    @property
    def capabilities(self) -> Capability:
        return self._handlers.capabilities

    @property
    def chip_time_ns(self) -> int:
        return self._handlers.chip_time_ns

    def describe(self) -> Description:
        return self._thread.submit(self._handlers.describe).result()

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        return self._steps(self._handlers.program_tile, request)

    def pulse(self, request: Pulse) -> Generator[Progress | None, None, Done]:
        return self._steps(self._handlers.pulse, request)

    def read_cells(self, request: ReadCells) -> Generator[Progress | None, None, CellReadings]:
        return self._steps(self._handlers.read_cells, request)

    def mvm(self, request: Mvm) -> Generator[Progress | None, None, MvmResult]:
        return self._steps(self._handlers.mvm, request)

    def sweep(self, request: Sweep) -> Generator[Progress | None, None, MvmResult]:
        return self._steps(self._handlers.sweep, request)

    def load_layer(self, request: LoadLayer) -> Done:
        return self._thread.submit(self._handlers.load_layer, request).result()

    def hold_program(self, request: HoldProgram) -> Done:
        return self._thread.submit(self._handlers.hold_program, request).result()

    def status(self) -> StatusReply:
        return self._thread.submit(self._handlers.status).result()

    def wait(self, request: Wait) -> Generator[Progress | None, None, Done]:
        return self._steps(self._handlers.wait, request)

    def outputs_off(self) -> Done:
        return self._thread.submit(self._handlers.outputs_off).result()

    def reset(self) -> Done:
        return self._thread.submit(self._handlers.reset).result()

    def _steps(self, verb: Callable[[Q], Answer[T]], request: Q) -> Generator[Progress | None, None, T]:
        """Run one verb in the thread; closed early, it waits for the step in hand and ends the verb."""
        future: Future[Answer[T]] = self._thread.submit(verb, request)
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
            self._thread.submit(answer.close).result()


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
