"""The command that predicts accuracy from a record, without a chip."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Chip,
    ChipScheduler,
    DataDir,
    Download,
    Effort,
    Json,
    Macros,
    Mean,
    Net,
    Std,
    With,
    Without,
    Workers,
    celsius,
    duration,
    floats,
    metric_place,
    print_result,
    screen,
    seconds,
    trained,
)
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import DeployOptions, recipe_for
from hil.errors import ExitCode, UsageError

USUAL = DeployOptions()


@from_settings
def simulate(
    network: Net = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of a chip (hil calibrate) or of cells (hil fit); default: the models of the chip file",
            show_default=False,
        ),
    ] = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    data: Annotated[str | None, typer.Option(help="data set or path", show_default=False)] = None,
    data_dir: DataDir = None,
    download: Download = False,
    mean: Mean = None,
    std: Std = None,
    samples: Annotated[int, typer.Option(help="images")] = 1000,
    *,
    asked: Annotated[Given[DeployOptions], Only("seed", "virtual_chips", "task", "metric", "allow_code", "device")],
    age: Annotated[str, typer.Option(help="age after programming; several give a table: 1h,1d,30d")] = duration(
        USUAL.age_s
    ),
    temperature: Annotated[
        str | None, typer.Option(help="temperature of the reads, 60 or 60C; default: the record's", show_default=False)
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(
            help="accuracy (or another share) in percent; gives the share of chips that reach it", show_default=False
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="exact (every conversion) or fast (one product, matched noise)")
    ] = "exact",
    tune_at: Annotated[
        str, typer.Option(help="when each chip is tuned to its own answers: each age, never, or at one of the ages: 1h")
    ] = "each",
    effort: Effort = None,
    having: With = None,
    without: Without = None,
    workers: Workers = None,
    scheduler: ChipScheduler = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Predict the accuracy of such chips, programmed again, at any age and temperature, and the yield at a target."""
    from cim.record.file import load_record
    from cim.simulator.modes import SimulationMode
    from hil.datasets.image_set import load_dataset
    from hil.deployment.deploy import BUNDLED_DATA
    from hil.deployment.network_source import BUNDLED_NETWORK, ImportOptions, program_of
    from hil.deployment.plan import plan_of
    from hil.pages.summary import NextStep
    from hil.prediction.predict import Tuning, float_score, predict
    from hil.simulation.chip_workers import chip_workers
    from hil.watch import PlannedStage

    named = "".join(f" {shlex.quote(str(word))}" for word in (network, *(("--data", data) if data else ())) if word)
    steps = (
        NextStep(f"hil deploy{named} --emulated", "the same through frames and a chip that it does not know"),
        NextStep(f"hil simulate{named} --age 1h,1d,30d --target-accuracy 90", "how long it lasts, and the yield"),
    )
    ages = tuple(seconds(part) for part in age.split(","))
    if engine not in tuple(SimulationMode):
        raise UsageError(f"engine {engine!r}", hint=" or ".join(f"--engine {mode}" for mode in SimulationMode))
    options = asked.upon(
        USUAL,
        samples=samples,
        age_s=ages[0],
        metric=metric_place(asked.values.get("metric")),
        recipe=recipe_for(network, having or (), without or (), effort),
    )
    images = load_dataset(data or BUNDLED_DATA, "test", data_dir=data_dir, download=download, any_kind=True)
    record = load_record(calibration) if calibration else None
    with screen(quiet=as_json) as watch, chip_workers(workers, scheduler) as crew:
        network = trained(
            effort, network, data, watch, chip=chip, macros=macros, calibration=calibration, data_dir=data_dir,
            download=download, age_s=options.age_s,
        )  # fmt: skip
        watch.plan(
            (
                PlannedStage("compiling", 2.0),
                PlannedStage("simulating", 0.003 * samples * options.virtual_chips * len(ages)),
            )
        )
        with watch.stage("compiling"):
            imported = ImportOptions(data, data_dir, download, mean=floats(mean), std=floats(std), task=options.task)
            program, graph = program_of(
                network,
                chip=chip,
                macros=macros,
                trust=trust_model,
                watch=watch,
                layout=options.layout,
                imported=imported,
            )
        planned = plan_of(program, options.recipe_of(program))
        for name, text in planned.rows():
            watch.say(f"{name}: {text}")
        result = predict(
            program,
            images,
            record,
            options,
            watch,
            ages_s=ages,
            temperature_c=None if temperature is None else celsius(temperature),
            target=None if target_accuracy is None else target_accuracy / 100.0,
            mode=engine,
            tune_at=Tuning(tune_at) if tune_at in tuple(Tuning) else seconds(tune_at),
            crew=crew,
        )
        if graph is not None:
            result = replace(result, float_score=float_score(graph, program, images, options))
    name = network.stem if network else BUNDLED_NETWORK.stem
    print_result([result.summary(name, steps)], {**result.to_json(), "plan": planned.to_json()}, as_json)
    return ExitCode.DONE
