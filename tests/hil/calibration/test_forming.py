"""``hil board form``: fresh cells are formed once, whatever ends the host, and nothing else pulses them before."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim.chip.file import ChipFileError, load_chip
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import CellBlock, Polarity, Pulse
from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode
from hil.server.serve import serving

from ..test_work_folder import killed

FORM = {
    "formed": "false", "start_v": 1.8, "step_v": 0.1, "stop_v": 3.2, "pulse_width_ns": 1000, "pulses": 4,
    "target_us": 10.0, "lost_us": 60.0, "fresh_us": 0.15,
}  # fmt: skip


def fresh(folder: Path, **changed: object) -> Path:
    rows = "\n".join(f'{k} = {{ value = {v}, source = "assumed" }}' for k, v in {**FORM, **changed}.items())
    path = folder / "fresh.toml"
    path.write_text(load_chip("small-32").text.replace("[limits]", f"[form]\n{rows}\n\n[limits]"), "utf-8")
    return path


def chip_of(path: Path, **truth: float) -> EmulatedChip:
    usual = {"stuck_low_share": 0.0, "stuck_high_share": 0.0, "never_form_share": 0.03}
    return EmulatedChip(load_chip(path), seed=3, overrides={**usual, **truth})


def pulses(chip: EmulatedChip) -> np.ndarray:
    return chip._cells[0].pulses.copy()


def test_ten_kills_give_the_same_map_and_no_cell_a_pulse_more(tmp_path: Path) -> None:
    file, rng = fresh(tmp_path), random.Random(5)
    whole, chip = chip_of(file), chip_of(file)
    with serving(whole, "tcp://127.0.0.1:0") as where:
        assert run(["board", "form", str(tmp_path / "whole.json"), "--port", where, "--chip", str(file)]) == 0
    with serving(chip, "pty") as where:
        words = ["board", "form", str(tmp_path / "formed.json"), "--port", where, "--chip", str(file)]
        for number in range(10):  # as a request leaves, or as its answer is kept
            place = rng.choice(["serial_port:SerialTransport.write", "journal:Journal.answered"])
            killed(f"hil.transports.{place}", rng.randint(3, 12) + number, words)
        assert run(words) == ExitCode.DONE
        assert run(words) == ExitCode.USAGE, "a record is not written over"
    records = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "formed")]
    assert records[0]["macros"] == records[1]["macros"]
    assert np.array_equal(pulses(whole), pulses(chip))
    of = records[0]["macros"]["0"]
    assert 15 <= "".join(of["map"]).count("n") <= 50  # 3 % of 1,024
    assert pulses(chip)[np.array(of["formed_v"], float) < 2.0].max() <= 8, "a cell that is formed is left alone"


def test_formed_cells_and_those_outside_the_region_are_not_pulsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chip = chip_of(file := fresh(tmp_path), never_form_share=0.0)
    at = ["--chip", str(file)]
    with serving(chip, "tcp://127.0.0.1:0") as where:
        assert run(["board", "form", str(tmp_path / "p.json"), "--port", where, *at, "--dry-run"]) == ExitCode.DONE
        assert "60 pulses a cell (0.06 %" in capsys.readouterr().out
        assert not pulses(chip).any()
        for refused in (["calibrate", "-o", str(tmp_path / "r.h5")], ["board", "mvm", "--level", "2"]):
            assert run([*refused, "--port", where, *at]) == ExitCode.DEVICE
            assert "were never formed" in (said := capsys.readouterr().err)
            assert "hil board form formed.json 0 --port" in said
        pulsing = ["board", "pulse", "staircase", "--cell", "0:20,3", "-o", str(tmp_path / "s.csv"), "--port", where]
        assert run([*pulsing, *at]) == ExitCode.DEVICE
        assert not pulses(chip).any()
        assert run(["board", "form", str(tmp_path / "a.json"), "0:0-15,0-31", "--port", where, *at]) == ExitCode.DONE
        half = pulses(chip)
        assert half[:16].all()
        assert not half[16:].any()
        assert run([*pulsing, *at]) == ExitCode.DEVICE, "half of the macro is formed, this cell is not"
        chip.cut_power()
        assert run(["board", "form", str(tmp_path / "b.json"), "--port", where, *at]) == ExitCode.DONE
        assert np.array_equal(pulses(chip)[:16], half[:16])
        assert run([*pulsing, *at]) == ExitCode.DONE
    capsys.readouterr()
    assert run(["show", str(tmp_path / "b.json"), "--all"]) == ExitCode.DONE
    assert "b" * 32 in (said := capsys.readouterr().out)
    assert "f" * 32 in said


def test_cells_far_above_their_voltage_are_lost_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = fresh(tmp_path, start_v=3.6, stop_v=3.8)
    with serving(chip_of(file), "tcp://127.0.0.1:0") as where:
        assert run(["board", "form", str(tmp_path / "a.json"), "--port", where, "--chip", str(file)]) == 1
    assert "macro 0 lost: 0,0" in capsys.readouterr().out
    (tmp_path / "a.json").write_text('{"format": "hil.forming", "macros": {"0": {"map": ["?"]}}}')
    assert run(["show", str(tmp_path / "a.json")]) == ExitCode.BAD_FILE


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"stop_v": 4.1}, "stop_v"), ({"step_v": 0}, "step_v"), ({"pulses": 500}, "pulses"),
     ({"lost_us": 65}, "target_us"), ({"pulse_width_ns": 20000}, "pulse_width_ns"), ({"fresh_us": 11}, "target_us")],
)  # fmt: skip
def test_host_and_chip_refuse_forming_beyond_the_limits(tmp_path: Path, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ChipFileError, match=f"form.{field}"):
        load_chip(fresh(tmp_path, **changed))
    above = Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 1000, 0, np.full((1, 1), 4100, np.uint16))
    with pytest.raises(Refusal, match=r"SET voltage 4\.1 is above the limit of 4"):
        chip_of(fresh(tmp_path)).pulse(above)
