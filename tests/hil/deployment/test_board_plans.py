"""A board behind ``hil.Board`` that runs whole networks by one method of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hil
from firmware_protocols.handlers import Answer, Refusal
from firmware_protocols.messages import Capability, Description, Done, ErrorCode, LoadLayer, ProgramTile
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.deployment.plans.network_plan import network_plan
from hil.deployment.running.network_runs import Planned, StepByStep, network_run
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.server.serve import serving
from hil.transports import open_transport
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections

from .test_network_plan import SPEC, noisy, on_noisy_chip


class LabBoard(hil.Board):
    """An SDK that writes, loads layers and runs networks; here it is an emulated chip."""

    capabilities = Capability.PROGRAM_TILE | Capability.SUMS | Capability.SWEEP | Capability.LAYER

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.sdk = EmulatedChip(SPEC, 7)

    def describe(self) -> Description:
        return self.sdk.describe()

    def program_tile(self, request: ProgramTile) -> Answer[Any]:
        return self.sdk.program_tile(request)

    def mvm(self, request: Any) -> Answer[Any]:
        return self.sdk.mvm(request)

    def sweep(self, request: Any) -> Answer[Any]:
        return self.sdk.sweep(request)

    def load_layer(self, request: LoadLayer) -> Done:
        return self.sdk.load_layer(request)

    def outputs_off(self) -> Done:
        return self.sdk.outputs_off()


class PlanningBoard(LabBoard):
    capabilities = LabBoard.capabilities | Capability.PLAN | Capability.REPEATED_READS

    def run_plan(self, request: RunPlan) -> Answer[PlanResult]:
        assert self.plan is not None
        words = self.plan.words()
        self.sdk.load_plan(LoadPlan(len(words), 0, words))
        return self.sdk.run_plan(request)


class SmallBoard(PlanningBoard):
    """Without room for a plan."""

    def load_plan(self, request: LoadPlan) -> Done:
        raise Refusal(ErrorCode.LIMIT, "words of a plan", request.total, 100)


def logits(board: hil.Board, program: ConductanceProgram) -> tuple[type, np.ndarray, list[str]]:
    """How a network ran on a served board, and what it answered."""
    images, corrections = program.calibration_images[:3], nominal_corrections(program)
    with serving(board, "tcp://127.0.0.1:0") as where, connect(open_transport(where), chip=SPEC) as driver:
        program_chip(driver, program, sample=1, watch=Watch())
        ran = network_run(driver, program, corrections)
        return type(ran), ran.logits(images, 40, 2), driver.fallbacks


def test_a_board_runs_whole_networks_by_one_method_to_the_bits_of_its_layers() -> None:
    program = noisy()
    how, planned, fallbacks = logits(PlanningBoard(), program)
    assert how is Planned
    assert not [text for text in fallbacks if text.startswith("plan")]
    how, layered, _ = logits(LabBoard(), program)
    assert how is StepByStep
    assert np.array_equal(planned, layered)
    with on_noisy_chip(program) as driver:
        alone = network_run(driver, program, nominal_corrections(program))
        assert np.array_equal(alone.logits(program.calibration_images[:3], 40, 2), planned)


def test_a_board_without_room_leaves_the_steps_to_the_host_and_that_is_said() -> None:
    program = noisy()
    how, _, fallbacks = logits(SmallBoard(), program)
    assert how is StepByStep
    assert "plan: steps between layers by the host" in "".join(fallbacks)


def test_a_board_that_claims_no_plans_refuses_them() -> None:
    program, board = noisy(), LabBoard()
    numbers = {(m.name, 0): n for n, m in enumerate(program.matrices)}
    words = network_plan(program, numbers).words()
    with pytest.raises(Refusal, match="no sequencer") as refused:
        board.load_plan(LoadPlan(len(words), 0, words))
    assert refused.value.code is ErrorCode.UNSUPPORTED
