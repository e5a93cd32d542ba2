"""Consent to run code is given on each command line, and stored nowhere: a run folder may come from anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hil.cli import run as command
from hil.errors import ExitCode, Interrupted

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
    brief = [
        "--samples",
        "64",
        "--repeat",
        "2",
        "--tolerance",
        "10",
        "--macros",
        "4",
        "--no-causes",
        "--without",
        "tune",
    ]
    files = ["--data", str(small.data), "--calibration", str(small.record_file)]
    return ["deploy", *files, *brief, "--port", where, "--out", str(run), *more]


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
        assert f"hil resume {part} --trust-model" in capsys.readouterr().err
        told_to_trust(part)
        before = {path.name: path.read_bytes() for path in part.iterdir()}
        marker.rmdir()
        assert command(["resume", str(run)]) == ExitCode.BAD_FILE
        assert f"hil resume {part} --trust-model" in capsys.readouterr().err
        assert not marker.exists()
        assert {path.name: path.read_bytes() for path in part.iterdir()} == before
        assert command(["resume", str(run), "--trust-model", "--fail-on", "none"]) == ExitCode.DONE
    assert marker.is_dir()
    assert sorted(path.name for path in run.iterdir()) == COMPLETE


@pytest.mark.parametrize("again", [["resume"], ["deploy", "--resume"]], ids=" ".join)
def test_a_metric_that_is_code_is_asked_for_again_when_its_run_goes_on(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str], again: list[str]
) -> None:
    score, marker, run = tmp_path / "score.py", tmp_path / "marker", tmp_path / "run"
    score.write_text(SCORE.format(marker=str(marker)), "utf-8")
    part = run.with_name("run.unfinished")
    with served(tmp_path) as (_, where):
        scored = ["--metric", f"{score}:right", "--allow-code"]
        with interrupted_at(60):
            assert command(arguments(small, where, run, str(small.net), *scored)) == ExitCode.INTERRUPTED
        assert f"hil resume {part} --allow-code" in capsys.readouterr().err
        told_to_trust(part)
        marker.rmdir()
        assert command([*again, str(run)]) == ExitCode.USAGE
        assert f"hil resume {part} --allow-code" in capsys.readouterr().err
        assert not marker.exists()
        assert command([*again, str(run), "--allow-code", "--fail-on", "none"]) == ExitCode.DONE
    assert marker.is_dir()


def test_a_folder_that_names_code_of_a_stranger_runs_none_of_it(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, score, marker = tmp_path / "evil.pt", tmp_path / "evil.py", tmp_path / "marker"
    torch.save(Hook(marker), net)
    score.write_text(SCORE.format(marker=str(marker)), "utf-8")
    with served(tmp_path) as (_, where):
        with interrupted_at(60), pytest.raises(Interrupted):
            small.deploy(where, tmp_path / "run", options=BRIEF)
        part = tmp_path / "run.unfinished"
        own = json.loads((part / "run.json").read_text("utf-8"))
        for forged, option in (
            ({"network": str(net), "trust": True}, "--trust-model"),
            ({"options": {**own["options"], "metric": f"{score}:right", "allow_code": True}}, "--allow-code"),
        ):
            (part / "run.json").write_text(json.dumps({**own, **forged}), "utf-8")
            assert command(["resume", str(part)]) in (ExitCode.USAGE, ExitCode.BAD_FILE)
            assert f"hil resume {part} {option}" in capsys.readouterr().err
            assert not marker.exists()
        (part / "run.json").write_text(json.dumps(own), "utf-8")
        assert command(["resume", str(part), "--fail-on", "none"]) == ExitCode.DONE
