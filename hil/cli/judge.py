"""The command that judges answers which were measured elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Chip,
    DataDir,
    Download,
    FailOn,
    Json,
    Macros,
    Mean,
    Net,
    Seed,
    Std,
    TrustModel,
    With,
    Without,
    duration,
    floats,
    print_result,
    screen,
    seconds,
    whole_numbers,
)
from hil.cli.report_words import OUTCOMES, outcomes, tell_report
from hil.deployment.options import DeployOptions, recipe_for
from hil.errors import ExitCode, UsageError

USUAL, ALL = DeployOptions(), "all"


def judge(
    network: Net = None,
    *,
    answers: Annotated[
        Path,
        typer.Option(help="measured.npz or .csv: class or logits of every image and repeat, or an accuracy alone"),
    ],
    measured_chip: Annotated[
        str | None,
        typer.Option(
            help="whose answers, where the file has several chips; all: three or more, by their mean",
            show_default=False,
        ),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(
            help="planned image counts, 500,1000,2000, where measuring stopped at one of them; default: one look",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of the chip (hil calibrate) or of cells (hil fit); default: the models of the chip file",
            show_default=False,
        ),
    ] = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    having: With = None,
    without: Without = None,
    data: Annotated[
        str | None, typer.Option(help="set whose images were measured; default: the bundled images", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    mean: Mean = None,
    std: Std = None,
    samples: Annotated[
        int, typer.Option(help="images that virtual chips answer, of an accuracy alone")
    ] = USUAL.samples,
    chips: Annotated[int, typer.Option(help="number of virtual chips")] = USUAL.virtual_chips,
    age: Annotated[
        str, typer.Option(help="age after programming, where the file does not say it: 30s, 1h, 2d")
    ] = duration(USUAL.age_s),
    tolerance: Annotated[float, typer.Option(help="tolerance of the verdict, points")] = 1.0,
    seed: Seed = USUAL.seed,
    engine: Annotated[
        str,
        typer.Option(help="exact (every conversion), fast (one product, matched noise), auto: fast where as good"),
    ] = USUAL.engine,
    device: Annotated[str, typer.Option(help="device of the simulator: cpu or cuda")] = USUAL.device,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="run folder; default runs/NNNN", show_default=False)
    ] = None,
    fail_on: FailOn = ",".join(OUTCOMES),
    trust_model: TrustModel = False,
    as_json: Json = False,
) -> int:
    """Judge answers that were measured elsewhere: the verdict of hil deploy, from a file instead of a chip."""
    from hil.prediction.judge import judge
    from hil.prediction.judge_chips import NetworkAsked, judge_chips

    failing = outcomes(fail_on)
    options = DeployOptions(
        samples=samples,
        seed=seed,
        virtual_chips=chips,
        tolerance_in_units=tolerance,
        age_s=seconds(age),
        device=device,
        engine=engine,
        recipe=recipe_for(network, having or (), without or ()),
    )
    if measured_chip == ALL:
        if out is not None or looks is not None:
            raise UsageError("--measured-chip all prints its verdict: no --out, no --looks", hint="--json for a file")
        with screen(quiet=False) as watch:
            asked = NetworkAsked(
                network, chip, macros, data, data_dir, download, floats(mean), floats(std), trust_model
            )
            found = judge_chips(asked, answers, calibration, options, watch)
        print_result([found.summary()], found.to_json(), as_json)
        return ExitCode.OUTSIDE_TOLERANCE if {found.verdict.value} & failing else ExitCode.DONE
    with screen(quiet=False) as watch:
        report = judge(
            network,
            answers,
            chip=chip,
            macros=macros,
            calibration=calibration,
            data=data,
            data_dir=data_dir,
            download=download,
            measured_chip=measured_chip,
            looks=whole_numbers(looks, "list of image counts") or (),
            out=out,
            options=options,
            mean=floats(mean),
            std=floats(std),
            trust=trust_model,
            watch=watch,
        )
    return tell_report(report, None, None, failing, as_json)
