"""The dry run: what a deployment will cost, before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.frames import MAX_PAYLOAD
from firmware_protocols.messages import Capability
from hil.cli import run
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import DeployOptions
from hil.deployment.dry_run import estimate
from hil.deployment.interim_looks import plan_images
from hil.driver.counting.wire_cost import EVERYTHING
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.errors import ExitCode
from hil.server.serve import serving
from hil.transports import is_serial

from ..conftest import CHIP, QUICK, Small


def test_the_estimate_is_near_what_goes_over_the_wire(small: Small, finished_run: Path, tmp_path: Path) -> None:
    with_calibration = json.loads((finished_run / "report.json").read_text("utf-8"))["link"]
    small.deploy(CHIP, tmp_path / "run")
    without = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["link"]
    for link, calibrate in ((with_calibration, True), (without, False)):
        parts = estimate(small.program, QUICK, calibrate=calibrate, payload=MAX_PAYLOAD).parts.values()
        told = {"bytes_sent": sum(p.bytes_out for p in parts), "bytes_received": sum(p.bytes_in for p in parts)}
        both = sum(link[way] for way in told)
        # Acknowledgements are of what comes the other way, too; sums of a layer take 2 bytes or 4 by their values.
        assert told["bytes_sent"] == pytest.approx(link["bytes_sent"], abs=0.02 * both)
        assert told["bytes_received"] == pytest.approx(link["bytes_received"], rel=0.08)


def test_the_expected_pulses_are_near_those_that_a_chip_needs(small: Small, finished_run: Path) -> None:
    cells = json.loads((finished_run / "report.json").read_text("utf-8"))["cells"]
    cost = estimate(small.program, QUICK)
    assert cost.cells == cells["total"]
    assert cost.typical_pulses == pytest.approx(cells["pulses"], rel=0.4)
    assert cost.calibrate_pulses == pytest.approx(small.record.pulses, rel=0.4)
    assert cells["pulses"] < cost.most_pulses


def test_a_dry_run_prints_bytes_time_and_pulses_and_touches_no_chip(
    small: Small, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "deploy",
        str(small.net),
        "--data",
        str(small.data),
        "--macros=4",
        "--port",
        "/dev/nothing-there?baud=115200",
        "--dry-run",
    ]
    assert run(command) == 0
    out = capsys.readouterr().out
    words = (
        "calibrate",
        "program",
        "read back",
        "500 images",
        "MB",
        "at 115200 baud",
        "pulses",
        "at most",
        "not opened",
    )
    for word in words:
        assert word in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_opens_the_port_compares_the_chip_and_counts_for_what_it_can(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["deploy", str(small.net), "--data", str(small.data), "--macros=4", "--dry-run", "--samples=100"]
    found = {}
    for can in (ALL_CAPABILITIES, ALL_CAPABILITIES & ~Capability.PLAN & ~Capability.LAYER):
        chip = EmulatedChip(small.program.spec, 7, capabilities=can)
        with serving(chip, "tcp://127.0.0.1:0") as address:
            assert run([*command, "--json", "--port", address]) == 0
        out, err = capsys.readouterr()
        found[can] = json.loads(out)
        assert "cannot end in agree: that needs at least 300 images" in err
        assert f"{small.program.spec.name} serial" in found[can]["port"]
        assert chip.status().pulses_total == 0
    with_plans, without = found.values()
    assert with_plans["inference_bytes"] < without["inference_bytes"] == without["without_plans"]["inference_bytes"]
    with serving(EmulatedChip(load_chip("yao-2020", macros=4), 7), "tcp://127.0.0.1:0") as address:
        assert run([*command, "--port", address]) == ExitCode.MISMATCH
    assert "is not what its file says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "labels", "says"),
    [
        ([], 3, "has 3 classes, the network 4"),
        (["a", "b", "d", "c"], 4, "the classes in another order"),
        (["cat", "dog", "owl", "fox"], 4, "other classes"),
        (["a", "b", "c", "d", "e"], 4, "has 5 classes, the network 4"),
    ],
)
def test_images_of_other_classes_are_refused_before_a_pulse_and_by_a_dry_run(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: list[str], labels: int, says: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1), dtype=np.uint8)
    named = {"classes": np.array(classes)} if classes else {}
    np.savez(tmp_path / "other.npz", images=pixels, labels=np.arange(120) % labels, **named)
    command = ["deploy", str(small.net), "--data", str(tmp_path / "other.npz"), "--macros=4", "--emulated"]
    assert run([*command, "--dry-run"]) == 2
    assert says in capsys.readouterr().err
    assert run([*command, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_when_the_run_takes_more_than_ten_minutes(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["deploy", str(small.net), "--data", str(small.data), "--macros=4", "--dry-run"]
    assert run([*command, "--port=/dev/nothing-there?baud=9600"]) == 0
    assert "more than 10 minutes" in capsys.readouterr().out
    assert run([*command, "--port=/dev/nothing-there?baud=921600"]) == 0
    assert "more than 10 minutes" not in capsys.readouterr().out


def test_a_record_spares_the_bytes_and_the_wear_of_calibration(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["deploy", str(small.net), "--data", str(small.data), "--macros=4", "--emulated", "--dry-run", "--json"]
    assert run(command) == 0
    full = json.loads(capsys.readouterr().out)
    assert run([*command, "--calibration", str(small.record_file)]) == 0
    less = json.loads(capsys.readouterr().out)
    assert full["schema"].startswith("hil.")
    assert full["calibrate_bytes"] > full["program_bytes"]
    assert less["calibrate_bytes"] == less["calibrate_pulses"] == 0
    assert less["wire_s"] < full["wire_s"]


def test_repeats_cost_all_bytes_again_where_the_host_stands_between_the_layers(small: Small) -> None:
    can = EVERYTHING & ~Capability.PLAN
    few, many = (estimate(small.program, DeployOptions(samples=100, repeats=n), capabilities=can) for n in (1, 4))
    assert many.inference == few.inference * 4
    assert many.program == few.program


def test_with_a_plan_images_go_over_the_line_once_and_repeats_cost_their_answers(small: Small) -> None:
    few, many = (estimate(small.program, DeployOptions(samples=100, repeats=n)).inference for n in (1, 4))
    layered = estimate(small.program, DeployOptions(samples=100), capabilities=EVERYTHING & ~Capability.PLAN)
    pixels = 100 * small.program.calibration_images[0].size
    assert pixels < few.bytes_out == many.bytes_out < 1.2 * pixels
    assert few.bytes_in < many.bytes_in <= 4 * few.bytes_in
    assert few.bytes_both < layered.inference.bytes_both / 4


def test_all_images_are_run_where_that_is_asked_for_and_the_first_500_looked_at_otherwise(small: Small) -> None:
    data = load_dataset(str(small.data), "test")
    several = replace(data, images=np.tile(data.images, (8, 1, 1, 1)), labels=np.tile(data.labels, 8))
    options = DeployOptions(samples=2000)
    assert plan_images(several, small.program, options)[1] == (500, 1000, 2000)
    whole = replace(options, all_images=True)
    assert plan_images(several, small.program, whole)[1] == (2000,)
    assert estimate(small.program, options).images == 500
    assert estimate(small.program, whole).images == 2000


@pytest.mark.parametrize(
    ("address", "serial"),
    [
        ("/dev/ttyUSB0", True),
        ("COM5", True),
        ("visa:ASRL/dev/ttyS0::INSTR", True),
        ("visa:TCPIP0::host::5025::SOCKET", False),
        ("tcp://host:1", False),
        ("unix:/tmp/chip", False),
        ("emulated:lab-128", False),
    ],
)
def test_only_serial_lines_carry_bytes_at_a_baud_rate(address: str, serial: bool) -> None:
    assert is_serial(address) is serial
