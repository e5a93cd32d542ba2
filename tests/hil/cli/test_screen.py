"""Progress as people see it: bars on a terminal, lines in a log, and the plan that both are told from."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hil.report.terminal.screen import Screen, spelled
from hil.watch import PlannedStage, SetOfSteps, Watch

from .. import search_files
from ..conftest import Small
from ..finished_search import QUICK, options_of
from ..small_net import NAMES, images


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 90_000.0  # a machine that has been up for a day

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr("hil.watch.time.monotonic", found)
    yield found
    monkeypatch.undo()


def test_a_log_says_where_a_long_stage_is_and_how_long_is_left_of_it_and_of_the_whole(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with Screen(every_s=60.0) as screen:
        screen.plan([PlannedStage("calibrating", 100.0), PlannedStage("measuring", 100.0)])
        with screen.stage("calibrating"):
            for done in (1, 2, 3):
                clock.now += 50.0
                screen.step(done, 4, f"macro {done}")
            clock.now += 50.0
        with screen.stage("measuring"):
            clock.now += 70.0
            screen.step(1, 2, "images")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("calibrating    100 s, about 100 s left  2/4 macro 2; in all 100 s, about ")
    assert "calibrating    3 min 20 s" in lines
    assert lines[-2].startswith("measuring      70 s, about 70 s left  1/2 images; in all 4 min 30 s, about ")
    assert lines[-1] == "measuring      70 s"


def test_the_whole_is_never_nearer_its_end_than_the_stage_at_work(clock: Clock) -> None:
    watch = Watch()
    watch.plan([PlannedStage("compiling", 2.0), PlannedStage("simulating", 18.0)])
    with watch.stage("compiling"):
        clock.now += 5.0
    with watch.stage("simulating"):
        for done in range(1, 20):
            clock.now += 10.0
            watch.step(done, 20, "virtual chip")
            assert watch.job is not None
            whole, own = (one.left_s(*about) for one, about in (
                (watch.job, (watch.stages[0], clock.now)), (watch.stages[0], (clock.now,))
            ))  # fmt: skip
            assert whole is not None
            assert own is not None
            assert whole >= own


def test_a_stage_without_steps_that_outlasts_its_plan_is_not_extrapolated(clock: Clock) -> None:
    watch = Watch()
    watch.plan([PlannedStage("training", 10.0), PlannedStage("judging", 10.0)])
    with watch.stage("training"):
        told = []
        for _ in range(30):
            assert watch.job is not None
            told.append(watch.job.left_s(watch.stages[0], clock.now))
            clock.now += 1.0
    known = [left for left in told if left is not None]
    assert known == sorted(known, reverse=True), "time passes, and what is left does not grow"
    assert told[0] is not None
    assert told[-1] is None


def test_a_step_that_outlasts_the_rest_of_its_stage_is_not_extrapolated(clock: Clock) -> None:
    watch = Watch()
    watch.plan([PlannedStage("calibrating", 10.0), PlannedStage("judging", 10.0)])
    told: list[tuple[float | None, float | None]] = []
    with watch.stage("calibrating"):
        clock.now += 1.0
        watch.step(1, 5, "offsets")
        for _ in range(60):
            clock.now += 1.0
            assert watch.job is not None
            told.append((watch.job.left_s(watch.stages[0], clock.now), watch.stages[0].left_s(clock.now)))
    for lefts in zip(*told, strict=True):
        known = [left for left in lefts if left is not None]
        assert known
        assert known == sorted(known, reverse=True), "time passes, and what is left does not grow"
        assert lefts[-1] is None


def test_a_stage_that_makes_no_steps_says_in_a_log_that_its_time_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    text, deadline = "", time.monotonic() + 60.0
    with Screen(every_s=0.1) as screen, screen.stage("fitting"):
        while text.count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
            text += capsys.readouterr().err
    lines = text.splitlines()
    assert len(lines) >= 2
    assert all(re.fullmatch(r"fitting        \d\.\d s", line) for line in lines), lines


def test_a_short_stage_and_a_quiet_screen_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for screen in (Screen(), Screen(quiet=True, every_s=0.0)):
        with screen, screen.stage("networks"):
            for done in (1, 2, 4):
                screen.step(done, 4, "epochs")
    assert not capsys.readouterr().err


def test_the_share_done_only_grows_over_sets_of_steps_and_stages(clock: Clock) -> None:
    watch, shares, left = Watch(), [], []
    watch.plan([PlannedStage("calibrating", 60.0), PlannedStage("simulating", 40.0)])
    sets = (SetOfSteps("stuck cells", 3.0), SetOfSteps("stuck cells", 3.0), SetOfSteps("products", 6.0))

    def step(done: int, total: int, of: str = "") -> None:
        clock.now += 1.0
        watch.step(done, total, "x", of)
        assert watch.job is not None
        shares.append(watch.job.share(watch.stages[0]))
        left.append(watch.job.left_s(watch.stages[0], clock.now))

    with watch.stage("calibrating", sets):
        for of in ("stuck cells", "stuck cells", "products", "one that nobody planned"):
            for done in range(4):
                step(done, 3, of)
    with watch.stage("simulating"):
        for _ in range(2):  # its second set was not planned
            for done in (1, 2, 3, 4):
                step(done, 4)
    assert shares == sorted(shares)
    assert shares[7] == pytest.approx(0.3)
    assert shares[-1] > 0.9
    assert max(after - before for before, after in itertools.pairwise(left)) < 5.0, left


def test_a_stage_that_was_passed_over_counts_as_done_and_one_that_nobody_planned_as_nothing(clock: Clock) -> None:
    watch = Watch()
    watch.plan([PlannedStage(name, 10.0) for name in ("compiling", "calibrating", "measuring")])
    assert watch.job is not None
    with watch.stage("compiling"):
        clock.now += 10.0
    with watch.stage("adapting"):
        assert watch.job.share(watch.stages[0]) == pytest.approx(1 / 3)
    with watch.stage("measuring"):
        assert watch.job.share(watch.stages[0]) == pytest.approx(2 / 3)
        assert watch.job.left_s(watch.stages[0], clock.now) == pytest.approx(10.0, rel=0.6)
    assert watch.job.share(None) == pytest.approx(1.0)


PHASES = {"write": ("programming", "reading back"), "measure": ("measuring", "simulating"), "explain": ("layers",)}


def test_a_phase_leaves_one_line_with_what_it_found_and_is_not_begun_again(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    def interrupted() -> None:
        with Screen(every_s=1e9, phases=PHASES) as screen:
            for name in ("programming", "measuring", "simulating", "reading back", "layers"):
                with screen.stage(name):
                    assert screen.named(name).split(":")[0] in PHASES
                    clock.now += 2.0
                if name == "measuring":
                    screen.found("measure", "chip 91.0 %")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err.splitlines() == [
        "write          2.0 s",
        "measure        chip 91.0 %   6.0 s",
        "explain        not finished   2.0 s",
    ]


def test_times_are_spelled_as_people_say_them() -> None:
    assert [spelled(s) for s in (2.34, 21.2, 119.0, 200.0, 3725.0)] == [
        "2.3 s",
        "21 s",
        "119 s",
        "3 min 20 s",
        "1 h 2 min",
    ]


DRAWS = """
import time
from hil.report.terminal.screen import Screen
from hil.watch import PlannedStage
drawn = []
class Drawn(Screen):
    def words(self, *given, **more):
        text = super().words(*given, **more)
        drawn.append((self.stages[-1].name if self.stages else "", self.stages[-1].done if self.stages else 0, text))
        return text
