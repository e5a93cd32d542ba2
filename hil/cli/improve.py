"""The command that tries techniques from cheap to dear: ``hil improve``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Baud,
    ChipScheduler,
    Emulated,
    Json,
    Port,
    Restart,
    Workers,
    chip_address,
    metric_place,
    output_folder,
    print_result,
    screen,
)
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import TRAINING, DeployOptions, NetworkAsked, TechniquesAsked
from hil.errors import ExitCode, UsageError
from hil.improvement.settings import ImproveSettings
from hil.transports import DEFAULT_BAUD

USUAL = DeployOptions()


@from_settings
def improve(
    network: Annotated[Path, typer.Argument(help="net.pt")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="folder of program.h5, improvement.json and improvement.html", callback=output_folder
        ),
    ],
    data: Annotated[str, typer.Option(help="data set: its training images decide, its test images are read once")],
    calibration: Annotated[
        Path | None,
        typer.Option(help="record of the chip; default: the models of the chip file", show_default=False),
    ] = None,
    port: Port = None,
    emulated: Emulated = False,
    *,
    of: Annotated[Given[NetworkAsked], Only("chip", "macros", "data_dir", "download", "trust")],
    wanted: Given[ImproveSettings],
    treated: Annotated[Given[TechniquesAsked], Only("having", "without")],
    asked: Annotated[Given[DeployOptions], Only("task", "metric", "allow_code")],
    workers: Workers = None,
    scheduler: ChipScheduler = None,
    restart: Restart = False,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Try techniques from cheap to dear until a network keeps its accuracy on other chips of this kind.

    Says what each gave and what it costs.
    """
    from hil.atomic import write_text
    from hil.datasets.image_set import load_dataset
    from hil.improvement.begin import context_of, measured_record
    from hil.improvement.further_training import FurtherTraining
    from hil.improvement.improve import expected_improvement
    from hil.improvement.improve import improve as try_techniques
    from hil.improvement.improvement_page import PAGE, improvement_page
    from hil.improvement.improvement_summary import improvement_summary
    from hil.improvement.trials import improvement_recipe
    from hil.pages.summary import NextStep
    from hil.simulation.chip_workers import chip_workers

    source, settings = of.upon(NetworkAsked(), data=data), wanted.upon(ImproveSettings())
    place, last = source.data_dir, settings.test_images
    training = load_dataset(data, "train", data_dir=place, download=source.download, any_kind=True)
    test = load_dataset(data, "test", data_dir=place, limit=last, any_kind=True) if last else None
    recipe, tried = improvement_recipe(treated.upon(TechniquesAsked()), settings.effort)
    scoring = asked.upon(USUAL, metric=metric_place(asked.values.get("metric")))
    with screen(quiet=as_json) as watch, chip_workers(workers, scheduler) as crew:
        record = calibration
        watch.plan(
            expected_improvement(settings.images, settings.chips, last, measured=bool(port or emulated)),
            may_end_early=True,
        )
        if port or emulated:
            if calibration is not None:
                raise UsageError("--calibration and a chip exclude each other", hint="leave one of them out")
            address = chip_address(port, emulated, source.chip, source.macros)
            record = measured_record(
                address, out, age_s=settings.age_s, seed=settings.seed, baud=baud, watch=watch, restart=restart
            )
        further = FurtherTraining(network, data, place, source.chip, source.macros, record, out)
        if restart:
            further.forget()
        context = context_of(
            network,
            training,
            source,
            settings,
            watch,
            record=record,
            asked=recipe,
            scoring=scoring,
            further=further if settings.effort == TRAINING else None,
        )
        found = try_techniques(
            replace(context, crew=crew),
            out,
            test,
            target=settings.target,
            minutes=settings.minutes,
            restart=restart,
            tried=tried,
        )
    page = out / PAGE
    write_text(page, improvement_page(found))
    named = {"--data": data, "--data-dir": place, "--task": scoring.task, "--metric": asked.values.get("metric")}
    scored = (f"{name} {shlex.quote(str(value))}" for name, value in named.items() if value)
    again = " ".join(("hil deploy", shlex.quote(f"{out}/program.h5"), *found.deploy, *scored))
    steps = (
        NextStep(again, "what the chip makes of it"),
        NextStep(f"hil estimate {shlex.quote(f'{out}/program.h5')}", "cost of every layer"),
    )
    told = improvement_summary(found, network.stem, steps, str(page))
    answer = {
        **found.to_json(),
        "effort": settings.effort,
        "program": f"{out}/program.h5",
        "command": again,
        "page": str(page),
    }
    print_result([told], answer, as_json)
    return ExitCode.DONE
