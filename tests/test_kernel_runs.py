"""Runs of others are read without running anything, and their features are what the kernels say."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .scripts import benchmark


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this ran",)


def written(folder: Path, table: Any) -> Path:
    path = folder / "imka-ridge-regression/resources/hardware/letter/hardware_acc.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(table, protocol=4))
    return path


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, capsys: Any) -> None:
    written(tmp_path, {"rff": Harmful()})
    with pytest.raises(pickle.UnpicklingError, match=r"no builtins\.print"):
        benchmark("kernel_runs").read_runs(tmp_path, "letter", "hardware_acc")
    assert "this ran" not in capsys.readouterr().out


def test_tables_are_read_and_a_cell_of_nine_runs_is_refused(tmp_path: Path) -> None:
    runs = benchmark("kernel_runs")
    sizes = {n: [0.1 * n] * runs.RUNS for n in runs.SIZES}
    table = {s: {k: dict(sizes) for k in runs.KERNELS} for s in runs.SAMPLERS}
    path = written(tmp_path, table)
    assert runs.read_runs(tmp_path, "letter", "hardware_acc")["orf", "rbf", 3] == pytest.approx(0.3)
    table["orf"]["rbf"][3] = [0.3] * 9
    path.write_bytes(pickle.dumps(table, protocol=4))
    with pytest.raises(ValueError, match="not 10 numbers"):
        runs.read_runs(tmp_path, "letter", "hardware_acc")


@pytest.mark.parametrize("sampler", ["rff", "orf", "sorf"])
@pytest.mark.parametrize("kernel", ["rbf", "arccos0"])
def test_many_features_are_their_kernel(sampler: str, kernel: str) -> None:
    features = benchmark("kernel_features")
    x = np.random.default_rng(0).standard_normal((80, 16))
    drawn = features.sampled(sampler, kernel, 16, 9, np.random.default_rng(1))
    found = drawn.of(x @ drawn.weight.T + drawn.bias)
    assert features.kernel_error(features.kernel_of(kernel, x), found) < (
        0.15 if sampler == "sorf" else 0.06
    )  # of sixteen inputs, structured features stay off
