"""Episodes by who is at the ends of their line."""

from __future__ import annotations

import enum
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from firmware_protocols.messages import Description
from tests.line_simulation.board import VirtualBoard
from tests.line_simulation.driving_host import DrivingHost
from tests.line_simulation.episode import Episode, EpisodeResult
from tests.line_simulation.firmware_board import FirmwareBoard, limits_of
from tests.line_simulation.plan import EpisodePlan
from tests.line_simulation.seen import Met

MACROS = 8  # that tiles are written to
DRIVER_BAD_S = 300.0  # longest time that the line of a driver is bad


class Ends(enum.IntEnum):
    """Host and chip role; a host that asks anything the protocol allows asks also what the driver never does."""

    ANY_HOST_PYTHON = 0
    DRIVER_PYTHON = 1
    ANY_HOST_C = 2
    DRIVER_C = 3

    @property
    def driver(self) -> bool:
        return self in (Ends.DRIVER_PYTHON, Ends.DRIVER_C)

    @property
    def firmware(self) -> bool:
        return self in (Ends.ANY_HOST_C, Ends.DRIVER_C)


def episode_of(plan: EpisodePlan, ends: Ends, tell: Callable[[str], None] = lambda text: None) -> EpisodeResult:
    """The result of a plan, carried out by these ends."""
    result = _carried_out(plan, ends, tell)
    result.met[Met.DRIVER] = result.requests * ends.driver
    result.met[Met.FIRMWARE] = result.requests * ends.firmware
    return result


def _carried_out(plan: EpisodePlan, ends: Ends, tell: Callable[[str], None]) -> EpisodeResult:
    board: Callable[..., VirtualBoard] = VirtualBoard
    if ends.firmware:
        board, plan = FirmwareBoard, replace(plan, chip=limits_of(plan.slots))
    if not ends.driver:
        plan = replace(plan, trip_every_s=0.0)  # this host asks nothing twice that was answered
        return Episode(plan, tell, board=board).run()
    spec = load_chip("lab-128", macros=MACROS)
    # The driver makes images of its own; a run that is asked to end again and again takes long to simulate.
    plan = replace(plan, images=False, refused_share=0.0, bad_s=DRIVER_BAD_S)
    with tempfile.TemporaryDirectory() as folder:
        host = partial(DrivingHost, spec=spec, folder=Path(folder))
        return Episode(plan, tell, board=partial(board, description=_description(spec)), host=host).run()


def _description(spec: ChipSpec) -> Description:
    rows, columns = spec.macro.rows, spec.macro.columns
    digest = bytes.fromhex(spec.digest)
    return Description(spec.name, spec.revision, "1", "1", "emulated", spec.macros, rows, columns, digest, bytes(32))
