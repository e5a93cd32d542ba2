"""A small network on a small chip, made once: files, calibration record, and one finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record, save_record
from hil.calibration.procedure import calibrate
from hil.deployment.deploy import DeployOptions, deploy
from hil.deployment.network_source import program_of
from hil.deployment.options import NetworkOptions
from hil.driver.open_chip import open_chip
from hil.verdict.agreement import AgreementReport
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.program.file import save_program
from mapping.recipe.recipe import Recipe

from .invented_run import make_run as make_run
from .invented_run import run as run
from .small_net import write_files

CHIP = "emulated:lab-128?seed=3&macros=4"
QUICK = DeployOptions(samples=300, repeats=2, virtual_chips=10, tolerance=0.03)


@dataclass(frozen=True)
class Small:
    """Files for runs of a few seconds. The network takes macros 0 and 1 of ``CHIP``; the record holds both."""

    net: Path
    data: Path
    record_file: Path
    program_file: Path
    program: ConductanceProgram

    @property
    def record(self) -> CalibrationRecord:
        return load_record(self.record_file)

    def arguments(self, *more: str) -> list[str]:
        """Of ``hil deploy`` with this network, data and record on ``CHIP``."""
        quick = ["--samples", "300", "--repeat", "2", "--tolerance", "3", "--macros", "4"]
        files = [str(self.net), "--data", str(self.data), "--calibration", str(self.record_file)]
        return ["deploy", *files, *quick, *more]

    def deploy(self, address: str, out: Path, *, record: bool = True, **more: object) -> AgreementReport:
        options = {"options": QUICK, "calibration": self.record_file if record else None, **more}
        return deploy(self.net, address, macros=4, data=str(self.data), out=out, **options)  # type: ignore[arg-type]

    def once(self) -> ConductanceProgram:
        """The program with each layer once, without copies on idle cells."""
        return program_of(self.net, NetworkOptions(macros=4), Watch(), recipe=Recipe())[0]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    net, data = write_files(folder)
    program, _ = program_of(net, NetworkOptions(macros=4), Watch())
    save_program(program, folder / "program.h5")
    with open_chip(CHIP) as chip:
        save_record(calibrate(chip, program.macros), folder / "record.h5")
    return Small(net, data, folder / "record.h5", folder / "program.h5", program)


@pytest.fixture(scope="session")
def finished_run(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of one deployment without a record: calibrated first."""
    folder = tmp_path_factory.mktemp("runs") / "0001"
    small.deploy(CHIP, folder, record=False)
    return folder
