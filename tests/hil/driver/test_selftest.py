"""The conformance suite: who passes it, and that it finds what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cim.chip.file import load_chip
from firmware_protocols.handlers import Answer, Refusal
from firmware_protocols.messages import Capability, CellReadings, ErrorCode, Mvm, MvmResult, Pulse, ReadCells, Sweep
from hil.cli import run
from hil.driver.selftest.suite import GROUPS, CheckOutcome, run_suite
from hil.emulator.address import chip_from_address
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
    for host, chip in itertools.product(("1.0", "1.1", "1.2", "1.3", "1.4"), repeat=2):
        assert found[host, chip] == min(host, chip)
        assert found[host, native] == host
    assert {found[host, chip] for host, chip in [("1.4", release), (release, "1.4"), (release, native)]} == {"1.0"}
    assert "NO" not in found.values()
    assert MATRIX.page(MATRIX.published(), found) == MATRIX.PAGE.read_text("utf-8")


class Minimum(EmulatedChip):
    """A board of the verbs that every board has, and one way to write and to answer."""

    def __init__(self, capabilities: Capability) -> None:
        super().__init__(load_chip("lab-128", macros=1), 2, capabilities=capabilities)

    def status(self) -> NoReturn:
        raise Refusal(ErrorCode.UNSUPPORTED, "no STATUS")


@contextlib.contextmanager
def served(form: str, folder: Path) -> Iterator[str]:
    """An address of a chip in one form."""
    if form.startswith("emulated:"):
        yield form
    elif form == "bridge":
        with serving(MATRIX.bridge_chip(), "tcp://127.0.0.1:0") as address:
            yield address
    elif form in MINIMA:
        with serving(Minimum(MINIMA[form]), "tcp://127.0.0.1:0") as address:
            yield address
    else:
        where = {"pty": "pty", "tcp": "tcp://127.0.0.1:0", "unix": f"unix:{folder}/chip"}[form]
        with serving(chip_from_address(EMULATED), where) as address:
            yield address


MINIMA = {
    "minimum, pulses and conversions": Capability.PULSE | Capability.RAW,
    "minimum, tiles and sums": Capability.PROGRAM_TILE | Capability.SUMS,
}
FORMS = (EMULATED, "emulated:yao-2020?macros=1&read_variance_us2=4", "pty", "tcp", "unix", "bridge", *MINIMA)


@pytest.mark.parametrize("form", FORMS)
def test_a_chip_passes_at_every_form_of_address_and_what_a_minimum_board_lacks_is_not_there(
    form: str, tmp_path: Path
) -> None:
    with served(form, tmp_path) as address:
        found = run_suite(address)
    assert [f"{r.name}: {r.text}" for r in found.results if r.outcome is CheckOutcome.FAILED] == []
    missing = {r.text for r in found.results if r.outcome is CheckOutcome.NOT_THERE}
    assert ("no STATUS" in missing) == (form in MINIMA)
    assert "no JOURNAL" in missing or form not in (*MINIMA, "bridge")
    assert missing == {"no AUTHORITY: it wants no key"} or form in (*MINIMA, "bridge")


def test_the_command_passes_its_own_chip_and_lists_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--emulated", "--macros", "1", "--only", "journal,authority"]) == 0
    assert "2 passed, 0 failed, 3 not there, 0 skipped" in capsys.readouterr().out


class NewNoise(EmulatedChip):
    """Gives each read noise of its own, whatever the request's sample number, as silicon does."""

    asked = 0
    wrong = 0

    def mvm(self, request: Mvm) -> Answer[MvmResult]:  # type: ignore[override]
        self.asked += 1
        result = yield from super().mvm(dataclasses.replace(request, sample=self.asked << 20))
        return dataclasses.replace(result, values=result.values + self.wrong * (request.returns == 1))

    def sweep(self, request: Sweep) -> Answer[MvmResult]:  # type: ignore[override]
        self.asked += 1
        return (yield from super().sweep(dataclasses.replace(request, sample=self.asked << 20)))


def test_a_chip_whose_noise_is_new_at_each_read_is_compared_by_means() -> None:
    chip = NewNoise(load_chip("lab-128", macros=1), 2)
    with serving(chip, "pty") as where:
        found = run_suite(where, groups=["digital"])
        assert [r.text for r in found.results if r.outcome is not CheckOutcome.PASSED] == []
        assert all("means of" in r.text for r in found.results)
        chip.wrong = 40
        found = run_suite(where, groups=["digital"])
    assert any("shifted and added" in r.name for r in found.results if r.outcome is CheckOutcome.FAILED)


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
    assert "8 passed, 0 failed, 0 not there, 0 skipped" in said
    assert run(["selftest", "--port", EMULATED, "--only", "everything"]) == 2
