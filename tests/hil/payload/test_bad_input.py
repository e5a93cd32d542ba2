"""Wrong files and wrong programs at the commands for missions: an exit code, the place, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import run
from hil.errors import MismatchError
from hil.payload.harden import harden_campaign
from hil.payload.orbit import SHIPPED
from hil.payload.radiation.campaign import report_digest
from hil.payload.radiation.report import FORMAT
from hil.payload.requirements import load_mission
from hil.payload.settings import OrbitSettings
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program

from ..fitting import every_answer_fits as every_answer_fits

EXAMPLE = Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml"
ORBIT = SHIPPED / "leo-sso.toml"
BROKEN_FILE, MISMATCH = 7, 8


def changed(source: Path, target: Path, before: str, after: str) -> int:
    """Write a file with one place changed; the number of its line."""
    text = source.read_text("utf-8")
    assert before in text
    target.write_text(text.replace(before, after, 1), "utf-8")
    return text[: text.index(before)].count("\n") + 1


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("cell_per_day = { value = 4e-10", "cell_per_day = { value = nan", "upsets.cell_per_day"),
        ("cell_per_day = { value = 4e-10", "cell_per_day = { value = 2.0", "upsets.cell_per_day"),
        ("high_share = { value = 1.0", "high_share = { value = -0.5", "upsets.high_share"),
        ("krad_per_year = { value = 0.48", "krad_per_year = { value = inf", "dose.krad_per_year"),
        ("altitude_km = { value = 550.0", "altitude_km = { value = -550.0", "orbit.altitude_km"),
        ("extreme_share = { value = 0.7, ", "extreme_share = { value = true, ", "upsets.extreme_share"),
        ("years = 3.0", "years = nan", "mission.years"),
        ("images_per_orbit = 600", "images_per_orbit = 0", "mission.images_per_orbit"),
        ("pass_minutes = 8.0", "pass_minutes = 120.0", "mission.pass_minutes"),
        ("operations_per_s = { value = 4.0e7", "operations_per_s = { value = 0.0", "host.operations_per_s"),
        ("uplink_bit_per_s = 64000.0\n", "", "limits.upload_passes"),
        ("orbit_minutes = 94.6", "orbit_minutes = 9.46", "mission.orbit_minutes"),
        ("accuracy_floor = 0.85", "accuracy_floor = 85", "limits.accuracy_floor"),
        ("accuracy_floor = 0.85", "accuracy_flor = 0.85", "limits.accuracy_flor"),
        ('"assumed: clocks', '"guessed: clocks', "host.idle_w"),
        ("value = 0.005", "value = 5.0", "host.idle_w"),
        ("[limits]", "[limit]", "limit"),
        ("power_peak_w = 1.5", "power_peak_w = 0.4", "limits.power_peak_w"),
        ('format = "hil.mission"', 'format = "hil.chip"', "format"),
    ],
)
def test_an_impossible_orbit_or_mission_is_named_with_file_line_and_field_before_anything_runs(
    before: str, after: str, field: str, program: ConductanceProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ORBIT if before in ORBIT.read_text("utf-8") else EXAMPLE
    compiled, own, out = tmp_path / "program.h5", tmp_path / source.name, tmp_path / "out"
    save_program(program, compiled)
    line = changed(source, own, before, after)
    orbit = ["campaign", str(compiled), "--orbit", str(own), "-o", str(out)]
    assert run(orbit if source is ORBIT else ["mission", "check", str(compiled), str(own)]) == BROKEN_FILE
    said = capsys.readouterr().err
    place = said[said.index(f"{source.name}:") :].split(":")
    assert place[2].strip() == field
    assert int(place[1]) == line if after else int(place[1]) > 1
    assert not out.exists()


def test_a_campaign_of_another_program_is_not_hardened(program: ConductanceProgram, tmp_path: Path) -> None:
    file = tmp_path / "campaign.json"
    report: dict[str, object] = {"format": FORMAT, "settings": {"program": "0" * 64}, "kinds": {}, "false_alarms": {}}
    report["digests"] = {"report": report_digest(report)}
    file.write_text(json.dumps(report), "utf-8")
    before = file.read_bytes()
    with pytest.raises(MismatchError, match="campaign is of program 000000000000"):
        harden_campaign(tmp_path, program, load_mission(EXAMPLE), OrbitSettings(floor=0.5))
    assert file.read_bytes() == before
    save_program(program, tmp_path / "program.h5")
    asked = ["mission", "check", str(tmp_path / "program.h5"), str(EXAMPLE), "--campaign", str(tmp_path)]
    assert run(asked) == MISMATCH
