"""How fast a line carries input codes: over an open chip by the clock, and over a simulated line in virtual time."""

from __future__ import annotations

import json

import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import VERSIONS, LinkLimits
from firmware_protocols.line_simulation.port import PacedLine, SimulatedPort
from hil.cli import run
from hil.driver.goodput import measured_goodput, plan_goodput
from hil.driver.open_chip import connect, open_chip
from hil.emulator.address import chip_from_address
from hil.errors import UsageError
from hil.transports.in_process import InProcessTransport

CHIP = "emulated:lab-128?seed=0&macros=1"


def test_a_chip_takes_codes_and_the_share_of_its_line_follows_from_the_baud_rate() -> None:
    with open_chip(CHIP) as chip:
        found = measured_goodput(chip, 0.3, baud=921_600)
        assert chip.status().programmed_cells == 0
        with pytest.raises(UsageError, match="is not between"):
            measured_goodput(chip, 0.0)
    assert found.sent > found.code_bytes > 0
    assert found.share == pytest.approx(found.code_bytes / found.seconds / 92_160)
    assert "% of 92.2 kB/s" in found.lines("products")[0]


def test_a_serial_line_on_which_bodies_are_packed_carries_no_more_than_its_rate() -> None:
    server = ChipServer(chip_from_address(CHIP), boot_id=1, limits=LinkLimits(512, 32, 1 << 20))
    port = SimulatedPort(PacedLine(server))
    with connect(port, clock=port.clock) as chip:
        found = measured_goodput(chip, 3.0, baud=921_600, clock=port.clock)
    assert found.share is not None
    assert 0.9 < found.share < 1.0


def test_images_of_a_plan_fill_a_serial_line_as_codes_of_products_do_and_answers_are_as_few() -> None:
    server = ChipServer(chip_from_address(CHIP), boot_id=1, limits=LinkLimits(512, 32, 1 << 20))
    port = SimulatedPort(PacedLine(server))
    with connect(port, clock=port.clock) as chip:
        found = plan_goodput(chip, 3.0, baud=921_600, clock=port.clock)
        assert chip.status().programmed_cells == 0
    assert found is not None
    assert found.share is not None
    assert 0.9 < found.share < 1.0
    assert found.code_bytes == 128 * found.vectors
    assert found.received < 8 * found.vectors  # an answer of 4 bytes


def test_a_chip_that_runs_no_plans_has_a_rate_of_products_alone() -> None:
    before = (VERSIONS[0], 0x0103)
    with connect(InProcessTransport(chip_from_address(CHIP), "in-process:old", versions=before)) as chip:
        assert plan_goodput(chip, 0.1) is None


def test_a_line_without_a_known_rate_has_no_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "link", "--port", CHIP, "--seconds", "0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["share"] is None
    assert found["code_bytes_per_s"] > 0
    assert found["plan"]["vectors"] > 0


def test_a_simulated_line_needs_no_chip(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "link", "--virtual", "--seconds", "3", "--loss", "0.01", "--json"]
    assert run(words) == 0
    first = capsys.readouterr().out
    assert 0.85 <= json.loads(first)["share"] <= 1.0
    assert run(words) == 0
    assert capsys.readouterr().out == first


def test_a_simulated_line_that_carries_nothing_is_a_lost_link() -> None:
    assert run(["bench", "link", "--virtual", "--seconds", "1", "--bit-errors", "0.05"]) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["--virtual", "--port", CHIP],
        ["--emulated", "--loss", "0.1"],
        ["--virtual", "--seconds", "0"],
        ["--virtual", "--baud", "0"],
        [],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_refused(words: list[str]) -> None:
    assert run(["bench", "link", *words]) == 2
