"""A chip whose supply fails at any moment of a job: the job goes on, nothing is done twice, every bit is as without."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.extensions.messages import ImageStatus
from firmware_protocols.messages import Capability
from hil.driver.chip_driver import ChipDriver
from hil.driver.errors import RestartedChip
from hil.driver.open_chip import connect
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.transports.journal import Journal

from ..faulty_board import Board

SPEC = load_chip("lab-128", macros=2)
Seen = list[np.ndarray]


def targets(lot: int) -> np.ndarray:
    cells = np.full((128, 128), np.nan, np.float32)
    lines = slice(8 * lot, 8 * lot + 8)
    cells[lines, :32] = np.random.default_rng(lot).choice(SPEC.macro.levels_us, (8, 32))
    return cells


class FailingBoard(Board):
    """Its supply fails when the host has written so many pieces, or when so many bytes of its memory were written."""

    at_piece = -1

    def stepped(self) -> None:
        if self.written == self.at_piece:
            self.fail()

    def fail(self) -> None:
        assert isinstance(self.chip, EmulatedChip)
        self.chip.cut_power()
        self.boot()


def work(driver: ChipDriver) -> Seen:
    """Writes some lots in two macros, waits, reads, and lets the chip hold a digest."""
    seen: Seen = []
    lots = [(macro, targets(lot)) for macro in range(2) for lot in range(3)]
    driver.offer_writes(lots, sample=5)
    for macro, wanted in lots:
        outcome = driver.program_cells(macro, wanted, sample=5)
        seen += [outcome.readings_us, outcome.pulses, outcome.reached]
    driver.wait(3600.0)
    seen.append(driver.read_cells(0, sample=6))
    driver.hold_program(bytes(range(32)))
    seen.append(np.array(driver.status().pulses_total))
    return seen


def job(board: Board, folder: Path, most: int = 4) -> Seen:
    """The work, begun anew with its journal when the chip restarts; answers of before are taken from there."""
    for _ in range(most):
        with contextlib.closing(Journal(folder / "journal")) as journal:
            journal.may_begin_anew = False
            try:
                driver = connect(board.open(), chip=SPEC, journal=journal)
                seen = work(driver)
                driver.close()
            except RestartedChip:
                continue
            return seen
    raise AssertionError("the job never ended")


def check_same(found: Seen, wanted: Seen) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(params=["images", "tiles"])
def capabilities(request: pytest.FixtureRequest) -> Capability:
    return ALL_CAPABILITIES if request.param == "images" else ALL_CAPABILITIES & ~Capability.IMAGES


def test_power_lost_at_any_message_changes_no_bit_and_gives_no_pulse_twice(
    tmp_path: Path, capabilities: Capability
) -> None:
    """At every 23rd piece that the host writes; HIL_EVERY_PIECE=1 is all of them."""
    clean = FailingBoard(EmulatedChip(SPEC, 3, capabilities=capabilities))
    (tmp_path / "clean").mkdir()
    wanted = job(clean, tmp_path / "clean")
    every = int(os.environ.get("HIL_EVERY_PIECE", "23"))
    for piece in range(1 + every // 2, clean.written + 1, every):
        board = FailingBoard(EmulatedChip(SPEC, 3, capabilities=capabilities))
        board.at_piece = piece
        folder = tmp_path / f"at{piece}"
        folder.mkdir()
        check_same(job(board, folder), wanted)
        assert board.chip.status() == clean.chip.status()  # type: ignore[attr-defined]


def test_what_an_image_holds_is_not_sent_again_after_the_power_was_lost(tmp_path: Path) -> None:
    board = FailingBoard(EmulatedChip(SPEC, 3))
    driver = connect(board.open(), chip=SPEC)
    lots = [(0, targets(lot)) for lot in range(3)]
    driver.offer_writes(lots, sample=5)
    driver.program_cells(0, lots[0][1], sample=5)
    held: Any = driver._session.image
    assert held.pieces == 1
    assert driver._session.ask(ImageStatus()).complete
    board.fail()
    again = connect(board.open(), chip=SPEC)
    again.offer_writes(lots, sample=5)
    again.program_cells(0, lots[1][1], sample=5)
    held = again._session.image
    assert held.pieces == 0


def test_a_chip_without_room_for_the_image_is_sent_the_tiles_themselves(tmp_path: Path) -> None:
    chip = EmulatedChip(SPEC, 3, capabilities=ALL_CAPABILITIES)
    driver = connect(FailingBoard(chip).open(), chip=SPEC)
    full = np.random.default_rng(0).choice(SPEC.macro.levels_us, (128, 128)).astype(np.float32)
    driver.offer_writes([(macro % 2, full) for macro in range(200)], sample=5)
    outcome = driver.program_cells(0, targets(0), sample=5)
    assert outcome.reached.mean() > 0.9
    assert not driver._session.ask(ImageStatus()).size


def test_a_run_that_is_begun_anew_writes_anew_what_the_journal_of_the_chip_holds(tmp_path: Path) -> None:
    """As another host: an old answer to a later write would leave an earlier one, done again, in its cells."""
    chip = EmulatedChip(SPEC, 3)
    board, pulses = FailingBoard(chip), []
    for _ in range(2):
        with contextlib.closing(Journal(tmp_path / "journal")) as journal:
            driver = connect(board.open(), chip=SPEC, journal=journal)
            driver.program_cells(0, targets(0), sample=5)
            driver.read_cells(0, sample=6)
            pulses.append(chip.status().pulses_total)
        chip._now_ns = 0  # its clock begins anew, and goes on from the write, which was before the read
        board.fail()
    assert journal.begun_anew
    assert pulses[1] > pulses[0]
