"""Replay of a wire log: a chip that answers as recorded, and only to the recorded requests."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from firmware_protocols import codec
from firmware_protocols.connection import VERSIONS
from firmware_protocols.errors import ProtocolError
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Describe,
    Description,
    Done,
    ErrorReply,
    HelloReply,
    HoldProgram,
    LoadLayer,
    Mvm,
    MvmResult,
    OutputsOff,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reply,
    Request,
    Reset,
    Status,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.errors import FileError, LinkError
from hil.transports.in_process import InProcessTransport
from hil.transports.wire_log import Entry, Recording, read_wire_log

R = TypeVar("R", bound=Reply)


@dataclass
class Exchange:
    """One recorded request with its answers, in order."""

    number: int
    request: Entry
    answers: list[codec.Decoded] = field(default_factory=list)


def open_replay(rest: str, *, baud: int, timeout_s: float) -> ReplayTransport:
    """Open ``replay:WIRE.LOG``: a recorded session in place of a chip."""
    return ReplayTransport(rest)


class ReplayTransport(InProcessTransport):
    """An in-process chip role over a recording; raises ``LinkError`` at the first difference."""

    def __init__(self, path: str) -> None:
        address = f"replay:{path}"
        recording = read_wire_log(path)
        if not recording.replayable:
            raise FileError(
                f"{path} cannot be replayed: it was cut when it reached its size limit",
                where=path,
                hint="record a shorter run, or with a larger limit",
            )
        hello, exchanges = exchanges_of(path, recording)
        self._chip = RecordedChip(address, hello, exchanges)
        spoken = (VERSIONS[0], min(hello.version, VERSIONS[1]))  # a newer one would be asked for other things
        super().__init__(self._chip, address, boot_id=hello.boot_id, versions=spoken)

    def write(self, data: bytes) -> None:
        super().write(data)
        self._refuse()

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        data = super().read(max_bytes, timeout_s)
        self._refuse()
        return data

    def _refuse(self) -> None:
        if self._chip.difference is not None:
            raise self._chip.difference


class RecordedChip:
    """``ChipHandlers`` that gives recorded answers."""

    def __init__(self, address: str, hello: HelloReply, exchanges: list[Exchange]) -> None:
        self._address, self._hello = address, hello
        self._rest = iter(exchanges)
        self._total = len(exchanges)
        self._asked = itertools.count(1)
        self.chip_time_ns = 0
        self.difference: LinkError | None = None

    @property
    def capabilities(self) -> Capability:
        return self._hello.capabilities

    def describe(self) -> Description:
        return self._last(Describe())

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        return self._answers(request)

    def pulse(self, request: Pulse) -> Generator[Progress | None, None, Done]:
        return self._answers(request)

    def read_cells(self, request: ReadCells) -> Generator[Progress | None, None, CellReadings]:
        return self._answers(request)

    def mvm(self, request: Mvm) -> Generator[Progress | None, None, MvmResult]:
        return self._answers(request)

    def sweep(self, request: Sweep) -> Generator[Progress | None, None, MvmResult]:
        return self._answers(request)

    def load_layer(self, request: LoadLayer) -> Done:
        return self._last(request)

    def load_plan(self, request: LoadPlan) -> Done:
        return self._last(request)

    def run_plan(self, request: RunPlan) -> Generator[Progress | None, None, PlanResult]:
        return self._answers(request)

    def hold_program(self, request: HoldProgram) -> Done:
        return self._last(request)

    def status(self) -> StatusReply:
        return self._last(Status())

    def wait(self, request: Wait) -> Generator[Progress | None, None, Done]:
        return self._answers(request)

    def outputs_off(self) -> Done:
        if self.difference is not None:
            return Done()  # the chip role's own, after the fault
        return self._last(OutputsOff())

    def reset(self) -> Done:
        return self._last(Reset())

    def _last(self, request: Request[R]) -> R:
        run = self._answers(request)
        while True:
            try:
                next(run)
            except StopIteration as end:
                answer: R = end.value
                return answer

    def _answers(self, request: Request[R]) -> Generator[Progress | None, None, R]:
        exchange = self._next(request)
        for answer in exchange.answers:
            self.chip_time_ns = answer.chip_time_ns
            if isinstance(answer.message, Progress):
                yield answer.message
            elif isinstance(answer.message, ErrorReply):
                error = answer.message
                raise Refusal(error.code, error.text, error.value, error.limit)
            elif isinstance(answer.message, request.reply_class):
                return answer.message
            else:
                raise self._differs(f"request {exchange.number} was answered with {type(answer.message).__name__}")
        raise self._differs(f"the recording ends before request {exchange.number} is answered")

    def _next(self, request: Request[Any]) -> Exchange:
        number = next(self._asked)
        exchange = next(self._rest, None)
        name = type(request).__name__
        if exchange is None:
            raise self._differs(f"request {number} ({name}) comes after the recorded {self._total}")
        if not exchange.request.matches(codec.encode(request, exchange.request.request_id)):
            raise self._differs(
                f"request {number} differs: {name} {_size(request)} was requested, "
                f"{_recorded(exchange.request)} was recorded"
            )
        return exchange

    def _differs(self, text: str) -> LinkError:
        self.difference = LinkError(
            f"replay stopped: {text}",
            where=self._address,
            likely="other options, network, seed or program version than at the recording",
            hint="run with the options of the recorded run",
        )
        return self.difference


def exchanges_of(path: str | Path, recording: Recording) -> tuple[HelloReply, list[Exchange]]:
    """Join recorded requests with their answers; requests may have overlapped."""
    hello: HelloReply | None = None
    exchanges: list[Exchange] = []
    open_by_id: dict[int, Exchange] = {}
    for entry in recording.entries:
        if entry.sent:
            open_by_id[entry.request_id] = Exchange(len(exchanges) + 1, entry)
            exchanges.append(open_by_id[entry.request_id])
        elif entry.data is None:
            raise FileError(f"{path}: an answer is missing though the log says it is complete", where=str(path))
        else:
            decoded = _decoded(path, entry.data)
            if isinstance(decoded.message, HelloReply):
                hello = decoded.message
            elif decoded.request_id in open_by_id:
                open_by_id[decoded.request_id].answers.append(decoded)
    if hello is None:
        raise FileError(f"{path} holds no session", where=str(path), likely="the recorded chip never answered")
    return hello, exchanges


def _decoded(path: str | Path, data: bytes) -> codec.Decoded:
    try:
        return codec.decode(data)
    except ProtocolError as error:
        raise FileError(f"{path} holds a broken message: {error}", where=str(path)) from error


def _recorded(entry: Entry) -> str:
    if entry.data is None:
        return f"another one of {entry.size} bytes"
    return f"{type(codec.decode(entry.data).message).__name__} of {entry.size} bytes"


def _size(request: Request[Any]) -> str:
    return f"of {len(codec.encode(request))} bytes"
