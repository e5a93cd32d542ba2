"""Consent to run code is given on each command line, and stored nowhere: a run folder may come from anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hil.cli import run as command
from hil.errors import ExitCode, Interrupted, MismatchError

from ...mapping.hostile.corpus import Hook
from ..conftest import Small
from ..same_runs import BRIEF, COMPLETE
from .test_resume import interrupted_at, served

SCORE = """import pathlib
pathlib.Path({marker!r}).mkdir(exist_ok=True)
def right(outputs, targets):
    return (outputs.argmax(1) == targets) * 1.0
"""


def arguments(small: Small, where: str, run: Path, *more: str) -> list[str]:
    brief = "--samples 64 --repeat 2 --tolerance 10 --macros 4 --no-causes --without tune"
    brief += f" --data {small.data} --calibration {small.record_file}"
    return ["deploy", *brief.split(), "--port", where, "--out", str(run), *more]


def told_to_trust(part: Path) -> None:
    """``run.json`` as older versions wrote it, or anybody: with the consent in it."""
    path = part / "run.json"
    stored = json.loads(path.read_text("utf-8"))
    assert "trust" not in stored
    assert "allow_code" not in stored["options"]
    stored["trust"] = stored["options"]["allow_code"] = True
    path.write_text(json.dumps(stored), "utf-8")


def test_a_network_that_can_run_code_is_asked_for_again_when_its_run_goes_on(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, marker, run = tmp_path / "net.pt", tmp_path / "marker", tmp_path / "run"
    torch.save({**torch.load(small.net, weights_only=True), "extra": Hook(marker)}, net)
    part = run.with_name("run.unfinished")
    with served(tmp_path) as (_, where):
        with interrupted_at(60):
            assert command(arguments(small, where, run, str(net), "--trust-model")) == ExitCode.INTERRUPTED
        assert "the same command resumes" in capsys.readouterr().err
        told_to_trust(part)
        before = {path.name: path.read_bytes() for path in part.iterdir()}
        marker.rmdir()
        again = arguments(small, where, run, str(net), "--fail-on", "none")
        assert command(again) == ExitCode.BAD_FILE
        assert "--trust-model" in capsys.readouterr().err
        assert not marker.exists()
        assert {path.name: path.read_bytes() for path in part.iterdir()} == before
        assert command([*again, "--trust-model"]) == ExitCode.DONE
    assert marker.is_dir()
    assert sorted(path.name for path in run.iterdir()) == COMPLETE


def test_a_metric_that_is_code_is_asked_for_again_when_its_run_goes_on(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score, marker, run = tmp_path / "score.py", tmp_path / "marker", tmp_path / "run"
    score.write_text(SCORE.format(marker=str(marker)), "utf-8")
    part = run.with_name("run.unfinished")
    with served(tmp_path) as (_, where):
        again = arguments(small, where, run, str(small.net), "--metric", f"{score}:right", "--fail-on", "none")
        with interrupted_at(60):
            assert command([*again, "--allow-code"]) == ExitCode.INTERRUPTED
        told_to_trust(part)
        marker.rmdir()
        assert command(again) == ExitCode.USAGE
        assert "--allow-code" in capsys.readouterr().err
        assert not marker.exists()
        assert part.is_dir()
        assert command([*again, "--allow-code"]) == ExitCode.DONE
    assert marker.is_dir()


def test_a_folder_that_names_code_or_a_chip_of_a_stranger_is_not_gone_on_with(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the folder says is compared with the command, never carried out."""
    net, score, marker = tmp_path / "evil.pt", tmp_path / "evil.py", tmp_path / "marker"
    torch.save(Hook(marker), net)
    score.write_text(SCORE.format(marker=str(marker)), "utf-8")
    with served(tmp_path) as (_, where):
        with interrupted_at(60), pytest.raises(Interrupted):
            small.deploy(where, tmp_path / "run", options=BRIEF)
        part = tmp_path / "run.unfinished"
        own = json.loads((part / "run.json").read_text("utf-8"))
        for forged, name in (
            ({"network": str(net), "trust": True}, "network"),
            ({"options": {**own["options"], "metric": f"{score}:right", "allow_code": True}}, "options metric"),
        ):
            (part / "run.json").write_text(json.dumps({**own, **forged}), "utf-8")
            with pytest.raises(MismatchError, match=f"was begun with another {name}"):
                small.deploy(where, tmp_path / "run", options=BRIEF)
            assert not marker.exists()
        (part / "run.json").write_text(json.dumps({**own, "address": "tcp://203.0.113.1:9"}), "utf-8")
        small.deploy(where, tmp_path / "run", options=BRIEF)
    assert not marker.exists()
