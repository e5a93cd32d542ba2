"""The page of a mission: assumptions first, and every file with its digest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cim.record.calibration import CalibrationRecord
from hil.datasets.image_set import Dataset
from hil.payload.budget import check_budget
from hil.payload.harden import harden_campaign
from hil.payload.orbit import load_orbit
from hil.payload.page import mission_page
from hil.payload.radiation.campaign import run_study
from hil.payload.requirements import load_mission
from hil.payload.settings import OrbitSettings
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

from ..browser import AXE, BROWSER, faults, violations

MISSION = Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml"


@pytest.fixture(scope="module")
def reviewed(
    program: ConductanceProgram, record: CalibrationRecord, data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The page of a mission, and the report of its campaign."""
    folder = tmp_path_factory.mktemp("mission") / "campaign"
    few = OrbitSettings(injections=39, widen_images=60, alarm_images=100, floor=0.5, detection=0.5)
    options = replace(few, years=(0.0, 1.0), chips=2, year_images=100)
    report = run_study(program, data, record, load_orbit("leo-sso"), folder, options, Watch())
    plan = load_mission(MISSION)
    hardening = harden_campaign(folder, program, plan, options)
    budget = check_budget(program, plan, network="small")
    files, notes = [MISSION, folder / "campaign.json"], ["noted <first>"]
    return mission_page(plan, budget, report, hardening, files, notes), folder / "campaign.json"


def test_a_page_begins_with_findings_says_what_is_assumed_and_lists_every_file_with_its_digest(
    reviewed: tuple[str, Path],
) -> None:
    page, report = reviewed
    words = re.sub(r"<[^>]+>", " ", page[page.index("</nav>") : page.index("<script")])
    order = ["Findings", "Budgets", "Years", "Criticality", "Mitigations", "Open assumptions", "Files"]
    places = [words.index(f" {title}") for title in order]
    assert places == sorted(places)
    for text in (
        "noted &lt;first&gt;",
        "host.active_w: assumed",
        "upsets.cell_per_day: assumed",
        "open limit: accuracy",
    ):
        assert places[-2] < words.index(text) < places[-1]
    for path in (MISSION, report):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in words


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_of_mission_and_campaign_fit_every_screen(
    reviewed: tuple[str, Path], tmp_path: Path, theme: str
) -> None:
    assert faults(reviewed[0], tmp_path, dark=theme == "dark", plots=3) == []
    campaign = reviewed[1].with_suffix(".html").read_text("utf-8")
    assert faults(campaign, tmp_path, dark=theme == "dark") == []


@pytest.mark.skipif(BROWSER is None or not AXE.exists(), reason="no chromium, or no axe-core-python")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_can_be_read_by_keys_and_screen_readers(
    reviewed: tuple[str, Path], tmp_path: Path, theme: str
) -> None:
    assert violations(reviewed[0], tmp_path, dark=theme == "dark") == []
