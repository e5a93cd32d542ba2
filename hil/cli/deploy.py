"""The command of a deployment: ``hil deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.options import (
    Baseline,
    ChipOnWire,
    FailOn,
    Json,
    Junit,
    Net,
    Restart,
    RunFolder,
    metric_place,
    print_result,
    screen,
)
from hil.cli.report_words import OUTCOMES, outcomes, print_report
from hil.cli.settings_options import Given, Only, of_named_chip
from hil.deployment.options import RECONNECT_TIMEOUT_S, RECORD_AGE_S, DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import ExitCode, PortError, UsageError
from hil.report.terminal.quantities import duration, seconds

if TYPE_CHECKING:
    from cim.chip.spec import ChipSpec
    from firmware_protocols.messages import Capability

USUAL = DeployOptions()


def deploy(
    network: Net = None,
    *,
    on: Annotated[Given[ChipOnWire], Only("port", "emulated")],
    of: Given[NetworkOptions],
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
            "mode",
        ),
    ],
    age: Annotated[
        str | None,
        typer.Option(
            help="chip time between programming and running: 30s, 1h, 2d; default: "
            f"{duration(USUAL.age_s)}; a chip without WAIT cannot wait by itself, so you are asked to wait",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record of this chip (hil calibrate); default: the newest valid record of earlier runs, or a new one",
            show_default=False,
        ),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="measure a new record even when an earlier run has a valid one")
    ] = False,
    record_age: Annotated[str, typer.Option(help="oldest record of an earlier run to use")] = duration(RECORD_AGE_S),
    out: RunFolder = None,
    treated: Given[TechniqueOptions],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print bytes, time, pulses and wear, and stop")] = False,
    reconnect_timeout: Annotated[
        str,
        typer.Option(
            help="longest silence or absence of the link before the run ends in exit code 4, and can be resumed: 30s, "
            "2m; 0: 2 s of silence"
        ),
    ] = duration(RECONNECT_TIMEOUT_S),
    junit: Junit = None,
    baseline: Baseline = None,
    restart: Restart = False,
    fail_on: FailOn = ",".join(OUTCOMES),
    as_json: Json = False,
) -> int:
    """Program a network into a chip, run it, and compare with the calibrated simulation."""
    failing = outcomes(fail_on)
    if calibration and recalibrate:
        raise UsageError("--calibration and --recalibrate exclude each other")
    port = on.values.get("port")
    of = of_named_chip(of, port, calibration)
    source, techniques = of.upon(NetworkOptions()), treated.upon(TechniqueOptions())
    address = on.upon(ChipOnWire(), chip=source.chip, macros=source.macros).address
    options = asked.upon(
        USUAL,
        metric=metric_place(asked.values.get("metric")),
        age_s=USUAL.age_s if age is None else seconds(age),
        effort=techniques.effort,
        recipe=techniques.recipe(network),
    )
    from firmware_protocols.messages import Capability
    from hil.deployment.deploy import deploy, images_of_run
    from hil.deployment.dry_run import estimate
    from hil.deployment.expected_work import PHASES
    from hil.deployment.network_source import images_asked, program_of
    from hil.deployment.plan import plan_of
    from hil.driver.counting.wire_cost import EVERYTHING, ON_SERIAL
    from hil.improvement.filled import chosen
    from hil.pages.tables import labelled
    from hil.transports import with_baud
    from hil.verdict.baseline import read_baseline
    from hil.watch import PlannedStage

    earlier = read_baseline(baseline) if baseline else None  # before hours are spent on the chip
    with screen(quiet=False, asks=age is None, phases=PHASES) as watch:
        network, source, options = chosen(network, source, options, calibration, watch, trains=not dry_run)
        if dry_run:
            watch.plan((PlannedStage("compiling", 2.0), PlannedStage("counting", 2.0)))
            images = images_asked(source)  # what is missing is said before work is done
            with watch.stage("compiling"):
                program, _ = program_of(network, source, watch, recipe=options.recipe, task=options.task)
            images_of_run(program, images, options, watch)
            can, board = capabilities_at(port, program.spec) if port else (ON_SERIAL, "")
            with watch.stage("counting"):
                chips = (can, (can if port else EVERYTHING) & ~Capability.PLAN)
                cost, before = (
                    estimate(program, options, calibrate=calibration is None, capabilities=can, watch=watch)
                    for can in chips
                )
                planned = plan_of(program, options.recipe_of(program))
            _, baud = with_baud(address)
            lines = [planned.table(), cost.table(baud, program.spec.write.max_pulses, before)]
            lines += [labelled("Board", ("port", board))] if port else []
            found = {**cost.to_json(baud), "without_plans": before.to_json(baud), "plan": planned.to_json()}
            print_result(lines, {**found, **({"port": board} if port else {})}, as_json)
            return ExitCode.DONE
        report = deploy(
            network,
            address,
            **{**of.values, "data": source.data},
            calibration=calibration,
            recalibrate=recalibrate,
            record_age_s=seconds(record_age),
            out=out,
            options=options,
            reconnect_timeout_s=seconds(reconnect_timeout),
            restart=restart,
            watch=watch,
        )
    return print_report(report, earlier, junit, failing, as_json)


def capabilities_at(address: str, spec: ChipSpec) -> tuple[Capability, str]:
    """Capabilities of the chip at an address, and a sentence on them; if the port does not open, all are assumed."""
    from firmware_protocols.messages import Capability
    from hil.driver.counting.wire_cost import ON_SERIAL
    from hil.driver.open_chip import open_chip
    from hil.transports import is_serial

    try:
        with open_chip(address, chip=spec) as driver:
            can = driver.capabilities if is_serial(address) else driver.capabilities & ~Capability.PACKED
            return can, f"{driver.whole_name} is what its file says"
    except PortError as error:
        return ON_SERIAL, f"not opened, and a chip with all capabilities assumed: {error.what}"
