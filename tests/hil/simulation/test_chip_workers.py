"""Virtual chips on Dask workers: the numbers of threads, and a worker that dies costs its chip only."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from hil.cli import run
from hil.errors import LinkError
from hil.simulation.chip_workers import chip_workers

from ..conftest import Small


def answers(small: Small, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    """What ``hil simulate`` says of four virtual chips."""
    named = (str(small.net), "--macros", "4", "--data", str(small.data))
    assert run(["simulate", *named, "--samples", "40", "--chips", "4", "--mode", "fast", "--json", *more]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_virtual_chips_score_the_same_on_any_number_of_workers(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = answers(small, capsys)
    assert answers(small, capsys, "--workers", "2") == threads


def killed_once(number: int, folder: Path) -> int:
    """The square of a number; the process dies the first time that 2 is asked for."""
    with (folder / str(number)).open("a") as begun:
        begun.write("begun\n")
    if number == 2 and len((folder / "2").read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def test_a_killed_worker_costs_its_chip_only(tmp_path: Path) -> None:
    """Even the only one, which holds what all chips are drawn from."""
    with chip_workers(1) as crew:
        assert list(crew.each(killed_once, range(5), tmp_path)) == [0, 1, 4, 9, 16]
    begun = [len((tmp_path / str(number)).read_text().splitlines()) for number in range(5)]
    assert begun[2] == 2
    assert begun[4] == 1


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with (
        pytest.raises(LinkError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"),
        chip_workers("tcp://127.0.0.1:9"),
    ):
        pass
