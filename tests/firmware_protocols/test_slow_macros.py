"""Macros whose every call takes as long as it may: the link answers meanwhile, in C and in Python."""

from __future__ import annotations

import random
import shutil
from typing import Any

import numpy as np
import pytest

from firmware_protocols.connection import LinkLimits
from firmware_protocols.host import HostLink
from firmware_protocols.messages import (
    CellBlock,
    CellReadings,
    Done,
    LayerTile,
    LoadLayer,
    Mvm,
    MvmResult,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Returns,
    Status,
    StatusReply,
    TileAddress,
    TileProgrammed,
)
from firmware_protocols.plans.instructions import LookUpCodes, ReshapeCodes, RunLayers
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from firmware_protocols.plans.plan import Plan, PlanStep, PlanValue
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.line import VirtualLine

from .firmware_bench import FirmwareBench

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
CALL_MS = 100.0  # what the guide allows
STATUS_S = 0.3
TILE = TileAddress(0, 0, 8, 0, 4)
CODES = np.full((2, 8), 100, np.int16)


def program(cells: int, max_pulses: int, reads: int) -> ProgramTile:
    targets = np.full((1, cells), 1500, np.uint16)
    return ProgramTile(
        CellBlock(0, 0, 1, 0, cells), 10, 100, max_pulses, reads, 800, 50, 2500, 900, 60, 2800, 100, 7, targets
    )


def layer() -> LoadLayer:
    one, zero = np.ones(4, np.int32), np.zeros(4, np.int32)
    tile = LayerTile(TILE, 0, 0, 1, 0, one, np.zeros(4, np.int64), zero, reads=4)
    return LoadLayer(1, 8, 4, -(1 << 20), 1 << 20, zero, one, zero, (tile,))


def plan() -> LoadPlan:
    """A vector of 8 pixels, the layer, and a table of its four codes."""
    table = np.arange(256, dtype=np.int16)[None]
    values = (PlanValue(0, 2, (1, 1, 8)), PlanValue(16, 2, (8,)), PlanValue(32, 4, (4,)), PlanValue(48, 4, (4,)))
    none = np.zeros(0, np.int32)
    product = RunLayers(0, 8, 0, 0, 0, none, none, none, np.array([1, 0, 1, 0, 1], np.int32))
    table_step = LookUpCodes(-(1 << 11), np.arange(-(1 << 11), 1 << 11, dtype=np.int32))
    steps = (PlanStep(ReshapeCodes(), (0,), 1), PlanStep(product, (1,), 2), PlanStep(table_step, (2,), 3))
    words = Plan(64, table, values, steps).words()
    return LoadPlan(len(words), 0, words)


def slow(call_ms: float = CALL_MS, silence_s: float = 2.0) -> Any:
    """A line to firmware whose macro calls take so long, and a host that waits no longer than the driver's."""
    bench = FirmwareBench(settings={"call_ms": call_ms})
    host = HostLink(nonce=1, limits=LinkLimits(silence_s=silence_s))
    line = VirtualLine(host, bench, LineFaults(), random.Random(0), worked_s=bench.take_worked_s)
    host.open(line.now_s)
    assert line.run(lambda: host.up, 10.0)
    return line


@pytest.mark.parametrize(
    ("request_", "reply_class", "least_s"),
    [
        (program(3, 4, 4), TileProgrammed, 3.0),
        (Pulse(CellBlock(0, 0, 4, 0, 16), Polarity.SET, 100, 3, np.full((4, 16), 900, np.uint16)), Done, 6.0),
        (ReadCells(CellBlock(0, 0, 1, 0, 4), 10, 20, 0), CellReadings, 7.5),
        (Mvm(Returns.SUMS, TILE, 0, 0, 8, False, 0, 1, 0, CODES, 4), MvmResult, 6.0),
        (Mvm(Returns.RAW, TILE, 0, 0, 8, False, 0, 1, 0, CODES), MvmResult, 1.5),
        (Mvm(Returns.LAYER, None, 1, 0, 8, False, 0, 1, 0, CODES), MvmResult, 6.0),
        (RunPlan(1, 0, 0, CODES.astype(np.uint8)[:, None, :, None]), PlanResult, 6.0),
    ],
    ids=["PROGRAM_TILE", "PULSE", "READ_CELLS", "MVM of sums", "MVM raw", "MVM of a layer", "RUN_PLAN"],
)
def test_a_macro_of_slow_calls_keeps_its_line_and_tells_its_status(
    request_: Any, reply_class: type, least_s: float
) -> None:
    line, answered, told = slow(), [], []
    for loaded in (layer(), plan()):
        line.host.request(loaded)
        assert line.run(lambda: bool(line.host.poll()), 5.0)
    asked = line.host.request(request_)
    began_s, asked_s, status = line.now_s, 0.0, None

    def done() -> bool:
        nonlocal status, asked_s
        for request_id, reply, _ in line.host.poll():
            if request_id == asked and not isinstance(reply, Progress):
                answered.append(reply)
            elif request_id == status:
                assert isinstance(reply, StatusReply)
                told.append(line.now_s - asked_s)
                status = None
        if status is None and not answered:
            status, asked_s = line.host.request(Status(), aside=True), line.now_s
        return bool(answered) or line.host.failure is not None

    line.run(done, 600.0)
    line.host.check()
    assert isinstance(answered[0], reply_class)
    assert line.now_s - began_s >= least_s
    assert line.host.counters.resyncs == 0
    assert len(told) >= least_s / STATUS_S - 2
    assert max(told) <= STATUS_S
    line.chip.close()


def test_a_cell_that_takes_minutes_shows_progress_each_second() -> None:
    line, said, answered = slow(), [], []
    line.host.request(program(20, 3, 4))

    def done() -> bool:
        for _, reply, _ in line.host.poll():
            (said if isinstance(reply, Progress) else answered).append(reply)
        return bool(answered)

    began_s = line.now_s
    assert line.run(done, 600.0)
    assert len(said) > 0.8 * (line.now_s - began_s) / 1.2
    assert [one.done for one in said] == sorted(one.done for one in said)
    assert all(one.total == 20 for one in said)
    line.chip.close()
