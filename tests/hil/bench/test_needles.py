"""Needles go down on the die that a bench file names, on no other, and up again however a session ends."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode
from hil.server.bench.bench_file import load_bench
from hil.server.bench.faults import BenchFileError
from hil.server.bench.stand_in import AS_MEANT, Behaviour
from hil.server.bench.stand_in_serve import bench_served
from tests.hil.bench.benches import write_probed
from tests.hil.bench.ended_hosts import ENDS, end_a_host, standing_in

POLLED = """\
format = "hil.instrument"
version = "1.0"

[instrument]
name = "polled"
identity = "POLLED"
source = "made up"

[link]
form = "lines"
success = "OK"

[off]
by_itself = "nothing"
settle_s = 0.0

[orders.identity]
send = "ID?"
reply = { form = "text", success = "" }

[orders.off]
send = "UP"

[orders.move]
send = ["GO {die_x:.0f} {die_y:.0f}"]
until = { ask = "BUSY?", done = "0", busy = "1", every_s = 0.01, within_s = 0.5 }
then = "WHERE?"
reply = { form = "numbers" }

[orders.contact]
send = "DOWN"
"""


class Switched(io.StringIO):
    """A log of outputs, as the instruments that were switched and whether on."""

    def seen(self) -> list[tuple[str, str]]:
        lines = [line.split(",") for line in self.getvalue().splitlines()]
        return [(name, word) for _, name, word, _ in lines]

    def are_down(self) -> bool:
        return [word for name, word in self.seen() if name == "prober"][-1:] == ["on"]


@contextmanager
def probed(folder: Path, behaviour: Behaviour = AS_MEANT, **given: str) -> Iterator[tuple[Path, Switched]]:
    """A bench behind needles, its stand-ins in this process, and what they switched."""
    (folder / "polled.toml").write_text(POLLED)
    path, log = write_probed(folder, **given), Switched()
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, 7), outputs_log=log, behaviour=behaviour):
        yield path, log


@pytest.mark.parametrize("prober", ["mpi-sentio", "formfactor-velox", "polled.toml"])
def test_needles_are_down_before_outputs_go_on_and_up_behind_them(
    prober: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with probed(tmp_path, Behaviour(working_s=0.1), prober=prober) as (path, log):
        assert run(["bench", "check", str(path)]) == 0
        seen = log.seen()
    assert seen[0] == ("prober", "on")
    assert ("board", "on") in seen
    assert seen[-1] == ("prober", "off"), "behind the last order that switched outputs off"
    assert seen[-2] == ("board", "off")
    assert seen.count(("prober", "on")) == 1
    said = capsys.readouterr().out
    assert "were down on die 3, 4, and are up" in said


def test_cells_carry_a_current_once_the_needles_are_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with probed(tmp_path) as (path, _):
        assert run(["bench", "check", str(path), "--json"]) == 0
    assert '"median_cell_a": 0' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "behaviour", "said"),
    [
        ({"wafer": "die = [30, 4]"}, AS_MEANT, "refuses move: '-222"),
        ({}, Behaviour(dies_beside=1), "was sent to die 3, 4, and stands at 4, 4"),
        ({"prober": "polled.toml"}, Behaviour(working_s=5.0), "is not done with move after 0.5 s: it still says '1'"),
        ({"prober": "polled.toml", "wafer": "die = [30, 4]"}, AS_MEANT, "refuses move: '-222"),
    ],
    ids=["no such die", "another die", "too long under way", "refused before it is polled"],
)
def test_a_move_that_fails_is_told_and_no_needle_goes_down(
    given: dict[str, str], behaviour: Behaviour, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with probed(tmp_path, behaviour, **given) as (path, log):
        assert run(["bench", "check", str(path)]) == ExitCode.DEVICE
        assert not log.seen(), "neither needles nor outputs"
    assert said in capsys.readouterr().err


def test_needles_go_up_where_the_line_is_lost_at_any_answer(tmp_path: Path) -> None:
    were_down = 0
    for answer in range(3, 12):
        folder = tmp_path / str(answer)
        folder.mkdir()
        with probed(folder, Behaviour(hang_up_after=answer)) as (path, log):
            assert run(["bench", "check", str(path)]) != 0
            were_down += ("prober", "on") in log.seen()
            until_s = time.monotonic() + 20.0
            while log.are_down() and time.monotonic() < until_s:
                time.sleep(0.01)
            assert not log.are_down(), f"line lost at answer {answer}"
    assert were_down, "one of the lines was lost with needles down"


def test_outputs_and_needles_are_off_however_a_host_ends(tmp_path: Path) -> None:
    with standing_in("row-board-probed", tmp_path, write_probed) as standing:
        for how in ENDS:
            end_a_host(standing, how, random.Random(how))
        last = {name: (at, on) for at, name, on, _ in standing.switched()}
    assert not last["prober"][1]
    assert not last["board"][1]
    assert last["board"][0] < last["prober"][0], "no needle went up under voltage"


def test_a_move_by_hand_leaves_the_needles_down(tmp_path: Path) -> None:
    with probed(tmp_path) as (path, log):
        assert run(["bench", "move", str(path), "5", "6"]) == 0
        assert log.seen() == [("prober", "on")]


def test_a_die_is_found_on_the_map_by_its_serial(tmp_path: Path) -> None:
    (tmp_path / "wafer.csv").write_text("serial,x,y\ndie 3,0,0\ndie 4,-2,5\n")
    assert load_bench(write_probed(tmp_path, wafer='map = "wafer.csv"')).die == (-2, 5)
    (tmp_path / "wafer.csv").write_text("serial,x,y\ndie 3,0,0\n")
    with pytest.raises(BenchFileError, match=r"bench.serial: 'die 4' is no die of wafer.csv; there are die 3"):
        load_bench(tmp_path / "bench.toml")


@pytest.mark.parametrize(
    ("wafer", "said"),
    [
        ("", "wafer.die: or wafer.map says which die it is"),
        ("die = [1.5, 2]", r"wafer.die: \[1.5, 2\] is not column and row of a die"),
        ('die = [1, 2]\nmap = "wafer.csv"', "one of the two"),
    ],
)
def test_a_wafer_that_names_no_die_is_refused(wafer: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BenchFileError, match=said):
        load_bench(write_probed(tmp_path, wafer=wafer))
