"""The conformance suite: who passes it, and that it finds what is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from pathlib import Path
from typing import Any

import pytest

from cim.chip.file import load_chip
from firmware_protocols.handlers import Answer
from firmware_protocols.messages import CellReadings, Mvm, MvmResult, Pulse, ReadCells
from hil.cli import run
from hil.driver.selftest.suite import GROUPS, CheckOutcome, run_suite
from hil.emulator.chip import EmulatedChip
from hil.server.serve import serving

EMULATED = "emulated:lab-128?seed=2&macros=1"
SCRIPT = Path(__file__).parents[3] / "docs" / "conformance_matrix.py"


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("conformance_matrix", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MATRIX = loaded()


@pytest.mark.parametrize("column", MATRIX.COLUMNS)
def test_every_implementation_of_the_chip_role_passes_as_published(column: str) -> None:
    if tool := MATRIX.lacking(column):
        pytest.skip(f"no {tool}")
    found = MATRIX.tested(column)
    failed = [f"{r.name}: {r.text}" for r in found.results if r.outcome is CheckOutcome.FAILED]
    assert failed == []
    assert MATRIX.cells(found) == MATRIX.published()[column], "python docs/conformance_matrix.py"
    assert {r.group for r in found.results} == set(GROUPS)


def test_hosts_and_chips_of_two_versions_speak_the_lower_one() -> None:
    if not MATRIX.has_release():
        pytest.skip("no history of the repository")
    found = MATRIX.versions()
    release, native = MATRIX.OLD_HOST, "native C"
    for host, chip in itertools.product(("1.0", "1.1", "1.2"), repeat=2):
        assert found[host, chip] == min(host, chip)
        assert found[host, native] == host
    assert {found[host, chip] for host, chip in [("1.2", release), (release, "1.2"), (release, native)]} == {"1.0"}
    assert "NO" not in found.values()
    assert MATRIX.page(MATRIX.published(), found) == MATRIX.PAGE.read_text("utf-8")


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
    assert "8 passed, 0 failed, 0 skipped" in said
    assert run(["selftest", "--port", EMULATED, "--only", "everything"]) == 2
