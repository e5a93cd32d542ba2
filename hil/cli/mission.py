"""The commands for payloads in orbit: ``hil mission check``, ``harden`` and ``pack``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.help_groups import group
from hil.cli.options import NetworkOfRun, Record, output_folder
from hil.cli.settings_options import Only, Told
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import ExitCode, UsageError
from hil.payload.settings import OrbitSettings
from hil.watch import PlannedStage, Watch

Subject = Annotated[Path, typer.Argument(help="net.pt, program.h5, or the folder of a run")]
OfSubject = Annotated[NetworkOptions, Only("chip", "macros", "trust")]
WithImages = Annotated[NetworkOptions, Only("chip", "macros", "data", "trust")]
Treated = Annotated[TechniqueOptions, Only("having", "without")]


def check(
    subject: Subject,
    plan: Annotated[Path, typer.Argument(help="mission.toml")],
    network: NetworkOfRun = None,
    *,
    source: WithImages,
    calibration: Record = None,
    campaign: Annotated[
        Path | None, typer.Option(help="campaign folder, for accuracy at the end of the mission", show_default=False)
    ] = None,
    options: Annotated[DeployOptions, Only("virtual_chips", samples=500)],
    treated: Treated,
    watch: Watch,
) -> Told:
    """Compare every limit of a mission with the needs of a network; exit code 1 when one is exceeded."""
    from cim.record.file import load_record
    from hil.deployment.network_source import images_asked
    from hil.payload.budget import check_budget
    from hil.payload.built_memory import built_memory
    from hil.payload.harden import accuracy_at_end
    from hil.payload.requirements import load_mission
    from hil.payload.subject import open_subject, simulated_accuracy

    wanted = load_mission(plan)
    if calibration and source.data is None:
        raise UsageError("--calibration is for a simulation", hint="name a data set too: --data")
    images = images_asked(source, any_kind=False) if source.data else None
    record = load_record(calibration) if calibration else None
    simulating = PlannedStage("simulating", 0.002 * options.samples * options.virtual_chips)
    watch.plan((PlannedStage("compiling", 2.0), *([] if images is None else [simulating])))
    found = open_subject(subject, source, watch, network=network, techniques=treated)
    accuracy = found.accuracy
    if images is not None:
        options = replace(options, recipe=found.recipe)
        accuracy = simulated_accuracy(found.program, images, record, options, watch)
    at_end = accuracy_at_end(campaign, found.program, wanted) if campaign else None
    budget = check_budget(
        found.program,
        wanted,
        network=found.name,
        accuracy=accuracy,
        accuracy_at_end=at_end,
        memory=built_memory(found.program, subject),
    )
    return Told([budget.summary()], budget.to_json(), ExitCode.OUTSIDE_TOLERANCE if budget.broken else ExitCode.DONE)


def harden(
    campaign: Annotated[Path, typer.Argument(help="folder of a campaign (hil campaign)", callback=output_folder)],
    plan: Annotated[Path, typer.Argument(help="mission.toml")],
    subject: Annotated[Path, typer.Option("--network", help="net.pt or program.h5 of the campaign")],
    *,
    of: OfSubject,
    options: Annotated[OrbitSettings, Only("detection", "always", "never")],
    watch: Watch,
) -> Told:
    """Find the cheapest mitigations that keep accuracy and detect faults; exit code 1 when no set does."""
    from hil.payload.harden import harden_campaign
    from hil.payload.requirements import load_mission
    from hil.payload.subject import open_subject

    wanted = load_mission(plan)
    found = open_subject(subject, of, watch)
    with watch.stage("hardening"):
        cheapest = harden_campaign(campaign, found.program, wanted, options)
    return Told(
        [cheapest.summary()], cheapest.to_json(), ExitCode.DONE if cheapest.chosen else ExitCode.OUTSIDE_TOLERANCE
    )


def pack(
    run: Annotated[Path, typer.Argument(help="folder of a run whose chip executed the network as a stored plan")],
    plan: Annotated[Path | None, typer.Argument(help="mission.toml, whose limits are set beside the package")] = None,
    campaign: Annotated[Path | None, typer.Argument(help="campaign folder, for limits of the telemetry")] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="new folder to write", callback=output_folder)],
    watch: Watch,
) -> Told:
    """Write the network of a run as C99 code without a link, and a host program that reproduces the run's outputs.

    With mission.toml it prints the budget of hil mission check, too; exit code 1 when a limit is broken.
    """
    from hil.payload.budget import check_budget
    from hil.payload.built_memory import built_memory
    from hil.payload.harden import accuracy_at_end, read_report
    from hil.payload.pack import pack_run
    from hil.payload.requirements import load_mission
    from hil.payload.subject import open_subject

    if plan is None:
        package = pack_run(run, out)
        return Told([package.summary()], package.to_json())
    wanted, found = load_mission(plan), open_subject(run, NetworkOptions(), watch)
    package = pack_run(run, out, read_report(campaign, found.program) if campaign else None)
    budget = check_budget(
        found.program,
        wanted,
        network=found.name,
        accuracy=found.accuracy,
        accuracy_at_end=accuracy_at_end(campaign, found.program, wanted) if campaign else None,
        memory=built_memory(found.program, run),
    )
    code = ExitCode.OUTSIDE_TOLERANCE if budget.broken else ExitCode.DONE
    return Told([package.summary(), budget.summary()], {**package.to_json(), "budget": budget.to_json()}, code)


mission = group("Prototype a payload in orbit: budgets, mitigations, code.", check, harden, pack)
