"""The commands for payloads in orbit: ``hil mission check``, ``harden``, ``passes`` and ``flight``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.help_groups import GroupedCommand
from hil.cli.options import (
    Json,
    one_of,
    output_file,
    output_folder,
    print_result,
    screen,
)
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import ExitCode, UsageError
from hil.payload.settings import FlightOptions, HardenOptions, LinkFigures, MitigationScenario, years_of, years_text

USUAL_FLIGHT = FlightOptions()
mission = typer.Typer(
    help="Prototype a payload in orbit: budgets, mitigations, passes.", no_args_is_help=True, rich_markup_mode=None
)
Subject = Annotated[Path, typer.Argument(help="net.pt, program.h5, or the folder of a run")]
NetworkOfRun = Annotated[
    Path | None, typer.Option(help="net.pt or program.h5 of a run folder that holds no program", show_default=False)
]
OfSubject = Annotated[Given[NetworkOptions], Only("chip", "macros", "trust")]
WithImages = Annotated[Given[NetworkOptions], Only("chip", "macros", "data", "data_dir", "download", "trust")]
Treated = Annotated[Given[TechniqueOptions], Only("having", "without")]


@mission.command(cls=GroupedCommand)
@from_settings
def check(
    subject: Subject,
    plan: Annotated[Path, typer.Argument(help="mission.toml")],
    network: NetworkOfRun = None,
    *,
    of: WithImages,
    calibration: Annotated[
        Path | None,
        typer.Option(help="record to simulate from; default: the models of the chip file", show_default=False),
    ] = None,
    campaign: Annotated[
        Path | None, typer.Option(help="folder of a campaign: accuracy at the end of the mission", show_default=False)
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="mitigation scenario until then, as the campaign names it")
    ] = "scrubbed",
    simulated: Annotated[Given[DeployOptions], Only("virtual_chips", "seed", samples=500)],
    treated: Treated,
    junit: Annotated[
        Path | None, typer.Option(help="write JUnit XML for a CI server", show_default=False, callback=output_file)
    ] = None,
    as_json: Json = False,
) -> int:
    """Set every limit of a mission beside what a network needs; exit code 1 when one is broken."""
    from cim.record.file import load_record
    from hil.deployment.network_source import images_asked
    from hil.payload.budget_text import budget_summary, write_budget_junit
    from hil.payload.check import check_subject, planned_check
    from hil.payload.hardened_campaign import accuracy_at_end
    from hil.payload.requirements import load_mission
    from hil.payload.subject import open_subject

    wanted, source = load_mission(plan), of.upon(NetworkOptions())
    options = simulated.upon(DeployOptions())
    if calibration and source.data is None:
        raise UsageError("--calibration is for a simulation", hint="name a data set too: --data")
    images = images_asked(source, any_kind=False) if source.data else None
    record = load_record(calibration) if calibration else None
    with screen(quiet=as_json) as watch:
        watch.plan(planned_check(images, record, options))
        found = open_subject(subject, source, watch, network=network, techniques=treated.upon(TechniqueOptions()))
        at_end = None
        if campaign:
            at_end = accuracy_at_end(
                campaign, found.program, wanted, one_of(MitigationScenario, scenario, "--scenario")
            )
        budget = check_subject(found, wanted, images, record, options, watch, at_end=at_end)
    if junit:
        write_budget_junit(junit, budget)
    print_result([budget_summary(budget)], budget.to_json(), as_json)
    return ExitCode.OUTSIDE_TOLERANCE if budget.broken else ExitCode.DONE


@mission.command(cls=GroupedCommand)
@from_settings
def harden(
    campaign: Annotated[Path, typer.Argument(help="folder of a campaign (hil campaign)", callback=output_folder)],
    plan: Annotated[Path, typer.Argument(help="mission.toml")],
    subject: Annotated[Path, typer.Option("--network", help="net.pt or program.h5 of the campaign")],
    *,
    of: OfSubject,
    hardened: Given[HardenOptions],
    as_json: Json = False,
) -> int:
    """Find the cheapest set of mitigations that keeps accuracy and notices faults; exit code 1 when none does."""
    from hil.payload.hardened_campaign import harden_campaign
    from hil.payload.mitigation import Mitigation
    from hil.payload.requirements import load_mission
    from hil.payload.subject import open_subject

    asked = hardened.upon(HardenOptions())
    on = [one_of(Mitigation, name, "--with") for name in asked.always.split(",")] if asked.always else []
    off = [one_of(Mitigation, name, "--without") for name in asked.never.split(",")] if asked.never else []
    wanted = load_mission(plan)
    least = wanted.limits.accuracy_floor if asked.floor is None else asked.floor
    if least is None:
        raise UsageError("no accuracy is requested", hint="--floor 85, or accuracy_floor in mission.toml")
    with screen(quiet=as_json) as watch:
        found = open_subject(subject, of.upon(NetworkOptions()), watch)
        with watch.stage("hardening"):
            cheapest = harden_campaign(
                campaign,
                found.program,
                wanted,
                floor=least,
                detection=asked.detection,
                scrub_s=asked.scrub_s,
                always=on,
                never=off,
            )
    print_result([cheapest.summary()], cheapest.to_json(), as_json)
    return ExitCode.DONE if cheapest.chosen else ExitCode.OUTSIDE_TOLERANCE


@mission.command(cls=GroupedCommand)
@from_settings
def passes(
    subject: Subject,
    passes: Annotated[Path, typer.Option("--passes", help="CSV of contact windows, columns start and end")],
    *,
    of: OfSubject,
    link: Given[LinkFigures],
    dump: Annotated[int, typer.Option(min=0, help="bytes of a telemetry dump")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="write the flight image", show_default=False, callback=output_file),
    ] = None,
    network: NetworkOfRun = None,
    as_json: Json = False,
) -> int:
    """Plan the uplink of a program over contact windows, and a telemetry dump; exit code 1 when windows are too few."""
    from hil.atomic import write_bytes
    from hil.payload.flight_image import flight_program, pack_image
    from hil.payload.passes import load_passes, passes_table, plan_transfer
    from hil.payload.subject import open_subject

    windows, figures = load_passes(passes), link.upon(LinkFigures())
    with screen(quiet=as_json) as watch:
        found = open_subject(subject, of.upon(NetworkOptions()), watch, network=network)
        image = pack_image(flight_program(found.program))
    plans = [plan_transfer("program.hilf", len(image), windows, figures)]
    if dump:
        plans.append(plan_transfer("telemetry dump", dump, windows, figures, up=False))
    if out:
        write_bytes(out, image)
    rows = [asdict(plan) for plan in plans]
    print_result([passes_table(rows)], {"format": "hil.passes/2.0", "files": rows}, as_json)
    return ExitCode.OUTSIDE_TOLERANCE if any(plan.passes is None for plan in plans) else ExitCode.DONE


@mission.command(cls=GroupedCommand)
@from_settings
def flight(
    subject: Subject,
    orbit: Annotated[str, typer.Option(help="leo-sso, geo, or the path of an orbit file")],
    *,
    of: WithImages,
    years: Annotated[str, typer.Option(help="times in orbit, in years")] = years_text(USUAL_FLIGHT.years),
    flown: Given[FlightOptions],
    treated: Treated,
    leave_out: Annotated[
        str | None,
        typer.Option(help="kinds of faults that the belief leaves out, comma-separated", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="write the result as JSON", show_default=False, callback=output_file),
    ] = None,
    network: NetworkOfRun = None,
    as_json: Json = False,
) -> int:
    """Fly emulated chips for years and compare them with the prediction; exit code 1 when one in ten disagrees."""
    import json

    from hil.atomic import write_text
    from hil.deployment.network_source import images_asked
    from hil.payload.flight import fly
    from hil.payload.orbit import load_orbit
    from hil.payload.radiation.kinds import FaultKind
    from hil.payload.subject import open_subject
    from hil.watch import PlannedStage

    left = tuple(one_of(FaultKind, name, "--leave-out") for name in leave_out.split(",")) if leave_out else ()
    source, options = of.upon(NetworkOptions()), flown.upon(USUAL_FLIGHT, years=years_of(years), left_out=left)
    place = load_orbit(orbit)
    loaded = images_asked(source, any_kind=False)
    with screen(quiet=as_json) as watch:
        flown_s = 10.0 * options.chips * len(options.years)
        watch.plan((PlannedStage("compiling", 2.0), PlannedStage("flying", flown_s)))
        found = open_subject(subject, source, watch, network=network, techniques=treated.upon(TechniqueOptions()))
        options = replace(options, recipe=found.recipe)
        report = fly(found.program, loaded, place, options, watch, chip=source.chip)
    if out:
        write_text(out, json.dumps(report.to_json(), indent=1) + "\n")
    print_result([report.summary()], report.to_json(), as_json)
    disagree = sum(c.rejects for c in report.flown)
    return ExitCode.OUTSIDE_TOLERANCE if 10 * disagree > len(report.flown) else ExitCode.DONE
