"""Mitigations: what a set notices, what it costs, and the cheapest that meets a mission."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hil.cli import run
from hil.errors import FileError, UsageError
from hil.payload.harden import Price, harden, harden_campaign, most_critical_layer, prices
from hil.payload.radiation.outcomes import InjectionResult, Share
from hil.payload.requirements import load_mission
from hil.payload.settings import MAIN, RELOADED, Mitigation, OrbitSettings
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program

from ..fitting import every_answer_fits as every_answer_fits
from ..small_net import write_files

EXAMPLE = Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml"
ALARMS = Share(0, 3000)


def hit(number: int, kind: str, step: str = "conv", **more: object) -> InjectionResult:
    plain = InjectionResult(number, kind, step, 0, 0, 0, False, False, 5, 1, 0, False, False, False)
    return replace(plain, **more)  # type: ignore[arg-type]


RESULTS = [
    *(hit(n, "cell-extreme", scrubbed=n % 10 != 0) for n in range(20)),
    *(hit(n, "activation", range_alarms=n % 2) for n in range(20, 40)),
    *(hit(n, "correction", "fc", ecc_mended=True) for n in range(40, 60)),
]
WEIGHTS = {"cell-extreme": 1.0, "activation": 2.0, "correction": 1.0}
BANDS = {
    "without": [{"low": 0.9, "mean": 0.92, "high": 0.94}, {"low": 0.3, "mean": 0.5, "high": 0.7}],
    "scrubbed": [{"low": 0.9, "mean": 0.92, "high": 0.94}, {"low": 0.89, "mean": 0.917, "high": 0.93}],
    "scrubbed and tuned": [{"low": 0.9, "mean": 0.93, "high": 0.94}, {"low": 0.91, "mean": 0.93, "high": 0.94}],
}
PRICES = {m: Price((n + 1) * 1e-9, 0.0, 0, n, "") for n, m in enumerate(Mitigation)}


def test_the_cheapest_set_that_meets_floor_and_detection_is_chosen() -> None:
    found = harden(RESULTS, WEIGHTS, BANDS, PRICES, ALARMS, tripled="conv", floor=0.85, detection=0.95)
    assert found.chosen is not None
    assert found.chosen.mitigations == {*RELOADED, Mitigation.PARITY}
    assert found.chosen.detection.share == pytest.approx((18 / 20 + 2 * 1 + 1) / 4)
    assert found.bare.detection.share == 0.0
    assert found.by_kind["cell-extreme"].count == 18


def test_a_floor_that_only_tuning_reaches_takes_tuning_on_top_of_reloading() -> None:
    found = harden(RESULTS, WEIGHTS, BANDS, PRICES, ALARMS, tripled="conv", floor=0.9, detection=0.5)
    assert found.chosen is not None
    assert found.chosen.mitigations >= {*RELOADED, Mitigation.TUNE}


def test_what_no_set_reaches_is_said_and_not_chosen() -> None:
    found = harden(RESULTS, WEIGHTS, BANDS, PRICES, ALARMS, tripled="none", floor=0.99)
    assert found.chosen is None
    assert "no set reaches both" in "\n".join(found.summary().lines())
    with pytest.raises(UsageError, match="no accuracy over the years"):
        harden(RESULTS, WEIGHTS, {}, PRICES, ALARMS, tripled="conv", floor=0.5)
    harmless = [replace(r, answers=0) for r in RESULTS]
    with pytest.raises(UsageError, match="did harm"):
        harden(harmless, WEIGHTS, BANDS, PRICES, ALARMS, tripled="conv", floor=0.5)


def test_what_is_asked_for_is_in_every_set_and_what_is_ruled_out_in_none() -> None:
    asked = {"tripled": "conv", "floor": 0.85, "detection": 0.95}
    found = harden(
        RESULTS, WEIGHTS, BANDS, PRICES, ALARMS, **asked, always=[Mitigation.TIMER], never=[Mitigation.PARITY]
    )  # type: ignore[arg-type]
    assert found.chosen is None  # parity alone saw activations
    assert Mitigation.TIMER in found.best.mitigations
    assert Mitigation.PARITY not in found.best.mitigations
    assert not found.bare.mitigations
    with pytest.raises(UsageError, match="parity: with and without at once"):
        harden(RESULTS, WEIGHTS, BANDS, PRICES, ALARMS, **asked, always=[Mitigation.PARITY], never=[Mitigation.PARITY])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="range-guards in every set, but 9 of 3000"):
        harden(RESULTS, WEIGHTS, BANDS, PRICES, Share(9, 3000), **asked, always=[Mitigation.RANGE])  # type: ignore[arg-type]


def test_a_layer_with_three_copies_outvotes_its_own_faults_only() -> None:
    assert most_critical_layer(RESULTS, ["conv", "fc"]) in ("conv", "fc")
    weights = {**WEIGHTS, "activation": 0.0, "correction": 0.0}
    found = harden(RESULTS, weights, BANDS, PRICES, ALARMS, tripled="conv", floor=0.2, detection=1.0)
    assert found.chosen is not None
    assert Mitigation.TRIPLE in found.chosen.mitigations


def test_every_mitigation_has_a_price_that_says_what_was_counted(program: ConductanceProgram) -> None:
    plan = load_mission(EXAMPLE)
    known = prices(program, plan, scrub_s=86400.0, golden=8, tripled=program.matrices[0].name)
    assert set(known) == set(Mitigation)
    assert all(price.counted and price.energy_j >= 0 and price.seconds >= 0 for price in known.values())
    assert known[Mitigation.TRIPLE].cells == 2 * 9 * 8 * 2
    rarer = prices(program, plan, scrub_s=864000.0, golden=8, tripled=program.matrices[0].name)
    assert rarer[Mitigation.SCRUB].energy_j == pytest.approx(known[Mitigation.SCRUB].energy_j / 10)


def test_the_command_hardens_a_campaign_and_refuses_a_folder_without_one(
    program: ConductanceProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, images = write_files(tmp_path)
    network, folder = str(tmp_path / "program.h5"), tmp_path / "campaign"
    save_program(program, network)
    asked = ["campaign", network, "--data", str(images), "--orbit", "leo-sso", "-o", str(folder)]
    assert run([*asked, "--margin", "2"]) == 2
    assert run([*asked, "--injections", "39", "--chips", "2", "--year-images", "100", "--years", "0,1", "--json"]) == 0
    campaign = json.loads(capsys.readouterr().out)
    assert (campaign["settings"]["injections"], tuple(campaign["timeline"]["scenarios"])) == (39, MAIN)
    text, wanted = EXAMPLE.read_text("utf-8"), {share: tmp_path / f"{share}.toml" for share in ("0.5", "1.0")}
    for share, place in wanted.items():
        place.write_text(text.replace("accuracy_floor = 0.85", f"accuracy_floor = {share}"), "utf-8")
    hardened = ["mission", "harden", str(folder), str(wanted["0.5"]), "--network", network, "--json"]
    assert run([*hardened, "--detect", "50", "--with", "timer,step-signature"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"]["detection"]["share"] >= 0.5
    assert {"timer", "step-signature"} <= set(found["chosen"]["mitigations"])
    assert json.loads((folder / "hardening.json").read_text("utf-8")).items() <= found.items()
    assert run([*hardened[:3], str(wanted["1.0"]), *hardened[4:]]) == 1
    assert run([*hardened, "--without", "prayer"]) == 2
    with pytest.raises(FileError, match="no whole campaign"):
        harden_campaign(tmp_path, program, load_mission(EXAMPLE), OrbitSettings(floor=0.5))


def test_guards_that_raise_more_than_one_alarm_in_a_thousand_are_in_no_set() -> None:
    others = [Mitigation.PARITY, Mitigation.ECC, Mitigation.TRIPLE]
    asked = {"tripled": "conv", "floor": 0.5, "detection": 0.5, "never": others}
    quiet, loud = (harden(RESULTS, WEIGHTS, BANDS, PRICES, Share(n, 3000), **asked) for n in (3, 4))  # type: ignore[arg-type]
    assert Mitigation.RANGE in quiet.best.mitigations
    assert Mitigation.RANGE not in loud.best.mitigations
    assert "no set has them" in "\n".join(loud.summary().lines())