def until_drawn(there):
    deadline = time.monotonic() + 60
    while not there() and time.monotonic() < deadline:
        time.sleep(0.02)
with Drawn() as screen:
    screen.plan([PlannedStage("calibrating", 1.0), PlannedStage("fitting", 1.0)])
    with screen.stage("calibrating"):
        for done in range(5):
            screen.step(done, 4, "macro")
            until_drawn(lambda: [d for _, d, _ in drawn].count(done) > 3)
        until_drawn(lambda: screen.stages[-1].started_s + 0.6 < time.monotonic())
    with screen.stage("fitting"):
        until_drawn(lambda: len({text for name, _, text in drawn if name == "fitting"}) > 8)
"""


def on_a_terminal(script: str, folder: Path, columns: int = 100) -> str:
    """What a program draws on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=theirs, stdout=theirs, env=environment, cwd=folder
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 1 << 16):
            seen += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, seen
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


# Stopped for half of the time, as by a scheduler with other work: nothing is burnt, and clocks go on. What stops it
# ends by itself after a turn, so that nobody stays stopped.
LOADED = """
import subprocess, sys
from hil.cli import run
stop = "import os, select, signal, sys\\nwhile not select.select([sys.stdin], [], [], 0.05)[0]:\\n"
stop += "    for what in (signal.SIGSTOP, signal.SIGCONT):\\n"
stop += "        os.kill(os.getppid(), what)\\n        select.select([], [], [], 0.05 * (what is signal.SIGSTOP))\\n"
busy = subprocess.Popen([sys.executable, "-c", stop], stdin=subprocess.PIPE)
try:
    assert run({words!r}) in (0, 1)
finally:
    busy.stdin.close()
    busy.wait()
"""
BAR = re.compile(
    r"^(?P<name>\S.*?) +[━╸╺ ]* *(?P<share>\d+) % (?P<spent>\S+ \w+)(?:, \w+ \w* ?(?P<left>[\d.hmins ]+) left)?"
)


