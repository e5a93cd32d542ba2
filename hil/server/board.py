"""A chip that can do nothing yet: the class to start from when putting a board of your own behind the chip role."""

from __future__ import annotations

import math
import time
from typing import Any, NoReturn

from cim.chip.spec import ChipSpec
from firmware_protocols.dead_man import OFF
from firmware_protocols.errors import MalformedMessage
from firmware_protocols.handlers import DRIVING, Answer, Refusal
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
    Request,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from firmware_protocols.plans.plan import Plan, PlanUpload
from hil.errors import UsageError
from hil.server.request_checks import check_request


class Board:
    """``ChipHandlers`` that refuse everything; chip time is the time since the object was made.

    Override ``capabilities``, ``describe``, ``read_cells``, ``mvm``, ``outputs_off`` and one of
    ``program_tile`` and ``pulse``. Each further verb that you override and claim as a
    capability saves the host work. No verb is called for what the chip file does not allow.

    A verb that calls an SDK often, or for long, is a generator: it yields after each call (None, or a ``Progress``)
    and returns its reply, so that STATUS and OUTPUTS_OFF need not wait for all of it.

    Args:
        spec: the chip file: addresses, converters and absolute limits.

    Attributes:
        layers: of a board that claims LAYER, the layers that it was given, by their numbers (``hil.run_layer``).
        plan: of a board that claims PLAN, the network that ``run_plan`` is to run (``run_plan = hil.run_plan``).

    Example:
        >>> class Acme(Board):
        ...     def outputs_off(self):
        ...         return firmware_protocols.Done()
        >>> Acme(cim.load_chip("lab-128")).capabilities
        <Capability: 0>
    """

    def __init__(self, spec: ChipSpec | None = None) -> None:
        if spec is None:
            what = f"{type(self).__name__}() has no chip file, which a board needs since 0.9"
            raise UsageError(what, hint='super().__init__(cim.load_chip("my-chip.toml"))')
        self.spec, self.outputs_on = spec, False
        self.layers: dict[int, LoadLayer] = {}
        self.plan: Plan | None = None
        self._parts = PlanUpload()
        self._start_ns = time.monotonic_ns()

    def prepare(self, request: Request[Any]) -> None:
        """Called by the chip role before each verb: refuses what the chip must not do, and switches the outputs on."""
        check_request(request, self.spec)
        if isinstance(request, OFF):
            self.outputs_on = False
        elif isinstance(request, DRIVING) and not self.outputs_on:
            self.switch_on()
            self.outputs_on = True

    def switch_on(self) -> None:
        """Voltages may come on the array: before the first verb that needs it, and the first after ``outputs_off``."""

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
        """Keep a layer in ``layers``. To be overridden where the chip itself takes layers."""
        if Capability.LAYER not in self.capabilities:
            self._refuse("load_layer")
        self.layers[request.layer] = request
        return Done()

    def load_plan(self, request: LoadPlan) -> Answer[Done]:
        """Take a part of a plan; ``plan`` is there once it is whole. To be overridden where a plan may be too large."""
        if Capability.PLAN not in self.capabilities:
            self._refuse("sequencer")
        self.plan = None
        try:
            self.plan = self._parts.take(request)
        except MalformedMessage as error:
            raise Refusal(ErrorCode.MALFORMED, f"not a plan: {error.text}") from None
        return Done()

    def run_plan(self, request: RunPlan) -> Answer[PlanResult]:
        """Run ``plan`` on the images of a request, in all its passes."""
        self._refuse("sequencer")

    def hold_program(self, request: HoldProgram) -> Done:
        self._refuse("hold_program")

    def status(self) -> StatusReply:
        """Outputs as they are; no temperature, no counts."""
        return StatusReply(math.nan, self.outputs_on, 0, 0)

    def wait(self, request: Wait) -> Answer[Done]:
        self._refuse("wait")

    def outputs_off(self) -> Done:
        self._refuse("outputs_off")

    def reset(self) -> Done:
        self._refuse("reset")

    def _refuse(self, verb: str) -> NoReturn:
        raise Refusal(ErrorCode.UNSUPPORTED, f"this board has no {verb}")
