"""Outputs of a bench go off however its host ends; `python benchmarks/studies.py ended-hosts` measures when."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.stand_in_serve import bench_served
from tests.hil.bench.benches import write_bench
from tests.hil.bench.ended_hosts import ENDS, end_a_host, standing_in

TIMES = 5


@pytest.mark.parametrize("how", ENDS)
def test_outputs_go_off_however_the_host_ends_at_whatever_instant(tmp_path: Path, how: str) -> None:
    bench, rng = write_bench(tmp_path, port=str(tmp_path / "board")), random.Random(how)
    with standing_in(bench) as log:
        ended = [end_a_host(bench, log, how, rng) for _ in range(TIMES)]
    assert all(one.why in ("order", "timer") for one in ended)


def test_a_guard_switches_off_what_has_no_timer_when_its_host_is_killed(tmp_path: Path) -> None:
    bench = write_timerless(tmp_path)
    assert not load_bench(bench).instruments["board"].model.has_timer
    with standing_in(bench) as log:
        ended = [end_a_host(bench, log, "kill", random.Random(n)) for n in range(TIMES)]
    assert all(one.why == "order" for one in ended)


def test_a_guard_is_dismissed_by_a_host_that_ends_by_itself_and_leaves_the_line_free(tmp_path: Path) -> None:
    bench = load_bench(write_timerless(tmp_path))
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        chip = BenchChip(bench)
        guard = chip._guard._process
        chip.close()
    assert guard is not None
    assert guard.returncode == 0


def write_timerless(folder: Path) -> Path:
    """A bench of the digital board without the orders of its timer."""
    text = (Path(__file__).parents[3] / "hil/server/bench/models/row-board.toml").read_text()
    before, _, behind = text.partition("[orders.timer]")
    (folder / "timerless.toml").write_text(before + behind[behind.index("[orders.on]") :])
    edit = {'model = "row-board"': 'model = "timerless.toml"'}
    return write_bench(folder, port=str(folder / "board"), edit=edit)
