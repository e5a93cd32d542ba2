"""The command that hands a run to an experiment tracker: ``hil log``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import Json, need, one_of, print_result
from hil.cli.show import report_in
from hil.errors import ExitCode

if TYPE_CHECKING:
    from hil.verdict.agreement import AgreementReport

PAGES = ("report.json", "report.md", "report.html")


class Tracker(enum.StrEnum):
    """Where runs can be logged; each is a package of its own, imported when it is asked for."""

    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


def log(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder, or its report.json")],
    to: Annotated[str, typer.Option("--to", help="wandb, mlflow or tensorboard")],
    as_json: Json = False,
) -> int:
    """Log numbers, settings and pages of a run to wandb, mlflow or tensorboard, as these are set up here."""
    tracker = one_of(Tracker, to, "--to")
    report = report_in(run_folder)
    need(tracker.value, f"hil log --to {tracker}", "track")
    folder = run_folder if run_folder.is_dir() else run_folder.parent
    files = [folder / name for name in PAGES if (folder / name).is_file()]
    numbers, settings = numbers_of(report), settings_of(report)
    place = SENDERS[tracker](report.run or folder.name, numbers, settings, files)
    answer = {"tracker": tracker.value, "place": place, "numbers": numbers, "settings": settings}
    print_result([f"{len(numbers)} numbers and {len(files)} files of {folder} are logged: {place}"], answer, as_json)
    return ExitCode.DONE


def numbers_of(report: AgreementReport) -> dict[str, float]:
    """Numbers of a run by names that trackers group: accuracy/measured, lost/relaxation, cost/energy_j."""
    j = report.decisive
    found: dict[str, float | None] = {
        "accuracy/float": report.float_accuracy,
        "accuracy/ideal": j.ideal.mean,
        "accuracy/simulated": j.simulated.mean,
        "accuracy/measured": j.measured.mean,
        "difference/mean": j.difference,
        "difference/low": j.interval90[0],
        "difference/high": j.interval90[1],
        "agree": float(report.exit_code is ExitCode.DONE),
        "images": float(j.n),
        "age_s": report.age_s,
        "cells/total": float(report.cells.total),
        "cells/unreached": None if report.cells.unreached is None else float(report.cells.unreached),
        "cells/pulses": float(report.cells.pulses),
    }
    if report.causes is not None:
        found |= {f"lost/{part.name.replace(' ', '_')}": part.loss for part in report.causes.parts}
    if report.cost is not None:
        found |= {"cost/energy_j": report.cost.energy_j, "cost/latency_s": report.cost.latency_s}
    found |= {f"time_s/{name.replace(' ', '_')}": seconds for name, seconds in report.timing_s.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def settings_of(report: AgreementReport) -> dict[str, str]:
    """What the numbers are of; ``backend`` says whether silicon answered."""
    chip, net = report.chip, report.network
    return {
        "network": net.name,
        "bits": f"W{net.weight_bits}A{net.activation_bits}",
        "chip": chip.name,
        "serial": chip.serial,
        "backend": report.backend_words,
        "data": report.data.name,
        "metric": report.decisive.metric.name,
        "verdict": report.verdict.value,
        "command": report.environment.get("command", ""),
        **{f"digest_{name}": value for name, value in report.digests.items()},
    }


Sender = Callable[[str, Mapping[str, float], Mapping[str, str], list[Path]], str]


def _to_wandb(name: str, numbers: Mapping[str, float], settings: Mapping[str, str], files: list[Path]) -> str:
    import wandb

    run: Any = wandb.init(project="hil", name=name, config=dict(settings))
    run.log(dict(numbers))
    for path in files:
        run.save(str(path), base_path=str(path.parent), policy="now")
    run.finish()
    return str(getattr(run, "url", None) or getattr(run, "dir", "") or "offline")


def _to_mlflow(name: str, numbers: Mapping[str, float], settings: Mapping[str, str], files: list[Path]) -> str:
    import mlflow

    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params({key: value[:500] for key, value in settings.items()})
        mlflow.log_metrics(dict(numbers))
        for path in files:
            mlflow.log_artifact(str(path))
    return f"{mlflow.get_tracking_uri()}, run {run.info.run_id}"


def _to_tensorboard(name: str, numbers: Mapping[str, float], settings: Mapping[str, str], files: list[Path]) -> str:
    from torch.utils.tensorboard import SummaryWriter

    place = Path("tensorboard") / name.replace("/", "-")
    with SummaryWriter(str(place)) as writer:
        for key, value in numbers.items():
            writer.add_scalar(key, value, 0)
        writer.add_text("settings", "\n".join(f"* {key}: {value}" for key, value in settings.items()), 0)
        for path in files:
            if path.suffix == ".md":
                writer.add_text("report", path.read_text("utf-8"), 0)
    return str(place)


SENDERS: dict[Tracker, Sender] = {
    Tracker.WANDB: _to_wandb,
    Tracker.MLFLOW: _to_mlflow,
    Tracker.TENSORBOARD: _to_tensorboard,
}
