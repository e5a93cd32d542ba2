"""The conformance suite: who passes it, and that it finds what is wrong."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator

import pytest

from cim.chip.file import load_chip
from firmware_protocols.handlers import Answer
from firmware_protocols.messages import CellReadings, Mvm, MvmResult, Pulse, ReadCells
from hil.cli import run
from hil.driver.selftest.suite import GROUPS, CheckOutcome, run_suite
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.server.firmware_build import FirmwareTarget
from hil.server.firmware_launch import running_firmware
from hil.server.serve import serving

EMULATED = "emulated:lab-128?seed=2&macros=1"
NEEDS = {"native": ("gcc",), "qemu": ("qemu-system-arm", "arm-none-eabi-gcc")}


@pytest.fixture(params=["emulated", "native", "qemu"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a chip by each implementation of the chip role."""
    if request.param == "emulated":
        with serving(chip_from_address(EMULATED), "pty") as where:
            yield where
        return
    missing = [name for name in NEEDS[request.param] if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {missing[0]}")
    with running_firmware(FirmwareTarget(request.param), load_chip("lab-128", macros=1), seed=2) as where:
        yield where


def test_every_implementation_of_the_chip_role_passes(address: str) -> None:
    found = run_suite(address)
    failed = [f"{r.name}: {r.text}" for r in found.results if r.outcome is CheckOutcome.FAILED]
    assert failed == []
    assert sum(r.outcome is CheckOutcome.PASSED for r in found.results) >= 25
    assert {r.group for r in found.results} == set(GROUPS)


class DoubledPulses(EmulatedChip):
    def pulse(self, request: Pulse) -> object:  # type: ignore[override]
        super().pulse(request)
        return super().pulse(request)


class CarelessReads(EmulatedChip):
    def read_cells(self, request: ReadCells) -> CellReadings:
        found = super().read_cells(dataclasses.replace(request, cells=dataclasses.replace(request.cells, row0=0)))
        return CellReadings(found.unit_ns, found.readings // 2)


class ShiftedSums(EmulatedChip):
    def mvm(self, request: Mvm) -> Answer[MvmResult]:  # type: ignore[override]
        result = yield from super().mvm(request)
        return dataclasses.replace(result, values=result.values + (request.returns == 1))


@pytest.mark.parametrize(
    ("broken", "group", "finds"),
    [
        (DoubledPulses, "messages", "runs once"),
        (CarelessReads, "physics", "level read"),
        (ShiftedSums, "digital", "shifted and added"),
    ],
)
def test_a_chip_that_is_wrong_fails_the_check_of_it(broken: type[EmulatedChip], group: str, finds: str) -> None:
    with serving(broken(load_chip("lab-128", macros=1), 2), "pty") as where:
        found = run_suite(where, groups=[group])
    assert not found.passed
    assert any(finds in r.name for r in found.results if r.outcome is CheckOutcome.FAILED)


def test_the_command_says_what_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--port", EMULATED, "--only", "limits,digital"]) == 0
    said = capsys.readouterr().out
    assert "7 passed, 0 failed, 0 skipped" in said
    assert run(["selftest", "--port", EMULATED, "--only", "everything"]) == 2