def in_seconds(words: str) -> float:
    units = {"s": 1.0, "min": 60.0, "h": 3600.0}
    found = re.findall(r"([\d.]+) (h|min|s)", words)
    return sum(float(number) * units[unit] for number, unit in found)


def training_set(folder: Path) -> list[str]:
    """Options of a training of seconds on images of the small network."""
    pixels, labels = images(640, 5)
    np.savez(folder / "train.npz", images=pixels, labels=labels, classes=np.array(NAMES))
    return ["--data", str(folder / "train.npz"), "--batch", "32", "--shift", "0", "--symmetry", "none"]


def search_in(folder: Path) -> list[str]:
    """A search of seconds."""
    pixels, labels = search_files.images(160)
    np.savez(folder / "search.npz", images=pixels, labels=labels, classes=np.array(search_files.CLASSES))
    (folder / "space.toml").write_text(search_files.SPACE, "utf-8")
    named = {"data": folder / "search.npz", "space": folder / "space.toml", "out": folder / "found", **QUICK}
    return ["search", "run", "--symmetry", "none", *options_of(named)]


def long_commands(small: Small, folder: Path) -> dict[str, list[str]]:
    net, data, orbit = str(small.net), ["--data", str(small.data), "--macros", "4"], ["--orbit", "leo-sso"]
    few = [
        "--injections",
        "26",
        "--chips",
        "2",
        "--year-images",
        "100",
        "--years",
        "0,1",
        "-o",
        str(folder / "campaign"),
    ]
    return {
        "deploy": small.arguments("--port", "emulated:lab-128?seed=3&macros=4", "--out", str(folder / "run")),
        "techniques": ["help", "techniques", net, "--macros", "4"],
        "calibrate": ["calibrate", "--emulated", "--macros", "1", "--quick", "-o", str(folder / "r.h5")],
        "campaign": ["campaign", net, *data, *orbit, *few],
        "finetune": ["finetune", net, *training_set(folder), "--epochs", "1", "-o", str(folder / "tuned.pt")],
        "search": search_in(folder),
    }


