"""A long work goes on by the same command, in a folder that belongs to it; killed, it ends with the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.record.file import load_record
from hil.cli import run as command
from hil.emulator.address import chip_from_address
from hil.errors import ExitCode, FileError, MismatchError, UsageError
from hil.report.work_folder import WorkFolder, typed
from hil.server.serve import serving
from mapping.network.file import load_network
from mapping.program.file import load_program

from .conftest import Small
from .search_files import CLASSES, SPACE
from .search_files import images as search_images
from .small_net import NAMES, images


def test_a_part_is_computed_once_and_read_afterwards(tmp_path: Path) -> None:
    made: list[int] = []

    def compute() -> list[int]:
        made.append(1)
        return [3, 4]

    for _ in range(2):
        assert WorkFolder(tmp_path / "work", {"seed": 1}).json_part("one.json", list, compute) == [3, 4]
    assert made == [1]
    WorkFolder(tmp_path / "work", {"seed": 1}, restart=True).json_part("one.json", list, compute)
    assert made == [1, 1]
    assert WorkFolder(None, {"seed": 1}).json_part("one.json", list, compute) == [3, 4]


def test_another_fingerprint_is_refused_with_both_values_and_nothing_changes(tmp_path: Path) -> None:
    of = {"seed": 0, "options": {"images": 500, "rate": 0.1}, "network": "a" * 64, "workers": 2}
    WorkFolder(tmp_path / "work", of, free=("workers",))
    WorkFolder(tmp_path / "work", {**of, "workers": 8}, free=("workers",))
    other = {**of, "seed": 1, "options": {"images": 600, "rate": 0.1}, "network": "b" * 64}
    before = {path.name: path.read_bytes() for path in (tmp_path / "work").iterdir()}
    with pytest.raises(MismatchError) as refused:
        WorkFolder(tmp_path / "work", other, free=("workers",))
    said = str(refused.value)
    assert "another seed 0, now 1, options images 500, now 600, network aaaaaaaaaaaa…, now bbbbbbbbbbbb…" in said
    assert "--restart" in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "work").iterdir()} == before


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"format": "hil.work", "version": "1.0", "begun": "noon"}'])
def test_a_damaged_folder_is_one_typed_error_that_says_how_to_begin_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "about.json").write_text(text, "utf-8")
    with pytest.raises((FileError, MismatchError), match="--restart begins again"):
        WorkFolder(tmp_path / "work", {})
    WorkFolder(tmp_path / "work", {}, restart=True)


def test_a_folder_of_something_else_is_neither_used_nor_forgotten(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    for restart in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no such work"):
            WorkFolder(tmp_path, {}, restart=restart)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_what_a_killed_process_left_of_its_first_file_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".about.json.0123abcd.part").write_text("{", "utf-8")
    WorkFolder(tmp_path, {"seed": 1}).keep_json("a.json", 1)


@dataclass(frozen=True)
class Sizes:
    width: int
    rate: float = 0.5
    name: str | None = None


@pytest.mark.parametrize("record", [{"width": "7"}, {"width": 7, "rate": "x"}, {}, [], {"width": True}])
def test_values_of_another_type_are_refused(record: Any) -> None:
    assert typed(Sizes, {"width": 7, "rate": 1, "more": 3}) == Sizes(7, 1.0)
    with pytest.raises(ValueError, match=r"width|rate|no Sizes"):
        typed(Sizes, record)


# --- killed in the middle -------------------------------------------------------------------------

KILLED = """
import importlib, os, signal, sys
place, count = sys.argv.pop(1), int(sys.argv.pop(1))
module, _, name = place.partition(":")
owner = importlib.import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
function = getattr(owner, name)
def counted(*arguments, **more):
    global count
    found = function(*arguments, **more)
    count -= 1
    if not count:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
setattr(owner, name, counted)
from hil.cli import main
main()
"""
KEEP, CHECKPOINT = "hil.report.work_folder:WorkFolder.keep", "search.train.checkpoint:write_tensors"


def killed(place: str, count: int, words: list[str]) -> None:
    """The command, killed when a function has been called so often."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, place, str(count), *words],
        check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@dataclass(frozen=True)
class Work:
    """A command that leaves ``out``: its words, where it is killed, and its answer as something to compare."""

    words: Callable[[Path], list[str]]
    out: str
    killed_at: tuple[str, int]
    answer: Callable[[Path], object]
    other: tuple[str, ...]  # options with which it is another work


