"""Hosts that are killed while outputs are on: which dies are driven again at once, and which are quarantined.

Each die has a new folder of events. Behind the kill another host multiplies (on a wire), or switches on (on a bench):
where the die is quarantined it must be refused without a pulse, and go on once somebody released the die. Exit code 1
where anything else happens.

    python benchmarks/studies.py lost-hosts [--times 50]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import psutil

sys.path.insert(0, str(Path(__file__).parents[3]))

import hil.server.bench.chip
from cim.chip.file import load_chip
from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.errors import DeviceError
from hil.server import serve
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.serve import serving
from hil.transports.dies import dies
from tests.hil.bench.served import bench_served
from tests.hil.bench.test_ended_hosts import write_timerless
from tests.hil.silicon import Clock, SiliconBoard

ON_A_WIRE = "from hil.driver.open_chip import open_chip; chip = open_chip(sys.argv[1]); chip.read_cells(0)"
ON_A_BENCH = (
    "import hil.server.bench.chip as chips; from hil.server.bench.bench_file import load_bench; chips.EMULATED = '?'; "
    "chip = chips.BenchChip(load_bench(sys.argv[1])); chip.switch_on()"
)
SPREAD_S = 0.05  # behind the word that outputs are on


class Found(NamedTuple):
    """Events of the die; whether the next host drove it, pulses that it then had, whether one did after a release."""

    events: tuple[str, ...]
    driven: bool
    pulses: int
    released: bool


@contextlib.contextmanager
def own_events() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDG_STATE_HOME=folder):
        yield


def kill_host(program: str, where: str, rng: random.Random, *, guards: bool = False) -> None:
    """A program drives a chip and is killed; ``guards``: its guards before it, else they end their work."""
    words = [sys.executable, "-c", f"import sys; {program}; print('on', flush=True); sys.stdin.readline()", where]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "on\n"
        time.sleep(rng.uniform(0.0, SPREAD_S))
        others = psutil.Process(host.pid).children()
        for process in [*(others if guards else []), host]:
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(others, timeout=30)


def noted() -> tuple[str, ...]:
    return tuple(str(event.what) for its in dies().values() for event in its)


def release(serial: str) -> None:
    assert run(["board", "release", serial, "--reason", "looked at"]) == 0


def on_a_wire(rng: random.Random, *, minor: int = 4, emulated: bool = False) -> Found:
    """A board behind a chip role of protocol 1.``minor``: from 1.3 on it switches off by itself."""
    spec = load_chip("lab-128", macros=1)
    board = EmulatedChip(spec, 7) if emulated else SiliconBoard(spec, Clock())
    role = partial(serve.ChipServer, versions=(0x0100, 0x0100 + minor))
    with own_events(), patch.object(serve, "ChipServer", role), serving(board, "tcp://127.0.0.1:0") as address:
        multiply = ["board", "mvm", "--port", address, "--rows", "4", "--level", "1"]
        kill_host(ON_A_WIRE, address, rng)
        driven = run(multiply) == 0
        before, pulses = noted(), board.status().pulses_total
        if not driven:
            release(board.describe().serial)
        return Found(before, driven, 0 if driven else pulses, run(multiply) == 0)


def on_a_bench(rng: random.Random, *, guards: bool = False) -> Found:
    """A bench whose instruments have no timer: a guard switches them off, unless it is killed, too."""
    with tempfile.TemporaryDirectory() as folder, own_events(), patch.object(hil.server.bench.chip, "EMULATED", "?"):
        bench = load_bench(write_timerless(Path(folder)))
        with bench_served(bench, EmulatedChip(bench.chip, 7)):
            kill_host(ON_A_BENCH, str(bench.path), rng, guards=guards)
            with contextlib.closing(BenchChip(bench)) as chip:
                before, driven = noted(), True
                try:
                    chip.switch_on()
                except DeviceError:
                    driven = False
                    release(bench.serial)
                chip.switch_on()
    return Found(before, driven, 0, True)


DRIVEN, HELD = Found(("off",), True, 0, True), Found(("quarantined",), False, 0, True)
CASES = {
    "a board that switches off by itself": (partial(on_a_wire, minor=4), DRIVEN),
    "a board that does not": (partial(on_a_wire, minor=2), HELD),
    "an emulated board": (partial(on_a_wire, emulated=True), Found((), True, 0, True)),
    "a bench with a guard": (partial(on_a_bench, guards=False), DRIVEN),
    "a bench whose guard is killed, too": (partial(on_a_bench, guards=True), HELD),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, help="hosts that are killed, of each kind")
    asked, wrong = parser.parse_args(), 0
    for name, (case, wanted) in CASES.items():
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            found = collections.Counter(case(random.Random(f"{name} {n}")) for n in range(asked.times))
        wrong += asked.times - found[wanted]
        print(f"{name}: {found[wanted]} of {asked.times} {'/'.join(wanted.events) or 'without events'}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
