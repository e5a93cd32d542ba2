"""What stands behind the chip role: one method a request, implemented by an emulated chip or a board's own SDK.

``ChipServer`` (firmware_protocols.chip) reads the frames, checks capabilities, calls these
methods one at a time and turns what they return or raise into replies. A method refuses by
raising ``Refusal``; any other exception switches the outputs off and is answered FAULT.

A method that takes more than about a second must not hold the link up: it is written as a
generator that yields ``Progress`` (sent to the host) or ``None`` (only lets the link
acknowledge) and returns its reply. The generator is closed, at a yield, when the host
switches the outputs off or another host takes over. It is held up at one, with the outputs off,
while nothing is heard of the host.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from firmware_protocols.errors import ChipProblem, LocalProtocolError
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Describe,
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

T = TypeVar("T")

DRIVING = (ProgramTile, Pulse, ReadCells, Mvm, Sweep, RunPlan)  # requests that put voltages on the array

Answer: TypeAlias = T | Generator[Progress | None, None, T]
"""A reply, or a generator that ends with it."""


class Refusal(ChipProblem):
    """The chip refuses the request; sent as an ``ErrorReply``.

    ``value`` and ``limit`` are the number asked for and the number allowed, 0 where none apply.
    """

    def __init__(self, code: ErrorCode, text: str, value: float = 0.0, limit: float = 0.0) -> None:
        super().__init__(text)
        self.code, self.text, self.value, self.limit = code, text, value, limit


@runtime_checkable
class ChipHandlers(Protocol):
    """The verbs of one chip.

    Minimum: describe, read_cells, mvm, outputs_off, and program_tile or pulse. All else is a
    capability; methods of capabilities that are not set are never called and may raise
    ``Refusal(ErrorCode.UNSUPPORTED, ...)``.
    """

    @property
    def capabilities(self) -> Capability: ...

    @property
    def chip_time_ns(self) -> int:
        """The chip's own clock, nanoseconds since its start; every reply carries it."""
        ...

    def describe(self) -> Answer[Description]: ...

    def program_tile(self, request: ProgramTile) -> Answer[TileProgrammed]: ...

    def pulse(self, request: Pulse) -> Answer[Done]: ...

    def read_cells(self, request: ReadCells) -> Answer[CellReadings]: ...

    def mvm(self, request: Mvm) -> Answer[MvmResult]: ...

    def sweep(self, request: Sweep) -> Answer[MvmResult]: ...

    def load_layer(self, request: LoadLayer) -> Answer[Done]: ...

    def hold_program(self, request: HoldProgram) -> Answer[Done]: ...

    def status(self) -> Answer[StatusReply]:
        """Called as the request arrives, also between two steps of a generator."""
        ...

    def wait(self, request: Wait) -> Answer[Done]: ...

    def outputs_off(self) -> Answer[Done]:
        """Take every voltage off the array. Called also after faults; must not fail."""
        ...

    def reset(self) -> Answer[Done]: ...


@runtime_checkable
class Prepares(Protocol):
    """A chip that looks at a request before the verb for it is called, whatever that verb does."""

    def prepare(self, request: Request[Any]) -> None:
        """Raise ``Refusal`` for a request that must not be carried out; called again before a paused one goes on."""
        ...


@runtime_checkable
class RunsPlans(Protocol):
    """A chip with a sequencer (capability PLAN)."""

    def load_plan(self, request: LoadPlan) -> Answer[Done]: ...

    def run_plan(self, request: RunPlan) -> Answer[PlanResult]: ...


def prepare(on: ChipHandlers, request: Request[Any]) -> None:
    """Let a chip look at a request, if it wants to."""
    if isinstance(on, Prepares):
        on.prepare(request)


def call(on: ChipHandlers, request: Request[Any]) -> Answer[Reply]:
    """Give a request to the verb that is there for it."""
    prepare(on, request)
    match request:
        case Describe():
            return on.describe()
        case ProgramTile():
            return on.program_tile(request)
        case Pulse():
            return on.pulse(request)
        case ReadCells():
            return on.read_cells(request)
        case Mvm():
            return on.mvm(request)
        case Sweep():
            return on.sweep(request)
        case LoadLayer():
            return on.load_layer(request)
        case LoadPlan() if isinstance(on, RunsPlans):
            return on.load_plan(request)
        case RunPlan() if isinstance(on, RunsPlans):
            return on.run_plan(request)
        case HoldProgram():
            return on.hold_program(request)
        case Status():
            return on.status()
        case Wait():
            return on.wait(request)
        case OutputsOff():
            return on.outputs_off()
        case Reset():
            return on.reset()
    raise LocalProtocolError(f"no handler for {type(request).__name__}")
