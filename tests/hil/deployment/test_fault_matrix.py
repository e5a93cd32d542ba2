"""The fault matrix, row by row: a deployment over a line or a board with that fault ends as the one without.

All rows and their tests are named in ``benchmarks/studies/link/fault_matrix.py``. Wires here are in the host's
process and in real time; shares of the line in virtual time (``tests/firmware_protocols/test_frame_size.py``).
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError, ExitCode, HilError

from ...scripts import benchmark
from ..conftest import CHIP, Small
from ..faulty_board import Board, WireFaults
from ..same_runs import BRIEF, check_same_runs

ROOT = Path(__file__).parents[3]
ADDRESS = "tcp://board:1"


MATRIX = benchmark("fault_matrix")


def test_all_rows_are_published_and_name_tests_that_are_there() -> None:
    assert list(MATRIX.ROWS) == [f"F{number}" for number in range(1, 16)]
    published = (ROOT / "docs" / "explanation" / "reliability.md").read_text("utf-8")
    assert MATRIX.table(MATRIX.rows_of(MATRIX.OUT)) in published, "python benchmarks/studies.py fault-matrix --write …"
    for row in MATRIX.ROWS.values():
        for test in row.tests:
            path, _, name = test.partition("::")
            assert name.partition("[")[0] in (ROOT / path).read_text("utf-8"), test


@contextlib.contextmanager
def behind(board: Board) -> Iterator[None]:
    """``board`` answers whatever address is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hil.driver.open_chip.open_transport", board.open)
        patch.setattr("hil.driver.open_chip.reopener", lambda *_, **__: board.open)
        yield


def deploy(small: Small, board: Board, run: Path, reconnect_timeout_s: float = 30.0) -> Path:
    with behind(board):
        small.deploy(ADDRESS, run, options=BRIEF, reconnect_timeout_s=reconnect_timeout_s)
    return run