@pytest.mark.parametrize("command", ["deploy", "techniques", "calibrate", "campaign", "finetune", "search"])
def test_progress_on_a_loaded_machine_never_contradicts_itself(small: Small, tmp_path: Path, command: str) -> None:
    words = long_commands(small, tmp_path)[command]
    drawn = re.split(r"[\r\n]+", on_a_terminal(LOADED.format(words=words), tmp_path))
    bars = [found.groupdict() for line in drawn if (found := BAR.match(line))]
    assert bars, drawn
    whole = [int(bar["share"]) for bar in bars if bar["name"] == "in all"]
    assert whole == sorted(whole)
    for before, after in itertools.pairwise(bar for bar in bars if bar["name"] != "in all"):
        if before["name"] == after["name"] and in_seconds(before["spent"]) <= in_seconds(after["spent"]):
            assert int(before["share"]) <= int(after["share"]), (before, after)
    for above, below in itertools.pairwise(bars):
        if above["name"] == "in all" and below["name"] != "in all" and above["left"] and below["left"]:
            assert in_seconds(above["left"]) >= in_seconds(below["left"]) - 1.0, (above, below)
        if above["name"] == "in all" and below["name"] != "in all":
            assert in_seconds(above["spent"]) >= in_seconds(below["spent"]) - 1.0, (above, below)


def test_a_terminal_shows_bars_of_the_stage_and_of_the_whole_whose_times_go_on(tmp_path: Path) -> None:
    shown = on_a_terminal(DRAWS, tmp_path)
    bars = [line for line in re.split(r"[\r\n]+", shown) if "%" in line]
    assert any(line.startswith("calibrating") and "2/4 macro" in line for line in bars), shown
    assert any(line.startswith("fitting") for line in bars), shown
    whole = [int(found[1]) for line in bars if (found := re.match(r"in all .*?(\d+) %", line))]
    assert whole == sorted(whole)
    assert whole[-1] >= 50
    fitting = {found[1] for line in bars if (found := re.match(r"fitting .*? % (\d\.\d) s", line))}
    assert len(fitting) > 2, "its time goes on without steps"
    assert re.search(r"calibrating    \d", shown)


@pytest.mark.parametrize("columns", [30, 40, 60, 80])
def test_a_narrow_terminal_shows_whole_numbers_of_progress(tmp_path: Path, columns: int) -> None:
    shown = on_a_terminal(DRAWS, tmp_path, columns)
    bars = [line for line in re.split(r"[\r\n]+", shown) if "%" in line]
    assert "…" not in shown
    assert all(len(line.rstrip()) <= columns for line in bars), bars
    ends = re.compile(r"\d+ % +\d+(\.\d)? s(, about \d+(\.\d)? s left)?(  \d/4( macro)?)?$")
    assert all(ends.search(line.rstrip()) for line in bars), bars


CHOOSES = """
from hil.report.terminal.screen import Screen
with Screen(asks={asks}) as shown, shown.stage("waiting"):
    print("took", shown.choose("an hour by the clock", ("wait 1 h", "do not wait (--age 0s)")), flush=True)
"""


def test_a_choice_is_asked_for_on_a_terminal_only_and_taken_in_order_elsewhere() -> None:
    def said(asks: bool) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", CHOOSES.format(asks=asks)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            os.write(ours, b"2\n" if asks else b"")
            text = b""
            with contextlib.suppress(OSError):  # which a terminal of Linux raises at its end
                while piece := os.read(ours, 4096):
                    text += piece
            process.wait(30.0)
        os.close(ours)
        return text.decode()

    asked, told = said(True), said(False)
    assert "took 1" in asked
    assert "2 do not wait (--age 0s)" in asked
    assert "took 0" in told
    assert "unless you choose otherwise" in told
    done = subprocess.run([sys.executable, "-c", CHOOSES.format(asks=True)], capture_output=True, text=True, check=True)
    assert "took 0" in done.stdout
    assert "unless you choose otherwise" in done.stderr
