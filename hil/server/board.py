"""A chip that can do nothing yet: the class to start from when putting a board of your own behind the chip role."""

from __future__ import annotations

import math
import time
from typing import NoReturn

from firmware_protocols.handlers import Answer, Refusal
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
    ProgramTile,
    Pulse,
    ReadCells,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)


class Board:
    """``ChipHandlers`` that refuse everything; chip time is the time since the object was made.

    Override ``capabilities``, ``describe``, ``read_cells``, ``mvm``, ``outputs_off`` and one of
    ``program_tile`` and ``pulse``. Each further verb that you override and claim as a
    capability saves the host work.
    """

    def __init__(self) -> None:
        self._start_ns = time.monotonic_ns()

    @property
    def capabilities(self) -> Capability:
        return Capability(0)

    @property
    def chip_time_ns(self) -> int:
        return time.monotonic_ns() - self._start_ns

    def describe(self) -> Description:
        self._refuse("describe")

    def program_tile(self, request: ProgramTile) -> Answer[TileProgrammed]:
        self._refuse("program_tile")

    def pulse(self, request: Pulse) -> Answer[Done]:
        self._refuse("pulse")

    def read_cells(self, request: ReadCells) -> Answer[CellReadings]:
        self._refuse("read_cells")

    def mvm(self, request: Mvm) -> Answer[MvmResult]:
        self._refuse("mvm")

    def sweep(self, request: Sweep) -> Answer[MvmResult]:
        self._refuse("sweep")

    def load_layer(self, request: LoadLayer) -> Done:
        self._refuse("load_layer")

    def hold_program(self, request: HoldProgram) -> Done:
        self._refuse("hold_program")

    def status(self) -> StatusReply:
        """Nothing known: no temperature, outputs perhaps on, no counts."""
        return StatusReply(math.nan, True, 0, 0)

    def wait(self, request: Wait) -> Answer[Done]:
        self._refuse("wait")

    def outputs_off(self) -> Done:
        self._refuse("outputs_off")

    def reset(self) -> Done:
        self._refuse("reset")

    def _refuse(self, verb: str) -> NoReturn:
        raise Refusal(ErrorCode.UNSUPPORTED, f"this board has no {verb}")
