"""Ages of cells: what a chip's clock and the host's show of a wait, not what was asked for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from firmware_protocols.messages import Description, Done, Wait
from hil.calibration.procedure import calibrate
from hil.deployment.targets.wired import clock_set_back
from hil.driver.chip_clock import SLACK_S
from hil.driver.chip_text import info_table
from hil.driver.open_chip import connect, open_chip
from hil.driver.reconnection import Reconnection
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError
from hil.server.serve import serving
from hil.transports.in_process import InProcessTransport

from ..conftest import CHIP, Small
from ..fake_chip import FakeChip, small_spec
from ..silicon import Clock, SiliconBoard
from ..wires import over

SPEC = small_spec()


class Impatient(EmulatedChip):
    """Answers WAIT at once; each wait sets the clock that it tells back by some time."""

    back_ns = steps_ns = 0

    def wait(self, request: Wait) -> Done:
        self.back_ns += self.steps_ns
        return Done()

    @property
    def chip_time_ns(self) -> int:
        return max(super().chip_time_ns - self.back_ns, 0)


def impatient(steps_ns: int) -> Impatient:
    chip: Any = chip_from_address(CHIP)
    chip.__class__ = Impatient
    chip.steps_ns = steps_ns
    return chip  # type: ignore[no-any-return]


@pytest.mark.parametrize(("steps_ns", "words"), [(0, "its own moved by 0 s"), (1000, "its own was set back by")])
def test_cells_that_were_not_let_age_are_not_said_to_be_an_hour_old(
    small: Small, tmp_path: Path, steps_ns: int, words: str
) -> None:
    with serving(impatient(steps_ns), f"unix:{tmp_path / 'chip'}") as where:
        report = small.deploy(where, tmp_path / "run")
    assert report.age_s < 600.0  # of the 3600 that were planned, on a busy machine too
    (said,) = [n for n in report.notes if n.startswith("wait: ") and "count as" in n]
    assert words in said
    assert "1 h were planned and not reached, so targets for that age miss" in said
    text = (tmp_path / "run" / "report.md").read_text("utf-8")
    assert "1 h after programming" not in text
    assert words in text


def test_a_calibration_refuses_a_chip_whose_cells_do_not_age(tmp_path: Path) -> None:
    with (
        serving(impatient(0), f"unix:{tmp_path / 'chip'}") as where,
        open_chip(where) as driver,
        pytest.raises(DeviceError, match="cells were to age, and did not") as error,
    ):
        calibrate(driver, (0,))
    assert "answers WAIT at once" in str(error.value)


class Silicon(FakeChip):
    """Says that it is silicon, and that a wait has passed that took no time."""

    def describe(self) -> Description:
        return dataclasses.replace(super().describe(), kind="silicon")


def test_silicon_does_not_age_faster_than_the_host() -> None:
    with over("in process", Silicon(SPEC), SPEC) as driver:
        assert driver.wait(3600.0) < 600.0
        assert "clock: the chip's moved by 60 s" in driver.fallbacks[0]
    with over("in process", FakeChip(SPEC), SPEC) as driver:
        assert driver.wait(3600.0) == 3600.0
        assert driver.fallbacks == []


@pytest.mark.parametrize(
    ("rate", "back_s", "said"),
    [
        (1000.0, 0.0, r"moved by .* s in 0\.\d+ s"),
        (0.0, 0.0, r"moved by 0 s in 5(\.\d+)? s"),
        (1.0, 3.0, "was set back by .* s"),
    ],
)
def test_ages_come_from_the_hosts_clock_where_that_of_silicon_runs_otherwise(
    monkeypatch: pytest.MonkeyPatch, rate: float, back_s: float, said: str
) -> None:
    clock, told = Clock(), list[str]()
    clock.of_driver(monkeypatch)
    board = SiliconBoard(SPEC, clock, rate=rate)
    clock.sleep(60.0)
    with connect(
        InProcessTransport(board, "board"), chip=SPEC, reconnection=Reconnection(report=told.append)
    ) as driver:
        driver.known_status()
        begun_ns, board.set_back_s = driver.chip_time_ns, back_s
        clock.sleep(0.01)
        driver.known_status()
        clock.sleep(5.0)
        driver.known_status()
        assert (driver.chip_time_ns - begun_ns) * 1e-9 == pytest.approx(5.0, abs=SLACK_S)
        assert told == [text for text in driver.fallbacks if text.startswith("clock: ")]
        assert re.search(said, told[0])
        assert told[0] in [text for _, text in info_table(driver, None).rows]


def test_a_clock_that_runs_with_the_hosts_is_believed_also_where_answers_come_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    clock.of_driver(monkeypatch)
    with connect(InProcessTransport(SiliconBoard(SPEC, clock, rate=1.03), "board"), chip=SPEC) as driver:
        for _ in range(5):
            driver.wait(100.0)
            clock.sleep(20.0)
        assert driver.fallbacks == []


def test_a_clock_that_was_set_back_after_the_wait_is_told() -> None:
    assert clock_set_back(3600.4, 3600.0) == ""
    assert "its clock was set back" in clock_set_back(-12.0, 3600.0)
