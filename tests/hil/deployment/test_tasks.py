"""Every task from data to verdict on the emulated chip, with small synthetic sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hil.cli import run
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import DeployOptions, deploy
from hil.deployment.network_source import program_of
from hil.deployment.options import NetworkOptions, usual_recipe
from hil.deployment.scoring import scoring_of
from hil.errors import UsageError
from hil.prediction.predict import predict
from hil.report.run_data import read_run
from hil.report.schema import report_schema
from hil.verdict.agreement import AgreementReport
from hil.verdict.verdict import Verdict
from hil.watch import Watch
from mapping.network.task import TaskKind
from mapping.program.file import load_program, save_program

from ..conftest import CHIP, Small
from ..report.test_report import faults
from ..task_networks import TASKS, oddities, write_task

SCHEMA = report_schema()
TOLERANCES = {TaskKind.REGRESS: 0.05, TaskKind.AUTOENCODE: 0.05}


def deployed(
    small: Small, folder: Path, kind: TaskKind, *, data: Path | None = None, **more: object
) -> AgreementReport:
    net, own = write_task(folder, kind)
    given = {"tolerance": TOLERANCES.get(kind, 0.05), **more}
    options = DeployOptions(samples=320, repeats=2, virtual_chips=10, causes=kind is TaskKind.REGRESS, **given)  # type: ignore[arg-type]
    place = {"macros": 4, "calibration": small.record_file, "out": folder / "run", "options": options}
    return deploy(net, CHIP, data=str(data or own), **place)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TASKS)
def test_each_task_goes_from_data_to_a_verdict_that_agrees(small: Small, tmp_path: Path, kind: TaskKind) -> None:
    report = deployed(small, tmp_path, kind)
    found = report.decisive
    assert report.task == kind
    assert report.verdict is Verdict.AGREE, found.text
    assert found.n == 320
    value = found.measured.mean
    if found.metric.share:
        assert (0.02 if kind is TaskKind.DETECT else 0.3) < value <= 1.0
    else:
        assert 0 < value < 0.5
    record = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert faults(record, SCHEMA) == []
    assert AgreementReport.from_json(record).decisive.metric == found.metric
    data = read_run(tmp_path / "run" / "data.h5")
    assert data.task is not None
    assert data.task.kind is kind
    assert data.targets is not None
    scores = data.task.totals(data.task.scores(data.measured_logits, data.targets))
    assert scores.mean() == pytest.approx(value, rel=1e-6)
    text = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert found.metric.title in text
    assert '"bdata"]' not in text, "a typed array is drawn as the names of its parts"


def test_oddities_are_judged_by_the_area_under_the_curve(small: Small, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", **oddities(320))
    report = deployed(small, tmp_path, TaskKind.AUTOENCODE, data=tmp_path / "odd.npz", metric="auc", tolerance=0.03)
    assert report.decisive.metric.name == "auc"
    assert report.decisive.measured.mean > 0.8
    assert report.verdict is not Verdict.DISAGREE


def test_a_program_file_alone_knows_its_task_and_the_steps_of_its_values(tmp_path: Path) -> None:
    net, data = write_task(tmp_path, TaskKind.REGRESS, 40)
    program, _ = program_of(net, NetworkOptions(macros=4), Watch())
    save_program(program, tmp_path / "program.h5")
    again = load_program(tmp_path / "program.h5")
    assert (again.purpose, again.preprocess) == (TaskKind.REGRESS, program.preprocess)
    options = DeployOptions(samples=40, virtual_chips=2, recipe=usual_recipe(without=["tune"]))
    found = predict(again, load_dataset(data, any_kind=True), None, options, Watch())
    assert found.metric.name == "squared-error"
    assert found.ideal < found.at(0).mean
    assert "squared units" in " ".join(found.summary().lines())


def test_targets_that_do_not_fit_the_task_are_refused_before_the_chip_is_asked(tmp_path: Path) -> None:
    net, data = write_task(tmp_path, TaskKind.SEGMENT, 20)
    program, _ = program_of(net, NetworkOptions(macros=4), Watch())
    images = load_dataset(data, any_kind=True)
    with pytest.raises(UsageError, match="has masks, but to regress is scored by values"):
        scoring_of(program, images, DeployOptions(task="regress", tolerance=1.0))
    with pytest.raises(UsageError, match="task 'guess'"):
        DeployOptions(task="guess")


def test_the_command_line_takes_a_users_custom_metric(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, data = write_task(tmp_path, TaskKind.REGRESS, 60)
    score = tmp_path / "score.py"
    body = "def worst(outputs, targets):\n    return abs(list(outputs.values())[0][:, 0] - targets[:, 0])\n"
    score.write_text(f"UNIT = 'volts'\nGREATER = False\n{body}", encoding="utf-8")
    arguments = [
        "simulate",
        str(net),
        "--data",
        str(data),
        "--chips",
        "2",
        "--macros",
        "4",
        "--metric",
        f"{score}:worst",
    ]
    assert run(arguments) == 2
    assert "--allow-code" in capsys.readouterr().err
    wrong = score.with_name("wrong.py")
    wrong.write_text("def worst(outputs, targets):\n    return outputs['nothing']\n", encoding="utf-8")
    assert run([*arguments[:-1], f"{wrong}:worst", "--allow-code"]) == 7
    assert "stopped with KeyError" in capsys.readouterr().err
    assert run([*arguments, "--allow-code"]) == 0
    shown = capsys.readouterr().out
    assert "Scored by" in shown
    assert "worst of regress" in shown
