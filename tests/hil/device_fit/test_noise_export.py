"""Cells of a record as noise models of other simulators: the files that are written, run beside what they stand for."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cim.cells.programming_law import law_at
from cim.chip.file import load_chip
from cim.record.file import save_record
from cim.record.published import nominal_record
from hil.cli import run
from hil.device_fit.noise_export import Peer, noise_model
from hil.errors import UsageError

from ...scripts import loaded

SPEC = load_chip("lab-128")
RECORD = nominal_record(SPEC, (0,))
NAMES = {"module": "my_cells", "made": "a test", "source": "a record"}


class Base:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of the two simulators as the files name."""
    parts: dict[str, dict[str, Any]] = {
        "aihwkit": {},
        "aihwkit.inference": {"BaseNoiseModel": Base},
        "aihwkit.inference.converter": {},
        "aihwkit.inference.converter.conductance": {"SinglePairConductanceConverter": lambda **window: window},
        "simulator": {},
        "simulator.backend": {"ComputeBackend": lambda: types.SimpleNamespace(asarray=np.asarray)},
        "simulator.devices": {},
        "simulator.devices.idevice": {"EmptyDevice": Base},
    }
    for name, held in parts.items():
        module = types.ModuleType(name)
        module.__dict__.update(held)
        monkeypatch.setitem(sys.modules, name, module)


def written(tmp_path: Path, peer: Peer, record: Any = RECORD, age_s: float = 3600.0) -> Any:
    path = tmp_path / "my_cells.py"
    path.write_text(noise_model(record, SPEC, peer, age_s, **NAMES), "utf-8")
    return loaded(path)


def without_stuck() -> Any:
    return replace(RECORD, programming=replace(RECORD.programming, stuck_low_share=0.0, stuck_high_share=0.0))


@pytest.mark.parametrize("target_us", [2.0, 12.857, 21.0, 40.0])
def test_cells_of_aihwkit_follow_the_law_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target_us: float
) -> None:
    stand_ins(monkeypatch)
    model = written(tmp_path, Peer.AIHWKIT, without_stuck()).MeasuredCells(rng=np.random.default_rng(0))
    cells = model.apply_programming_noise_to_conductance(torch.full((20_000,), target_us, dtype=torch.float64)).numpy()
    law = law_at(RECORD.programming, np.array([target_us]), 3600.0)
    inside = (cells > 0.0) & (cells < 1.1 * 40.0)
    places = law.cdf(cells - target_us)[inside]
    assert stats.kstest(places, "uniform", args=(0.0, 1.0)).statistic < (0.02 if inside.all() else 0.25)
    assert float(model.generate_drift_coefficients(torch.ones(3)).abs().sum()) == 0.0


def test_cells_of_crosssim_are_those_of_aihwkit_in_its_own_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins(monkeypatch)
    module = written(tmp_path, Peer.CROSSSIM)
    device = module.MeasuredCells()
    device.Gmin_norm, device.Grange_norm = 0.05, 0.95
    np.random.seed(0)  # noqa: NPY002 (CrossSim draws from numpy's own generator)
    found = device.programming_error(np.full(50_000, 0.05 + 0.95 * (21.0 - 2.0) / 38.0))
    cells = 2.0 + 38.0 * (found - 0.05) / 0.95
    expected = law_at(RECORD.programming, np.array([21.0]), 3600.0).scale_us[0]
    assert np.percentile(cells, 84.135) - np.percentile(cells, 50) == pytest.approx(expected, rel=0.05)
    assert np.mean(cells == 2.0) == pytest.approx(RECORD.programming.stuck_low_share, abs=0.003)


def test_the_command_writes_a_module_and_refuses_what_cannot_be_imported(tmp_path: Path) -> None:
    record = tmp_path / "record.h5"
    save_record(RECORD, record)
    out = tmp_path / "my_cells.py"
    assert run(["chip", "export", str(record), "--to", "aihwkit", "--age", "1d", "-o", str(out)]) == 0
    assert "class MeasuredCells(BaseNoiseModel)" in out.read_text()
    assert "no cells" in out.read_text()
    compile(out.read_text(), "my_cells.py", "exec")
    assert run(["chip", "export", str(record), "--to", "neurosim", "-o", str(out)]) == 2
    with pytest.raises(UsageError, match="cannot be imported"):
        noise_model(RECORD, SPEC, Peer.AIHWKIT, 1.0, **{**NAMES, "module": "my-cells"})


def test_words_of_a_record_cannot_leave_their_docstring() -> None:
    text = noise_model(RECORD, SPEC, Peer.CROSSSIM, 1.0, **{**NAMES, "source": 'x"""\nimport os  # \\'})
    assert '"""\nimport os' not in text
    compile(text, "my_cells.py", "exec")
