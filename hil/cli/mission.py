"""The commands for payloads in orbit: ``hil mission check``, ``harden``, ``passes`` and ``flight``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Chip, DataDir, Download, Json, Macros, Seed, print_result, screen
from hil.errors import ExitCode, UsageError

mission = typer.Typer(help="Prototype a payload in orbit: budgets, mitigations, passes.", no_args_is_help=True)
Subject = Annotated[Path, typer.Argument(help="net.pt, program.h5, or the folder of a run")]
NetworkOfRun = Annotated[
    Path | None, typer.Option(help="net.pt or program.h5 of a run folder that holds no program", show_default=False)
]
Trust = Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")]


@mission.command()
def check(
    subject: Subject,
    plan: Annotated[Path, typer.Argument(help="mission.toml")],
    network: NetworkOfRun = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    data: Annotated[
        str | None, typer.Option(help="data set to simulate the accuracy on, without a run", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help="record to simulate from; default: the models of the chip file", show_default=False),
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="images of the simulation")] = 500,
    chips: Annotated[int, typer.Option(min=2, help="virtual chips of the simulation")] = 20,
    junit: Annotated[Path | None, typer.Option(help="write JUnit XML for a CI server", show_default=False)] = None,
    seed: Seed = 0,
    trust_model: Trust = False,
    as_json: Json = False,
) -> int:
    """Set every limit of a mission beside what a network needs; exit code 1 when one is broken."""
    from cim.record.file import load_record
    from hil.datasets.image_set import load_dataset
    from hil.deployment.options import DeployOptions
    from hil.mission.budget import check_budget
    from hil.mission.budget_text import budget_lines, write_budget_junit
    from hil.mission.requirements import load_mission
    from hil.mission.subject import open_subject, simulated_accuracy

    wanted = load_mission(plan)
    if calibration and not data:
        raise UsageError("--calibration is for a simulation", hint="name a data set too: --data")
    with screen(quiet=as_json) as watch:
        found = open_subject(subject, network=network, chip=chip, macros=macros, trust=trust_model, watch=watch)
        accuracy = found.accuracy
        if data:
            images = load_dataset(data, "test", data_dir=data_dir, download=download)
            record = load_record(calibration) if calibration else None
            options = DeployOptions(samples=samples, virtual_chips=chips, seed=seed)
            accuracy = simulated_accuracy(found.program, images, record, options, watch)
    budget = check_budget(found.program, wanted, network=found.name, accuracy=accuracy)
    if junit:
        write_budget_junit(junit, budget)
    print_result(budget_lines(budget), budget.to_json(), as_json)
    return ExitCode.OUTSIDE_TOLERANCE if budget.broken else ExitCode.DONE
