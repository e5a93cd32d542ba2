"""A whole study in one folder: injections, accuracy over the years, report and page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cim.record.calibration import CalibrationRecord
from hil.atomic import write_text
from hil.datasets.image_set import Dataset
from hil.pages.summary import Summary
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.campaign import CampaignResult, run_campaign
from hil.payload.radiation.folder import CampaignFolder, kept_years
from hil.payload.radiation.page import campaign_page
from hil.payload.radiation.summary import campaign_json, campaign_summary
from hil.payload.radiation.timeline import simulate_years
from hil.payload.settings import CampaignOptions, TimelineOptions
from hil.prediction.predict import record_or_nominal
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram


@dataclass(frozen=True)
class RadiationStudy:
    """A campaign with its report as plain data and at a glance."""

    campaign: CampaignResult
    report: dict[str, Any]
    summary: Summary


def run_study(
    program: ConductanceProgram,
    data: Dataset,
    record: CalibrationRecord | None,
    orbit: OrbitFile,
    folder: CampaignFolder,
    options: CampaignOptions,
    over_years: TimelineOptions | None,
    watch: Watch,
    *,
    restart: bool = False,
) -> RadiationStudy:
    """Run what is missing in a folder and write campaign.json and campaign.html.

    Args:
        record: None takes the models that the chip file names.
        over_years: None leaves the accuracy over the years out.
        restart: forget what is in the folder.

    Raises:
        as ``run_campaign`` and ``hil.prediction.predict.record_or_nominal``.
    """
    known, source, notes = record_or_nominal(program, record)
    found = run_campaign(program, data, known, orbit, folder, options, watch, restart=restart)
    report = {**campaign_json(found, orbit), "belief": source, "notes": list(notes)}
    report["notes"].append(f"done to the network: {options.recipe or 'nothing, as compiled'}")
    if over_years is not None:
        timeline = simulate_years(program, data, known, orbit, over_years, watch, kept_years(over_years, folder.years))
        report["timeline"] = timeline.to_json()
    write_text(folder.report, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    summary = campaign_summary(report, page=str(folder.page))
    write_text(folder.page, campaign_page(report, summary))
    return RadiationStudy(found, report, summary)
