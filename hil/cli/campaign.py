"""The command that simulates radiation faults in a virtual chip: ``hil campaign``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import NetworkOfRun, Record, Restart, Workers, output_folder, trained
from hil.cli.settings_options import Given, Only, Told
from hil.deployment.options import NetworkOptions, TechniqueOptions
from hil.payload.settings import MAIN, SCENARIOS, OrbitSettings
from hil.watch import PlannedStage, Watch


def campaign(
    subject: Annotated[Path, typer.Argument(help="net.pt, program.h5, or the folder of a run")],
    orbit: Annotated[str, typer.Option(help="leo-sso, geo, or the path of an orbit file")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="campaign folder; one that exists resumes", callback=output_folder)
    ],
    network: NetworkOfRun = None,
    calibration: Record = None,
    mission: Annotated[
        Path | None,
        typer.Option(help="mission.toml, with the share of time spent on images; default: all", show_default=False),
    ] = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros", "data", "trust")],
    treated: Given[TechniqueOptions],
    faults: Annotated[
        Given[OrbitSettings],
        Only(
            *("margin", "confidence", "injections", "images", "age_s"),
            *("years", "chips", "year_images", "scrub_s", "seed"),
        ),
    ],
    each: Annotated[
        bool, typer.Option("--each", help="over the years, also simulate each mitigation alone and each one left out")
    ] = False,
    workers: Workers = None,
    restart: Restart = False,
    watch: Watch,
) -> Told:
    """Inject upsets of an orbit into cells, converters, registers, sums, codes and corrections of a virtual chip."""
    from cim.record.file import load_record
    from hil.deployment.network_source import images_asked
    from hil.deployment.plan import plan_of
    from hil.payload.budget import busy_share
    from hil.payload.orbit import load_orbit
    from hil.payload.radiation.campaign import PAGE, expected_campaign, run_study
    from hil.payload.radiation.report import campaign_summary
    from hil.payload.requirements import load_mission
    from hil.payload.subject import open_subject

    source, techniques = of.upon(NetworkOptions()), treated.upon(TechniqueOptions())
    options = faults.upon(OrbitSettings(), scenarios=tuple(SCENARIOS) if each else MAIN, workers=workers or 1)
    place, images = load_orbit(orbit), images_asked(source, any_kind=False)
    record = load_record(calibration) if calibration else None
    plan = load_mission(mission) if mission else None
    watch.plan((PlannedStage("compiling", 2.0), *expected_campaign(options)))
    if not subject.is_dir():
        subject = trained(subject, techniques, source, calibration, options.age_s, watch) or subject
    found = open_subject(subject, source, watch, network=network, techniques=techniques)
    planned = plan_of(found.program, replace(found.recipe, age_s=options.age_s), record)
    for name, text in planned.rows():
        watch.message(f"{name}: {text}")
    options = replace(options, recipe=found.recipe)
    busy = None if plan is None else busy_share(found.program, plan)
    report = run_study(found.program, images, record, place, out, options, watch, restart=restart, busy_share=busy)
    return Told([campaign_summary(report, page=str(out / PAGE))], {**report, "plan": planned.to_json()})