@pytest.fixture(scope="module")
def faultless(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run over a clean line, and how many pieces the host wrote."""
    board = Board(chip_from_address(CHIP))
    return deploy(small, board, tmp_path_factory.mktemp("clean") / "run"), board.written


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(WireFaults(loss=0.05), id="F1 5 %"),
        pytest.param(WireFaults(bit_errors=1e-4), id="F2 1e-4"),
        pytest.param(WireFaults(drop=2e-5, insert=2e-5), id="F3 2e-5"),
        pytest.param(WireFaults(duplicate=0.05, late_s=0.02), id="F4 5 %"),
        pytest.param(WireFaults(0.02, 0.02, 1e-5, 1e-5, 1e-5, 0.01), id="F15 all at once"),
    ],
)
def test_faults_of_the_line_change_no_bit_of_a_run(
    small: Small, faultless: tuple[Path, int], tmp_path: Path, faults: WireFaults
) -> None:
    chip = chip_from_address(CHIP)
    deploy(small, Board(chip, faults, seed=1), tmp_path / "run")
    check_same_runs(faultless[0], tmp_path / "run")


def test_faults_of_a_seed_of_today_change_no_bit_of_a_run(
    small: Small, faultless: tuple[Path, int], tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print(f"F1 to F4 with seed {seed}")
    faults = WireFaults(loss=0.05, duplicate=0.05, bit_errors=1e-5, drop=1e-5, insert=1e-5, late_s=0.01)
    deploy(small, Board(chip_from_address(CHIP), faults, seed), tmp_path / "run")
    check_same_runs(faultless[0], tmp_path / "run")


class EventfulBoard(Board):
    """Something happens to it when the host has written so many pieces."""

    def happens(self, what: str, shares: tuple[float, ...], pieces: int, for_s: float = 0.3) -> EventfulBoard:
        self._moments = [round(share * pieces) for share in shares]
        self._what, self._for_s = what, for_s
        return self

    def stepped(self) -> None:
        if self.written not in self._moments:
            return
        if self._what == "power lost":  # the chip keeps its cells, its clock and what it keeps without power
            assert isinstance(self.chip, EmulatedChip)
            self.chip.cut_power()
            self.boot()
        elif self._what == "reset":
            self.chip.reset()
            self.boot()
        elif self._what == "power cut":
            self.chip = chip_from_address(CHIP)  # a new life: its clock at zero, its cells as they came
            self.boot()
        else:
            setattr(self, self._what, self._what == "stalled")
            threading.Timer(self._for_s, setattr, (self, self._what, self._what == "plugged")).start()


@pytest.mark.parametrize("shares", [(0.3,), (0.05, 0.6, 0.9)], ids=str)
def test_f6_a_chip_that_restarts_is_asked_for_the_rest_only(
    small: Small, faultless: tuple[Path, int], tmp_path: Path, shares: tuple[float, ...]
) -> None:
    whole, pieces = faultless
    board = EventfulBoard(chip_from_address(CHIP)).happens("reset", shares, pieces)
    deploy(small, board, tmp_path / "run")
    assert board.boot_id == 18 + len(shares)
    check_same_runs(whole, tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text("utf-8")
    assert "the chip restarted" in report


@pytest.mark.parametrize("number", range(-(-int(os.environ.get("HIL_INSTANTS", "3")) // 3)))
def test_f6_power_lost_at_random_instants_changes_no_bit_of_a_run(
    small: Small, faultless: tuple[Path, int], tmp_path: Path, number: int
) -> None:
    """Three instants a run; HIL_INSTANTS=100 asks for so many in all."""
    whole, pieces = faultless
    rng = random.Random(number)
    shares = tuple(sorted(rng.random() for _ in range(3)))
    board = EventfulBoard(chip_from_address(CHIP)).happens("power lost", shares, pieces)
    deploy(small, board, tmp_path / "run")
    check_same_runs(whole, tmp_path / "run")


def test_f6_a_chip_that_lost_its_clock_is_not_written_again_unasked(
    small: Small, faultless: tuple[Path, int], tmp_path: Path
) -> None:
    whole, pieces = faultless
    board = EventfulBoard(chip_from_address(CHIP)).happens("power cut", (0.6,), pieces)
    with pytest.raises(DeviceError, match="restarted and its clock with it") as refused:
        deploy(small, board, tmp_path / "run")
    assert "the same command resumes" in refused.value.hint
    assert isinstance(board.chip, EmulatedChip)
    assert board.chip.status().pulses_total == 0
    deploy(small, board, tmp_path / "run")
    check_same_runs(whole, tmp_path / "run")


@pytest.mark.parametrize("fault", ["plugged", "stalled"])
@pytest.mark.parametrize("for_s", [0.1, 2.5])
def test_f8_a_line_that_is_gone_for_a_while_costs_nothing(
    small: Small, faultless: tuple[Path, int], tmp_path: Path, fault: str, for_s: float
) -> None:
    whole, pieces = faultless
    board = EventfulBoard(chip_from_address(CHIP)).happens(fault, (0.4, 0.8), pieces, for_s)
    deploy(small, board, tmp_path / "run")
    check_same_runs(whole, tmp_path / "run")


@pytest.mark.parametrize("fault", ["plugged", "stalled"])
def test_f8_f10_a_line_that_stays_gone_ends_the_run_in_time_and_it_goes_on_later(
    small: Small, faultless: tuple[Path, int], tmp_path: Path, fault: str
) -> None:
    whole, pieces = faultless
    board = EventfulBoard(chip_from_address(CHIP)).happens(fault, (0.6,), pieces, for_s=3600.0)
    with pytest.raises(HilError) as lost:
        deploy(small, board, tmp_path / "run", reconnect_timeout_s=1.0)
    assert lost.value.exit_code is ExitCode.LINK
    assert "the same command resumes; with --restart it begins again (what" in lost.value.hint
    assert f"{tmp_path / 'run'}.unfinished" in lost.value.hint
    assert board.stalled or not board.plugged  # the run ended long before the line came back
    for timer in (t for t in threading.enumerate() if isinstance(t, threading.Timer)):
        timer.cancel()
    board.plugged, board.stalled = True, False
    deploy(small, board, tmp_path / "run")
    check_same_runs(whole, tmp_path / "run")
