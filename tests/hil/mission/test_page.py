"""The page of a mission: assumptions first, and every file with its digest."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cim.record.calibration import CalibrationRecord
from hil.datasets.image_set import Dataset
from hil.mission.budget import check_budget
from hil.mission.hardened_campaign import harden_campaign
from hil.mission.orbit import load_orbit
from hil.mission.page import mission_page
from hil.mission.radiation.campaign import CampaignOptions
from hil.mission.radiation.folder import CampaignFolder
from hil.mission.radiation.study import run_study
from hil.mission.radiation.timeline import TimelineOptions
from hil.mission.requirements import load_mission
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

MISSION = Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml"
TRANSFER = {
    "name": "<program>",
    "bytes": 10,
    "planned_passes": None,
    "passes": 1,
    "on_air_s": 0.5,
    "lost": 0,
    "packets": 3,
    "identical": True,
}


def test_a_page_begins_with_what_is_assumed_and_lists_every_file_with_its_digest(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path: Path
) -> None:
    folder = CampaignFolder(tmp_path / "campaign")
    options = CampaignOptions(injections=39, widen_images=60, alarm_images=100)
    years = TimelineOptions((0.0, 1.0), chips=2, images=100)
    study = run_study(program, data, record, load_orbit("leo-sso"), folder, options, years, Watch())
    plan = load_mission(MISSION)
    hardening = harden_campaign(folder.root, program, plan, floor=0.5, detection=0.5, record=record)
    budget = check_budget(program, plan, network="small")
    passes = {"identical": True, "transfers": [TRANSFER]}
    page = mission_page(plan, budget, study.report, hardening, passes, [MISSION, folder.report], ["noted <first>"])
    words = re.sub(r"<[^>]+>", " ", page[page.index("</nav>") : page.index("<script")])
    order = [
        "Open assumptions",
        "Summary",
        "Budgets",
        "Outcomes",
        "Criticality",
        "Years",
        "Mitigations",
        "Passes",
        "Files",
    ]
    places = [words.index(f" {title}") for title in order]
    assert places == sorted(places)
    for text in (
        "noted &lt;first&gt;",
        "host.active_w: assumed",
        "upsets.cell_per_day: assumed",
        "open limit: accuracy",
    ):
        assert places[0] < words.index(text) < places[1]
    for path in (MISSION, folder.report):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in words
    assert "&lt;program&gt;" in words
