"""A small network on a small chip, made once: files, calibration record, and one finished run."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers alone that works out an answer once in a process; its progress is told again."""
    answers: dict[bytes, tuple[Any, list[tuple[Any, ...]]]] = {}

    def asked(*given: Any) -> Any:
        told: list[tuple[Any, ...]] = []
        key = pickle.dumps([one for one in given if not callable(one)])

        def heard(tell: Callable[..., None]) -> Callable[..., None]:
            return lambda *now: (told.append(now), tell(*now))[1]

        if key not in answers:
            answers[key] = function(*(heard(one) if callable(one) else one for one in given)), told
        else:
            for tell in filter(callable, given):
                for now in answers[key][1]:
                    tell(*now)
        answer = answers[key][0]
        return answer.copy() if isinstance(answer, np.ndarray) else answer

    return asked


@pytest.fixture(scope="session", autouse=True)
def fits_worked_out_once() -> Iterator[None]:
    """Tests calibrate the same chips again and again; most of that is the fit of a law, which tests/cim looks at."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cim.fit.programming._chosen", "mapping.tune.aims._written_for"):
            home, _, called = name.rpartition(".")
            patch.setattr(name, remembered(getattr(importlib.import_module(home), called)))
        yield


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
