"""Outputs go off however a host ends while they are on; `python benchmarks/studies.py ended-hosts` measures when."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

import pytest

from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.guard import Guard
from hil.server.bench.roles import carry_out
from tests.hil.bench.benches import write_bench, write_station
from tests.hil.bench.ended_hosts import ENDS, GUARDED, KINDS, SILENCE, end_a_host, standing_in
from tests.hil.bench.served import bench_served

TIMES = 5


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_go_off_however_a_host_ends_while_they_are_on(kind: str, tmp_path: Path) -> None:
    rng = random.Random(kind)
    with standing_in(kind, tmp_path) as standing:
        ended = [end_a_host(standing, ENDS[number % len(ENDS)], rng) for number in range(TIMES)]
        assert not standing.are_on()
    assert {one.how for one in ended} == set(ENDS)
    if kind in GUARDED[:2]:  # outputs stay on through a request: only the guard can switch them off
        assert [one.by for one in ended if one.how == "kill"] == ["guard", "guard"]


def test_a_board_whose_host_stands_still_is_off_by_what_it_was_sent_or_by_its_own_timer(tmp_path: Path) -> None:
    with standing_in("row-board", tmp_path) as standing:
        assert end_a_host(standing, SILENCE, random.Random(1)).by in ("instrument", "timer", "nobody needed")


def test_outputs_that_a_host_leaves_on_are_switched_off_by_the_timer_of_the_instrument(tmp_path: Path) -> None:
    with standing_in("row-board", tmp_path) as standing:
        chip = BenchChip(load_bench(standing.address.removeprefix("bench:")))
        chip.switch_on()
        carry_out(chip.instruments["board"].on())  # and no order more, as where the host stands still behind it
        until_s = time.monotonic() + 60.0
        while len(standing.switched()) < 2 and time.monotonic() < until_s:
            time.sleep(0.01)
        (on_ns, _, on, _), (off_ns, _, off, why) = standing.switched()
        chip.close()
    assert (on, off, why) == (True, False, "timer")
    assert (off_ns - on_ns) / 1e9 >= chip.bench.off_within_s


def test_a_guard_is_dismissed_by_a_host_that_ends_by_itself_and_leaves_the_line_free(tmp_path: Path) -> None:
    bench = load_bench(write_timerless(tmp_path))
    assert not bench.instruments["board"].model.has_timer
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        chip = BenchChip(bench)
        guard = chip._guard._process
        chip.close()
    assert guard is not None
    assert guard.returncode == 0


def test_an_instrument_that_cannot_be_reached_holds_up_no_other_that_is_to_be_switched_off(tmp_path: Path) -> None:
    bench = load_bench(write_station(tmp_path, smu="keithley-2400", switch="keithley-707b"))
    entries = list(bench.instruments.values())
    guard = Guard(entries)
    guard.watch()
    there = [socket.create_server(("127.0.0.1", int(entry.port.split("::")[2]))) for entry in entries[1:]]
    guard.act()  # nobody listens at the first
    told = [told_to(listener) for listener in there]
    assert told == [b"".join(entry.model.lines("off", {})) for entry in entries[1:]]
    with socket.create_server(("127.0.0.1", int(entries[0].port.split("::")[2]))) as late:
        assert told_to(late) == b"".join(entries[0].model.lines("off", {}))
    assert guard.rest()
    for listener in there:
        listener.close()


def told_to(listener: socket.socket) -> bytes:
    """What the next to connect sends."""
    listener.settimeout(25.0)
    line, _ = listener.accept()
    with line:
        line.settimeout(25.0)
        found = b""
        while data := line.recv(1024):
            found += data
    return found


def write_timerless(folder: Path) -> Path:
    """A bench of the digital board without the orders of its timer."""
    text = (Path(__file__).parents[3] / "hil/server/bench/models/row-board.toml").read_text()
    before, _, behind = text.partition("[orders.timer]")
    (folder / "timerless.toml").write_text(before + behind[behind.index("[orders.on]") :])
    edit = {'model = "row-board"': 'model = "timerless.toml"'}
    return write_bench(folder, port=str(folder / "board"), edit=edit)
