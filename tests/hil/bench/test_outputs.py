"""Every error says what is known of the outputs: read back as off, told and not read back, or unknown and where."""

from __future__ import annotations

import threading
from importlib import resources
from pathlib import Path

import pytest

from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode
from hil.server.bench.bench_file import load_bench
from hil.server.bench.stand_in import StandIn
from tests.hil.bench.benches import free_ports, write_bench, write_station
from tests.hil.bench.served import bench_served


class Log:
    """A log of outputs that calls back once they are on."""

    def __init__(self, when_on: threading.Event) -> None:
        self.when_on = when_on

    def write(self, line: str) -> None:
        if ",on," in line:
            self.when_on.set()

    def flush(self) -> None: ...


def board(folder: Path, *, without: str = "", **edit: str) -> Path:
    """The bench file of a digital board on a socket, its model without one order."""
    text = resources.files("hil.server.bench").joinpath("models", "row-board.toml").read_text("utf-8")
    if without:
        before, _, behind = text.partition(f"[orders.{without}]")
        text = before + behind[behind.index("[orders.") :]
    (folder / "model.toml").write_text(text)
    changes = {'"row-board"': '"model.toml"', **edit}
    return write_bench(folder, port=f"tcp://127.0.0.1:{free_ports(1)[0]}", edit=changes)


def said_of_cells(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        assert run(["board", "cells", "--port", f"bench:{path}"]) == ExitCode.DEVICE
    said = capsys.readouterr().err
    assert "outputs are off" not in said
    return said


def trips(folder: Path, without: str = "") -> Path:
    return board(folder, without=without, **{"current_a = 5e-4": "current_a = 3e-6"})


def test_outputs_of_an_instrument_that_answers_are_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "outputs read back as off" in said_of_cells(trips(tmp_path), capsys)


def test_outputs_that_no_order_asks_for_are_told_and_not_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "outputs ordered off, not read back" in said_of_cells(trips(tmp_path, without="is_on"), capsys)


def test_outputs_of_an_instrument_that_fell_silent_are_unknown_and_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_station(tmp_path, smu="keithley-2400", switch="keithley-707b")
    text = resources.files("hil.server.bench").joinpath("models", "keithley-2400.toml").read_text("utf-8")
    (tmp_path / "quick.toml").write_text(text.replace("timeout_s = 5.0", "timeout_s = 0.5"))
    path.write_text(path.read_text().replace('"keithley-2400"', '"quick.toml"'))
    whole = StandIn.receive

    def receive(self: StandIn, data: bytes) -> bytes:
        answer = whole(self, data)
        silent = self._fixture.answers > 300 and "volts" in self._texts and "select" not in self._texts
        return b"" if silent else answer

    monkeypatch.setattr(StandIn, "receive", receive)
    said = said_of_cells(path, capsys)
    port = load_bench(path).instruments["smu"].port
    assert f"outputs UNKNOWN: switch off by hand smu (keithley-2400) at {port}" in said
    assert "\\n" not in said


def test_outputs_of_an_instrument_that_is_gone_are_unknown_and_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.server.bench.stand_in_serve import serve_bench

    path, up, stop = board(tmp_path), threading.Event(), threading.Event()
    bench = load_bench(path)
    killed = {"outputs_log": Log(stop), "stop": stop}
    serving = threading.Thread(
        target=lambda: serve_bench(bench, EmulatedChip(bench.chip, 7), lambda _: up.set(), **killed)  # type: ignore[arg-type]
    )
    serving.start()
    up.wait()
    assert run(["board", "cells", "--port", f"bench:{path}"]) == ExitCode.DEVICE
    serving.join()
    said = capsys.readouterr().err
    assert f"outputs UNKNOWN: switch off by hand board (row-board) at {bench.instruments['board'].port}" in said
    assert "outputs are off" not in said
    assert "\\n" not in said


def test_a_bench_that_was_checked_says_how_its_outputs_were_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = board(tmp_path)
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        assert run(["bench", "check", str(path)]) == 0
    assert "now outputs read back as off" in capsys.readouterr().out
