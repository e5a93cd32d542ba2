"""The conformance suite: who passes it, and that it finds what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cim.chip.file import load_chip
from firmware_protocols.handlers import Answer, Refusal
from firmware_protocols.messages import Capability, CellReadings, ErrorCode, Mvm, MvmResult, ReadCells, Sweep
from firmware_protocols.plans.messages import PlanResult, RunPlan
from hil.cli import run
from hil.driver.selftest import safety_checks
from hil.driver.selftest.line import BUSY, Bench
from hil.driver.selftest.suite import GROUPS, CheckOutcome, SelfTest, run_on, run_suite
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.server.serve import serving
from hil.transports import open_transport
from hil.watch import Watch

from ...scripts import benchmark, loaded

EMULATED = "emulated:lab-128?seed=2&macros=1"
ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "docs" / "conformance_matrix.py"
MATRIX = loaded(SCRIPT)


def beside_each_other(judge: Callable[[str], SelfTest], names: Iterable[str]) -> dict[str, SelfTest]:
    """Judged at the same time: most of a judgement is waiting."""
    names = list(names)
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(names, pool.map(judge, names), strict=True))


def failures(found: SelfTest) -> list[str]:
    return [f"{r.name}: {r.text}" for r in found.results if r.outcome is CheckOutcome.FAILED]


def test_every_implementation_of_the_chip_role_passes_as_published() -> None:
    if tool := next(filter(None, map(MATRIX.lacking, MATRIX.COLUMNS)), ""):
        pytest.skip(f"no {tool}")
    for column, found in beside_each_other(MATRIX.tested, MATRIX.COLUMNS).items():
        assert column == MATRIX.OLD_HOST or failures(found) == [], column  # what a release got wrong, its page says
        cells, published = MATRIX.cells(found), MATRIX.published()[column]
        by_machine = {name for name, cell in published.items() if cell == MATRIX.NOT_TRIED}
        by_machine |= {r.name for r in found.results if BUSY in r.text}
        assert {**cells, **{name: published[name] for name in by_machine}} == published, f"{column}: {SCRIPT}"
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


def test_a_chip_passes_at_every_form_of_address_and_what_a_minimum_board_lacks_is_not_there(tmp_path: Path) -> None:
    def judged(form: str) -> SelfTest:
        with served(form, tmp_path) as address:
            return run_suite(address, groups=set(GROUPS) - {"silence"})  # on all others the matrix waits for it

    for form, found in beside_each_other(judged, FORMS).items():
        assert failures(found) == [], form
        missing = {r.text for r in found.results if r.outcome is CheckOutcome.NOT_THERE}
        assert ("no STATUS" in missing) == (form in MINIMA)
        assert "no JOURNAL" in missing or form not in (*MINIMA, "bridge")
        assert missing == {"no AUTHORITY: it wants no key"} or form in (*MINIMA, "bridge")


def test_the_command_passes_its_own_chip_and_lists_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "selftest", "--emulated", "--macros", "1", "--only", "journal,authority"]) == 0
    assert "2 passed, 0 failed, 4 not there, 0 not tried" in capsys.readouterr().out
    assert run(["board", "selftest", "--port", EMULATED, "--only", "everything"]) == 2


class Remembering(EmulatedChip):
    """Reads cells for seconds when it is asked first, until somebody looks; knows the answer afterwards."""

    known = False

    def read_cells(self, request: ReadCells) -> Answer[CellReadings]:  # type: ignore[override]
        until_s = time.monotonic() + min(request.reads, 6000) / 100 - 0.01
        while time.monotonic() < until_s and not self.known:
            time.sleep(0.01)
            yield None
        return super().read_cells(dataclasses.replace(request, reads=1))

    def status(self) -> Any:
        self.known = True
        return super().status()


def test_work_that_is_over_before_outputs_off_is_there_accuses_no_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_checks, "PULSES_THERE_S", 60.0)  # of a busy machine the work is over later
    can = Capability.PULSE | Capability.RAW | Capability.DEAD_MAN
    with serving(Remembering(load_chip("lab-128", macros=1), 2, capabilities=can), "tcp://127.0.0.1:0") as address:
        found = run_suite(address, groups=["safety"])
    (judged,) = (r for r in found.results if r.name.startswith("OUTPUTS_OFF overtakes"))
    assert (judged.outcome, judged.text[:8]) == (CheckOutcome.NOT_TRIED, "all that")


def test_a_slow_line_accuses_no_chip() -> None:
    """115,200 baud: a megabyte would take a minute and a half, and codes on the line delay what is behind them."""
    lines = loaded(ROOT / "examples" / "plugins" / "acme_board" / "acme_board.py")
    with serving(chip_from_address(EMULATED), "tcp://127.0.0.1:0") as where:

        def paced() -> Any:
            return lines.PacedLine(f"115200,{where}", baud=115_200, timeout_s=10.0)

        found = run_on(Bench(where, paced, load_chip("lab-128", macros=1)), ["messages", "safety"])
    assert failures(found) == []
    (long,) = (r for r in found.results if r.name.startswith("A message longer than max_message"))
    assert long.outcome is CheckOutcome.NOT_TRIED
    assert "s on this line" in long.text


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

    def run_plan(self, request: RunPlan) -> Answer[PlanResult]:  # type: ignore[override]
        self.asked += 1
        return (yield from super().run_plan(dataclasses.replace(request, sample=self.asked << 20)))


def test_a_chip_whose_noise_is_new_at_each_read_is_compared_by_means() -> None:
    chip = NewNoise(load_chip("lab-128", macros=1), 2)
    with serving(chip, "pty") as where:
        found = run_suite(where, groups=["digital"])
        assert [r.text for r in found.results if r.outcome is not CheckOutcome.PASSED] == []
        assert sum("means of" in r.text for r in found.results) == 5  # saturation is counted within one answer
        chip.wrong = 40
        found = run_suite(where, groups=["digital"])
    assert any("shifted and added" in r.name for r in found.results if r.outcome is CheckOutcome.FAILED)


def loaded_ports() -> Any:
    return benchmark("broken_ports")


IN_CI = {
    "single RESET pulses have no limit": "limits",
    "masked cells are pulsed": "physics",
    "word lines alias": "addresses",
    "halves are rounded up": "digital",
    "a plan runs every image as the first": "digital",
    "a plan adds where it is to subtract": "digital",
    "OUTPUTS_OFF waits for the work": "safety",
    "records have no CRC": "power",
    "the memory is RAM": "power",
    "single pulses need no key": "authority",
}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_broken_ports_are_caught_and_the_sound_one_is_not() -> None:
    ports = loaded_ports()

    def judged(name: str) -> list[str]:
        groups = [IN_CI[name]] if name in IN_CI else set(IN_CI.values())
        return [failed["text"] for failed in ports.judged(name, groups)["failed"]]

    with ThreadPoolExecutor(3) as pool:
        found = dict(zip([*IN_CI, "sound"], pool.map(judged, [*IN_CI, "sound"]), strict=True))
    assert found.pop("sound") == []
    assert [name for name, failed in found.items() if not failed] == []


def test_every_broken_port_is_one_mistake_in_the_firmware_that_stands_here() -> None:
    ports = loaded_ports()
    assert [sum(port.kind == kind for port in ports.PORTS.values()) for kind in ports.KINDS] == [34, 10, 12]
    with tempfile.TemporaryDirectory() as folder:
        for number, port in enumerate(ports.PORTS.values()):
            ports.broken(port.changes, Path(folder) / str(number))


BOARDS = benchmark("faulty_boards")


@pytest.mark.parametrize("name", BOARDS.FAULTS)
def test_a_board_with_a_small_fault_fails(name: str) -> None:
    found = BOARDS.judged(name, [BOARDS.FAULTS[name].group])
    assert found["failed"]
    assert found["clock_s"] < 120.0


def test_a_judgement_that_is_interrupted_says_what_was_found_until_then(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    class Impatient(Watch):
        def moved(self) -> None:
            told.append(self.stages[-1].what)
            if len(told) == 3:
                raise KeyboardInterrupt

    found = run_suite(EMULATED, groups=["messages"], watch=Impatient())
    assert found.interrupted
    outcomes = [r.outcome for r in found.results]
    assert outcomes == [CheckOutcome.PASSED] * 3 + [CheckOutcome.NOT_TRIED] * (len(GROUPS["messages"]) - 3)
    assert found.to_json()["interrupted"] is True
    late = run_suite(EMULATED, groups=["messages"], within_s=0.0)
    assert {r.text for r in late.results} == {"the time was up"}
    assert run(["board", "selftest", "--port", EMULATED, "--only", "messages", "--within", "0s"]) == 1
    assert f"{len(GROUPS['messages'])} not tried" in capsys.readouterr().out


def test_what_needs_the_power_cut_is_not_tried_unless_somebody_cuts_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run(["board", "selftest", "--port", EMULATED, "--only", "power"]) == 0
    assert "0 passed, 0 failed, 0 not there, 2 not tried" in capsys.readouterr().out
    assert run(["board", "selftest", "--port", EMULATED, "--only", "power", "--power-cycle", "false"]) == 1
    assert "the power was not cut: false ended with 1" in capsys.readouterr().out
    assert run(["board", "selftest", "--port", EMULATED, "--only", "power", "--power-cycle", ""]) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("\n" * 20))
    assert run(["board", "selftest", "--port", EMULATED, "--only", "power", "--power-cycle", "ask"]) == 1
    said = capsys.readouterr()
    assert "press Enter" in said.err
    assert "as before the loss of power" in said.out  # nobody did


def test_a_chip_that_dies_is_not_asked_for_hours() -> None:
    with serving(chip_from_address(EMULATED), "tcp://127.0.0.1:0") as address:
        spec = load_chip("lab-128", macros=1)
        lines = iter([open_transport(address)])
        bench = Bench(address, lambda: next(lines, None) or open_transport("tcp://127.0.0.1:9", timeout_s=0.1), spec)
        found = run_on(bench, ["frames"])
    assert [r.outcome for r in found.results[:3]] == [CheckOutcome.FAILED] * 3
    assert {r.outcome for r in found.results[3:]} == {CheckOutcome.NOT_TRIED}
