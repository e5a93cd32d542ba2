"""The command that tries techniques, cheapest first: ``hil improve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    NetFile,
    Record,
    Restart,
    Workers,
    metric_place,
    output_folder,
)
from hil.cli.settings_options import Given, Only, Told, of_named_chip
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.improvement.settings import ImproveSettings
from hil.report.terminal.completion import datasets
from hil.watch import Watch

USUAL = DeployOptions()


def improve(
    network: NetFile,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="folder for program.h5, improvement.json and improvement.html", callback=output_folder
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="data set: training images select techniques, test images score the result", autocompletion=datasets
        ),
    ],
    calibration: Record = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros", "trust")],
    wanted: Given[ImproveSettings],
    treated: Annotated[Given[TechniqueOptions], Only("having", "without")],
    asked: Annotated[Given[DeployOptions], Only("task", "metric", "allow_code")],
    workers: Workers = None,
    restart: Restart = False,
    watch: Watch,
) -> Told:
    """Try techniques, cheapest first, until a network keeps its accuracy on other chips of this kind.

    Prints the gain and the cost of each technique.
    """
    from hil.improvement.account import improvement_summary
    from hil.improvement.improve import improve as try_techniques
    from hil.improvement.options import ImproveOptions, next_steps, write_page
    from hil.simulation.chip_workers import chip_workers

    source = of_named_chip(of, None, calibration).upon(NetworkOptions(), data=data)
    settings = wanted.upon(ImproveSettings())
    scoring = asked.upon(USUAL, metric=metric_place(asked.values.get("metric")))
    begun = ImproveOptions(network, source, settings, treated.upon(TechniqueOptions()), scoring)
    with chip_workers(workers) as crew:
        context, test = begun.context(out, record=calibration, crew=crew, restart=restart, watch=watch)
        found = try_techniques(
            context, out, test, target=settings.target, minutes=settings.minutes, tried=begun.trials, restart=restart
        )
    page, steps = write_page(found, out, network.stem), next_steps(found, out, begun)
    told = improvement_summary(found, network.stem, steps, str(page))
    answer = {
        **found.to_json(),
        "effort": settings.effort,
        "program": f"{out}/program.h5",
        "command": steps[0].command,
        "page": str(page),
    }
    return Told([told], answer)
