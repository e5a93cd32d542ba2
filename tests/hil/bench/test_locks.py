"""One program at a time drives a bench; what a killed one left is cleared once outputs are seen off."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode, PortError
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.transports.locks import Lock
from tests.hil.bench.benches import free_ports, write_bench
from tests.hil.bench.served import bench_served

from ...scripts import benchmark

LOST = benchmark("lost_hosts")

HOLDS = """
import sys
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
chip = BenchChip(load_bench(sys.argv[1]))
print("holds", flush=True)
sys.stdin.readline()
chip.close()
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    path = write_bench(tmp_path, port=f"tcp://127.0.0.1:{free_ports(1)[0]}")
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, 7)):
        yield path


@contextmanager
def another_program(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the bench open."""
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_program_on_a_bench_is_refused_and_the_first_is_named(
    served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_program(served) as process:
        assert run(["board", "cells", "--port", f"bench:{served}"]) == ExitCode.PORT
        assert f"process {process.pid}, since 20" in capsys.readouterr().err
        process.communicate("\n")
    assert run(["board", "cells", "--port", f"bench:{served}"]) == 0


def test_another_bench_file_with_the_same_instrument_is_refused(served: Path) -> None:
    other = served.with_name("other.toml")
    other.write_text(served.read_text().replace('"row board"', '"the same board"'))
    with another_program(served), pytest.raises(PortError, match=r"tcp://127.0.0.1:\d+ is in use by"):
        BenchChip(load_bench(other))


@pytest.mark.parametrize("case", LOST.CASES)
def test_a_die_whose_host_was_lost_is_quarantined_where_nobody_saw_its_outputs_go_off(case: str) -> None:
    judged, wanted = LOST.CASES[case]
    assert judged(random.Random(1)) == wanted


def test_what_a_killed_program_left_is_cleared_once_outputs_are_read_back_as_off(
    served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with another_program(served) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    BenchChip(load_bench(served)).close()
    assert f"process {process.pid}" in caplog.text
    assert "outputs read back as off" in caplog.text
    caplog.clear()
    BenchChip(load_bench(served)).close()
    assert not caplog.text


def test_what_a_killed_program_left_stays_while_its_instrument_cannot_be_reached(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=f"tcp://127.0.0.1:{free_ports(1)[0]}")
    bench = load_bench(path)
    with bench_served(bench, EmulatedChip(bench.chip, 7)), another_program(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(PortError):
        BenchChip(bench)
    lock = Lock(bench.instruments["board"].port)
    assert lock.left_by is not None
    assert lock.left_by.pid == process.pid
    lock.release()
