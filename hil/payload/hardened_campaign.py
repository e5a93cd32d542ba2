"""From the folder of a campaign to the cheapest set of mitigations."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from cim.files import read_text
from cim.json_text import parse_json
from cim.record.calibration import CalibrationRecord
from hil.atomic import write_text
from hil.errors import FileError, MismatchError, UsageError
from hil.payload.budget import KnownAccuracy
from hil.payload.harden import Hardening, harden, most_critical_layer
from hil.payload.mitigation import Mitigation, prices
from hil.payload.radiation.checksums import checked_program
from hil.payload.radiation.folder import MOST_BYTES, CampaignFolder, read_injections
from hil.payload.radiation.outcomes import Share
from hil.payload.radiation.summary import FORMAT
from hil.payload.requirements import MissionPlan
from hil.payload.scrub_plan import plan_scrub
from hil.payload.settings import MitigationScenario
from hil.prediction.predict import record_or_nominal
from mapping.program.conductance import ConductanceProgram

HARDENING = "hardening.json"


def harden_campaign(
    folder: Path,
    program: ConductanceProgram,
    plan: MissionPlan,
    *,
    floor: float,
    detection: float = 0.99,
    scrub_s: float | None = None,
    record: CalibrationRecord | None = None,
    always: Collection[Mitigation] = (),
    never: Collection[Mitigation] = (),
) -> Hardening:
    """Judge every set of mitigations and write ``hardening.json`` beside the campaign.

    Args:
        scrub_s: time between two scrubs, for its price; None: that of the campaign's accuracy over the years.
        record: whose drift plans the scrubs; None takes the models of the chip file.
        always, never: as ``hil.payload.harden.harden``.

    Raises:
        FileError: no campaign, or a damaged one.
        MismatchError: the campaign is of another program.
        UsageError: as ``hil.payload.harden.harden``.
    """
    place = CampaignFolder(folder)
    report = _report_of(folder, program)
    settings = report["settings"]
    results = read_injections(place.table)
    timeline = report.get("timeline") or {"scenarios": {}, "scrub_s": 86400.0}
    tripled = most_critical_layer(results, [m.name for m in program.matrices])
    known = prices(
        program,
        checked_program(program),
        plan,
        scrub_s=timeline["scrub_s"] if scrub_s is None else scrub_s,
        golden=settings["golden"],
        tripled=tripled,
    )
    weights = {kind: about["upsets_per_day"] for kind, about in report["kinds"].items()}
    alarms = Share(report["false_alarms"]["count"], report["false_alarms"]["of"])
    found = harden(
        results,
        weights,
        timeline["scenarios"],
        known,
        alarms,
        tripled=tripled,
        floor=floor,
        detection=detection,
        always=always,
        never=never,
    )
    believed = record_or_nominal(program, record)[0]
    found = replace(found, scrub=plan_scrub(report["kinds"], believed.programming))
    write_text(folder / HARDENING, json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
    return found


def accuracy_at_end(
    folder: Path, program: ConductanceProgram, plan: MissionPlan, scenario: MitigationScenario
) -> KnownAccuracy:
    """Lower end of a campaign's accuracy at the end of a mission.

    Raises:
        FileError: no campaign, or a damaged one.
        MismatchError: the campaign is of another program.
        UsageError: it holds no accuracy of that scenario at that year.
    """
    report = _report_of(folder, program)
    timeline = report.get("timeline") or {"years": [], "scenarios": {}}
    bands = timeline["scenarios"].get(str(scenario))
    if bands is None or plan.years not in timeline["years"]:
        raise UsageError(
            f"the campaign holds no accuracy {scenario!s:.40} after {plan.years:g} years",
            where=str(folder),
            hint=f"hil campaign … --years 0,{plan.years:g} (--each for single mitigations)",
        )
    low = float(bands[timeline["years"].index(plan.years)]["low"])
    words = (
        f"simulated: 5 % of {timeline['chips']} virtual chips, {timeline['images']} images, {scenario}; extrapolated"
    )
    return KnownAccuracy(low, words)


def _report_of(folder: Path, program: ConductanceProgram) -> dict[str, Any]:
    report = read_report(CampaignFolder(folder))
    settings = report["settings"]
    if settings["program"] != program.digest:
        raise MismatchError(
            f"the campaign is of program {settings['program'][:12]}…, this one is {program.digest[:12]}…",
            where=str(folder),
            hint="name the network, chip and macros of the campaign",
        )
    return report


def read_report(folder: CampaignFolder) -> dict[str, Any]:
    """``campaign.json`` of a folder.

    Raises:
        FileError: missing or damaged.
    """
    try:
        found = parse_json(read_text(folder.report, MOST_BYTES))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r:.60}")
        for name in ("settings", "kinds", "false_alarms"):
            if not isinstance(found[name], dict):
                raise ValueError(f"{name} is missing")
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{folder.root} holds no whole campaign", likely=str(error), hint="hil campaign … -o " + str(folder.root)
        ) from error