def _ladder(out: Path) -> object:
    trials = json.loads((out / "improvement.json").read_text("utf-8"))["trials"]
    return [{k: v for k, v in result.items() if k != "minutes"} for result in trials], load_program(
        out / "program.h5"
    ).digest


def _works(small: Small, place: Path) -> dict[str, Work]:
    pixels, labels = images(640, seed=5)
    np.savez(place / "train.npz", images=pixels, labels=labels, classes=np.array(NAMES))
    pixels, labels = search_images(160)
    np.savez(place / "search.npz", images=pixels, labels=labels, classes=np.array(CLASSES))
    (place / "space.toml").write_text(SPACE, "utf-8")
    net, data = str(small.net), str(small.data)
    improvement = ["--images", "100", "--chips", "2", "--with", "tune=16", "--test-images", "0", "--effort", "2"]
    training = ["--epochs", "2", "--batch", "32", "--shift", "0", "--symmetry", "none"]
    searching = (
        "--space {0}/space.toml --data {0}/search.npz --macros 64 --batch 20 --teacher-epochs 2 --stage-epochs 1 "
        "--samples 4 --sample-epochs 1 --simulations 8 --networks 0 --workers 0 --symmetry none"
    )
    faults = ["--orbit", "leo-sso", "--injections", "401", "--images", "100", "--chips", "0"]
    return {
        "improve": Work(
            lambda out: ["improve", net, "--data", data, "--macros", "4", *improvement, "-o", str(out)],
            "improved", (KEEP, 2), _ladder, ("--seed", "1"),
        ),
        "finetune": Work(
            lambda out: ["finetune", net, "--data", str(place / "train.npz"), *training, "-o", str(out)],
            "tuned.pt", (CHECKPOINT, 1), lambda out: load_network(out).digest, ("--seed", "1"),
        ),
        "search": Work(
            lambda out: ["search", *searching.format(place).split(), "-o", str(out)],
            "search", (CHECKPOINT, 1), lambda out: (out / "front.json").read_bytes(), ("--seed", "1"),
        ),
        "campaign": Work(
            lambda out: ["campaign", net, "--data", data, "--macros", "4", *faults, "-o", str(out)],
            "campaign", (KEEP, 2), lambda out: (out / "injections.json").read_bytes(), ("--seed", "1"),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["improve", "finetune", "search", "campaign"])
def test_a_command_that_is_killed_goes_on_by_itself_to_the_same_result(
    small: Small, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.searching.run.check_learned", lambda *_: None)
    work = _works(small, tmp_path)[name]
    out, whole = tmp_path / work.out, tmp_path / "whole" / work.out
    whole.parent.mkdir()
    killed(*work.killed_at, work.words(out))
    assert command([*work.words(out), *work.other]) == ExitCode.MISMATCH
    assert "was begun with another seed 0, now 1" in capsys.readouterr().err
    assert command(work.words(out)) == ExitCode.DONE
    assert command(work.words(whole)) == ExitCode.DONE
    assert work.answer(out) == work.answer(whole)


def test_a_calibration_that_is_killed_goes_on_by_itself_to_the_same_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chip stays while the host is killed; ``hil deploy`` is killed in ``deployment/test_resume.py``."""
    records = []
    for name, kill in (("whole", False), ("killed", True)):
        out = tmp_path / f"{name}.h5"
        with serving(chip_from_address("emulated:yao-2020?macros=1&seed=4"), "tcp://127.0.0.1:0") as where:
            words = ["calibrate", "--port", where, "--quick", "-o", str(out)]
            if kill:
                killed(KEEP, 6, words)
                assert command([*words, "--seed", "1"]) == ExitCode.MISMATCH
                assert "was begun with another seed 0, now 1" in capsys.readouterr().err
                assert command([*words, "--resume"]) == ExitCode.USAGE
            assert command(words) == ExitCode.DONE
        assert not (tmp_path / f"{name}.h5.partial").exists()
        records.append(load_record(out))
    assert records[0].pulses == records[1].pulses
    np.testing.assert_array_equal(records[0].macros[0].cells, records[1].macros[0].cells)
    np.testing.assert_allclose(records[0].macros[0].gain, records[1].macros[0].gain, rtol=2e-2)
