"""The command that tries levers of accuracy from cheap to dear: ``hil improve``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Baud,
    Chip,
    ChipScheduler,
    DataDir,
    Download,
    Emulated,
    Json,
    Macros,
    Port,
    Restart,
    With,
    Without,
    Workers,
    chip_address,
    duration,
    metric_place,
    output_folder,
    print_result,
    screen,
    seconds,
)
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import DeployOptions
from hil.errors import ExitCode, UsageError
from hil.transports import DEFAULT_BAUD

USUAL = DeployOptions()


@from_settings
def improve(
    network: Annotated[Path, typer.Argument(help="net.pt")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="folder of program.h5, ladder.json and ladder.html", callback=output_folder),
    ],
    data: Annotated[str, typer.Option(help="data set: its training images decide, its test images are read once")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    use_macros: Annotated[
        int | None, typer.Option(min=1, help="most macros to use, of the chip's; default: all", show_default=False)
    ] = None,
    effort: Annotated[
        int, typer.Option(min=0, max=3, help="levers to try: 0: none, 1: without macros, 2: without training, 3: all")
    ] = 3,
    having: With = None,
    without: Without = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="record of the chip; default: the models of the chip file", show_default=False),
    ] = None,
    port: Port = None,
    emulated: Emulated = False,
    data_dir: DataDir = None,
    download: Download = False,
    *,
    asked: Annotated[Given[DeployOptions], Only("seed", "task", "metric", "allow_code")],
    target: Annotated[
        float | None, typer.Option(help="percent on held-out training images at which to stop", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="begin no further lever after so many; training takes what is left", show_default=False
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=100, help="held-out training images that decide")] = 500,
    test_images: Annotated[int, typer.Option(min=0, help="test images for the finished program; 0: none")] = 1000,
    chips: Annotated[int, typer.Option(min=2, help="virtual chips")] = 8,
    age: Annotated[str, typer.Option(help="planned age: 30s, 1h, 2d")] = duration(USUAL.age_s),
    workers: Workers = None,
    scheduler: ChipScheduler = None,
    restart: Restart = False,
    baud: Baud = DEFAULT_BAUD,
    trust_model: Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")] = False,
    as_json: Json = False,
) -> int:
    """Try levers from cheap to dear until a network keeps its accuracy on such chips, and say what each gave."""
    from hil.atomic import write_text
    from hil.datasets.image_set import load_dataset
    from hil.improvement.begin import bench_of, measured_record
    from hil.improvement.further_training import FurtherTraining
    from hil.improvement.ladder import expected_ladder
    from hil.improvement.ladder import improve as climb
    from hil.improvement.ladder_page import PAGE, ladder_page
    from hil.improvement.ladder_summary import ladder_summary
    from hil.improvement.levers import improvement_recipe
    from hil.pages.summary import NextStep
    from hil.simulation.chip_workers import chip_workers

    training = load_dataset(data, "train", data_dir=data_dir, download=download, any_kind=True)
    test = load_dataset(data, "test", data_dir=data_dir, limit=test_images, any_kind=True) if test_images else None
    recipe, tried = improvement_recipe(having or (), without or (), effort)
    scoring = asked.upon(USUAL, metric=metric_place(asked.values.get("metric")))
    with screen(quiet=as_json) as watch, chip_workers(workers, scheduler) as crew:
        record = calibration
        watch.plan(expected_ladder(images, chips, test_images, measured=bool(port or emulated)), may_end_early=True)
        if port or emulated:
            if calibration is not None:
                raise UsageError("--calibration and a chip exclude each other", hint="leave one of them out")
            address = chip_address(port, emulated, chip, macros)
            record = measured_record(
                address, out, age_s=seconds(age), seed=scoring.seed, baud=baud, watch=watch, restart=restart
            )
        further = FurtherTraining(network, data, data_dir, chip, macros, record, out)
        if restart:
            further.forget()
        bench = bench_of(
            network,
            training,
            chip=chip,
            macros=macros,
            use_macros=use_macros,
            record=record,
            age_s=seconds(age),
            images=images,
            chips=chips,
            seed=scoring.seed,
            trust=trust_model,
            watch=watch,
            asked=recipe,
            scoring=scoring,
            further=None if effort < 3 else further,
        )
        found = climb(
            replace(bench, crew=crew),
            out,
            test,
            target=None if target is None else target / 100.0,
            minutes=minutes,
            restart=restart,
            tried=tried,
        )
    page = out / PAGE
    write_text(page, ladder_page(found))
    named = {"--data": data, "--data-dir": data_dir, "--task": scoring.task, "--metric": asked.values.get("metric")}
    scored = (f"{name} {shlex.quote(str(value))}" for name, value in named.items() if value)
    again = " ".join(("hil deploy", shlex.quote(f"{out}/program.h5"), *found.deploy, *scored))
    steps = (
        NextStep(again, "what the chip makes of it"),
        NextStep(f"hil estimate {shlex.quote(f'{out}/program.h5')}", "cost of every layer"),
    )
    told = ladder_summary(found, network.stem, steps, str(page))
    answer = {**found.to_json(), "effort": effort, "program": f"{out}/program.h5", "command": again, "page": str(page)}
    print_result([told], answer, as_json)
    return ExitCode.DONE
