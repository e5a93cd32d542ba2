"""The commands for payloads in orbit: ``hil mission check``, ``harden``, ``passes`` and ``flight``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.help_groups import GroupedCommand
from hil.cli.options import (
    Chip,
    DataDir,
    Download,
    Json,
    Macros,
    Seed,
    With,
    Without,
    need,
    one_of,
    output_file,
    output_folder,
    print_result,
    screen,
    seconds,
)
from hil.deployment.options import USUAL_RECIPE, DeployOptions
from hil.errors import ExitCode, UsageError
from hil.mission.settings import Course, FlightOptions, years_of, years_text

USUAL_FLIGHT = FlightOptions()
mission = typer.Typer(
    help="Prototype a payload in orbit: budgets, mitigations, passes.", no_args_is_help=True, rich_markup_mode=None
)
Subject = Annotated[Path, typer.Argument(help="net.pt, program.h5, or the folder of a run")]
NetworkOfRun = Annotated[
    Path | None, typer.Option(help="net.pt or program.h5 of a run folder that holds no program", show_default=False)
]
Trust = Annotated[bool, typer.Option("--trust-model", help="load formats that can run code")]


@mission.command(cls=GroupedCommand)
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
    campaign: Annotated[
        Path | None, typer.Option(help="folder of a campaign: accuracy at the end of the mission", show_default=False)
    ] = None,
    course: Annotated[str, typer.Option(help="what is mended until then, as the campaign names it")] = "scrubbed",
    samples: Annotated[int, typer.Option(min=2, help="images of the simulation")] = 500,
    chips: Annotated[int, typer.Option(min=2, help="virtual chips of the simulation")] = 20,
    having: With = None,
    without: Without = None,
    junit: Annotated[
        Path | None, typer.Option(help="write JUnit XML for a CI server", show_default=False, callback=output_file)
    ] = None,
    seed: Seed = 0,
    trust_model: Trust = False,
    as_json: Json = False,
) -> int:
    """Set every limit of a mission beside what a network needs; exit code 1 when one is broken."""
    from cim.record.file import load_record
    from hil.datasets.image_set import load_dataset
    from hil.mission.budget import check_budget
    from hil.mission.budget_text import budget_summary, write_budget_junit
    from hil.mission.hardened_campaign import accuracy_at_end
    from hil.mission.requirements import load_mission
    from hil.mission.subject import known_temperatures, open_subject, simulated_accuracy
    from hil.watch import PlannedStage

    wanted = load_mission(plan)
    if calibration and not data:
        raise UsageError("--calibration is for a simulation", hint="name a data set too: --data")
    images = load_dataset(data, "test", data_dir=data_dir, download=download) if data else None
    record = load_record(calibration) if calibration else None
    with screen(quiet=as_json) as watch:
        looks = 0 if images is None else 1 if record is None or record.thermal is None else 3
        watch.plan([PlannedStage("compiling", 2.0), *[PlannedStage("simulating", 0.002 * samples * chips)] * looks])
        found = open_subject(subject, network=network, chip=chip, macros=macros, trust=trust_model, watch=watch)
        accuracy, temperatures = found.accuracy, None
        if images is not None:
            again = found.rewriting(having or (), without or ())
            recipe = USUAL_RECIPE if again is None else USUAL_RECIPE.having(again)
            options = DeployOptions(samples=samples, virtual_chips=chips, seed=seed, recipe=recipe)
            accuracy = simulated_accuracy(found.program, images, record, options, watch)
            temperatures = known_temperatures(found.program, images, record, wanted.limits, options, watch)
    at_end = None
    if campaign:
        at_end = accuracy_at_end(campaign, found.program, wanted, one_of(Course, course, "--course"))
    budget = check_budget(
        found.program,
        wanted,
        network=found.name,
        accuracy=accuracy,
        accuracy_at_end=at_end,
        temperatures_c=temperatures,
    )
    if junit:
        write_budget_junit(junit, budget)
    print_result([budget_summary(budget)], budget.to_json(), as_json)
    return ExitCode.OUTSIDE_TOLERANCE if budget.broken else ExitCode.DONE


@mission.command(cls=GroupedCommand)
def harden(
    campaign: Annotated[Path, typer.Argument(help="folder of a campaign (hil campaign)", callback=output_folder)],
    plan: Annotated[Path, typer.Argument(help="mission.toml")],
    subject: Annotated[Path, typer.Option("--network", help="net.pt or program.h5 of the campaign")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    floor: Annotated[
        float | None,
        typer.Option(help="accuracy at the end, in percent; default: the mission's accuracy_floor", show_default=False),
    ] = None,
    detect: Annotated[float, typer.Option(help="percent of harmful faults to be noticed")] = 99.0,
    scrub: Annotated[
        str | None,
        typer.Option(help="time between two scrubs, for its price; default: the campaign's", show_default=False),
    ] = None,
    always: Annotated[
        str | None,
        typer.Option(
            "--with", help="mitigations of every set, comma-separated: timer,step-signature", show_default=False
        ),
    ] = None,
    never: Annotated[
        str | None, typer.Option("--without", help="mitigations of no set, comma-separated", show_default=False)
    ] = None,
    trust_model: Trust = False,
    as_json: Json = False,
) -> int:
    """Find the cheapest set of mitigations that keeps accuracy and notices faults; exit code 1 when none does."""
    from hil.mission.hardened_campaign import harden_campaign
    from hil.mission.mitigation import Mitigation
    from hil.mission.requirements import load_mission
    from hil.mission.subject import open_subject

    on = [one_of(Mitigation, name, "--with") for name in always.split(",")] if always else []
    off = [one_of(Mitigation, name, "--without") for name in never.split(",")] if never else []
    wanted = load_mission(plan)
    least = wanted.limits.accuracy_floor if floor is None else floor / 100.0
    if least is None:
        raise UsageError("no accuracy is asked for", hint="--floor 85, or accuracy_floor in mission.toml")
    with screen(quiet=as_json) as watch:
        found = open_subject(subject, network=None, chip=chip, macros=macros, trust=trust_model, watch=watch)
        with watch.stage("hardening"):
            hardened = harden_campaign(
                campaign,
                found.program,
                wanted,
                floor=least,
                detection=detect / 100.0,
                scrub_s=None if scrub is None else seconds(scrub),
                always=on,
                never=off,
            )
    print_result([hardened.summary()], hardened.to_json(), as_json)
    return ExitCode.DONE if hardened.chosen else ExitCode.OUTSIDE_TOLERANCE


@mission.command(cls=GroupedCommand)
def passes(
    subject: Subject,
    passes: Annotated[Path, typer.Option("--passes", help="CSV of contact windows, columns start and end")],
    rate: Annotated[str, typer.Option(help="uplink in bit/s: 64k, 1M")] = "64k",
    down_rate: Annotated[str, typer.Option(help="downlink in bit/s")] = "256k",
    ber: Annotated[float, typer.Option(help="bit error rate")] = 0.0,
    delay: Annotated[float, typer.Option(help="one way, seconds, at most 5")] = 0.0,
    bus_delay: Annotated[float, typer.Option(help="of the store-and-forward bus before the chip, seconds")] = 0.0,
    lost: Annotated[float, typer.Option(help="share of packets that are lost besides, a fraction")] = 0.0,
    reordered: Annotated[float, typer.Option(help="share of packets that come late, a fraction")] = 0.0,
    tuned: Annotated[
        Path | None,
        typer.Option(help="the same program after hil tune; its gains and biases go up alone", show_default=False),
    ] = None,
    dump: Annotated[int, typer.Option(min=0, help="bytes of a telemetry dump")] = 0,
    xtce: Annotated[
        Path | None,
        typer.Option(
            help="write telemetry and commands as XTCE for a ground system", show_default=False, callback=output_file
        ),
    ] = None,
    interruptions: Annotated[
        int, typer.Option(min=0, help="then send the program again and again, with so many random interruptions")
    ] = 0,
    network: NetworkOfRun = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    seed: Seed = 0,
    trust_model: Trust = False,
    as_json: Json = False,
) -> int:
    """Send a program, an update and a telemetry dump over contact windows: passes planned, and as they then went."""
    need("spacepackets", "hil mission passes", "mission")
    from hil.cli.terminal.told import Told
    from hil.mission.passes.flight_image import flight_program, pack_image
    from hil.mission.passes.interruptions import interrupt
    from hil.mission.passes.lossy_link import LinkFigures
    from hil.mission.passes.session import run_session
    from hil.mission.passes.windows import load_passes
    from hil.mission.passes.xtce import write_xtce
    from hil.mission.subject import open_subject
    from hil.pages.summary import Fact
    from mapping.program.file import load_program

    windows = load_passes(passes)
    figures = LinkFigures(bit_rate(rate), bit_rate(down_rate), ber, delay, bus_delay, lost, reordered)
    with screen(quiet=as_json) as watch:
        found = open_subject(subject, network=network, chip=chip, macros=macros, trust=trust_model, watch=watch)
        with watch.stage("passes"):
            session = run_session(
                found.program,
                load_program(tuned) if tuned else None,
                windows,
                figures,
                dump_bytes=dump,
                seed=seed,
            )
        told: list[Told] = [session.summary()]
        record, identical = session.to_json(), session.identical
        if interruptions:
            with watch.stage("interruptions"):
                broken = interrupt(pack_image(flight_program(found.program)), interruptions, seed=seed)
            told.append(Fact("Interrupted", broken.text))
            record["interrupted"] = asdict(broken)
            identical = identical and broken.identical
    if xtce:
        write_xtce(xtce)
    print_result(told, record, as_json)
    return ExitCode.DONE if identical else ExitCode.OUTSIDE_TOLERANCE


def bit_rate(text: str) -> float:
    """Bit/s of "64k", "1M" or a plain number."""
    units = {"k": 1e3, "M": 1e6}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise UsageError(f"{text!r} is not a rate", hint="write 64k, 1M, or bits a second") from None


@mission.command(cls=GroupedCommand)
def flight(
    subject: Subject,
    orbit: Annotated[str, typer.Option(help="leo-sso, geo, or the path of an orbit file")],
    data: Annotated[str | None, typer.Option(help="data set or path", show_default=False)] = None,
    data_dir: DataDir = None,
    download: Download = False,
    years: Annotated[str, typer.Option(help="times in orbit, in years")] = years_text(USUAL_FLIGHT.years),
    chips: Annotated[int, typer.Option(min=1, help="emulated chips")] = USUAL_FLIGHT.chips,
    virtual_chips: Annotated[
        int, typer.Option(min=2, help="virtual chips that each is judged against")
    ] = USUAL_FLIGHT.virtual_chips,
    images: Annotated[int, typer.Option(min=2, help="images")] = USUAL_FLIGHT.images,
    having: With = None,
    without: Without = None,
    leave_out: Annotated[
        str | None,
        typer.Option(help="kinds of faults that the belief leaves out, comma-separated", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="write the result as JSON", show_default=False, callback=output_file),
    ] = None,
    network: NetworkOfRun = None,
    chip: Chip = "lab-128",
    macros: Macros = None,
    seed: Seed = 0,
    trust_model: Trust = False,
    as_json: Json = False,
) -> int:
    """Fly emulated chips for years and compare them with the prediction; exit code 1 when one in ten disagrees."""
    import json

    from hil.atomic import write_text
    from hil.datasets.image_set import load_dataset
    from hil.deployment.deploy import BUNDLED_DATA
    from hil.mission.flight import fly
    from hil.mission.orbit import load_orbit
    from hil.mission.radiation.kinds import FaultKind
    from hil.mission.subject import open_subject
    from hil.watch import PlannedStage

    left = tuple(one_of(FaultKind, name, "--leave-out") for name in leave_out.split(",")) if leave_out else ()
    options = FlightOptions(years_of(years), chips, images, virtual_chips, seed=seed, left_out=left)
    place = load_orbit(orbit)
    loaded = load_dataset(data or BUNDLED_DATA, "test", data_dir=data_dir, download=download)
    with screen(quiet=as_json) as watch:
        flown_s = 10.0 * options.chips * len(options.years)
        watch.plan((PlannedStage("compiling", 2.0), PlannedStage("flying", flown_s)))
        found = open_subject(subject, network=network, chip=chip, macros=macros, trust=trust_model, watch=watch)
        options = replace(options, rewrite=found.rewriting(having or (), without or ()))
        report = fly(found.program, loaded, place, options, watch, chip=chip)
    if out:
        write_text(out, json.dumps(report.to_json(), indent=1) + "\n")
    print_result([report.summary()], report.to_json(), as_json)
    disagree = sum(c.rejects for c in report.flown)
    return ExitCode.OUTSIDE_TOLERANCE if 10 * disagree > len(report.flown) else ExitCode.DONE
