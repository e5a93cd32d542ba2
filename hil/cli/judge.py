"""The command that judges outputs of a chip which were measured without this toolkit: ``hil judge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import FailOn, Json, Net, Record, RunFolder, print_result, screen, whole_numbers
from hil.cli.report_words import OUTCOMES, outcomes, print_report
from hil.cli.settings_options import Given, Only
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import ExitCode, UsageError
from hil.report.terminal.quantities import duration, seconds

USUAL, ALL = DeployOptions(), "all"


def judge(
    network: Net = None,
    *,
    answers: Annotated[
        Path,
        typer.Option(help="measured.npz or .csv: classes or logits by image and repeat, or only an accuracy"),
    ],
    measured_chip: Annotated[
        str | None,
        typer.Option(
            help="chip to judge, if the file has several; all: judge the mean of three or more chips",
            show_default=False,
        ),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(
            help="planned interim analyses, as 500,1000,2000 images, if one of them ended measuring; default: none",
            show_default=False,
        ),
    ] = None,
    calibration: Record = None,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros", "data", "trust")],
    treated: Annotated[Given[TechniqueOptions], Only("having", "without")],
    asked: Annotated[Given[DeployOptions], Only("samples", "virtual_chips", "tolerance_in_units", "mode")],
    age: Annotated[
        str,
        typer.Option(
            help="age after programming, if the file does not give it: 30s, 1h, 2d", rich_help_panel="Answers"
        ),
    ] = duration(USUAL.age_s),
    out: RunFolder = None,
    fail_on: FailOn = ",".join(OUTCOMES),
    as_json: Json = False,
) -> int:
    """Judge chip outputs measured elsewhere: the verdict of hil deploy, from a file instead of a connected chip."""
    from hil.prediction.judge import judge
    from hil.prediction.judge_chips import judge_chips

    failing = outcomes(fail_on)
    source, techniques = of.upon(NetworkOptions()), treated.upon(TechniqueOptions())
    options = asked.upon(USUAL, age_s=seconds(age), recipe=techniques.recipe(network))
    if measured_chip == ALL:
        if out is not None or looks is not None:
            raise UsageError("--measured-chip all prints its verdict: no --out, no --looks", hint="--json for a file")
        with screen(quiet=False) as watch:
            found = judge_chips(network, source, answers, calibration, options, watch)
        print_result([found.summary()], found.to_json(), as_json)
        return ExitCode.OUTSIDE_TOLERANCE if {found.verdict.value} & failing else ExitCode.DONE
    with screen(quiet=False) as watch:
        report = judge(
            network,
            answers,
            **of.values,
            calibration=calibration,
            measured_chip=measured_chip,
            looks=whole_numbers(looks, "list of image counts") or (),
            out=out,
            options=options,
            watch=watch,
        )
    return print_report(report, None, None, failing, as_json)
