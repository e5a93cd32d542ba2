"""The command that injects faults of radiation into a virtual chip: ``hil campaign``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Json,
    Restart,
    Seed,
    one_of,
    output_folder,
    print_result,
    screen,
    trained,
)
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import NetworkOptions, TechniqueOptions
from hil.errors import ExitCode
from hil.payload.settings import (
    MAIN,
    CampaignOptions,
    MitigationScenario,
    TimelineOptions,
    years_of,
    years_text,
)

USUAL, USUAL_YEARS = CampaignOptions(), TimelineOptions()


@from_settings
def campaign(
    subject: Annotated[Path, typer.Argument(help="net.pt, program.h5, or the folder of a run")],
    orbit: Annotated[str, typer.Option(help="leo-sso, geo, or the path of an orbit file")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="folder of the campaign; the same one continues", callback=output_folder)
    ],
    network: Annotated[
        Path | None, typer.Option(help="net.pt or program.h5 of a run folder that holds no program", show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="record of the chip; default: the models of the chip file", show_default=False)
    ] = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros", "data", "data_dir", "download", "trust")],
    faults: Given[CampaignOptions],
    kinds: Annotated[
        str | None, typer.Option(help="kinds of faults, comma-separated; default: all", show_default=False)
    ] = None,
    treated: Given[TechniqueOptions],
    years: Annotated[str, typer.Option(help="times in orbit at which accuracy is simulated, in years")] = years_text(
        USUAL_YEARS.years
    ),
    chips: Annotated[
        int, typer.Option(min=0, help="virtual chips of the accuracy over years; 0: leave it out")
    ] = USUAL_YEARS.chips,
    over: Given[TimelineOptions],
    each: Annotated[
        bool, typer.Option("--each", help="over the years also each mitigation alone, and all but each")
    ] = False,
    restart: Restart = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> int:
    """Inject upsets of an orbit into cells, converters, registers, sums, codes and corrections of a virtual chip."""
    from cim.record.file import load_record
    from hil.deployment.network_source import images_asked
    from hil.deployment.plan import plan_of
    from hil.payload.orbit import load_orbit
    from hil.payload.radiation.campaign import expected_campaign
    from hil.payload.radiation.folder import CampaignFolder
    from hil.payload.radiation.kinds import FaultKind
    from hil.payload.radiation.study import run_study
    from hil.payload.subject import open_subject
    from hil.watch import PlannedStage

    source, techniques = of.upon(NetworkOptions()), treated.upon(TechniqueOptions())
    chosen = tuple(one_of(FaultKind, name, "--kinds") for name in kinds.split(",")) if kinds else tuple(FaultKind)
    options = faults.upon(USUAL, kinds=chosen, seed=seed)
    scenarios = tuple(MitigationScenario) if each else MAIN
    over_years = None
    if chips:
        over_years = over.upon(USUAL_YEARS, years=years_of(years), chips=chips, seed=seed, scenarios=scenarios)
    place = load_orbit(orbit)
    images_ = images_asked(source, any_kind=False)
    record = load_record(calibration) if calibration else None
    with screen(quiet=as_json) as watch:
        later = [] if over_years is None else [PlannedStage("years", 0.01 * chips * over_years.images)]
        watch.plan((PlannedStage("compiling", 2.0), *expected_campaign(options), *later))
        if not subject.is_dir():
            subject = trained(subject, techniques, source, calibration, options.age_s, watch) or subject
        found = open_subject(subject, source, watch, network=network, techniques=techniques)
        planned = plan_of(found.program, replace(found.recipe, age_s=options.age_s), record)
        for name, text in planned.rows():
            watch.message(f"{name}: {text}")
        study = run_study(
            found.program,
            images_,
            record,
            place,
            CampaignFolder(out),
            replace(options, recipe=found.recipe),
            None if over_years is None else replace(over_years, recipe=found.recipe),
            watch,
            restart=restart,
        )
    print_result([study.summary], {**study.report, "plan": planned.to_json()}, as_json)
    return ExitCode.DONE
