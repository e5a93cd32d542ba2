"""Orders for a B1530A are calls of its maker's library: a library of ours with the same calls writes down what came."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.errors import PortError, UsageError
from hil.server.bench.model_file import load_model
from hil.transports import open_transport
from hil.transports.base import Transport

VALUES: dict[str, float | int] = {"volts_v": -1.25, "width_s": 1e-6, "current_a": 1e-3, "reads": 8}


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, and beside it the file of its calls."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    library = tmp_path / "wgfmu.so"
    source = Path(__file__).with_name("wgfmu.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    monkeypatch.setenv("WGFMU_LOG", str(tmp_path / "calls.txt"))
    return tmp_path / "calls.txt"


@pytest.fixture
def line(called: Path) -> Iterator[Transport]:
    line = open_transport(f"wgfmu:GPIB0::17::INSTR?library={called.with_name('wgfmu.so')}")
    yield line
    line.close()


def test_every_order_of_the_model_is_calls_of_the_library(line: Transport, called: Path) -> None:
    model = load_model("b1530a", Path())
    for name, order in model.orders.items():
        for data in model.lines(name, VALUES):
            line.write(data)
            answer = line.read(4096, 0.0)
            assert answer.startswith(b"0"), (name, data, answer)
        if name == "identity":
            assert b"B1530A" in answer
        if name == "currents":
            assert answer == b"0 2.5e-06\n"
        if order.until is not None:
            line.write(order.until.ask.encode() + b"\n")
            assert order.until.word(line.read(4096, 0.0).decode().removeprefix("0")) in order.until.done
    calls = called.read_text().splitlines()
    assert calls[0] == "openSession GPIB0::17::INSTR"
    assert "dcmeasureAveragedValue 101 8 200" in calls
    pattern = calls[calls.index("clear") :]
    assert pattern[:8] == [
        "clear", "createPattern pulse 0", "addVector pulse 1e-07 -1.25", "addVector pulse 1e-06 -1.25",
        "addVector pulse 1e-07 0", "addSequence 101 pulse 1", "setOperationMode 101 2001", "execute",
    ]  # fmt: skip


def test_a_call_that_fails_answers_its_status_and_what_the_library_says(line: Transport) -> None:
    line.write(b"dcforceVoltage 101 12.0\n")
    assert line.read(4096, 0.0) == b"-1 voltage out of range\n"


def test_a_session_ends_with_the_line(called: Path) -> None:
    open_transport(f"wgfmu:GPIB0::17::INSTR?library={called.with_name('wgfmu.so')}").close()
    assert called.read_text().splitlines()[-1] == "closeSession"


@pytest.mark.parametrize("order", [b"exportAscii file\n", b"connect\n", b"connect one\n"])
def test_a_call_that_no_order_may_make_is_refused(order: bytes, line: Transport) -> None:
    with pytest.raises(UsageError, match=r"no call of the library that is known|not a number"):
        line.write(order)


def test_a_machine_without_the_library_is_told_so() -> None:
    with pytest.raises(PortError, match=r"the library none\.dll cannot be loaded"):
        open_transport("wgfmu:GPIB0::17::INSTR?library=none.dll")
