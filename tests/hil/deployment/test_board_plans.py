"""A board behind ``hil.Board`` that runs whole networks by one method of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hil
from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from firmware_protocols.handlers import Answer, Refusal
from firmware_protocols.messages import (
    Capability,
    Description,
    Done,
    ErrorCode,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    Returns,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.deployment.plans.network_plan import network_plan
from hil.deployment.running.network_runs import Planned, StepByStep, network_run
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.server.serve import serving
from hil.transports import open_transport
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections

from .test_network_plan import SPEC, noisy, on_noisy_chip


class LabBoard(hil.Board):
    """An SDK that writes, loads layers and runs networks; here it is an emulated chip."""

    capabilities = Capability.PROGRAM_TILE | Capability.SUMS | Capability.SWEEP | Capability.LAYER

    def __init__(self, spec: ChipSpec = SPEC) -> None:
        super().__init__(spec)
        self.sdk = EmulatedChip(spec, 7)

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


class TileBoard(LabBoard):
    """Products of tiles and nothing else of its own; layers and plans are those of ``hil``."""

    capabilities = Capability.PROGRAM_TILE | Capability.RAW | Capability.LAYER | Capability.PLAN
    load_layer = hil.Board.load_layer
    run_plan = hil.run_plan

    def mvm(self, request: Mvm) -> Answer[MvmResult]:
        return hil.run_layer(self, request) if request.tile is None else self.sdk.mvm(request)


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


@pytest.mark.parametrize("returns", [Capability.RAW, Capability.SUMS])
def test_a_board_of_tiles_runs_layers_and_whole_networks_by_the_ready_functions(returns: Capability) -> None:
    program = noisy()
    _, wanted, _ = logits(LabBoard(), program)
    for capability, way in ((Capability.PLAN, Planned), (Capability(0), StepByStep)):
        board = TileBoard()
        board.capabilities = Capability.PROGRAM_TILE | Capability.LAYER | returns | capability
        how, found, fallbacks = logits(board, program)
        assert how is way
        assert "plan" not in "".join(fallbacks)
        assert np.array_equal(found, wanted)
    unknown = Mvm(Returns.LAYER, None, 99, 0, 8, False, 0, 1, 0, np.zeros((1, 8), np.int16))
    with pytest.raises(Refusal, match="no such layer is loaded"):
        list(hil.run_layer(board, unknown))


def test_a_plan_saves_most_of_the_bytes_of_a_board_of_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled network, one copy, written once; 100 images, one repeat."""
    spec = load_chip("lab-128", macros=16)
    program = compile_network(load_network(BUNDLED_NETWORK), spec)
    moved = {}
    for name, capability in (("tiles", Capability(0)), ("plan", Capability.LAYER | Capability.PLAN)):
        board = TileBoard(spec)
        board.capabilities = Capability.PROGRAM_TILE | Capability.RAW | capability
        with serving(board, "tcp://127.0.0.1:0") as where, connect(open_transport(where), chip=spec) as driver:
            program_chip(driver, program, sample=1, watch=Watch())
            written = driver.counters["bytes_sent"] + driver.counters["bytes_received"]
            network_run(driver, program, nominal_corrections(program)).logits(program.calibration_images[:100], 40)
            total = driver.counters["bytes_sent"] + driver.counters["bytes_received"]
            moved[name] = (written, total - written)
    with capsys.disabled():
        print("\nbytes to write and to run:", moved)
    assert moved["plan"][1] < moved["tiles"][1] / 10


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
