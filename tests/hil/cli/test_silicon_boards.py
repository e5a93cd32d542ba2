"""A minimum board that says *silicon*, behind every command that opens a port, with each capability absent in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec
from cim.record.file import save_record
from firmware_protocols.messages import Capability
from hil.calibration.plan import PLANS, Budget
from hil.calibration.procedure import calibrate
from hil.cli import run
from hil.deployment.deploy import DeployOptions, deploy
from hil.driver.open_chip import connect
from hil.emulator.chip import ALL_CAPABILITIES
from hil.errors import DeviceError, ExitCode, Interrupted
from hil.server import serve
from hil.server.serve import serving
from hil.transports.in_process import InProcessTransport
from mapping.recipe.recipe import Recipe

from ..bench.benches import chip_text
from ..deployment.test_resume import interrupted_at
from ..silicon import Clock, SiliconBoard
from ..small_net import write_files

MINIMUM = Capability.PROGRAM_TILE | Capability.RAW
WIRES = {"pty": "pty", "tcp": "tcp://127.0.0.1:0"}
QUICK = DeployOptions(samples=16, repeats=1, virtual_chips=2, causes=False, age_s=0.0, recipe=Recipe())
OPTIONAL = [can for can in Capability if can in ALL_CAPABILITIES | Capability.PACKED]


@dataclass(frozen=True)
class Bench:
    """Files of a network of two layers for a chip of one macro of 128 x 32 cells, and a record of that chip."""

    folder: Path
    net: Path
    data: Path
    chip: Path
    spec: ChipSpec
    clock: Clock

    def board(self, can: Capability = MINIMUM) -> SiliconBoard:
        return SiliconBoard(self.spec, self.clock, can)

    @property
    def record(self) -> Path:
        return self.folder / "record.h5"

    def deploy(self, address: str, out: Path, *, record: bool = True) -> None:
        files = {"chip": str(self.chip), "data": str(self.data), "calibration": self.record if record else None}
        deploy(self.net, address, **files, recalibrate=not record, out=out, options=QUICK)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("silicon")
    net, data = write_files(folder, 120)
    chip = folder / "macro.toml"
    chip.write_text(chip_text(128, columns="32"))
    made = Bench(folder, net, data, chip, load_chip(str(chip)), Clock())
    with pytest.MonkeyPatch.context() as patch:
        made.clock.of_driver(patch)
        with connect(InProcessTransport(made.board(), "in process"), chip=made.spec) as driver:
            save_record(calibrate(driver, (0,), age_s=0.0, budget=Budget.QUICK), made.record)
    return made


@pytest.fixture(autouse=True)
def _one_clock_and_a_short_calibration(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.clock.of_driver(monkeypatch)
    monkeypatch.setitem(PLANS, Budget.DEFAULT, PLANS[Budget.QUICK])


@pytest.mark.parametrize("absent", OPTIONAL, ids=lambda can: can.name.lower())
def test_a_silicon_chip_without_one_capability_is_deployed_on(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: Capability
) -> None:
    if absent is Capability.PACKED:  # that is the chip role's own: one from before
        monkeypatch.setattr(serve, "ChipServer", partial(serve.ChipServer, versions=(0x0100, 0x0103)))
    with serving(bench.board(ALL_CAPABILITIES & ~absent), "pty") as address:
        bench.deploy(address, tmp_path / "run")
    assert (tmp_path / "run" / "report.json").is_file()


@pytest.mark.parametrize("wire", WIRES)
def test_a_minimum_silicon_chip_without_a_record_is_calibrated_and_deployed_on(
    bench: Bench, tmp_path: Path, wire: str
) -> None:
    with serving(bench.board(), WIRES[wire]) as address:
        bench.deploy(address, tmp_path / "run", record=False)
    assert (tmp_path / "run" / "record.h5").is_file()


def test_a_chip_that_cannot_be_calibrated_is_refused_before_its_first_pulse(bench: Bench, tmp_path: Path) -> None:
    board = bench.board(Capability.PROGRAM_TILE | Capability.SUMS)
    with serving(board, "pty") as address, pytest.raises(DeviceError, match="cannot do RAW") as refused:
        bench.deploy(address, tmp_path / "run", record=False)
    assert refused.value.where == address
    assert board.status().pulses_total == 0


COMMANDS = {
    "info": "board info",
    "ports": "board ports",
    "selftest": "board selftest --only messages,limits",
    "mvm": "board mvm --rows 4 --level 1 --repeat 2",
    "cells": "board cells",
    "calibrate": "calibrate --quick --age 0s -o OUT.h5",
    "pulse": "board pulse staircase --cell 1,1 -o OUT.csv",
    "dry run": "deploy NET --data DATA --dry-run",
    "tune": "tune OUT/program.h5 --calibration RECORD --age 0s --images 4",
    "finetune": "finetune NET --data DATA --calibration RECORD --epochs 1 --measure 64 --age 0s -o OUT.h5",
}
# A minimum board has no PULSE, and says so; four images are too few for a tune, which is found harmful.
OTHERWISE = {"pulse": ExitCode.DEVICE, "tune": ExitCode.OUTSIDE_TOLERANCE}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_opens_a_port_runs_on_a_minimum_silicon_board(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = COMMANDS[command].replace("OUT", str(tmp_path / "out"))
    for name, path in (("NET", bench.net), ("DATA", bench.data), ("RECORD", bench.record)):
        words = words.replace(name, str(path))
    with serving(bench.board(), "pty") as address:
        if command == "tune":
            bench.deploy(address, tmp_path / "out")
        port = [] if command == "ports" else ["--port", address, "--chip", str(bench.chip)]
        code = run([*words.split(), *port])
    assert code == OTHERWISE.get(command, ExitCode.DONE), capsys.readouterr().err


def test_fewer_images_than_a_batch_are_refused_before_a_chip_is_fine_tuned(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board, words = bench.board(), ["finetune", str(bench.net), "--data", str(bench.data), "--epochs=1", "--measure=8"]
    with serving(board, "pty") as address:
        port = ["--port", address, "--chip", str(bench.chip), "--calibration", str(bench.record)]
        assert run([*words, *port, "-o", str(tmp_path / "out.h5")]) == ExitCode.USAGE
    assert "8 training images run through the chip, fewer than a batch of 64" in capsys.readouterr().err
    assert board.status().pulses_total == 0


def test_a_run_on_silicon_is_interrupted_resumed_shown_and_flown(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with serving(bench.board(), WIRES["tcp"]) as address:
        with interrupted_at(8), pytest.raises(Interrupted):
            bench.deploy(address, folder)
        bench.deploy(address, folder)
    assert run(["show", str(folder)]) == ExitCode.OUTSIDE_TOLERANCE  # inconclusive: so few images
    faults = ["--orbit", "leo-sso", "--injections", "2", "--images", "100", "--chips", "0"]
    assert run(["campaign", str(folder), "--data", str(bench.data), *faults, "-o", str(tmp_path / "flown")]) == 0
