"""A run handed to an experiment tracker: each by a stand-in that keeps what it is given."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from hil.cli import run as hil
from hil.report.files import write_report


class Kept:
    """What a tracker was given."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.settings: dict[str, str] = {}
        self.files: list[str] = []


@pytest.fixture
def folder(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # type: ignore[no-untyped-def]
    (tmp_path / "0007").mkdir()
    write_report(tmp_path / "0007", *run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hil.cli.log.need", lambda *_: None)
    return tmp_path / "0007"


def a_wandb(kept: Kept) -> types.ModuleType:
    class Run:
        url = "https://wandb.test/run"

        def log(self, numbers: dict[str, float]) -> None:
            kept.numbers |= numbers

        def save(self, path: str, **_: Any) -> None:
            kept.files.append(Path(path).name)

        def finish(self) -> None:
            pass

    def init(**about: Any) -> Run:
        kept.settings |= about["config"]
        return Run()

    made: Any = types.ModuleType("wandb")
    made.init = init
    return made


def a_mlflow(kept: Kept) -> types.ModuleType:
    class Run:
        info = types.SimpleNamespace(run_id="abc")

        def __enter__(self) -> Run:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    made: Any = types.ModuleType("mlflow")
    made.start_run = lambda **_: Run()
    made.log_params = kept.settings.update
    made.log_metrics = kept.numbers.update
    made.log_artifact = lambda path: kept.files.append(Path(path).name)
    made.get_tracking_uri = lambda: "file:mlruns"
    return made


def a_tensorboard(kept: Kept) -> types.ModuleType:
    class Writer:
        def __init__(self, place: str) -> None:
            kept.files += ["report.json", "report.html"]

        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def add_scalar(self, name: str, value: float, step: int) -> None:
            kept.numbers[name] = value

        def add_text(self, name: str, text: str, step: int) -> None:
            if name == "report":
                kept.files.append("report.md")
            else:
                kept.settings |= dict(line[2:].split(": ", 1) for line in text.splitlines() if ": " in line)

    made: Any = types.ModuleType("torch.utils.tensorboard")
    made.SummaryWriter = Writer
    return made


MADE = {
    "wandb": ("wandb", a_wandb),
    "mlflow": ("mlflow", a_mlflow),
    "tensorboard": ("torch.utils.tensorboard", a_tensorboard),
}


@pytest.mark.parametrize("tracker", MADE)
def test_a_tracker_gets_numbers_settings_and_pages_of_a_run(
    tracker: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, (module, made) = Kept(), MADE[tracker]
    monkeypatch.setitem(sys.modules, module, made(kept))
    assert hil(["log", str(folder), "--to", tracker, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tracker"] == tracker
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert kept.numbers["accuracy/measured"] == report["accuracy"]["measured"]["mean"]
    assert kept.numbers["lost/relaxation"] == next(
        p["loss"] for p in report["causes"]["parts"] if p["name"] == "relaxation"
    )
    assert kept.settings["backend"] == "emulated (NOT SILICON)"
    assert {"report.json", "report.md", "report.html"} <= set(kept.files)


def test_a_tracker_that_is_not_installed_is_named_with_what_installs_it(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "0007").mkdir()
    write_report(tmp_path / "0007", *run)
    monkeypatch.setattr("hil.cli.options.importlib.util.find_spec", lambda name: None)
    assert hil(["log", str(tmp_path / "0007"), "--to", "wandb"]) == 2
    assert "pip install 'rram-hil[track]'" in capsys.readouterr().err
    assert hil(["log", str(tmp_path / "0007"), "--to", "paper"]) == 2
    assert "one of wandb, mlflow, tensorboard" in capsys.readouterr().err
