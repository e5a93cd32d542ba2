"""The command of a deployment: ``hil deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Baseline,
    Baud,
    Chip,
    DataDir,
    Download,
    Effort,
    Emulated,
    FailOn,
    Json,
    Junit,
    Macros,
    Mean,
    Net,
    Port,
    Restart,
    Std,
    TrustModel,
    With,
    Without,
    chip_address,
    duration,
    floats,
    metric_place,
    print_result,
    screen,
    seconds,
    trained,
)
from hil.cli.report_words import OUTCOMES, outcomes, tell_report
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import PATIENCE_S, RECORD_AGE_S, DeployOptions, recipe_for
from hil.errors import ExitCode, UsageError
from hil.transports import DEFAULT_BAUD

USUAL = DeployOptions()


@from_settings
def deploy(
    network: Net = None,
    port: Port = None,
    emulated: Emulated = False,
    chip: Chip = "lab-128",
    macros: Macros = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="fashion-mnist, cifar10, eurosat, or a path; default: the bundled images", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    mean: Mean = None,
    std: Std = None,
    *,
    asked: Annotated[
        Given[DeployOptions],
        Only(
            "samples",
            "all_images",
            "seed",
            "repeats",
            "task",
            "metric",
            "allow_code",
            "tolerance_in_units",
            "reprogram",
            "causes",
            "device",
            "engine",
        ),
    ],
    age: Annotated[
        str | None,
        typer.Option(
            help="chip time between programming and running: 30s, 1h, 2d; default: "
            f"{duration(USUAL.age_s)}, and where a chip without WAIT lets it pass by the clock, you are asked",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of this chip (hil calibrate); default: the newest of earlier runs that holds, or a new one",
            show_default=False,
        ),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="measure a new record, whatever earlier runs have measured")
    ] = False,
    record_age: Annotated[str, typer.Option(help="how old a record of an earlier run may be")] = duration(RECORD_AGE_S),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="run folder; default runs/NNNN", show_default=False)
    ] = None,
    effort: Effort = None,
    having: With = None,
    without: Without = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print bytes, time, pulses and wear, and stop")] = False,
    baud: Baud = DEFAULT_BAUD,
    patience: Annotated[
        str,
        typer.Option(
            help="how long the line may be silent or gone before the run ends in exit code 4, to be resumed: 30s, 2m; "
            "0: 2 s of silence"
        ),
    ] = duration(PATIENCE_S),
    junit: Junit = None,
    baseline: Baseline = None,
    restart: Restart = False,
    fail_on: FailOn = ",".join(OUTCOMES),
    trust_model: TrustModel = False,
    as_json: Json = False,
) -> int:
    """Program a network into a chip, run it, and compare with the calibrated simulation."""
    from firmware_protocols.messages import Capability
    from hil.deployment.deploy import deploy
    from hil.deployment.dry_run import estimate
    from hil.deployment.expected_work import PHASES
    from hil.deployment.network_source import ImportOptions, program_of
    from hil.deployment.plan import plan_of
    from hil.driver.counting.wire_cost import EVERYTHING, ON_SERIAL
    from hil.verdict.baseline import read_baseline
    from hil.watch import PlannedStage

    failing = outcomes(fail_on)
    if calibration and recalibrate:
        raise UsageError("--calibration and --recalibrate exclude each other")
    address = chip_address(port, emulated, chip, macros)
    options = asked.upon(
        USUAL,
        metric=metric_place(asked.values.get("metric")),
        age_s=USUAL.age_s if age is None else seconds(age),
        recipe=recipe_for(network, having or (), without or (), effort),
    )
    earlier = read_baseline(baseline) if baseline else None  # before hours are spent on the chip
    with screen(quiet=False, asks=age is None, phases=PHASES) as watch:
        if not dry_run:
            network = trained(
                effort, network, data, watch, chip=chip, macros=macros, calibration=calibration, data_dir=data_dir,
                download=download, age_s=options.age_s,
            )  # fmt: skip
        if dry_run:
            imported = ImportOptions(data, data_dir, download, mean=floats(mean), std=floats(std), task=options.task)
            watch.plan((PlannedStage("compiling", 2.0), PlannedStage("counting", 2.0)))
            with watch.stage("compiling"):
                program, _ = program_of(
                    network,
                    chip=chip,
                    macros=macros,
                    trust=trust_model,
                    watch=watch,
                    layout=options.layout,
                    imported=imported,
                )
            with watch.stage("counting"):
                chips = (ON_SERIAL, EVERYTHING & ~Capability.PLAN)
                cost, before = (
                    estimate(program, options, calibrate=calibration is None, capabilities=can, watch=watch)
                    for can in chips
                )
                planned = plan_of(program, options.recipe_of(program))
            lines = [planned.table(), cost.table(baud, program.spec.write.max_pulses, before)]
            found = {**cost.to_json(baud), "without_plans": before.to_json(baud), "plan": planned.to_json()}
            print_result(lines, found, as_json)
            return ExitCode.DONE
        report = deploy(
            network,
            address,
            chip=chip,
            macros=macros,
            data=data,
            data_dir=data_dir,
            download=download,
            calibration=calibration,
            recalibrate=recalibrate,
            record_age_s=seconds(record_age),
            out=out,
            options=options,
            baud=baud,
            mean=floats(mean),
            std=floats(std),
            patience_s=seconds(patience),
            trust=trust_model,
            restart=restart,
            watch=watch,
        )
    return tell_report(report, earlier, junit, failing, as_json)
