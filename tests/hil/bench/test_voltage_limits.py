"""Voltages are limited inside the instruments: what holds them, by model, and that it refuses whoever sends."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.faults import BenchFileError
from hil.server.bench.model_file import InstrumentModel, load_model, model_names
from hil.server.bench.roles import Value
from hil.transports import open_transport
from tests.hil.bench.benches import WRITTEN, StillClock
from tests.hil.bench.served import bench_served

GIVES = ("volts", "rows_volts", "pulse")  # orders that put a voltage on a line
UNDER = {  # instrument of a bench: its limit for a chip that is read at 0.35 V and pulsed at 4 V at most
    ("visa-station", "smu"): 2.1,
    ("visa-station", "pulser"): 4.0,
    ("keithley-2450", "smu"): 2.0,
    ("keithley-2450-3706a", "smu"): 2.0,
    ("keithley-2600", "smu"): 0.35,
    ("keysight-b2900", "smu"): 2.0,
    ("yokogawa-gs610", "smu"): 2.0,
    ("row-board", "board"): 4.0,
}


@pytest.mark.parametrize(("kind", "name"), UNDER)
def test_a_voltage_beyond_is_refused_by_the_instrument_when_it_is_sent_past_the_host(
    kind: str, name: str, tmp_path: Path
) -> None:
    path, limit_v = WRITTEN[kind](tmp_path), UNDER[kind, name]
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7)
    model = bench.instruments[name].model
    order = "volts" if "volts" in model.orders else "pulse"
    with bench_served(bench, die, StillClock()):
        with contextlib.closing(BenchChip(bench)) as chip:
            chip.switch_on()  # the host sets its limits, and reads them back
        before = die._cells[0].pulses.sum()
        for volts_v, refused in ((0.99 * limit_v, False), (1.01 * limit_v, True)):
            said = sent_by_hand(bench.instruments[name].port, model, order, volts_v)
            assert ("is beyond the limit" in said) == refused, said
            assert said, "it answers"
    assert die._cells[0].pulses.sum() == before


def sent_by_hand(port: str, model: InstrumentModel, order: str, volts_v: float) -> str:
    """What an instrument says to somebody else on its line, who gives a voltage and asks for its errors."""
    values: dict[str, Value] = {"volts_v": volts_v, "current_a": 1e-4, "width_s": 1e-6, "count": 1, "macro": 0}
    sent = [line for name in ("on", order, "errors", "off") for line in model.lines(name, values)]
    lines = 2 if model.orders[order].reply is not None else 1
    port_line, said = open_transport(port), b""
    port_line.write(b"".join(sent))
    until_s = time.monotonic() + 300.0
    while said.count(b"\n") < lines and time.monotonic() < until_s:
        said += port_line.read(4096, 0.2)
    port_line.close()
    return said.decode("ascii", "replace")


@pytest.mark.parametrize("name", model_names())
def test_every_model_that_gives_voltages_says_what_holds_them_inside_it(name: str) -> None:
    model = load_model(name, Path())
    if not any(order in model.orders for order in GIVES) and not model.uses("currents", "volts_v"):
        return
    held = model.uses("limits", "volts_v")
    assert held == (not model.voltage_limit.by.startswith("nothing")), model.voltage_limit.by


def test_a_limit_in_steps_is_the_next_above_and_read_back_from_the_word_that_names_it() -> None:
    model = load_model("keithley-2450", Path())
    assert [model.voltage_limit.held_v(v) for v in (0.35, 2.0, 4.0)] == [2.0, 2.0, 5.0]
    sent = model.lines("limits", {"volts_v": model.voltage_limit.held_v(4.0), "current_a": 1e-4})
    assert b"smu.source.protect.level=smu.PROTECT_5V" in sent[0]
    reply = model.orders["limits_now"].reply
    assert reply is not None
    assert reply.numbers("smu.PROTECT_5V\t1.000000e-04").tolist() == [5.0, 1e-4]


def test_a_limit_that_an_instrument_cannot_hold_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    path = WRITTEN["keithley-2450"](tmp_path)
    model = (Path(__file__).parents[3] / "hil/server/bench/models/keithley-2450.toml").read_text()
    (tmp_path / "low.toml").write_text(model.replace("[2.0, 5.0, 10.0, 20.0]", "[0.1, 0.2]"))
    path.write_text(path.read_text().replace('"keithley-2450"', '"low.toml"'))
    with pytest.raises(BenchFileError, match=r"instruments.smu.model: keithley-2450 holds no limit above 0.2 V"):
        load_bench(path)


def test_a_check_of_a_bench_says_what_holds_voltages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = load_bench(path := WRITTEN["b1500a"](tmp_path))
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()):
        assert run(["bench", "check", str(path)]) == 0
    assert "voltages   of smu are held inside it by nothing: its interlock" in capsys.readouterr().out
