"""Outputs of a bench go off however its host ends; `python benchmarks/studies.py ended-hosts` measures when."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hil.server.bench.bench_file import load_bench
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


def write_timerless(folder: Path) -> Path:
    """A bench of the digital board without the orders of its timer."""
    text = (Path(__file__).parents[3] / "hil/server/bench/models/row-board.toml").read_text()
    before, _, behind = text.partition("[orders.timer]")
    (folder / "timerless.toml").write_text(before + behind[behind.index("[orders.on]") :])
    edit = {'model = "row-board"': 'model = "timerless.toml"'}
    return write_bench(folder, port=str(folder / "board"), edit=edit)
