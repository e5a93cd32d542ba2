"""Files of other simulators and of published products in ``hil fit``: written here as their programs write them."""

from __future__ import annotations

import json
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hil.cli import run
from hil.device_fit.measured_tables import read_table
from hil.device_fit.readings import by_age
from hil.errors import FileError

G_MAX_US, DAY_S = 25.0, 86400.0


@pytest.fixture
def aihwkit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Classes named as those in a state of AIHWKit 1.1, which is not installed here."""
    names = {
        "aihwkit.simulator.configs.configs": "InferenceRPUConfig",
        "aihwkit.inference.noise.pcm": "PCMLikeNoiseModel",
        "aihwkit.inference.converter.conductance": "SinglePairConductanceConverter",
    }
    made = types.SimpleNamespace()
    for module, name in names.items():
        kind = type(name, (), {"__module__": module})
        for part in (module.rsplit(".", k)[0] for k in range(module.count(".") + 1)):
            monkeypatch.setitem(sys.modules, part, sys.modules.get(part) or types.ModuleType(part))
        setattr(sys.modules[module], name, kind)
        setattr(made, name, kind)
    return made


def tile(aihwkit: Any, weights: torch.Tensor, **more: torch.Tensor) -> dict[str, Any]:
    config, model, converter = (
        aihwkit.InferenceRPUConfig(),
        aihwkit.PCMLikeNoiseModel(),
        aihwkit.SinglePairConductanceConverter(),
    )
    converter.g_max, converter.g_min = G_MAX_US, 0.0
    model.g_converter, model.t_0, config.noise_model = converter, 20.0, model
    return {"rpu_config": config, "analog_tile_weights": weights, "analog_tile_class": "InferenceTile", **more}


def saved(path: Path, state: dict[str, Any]) -> Path:
    torch.save(OrderedDict({"0.bias": torch.zeros(3), "0.analog_module.analog_tile_state": state}), path)
    return path


def weights_of(seed: int) -> torch.Tensor:
    return torch.randn((24, 40), generator=torch.Generator().manual_seed(seed))


def test_weights_of_aihwkit_are_cells_beside_the_state_before_programming(aihwkit: Any, tmp_path: Path) -> None:
    meant = weights_of(1)
    drifted = meant + 0.05 * weights_of(2)
    before = saved(tmp_path / "before.pt", tile(aihwkit, meant))
    table = read_table(saved(tmp_path / "day.pt", tile(aihwkit, drifted)), before, DAY_S)
    to_us = G_MAX_US / float(meant.abs().max())
    np.testing.assert_allclose(table.target_us, meant.abs().numpy().ravel() * to_us, rtol=1e-5)
    wrong = (torch.sign(meant) * (drifted - meant)).numpy().ravel() * to_us
    np.testing.assert_allclose(table.conductance_us - table.target_us, wrong, atol=1e-4)
    assert set(table.time_s) == {DAY_S}
    assert table.notes == ("read as AIHWKit: 1 tiles, 960 weights, each as the cell that carries it",)


def test_a_whole_model_of_aihwkit_says_what_was_meant_and_when_it_was_first_read(aihwkit: Any, tmp_path: Path) -> None:
    meant, programmed = weights_of(1), weights_of(1) + 0.01
    held = {"reference_combined_weights": meant, "programmed_weights": programmed}
    path = saved(tmp_path / "model.pt", tile(aihwkit, programmed + 0.1, **held))
    table = read_table(path)
    assert set(table.time_s) == {20.0}
    assert "weights have changed since programming" in table.notes[1]
    both = by_age(read_table(path, None, DAY_S))
    np.testing.assert_allclose(both.ages_s, [20.0, DAY_S])
    assert len(both.cells) == meant.numel()


def test_weights_without_what_they_were_meant_to_be_are_no_cells(aihwkit: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "day.pt", tile(aihwkit, weights_of(1)))
    with pytest.raises(FileError, match="does not hold what its weights were meant to be"):
        read_table(path, None, DAY_S)
    with pytest.raises(FileError, match=r"how old the weights of .* are is not in it"):
        read_table(path, path)


def test_a_state_with_cells_of_an_exported_record_is_read_with_the_generator_that_they_draw_with(
    aihwkit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = type("MeasuredCells", (), {"__module__": "my_cells"})
    module = types.ModuleType("my_cells")
    module.__dict__["MeasuredCells"] = own
    monkeypatch.setitem(sys.modules, "my_cells", module)
    model, state = own(), tile(aihwkit, weights_of(1))
    model.rng = np.random.default_rng(1)  # type: ignore[attr-defined]
    model.g_converter = state["rpu_config"].noise_model.g_converter  # type: ignore[attr-defined]
    state["rpu_config"].noise_model = model
    path = saved(tmp_path / "day.pt", state)
    assert read_table(path, path, DAY_S).notes == (
        "read as AIHWKit: 1 tiles, 960 weights, each as the cell that carries it",
    )


class Harm:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("harm", [Harm(), torch.nn.functional.relu], ids=["a call", "a function"])
def test_nothing_in_a_state_is_run(harm: Any, aihwkit: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", tile(aihwkit, weights_of(1), other=harm))
    with pytest.raises(FileError, match="which no state of AIHWKit does"):
        read_table(path, path, DAY_S)


def test_ramps_of_pulses_as_crosssim_takes_them_give_what_a_pulse_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    ramps = []
    for length in (400, 380, 400, 390):  # ramps end where a column is empty
        steps = 0.5 + 0.2 * rng.standard_normal(length)
        ramps.append([f"{g * 1e-6 * 0.1:.9g}" for g in 100.0 + np.cumsum(steps)] + [""] * (400 - length))
    lines = [",".join(f"rmp{k + 1}" for k in range(4)), *(",".join(row) for row in zip(*ramps, strict=True))]
    path = tmp_path / "set.csv"
    path.write_text("\n".join(lines) + "\n")
    assert run(["fit", str(path)]) == 2
    assert "--read-v 0.1" in capsys.readouterr().err
    assert run(["fit", str(path), "--read-v", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ramps"] == 4
    assert found["steps"] == 1566
    assert abs(found["mean_us"] - 0.5) < 0.03
    assert abs(found["sd_us"] - 0.2) < 0.02
    assert found["ks"] < 0.06
    assert run(["fit", str(path), "--read-v", "0.1", "-o", str(tmp_path / "no.h5")]) == 2


def test_a_ramp_that_holds_words_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.csv"
    path.write_text("p1,p2\n1e-6,2e-6\n1e-6,two\n")
    assert run(["fit", str(path), "--read-v", "0.1"]) == 7
    assert "line 3" in capsys.readouterr().err


def products(folder: Path, standing: float, new: float) -> tuple[Path, Path]:
    """Products of 40 columns: sixty inputs, each four times."""
    rng = np.random.default_rng(3)
    x = np.repeat(rng.normal(0, 10, (60, 40)), 4, axis=0)
    fixed = np.repeat(rng.normal(0, standing, (60, 40)), 4, axis=0)
    y = (1.0 + rng.normal(0, 0.05, 40)) * x + rng.normal(0, 2, 40) + fixed + rng.normal(0, new, x.shape)
    for name, values in (("measured.csv", y), ("ideal.csv", x)):
        np.savetxt(folder / name, values, delimiter=",")
    return folder / "measured.csv", folder / "ideal.csv"


@pytest.mark.parametrize(("standing", "new"), [(0.8, 0.3), (0.2, 0.9)])
def test_products_beside_ideal_ones_tell_what_stands_still_from_what_is_new(
    standing: float, new: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, ideal = products(tmp_path, standing, new)
    assert run(["fit", str(measured), "--ideal", str(ideal), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert abs(found["new"] / new - 1) < 0.05
    assert abs(found["standing"] / standing - 1) < 0.15
    assert abs(found["gain_sigma"] - 0.05) < 0.02
    assert found["distances"]["Gaussian"] < 3 * found["floor"]
    assert run(["fit", str(measured), "--ideal", str(ideal)]) == 0
    assert "new in every product" in capsys.readouterr().out


def test_products_of_another_shape_than_the_ideal_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, ideal = products(tmp_path, 0.1, 0.1)
    np.savetxt(ideal, np.zeros((3, 40)), delimiter=",")
    assert run(["fit", str(measured), "--ideal", str(ideal)]) == 7
    assert "ideal ones of (3, 40)" in capsys.readouterr().err
