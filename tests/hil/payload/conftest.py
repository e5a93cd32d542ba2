"""One small program, its bench and its images for all tests of campaigns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.datasets.image_set import Dataset
from hil.payload.orbit import SHIPPED, OrbitFile, load_orbit
from hil.payload.radiation.block import fault_context
from hil.payload.radiation.run import FaultContext
from hil.payload.settings import AS_COMPILED
from mapping.compile import compile_network
from mapping.program.conductance import ConductanceProgram

from ..small_net import NAMES, images, small_network


@pytest.fixture(scope="session")
def program() -> ConductanceProgram:
    return compile_network(small_network(), load_chip("lab-128", macros=2))


@pytest.fixture(scope="session")
def record(program: ConductanceProgram) -> CalibrationRecord:
    return nominal_record(program.spec, program.macros)


@pytest.fixture(scope="session")
def bench(program: ConductanceProgram, record: CalibrationRecord) -> FaultContext:
    return fault_context(program, record, AS_COMPILED, seed=3)


@pytest.fixture(scope="session")
def data() -> Dataset:
    pixels, labels = images(400, seed=3)
    return Dataset("small", pixels, np.asarray(labels, np.int64), NAMES, "made here", "0" * 64)


def own_orbit(folder: Path, **values: str) -> OrbitFile:
    """The low orbit with other values of some fields."""
    text = (SHIPPED / "leo-sso.toml").read_text("utf-8")
    for field, value in values.items():
        before, _, rest = text.partition(f"{field} = {{ value = ")
        text = f"{before}{field} = {{ value = {value},{rest.partition(',')[2]}"
    (folder / "own.toml").write_text(text, "utf-8")
    return load_orbit(folder / "own.toml")
