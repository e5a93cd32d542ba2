"""Python in the order of work: a module and arrays in, a verdict, frames and figures out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cim
import hil
from hil.deployment.network_source import program_of
from hil.deployment.options import NetworkOptions
from mapping.network.file import load_network, save_network

from ..small_net import small_network
from .conftest import QUICK, Stripes

ROOT = Path(__file__).parents[3]


def eight_lines(
    module: torch.nn.Module,
    train: tuple[torch.Tensor, torch.Tensor],
    test_x: NDArray[np.float32],
    test_y: NDArray[np.int64],
) -> hil.Report:
    chip = hil.open_chip("emulated:lab-128", macros=4)
    record = chip.calibrate()
    program = hil.compile(module, chip, images=train, bits="W4A8")
    report = hil.deploy(program, chip, (test_x, test_y))
    report.verdict, report.accuracy.chip, report.causes  # noqa: B018 - what a cell shows
    report.to_frame()
    report.show()
    hil.simulate(program, record, ages=["1d", "30d"]).plot()
    return report


def test_the_eight_lines_run_as_they_stand(
    stripes: Stripes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the run goes below runs/
    report = eight_lines(stripes.module, stripes.train, *stripes.test)
    assert report.verdict == "agree"
    told = capsys.readouterr().out
    assert "AGREE" in told.splitlines()[2]
    assert "hil.simulate(program, record, test," in told, "a next step in the words of Python"
    assert (tmp_path / "runs" / "0001" / "report.html").is_file()


@pytest.mark.parametrize("kind", ["arrays", "Dataset", "DataLoader"])
def test_a_module_is_deployed_with_samples_of_any_kind_by_a_port(stripes: Stripes, tmp_path: Path, kind: str) -> None:
    """Every fourth sample sets ranges and scales, and the others score."""
    arrays = stripes.test
    tensors = torch.utils.data.TensorDataset(*map(torch.as_tensor, arrays))
    given = {"arrays": arrays, "Dataset": tensors, "DataLoader": torch.utils.data.DataLoader(tensors, 50)}[kind]
    report = hil.deploy(stripes.module, given, port="emulated", macros=4, out=tmp_path / "run", options=QUICK)
    assert report.data.images == QUICK.samples
    assert report.accuracy.float is not None


def test_a_report_has_its_four_accuracies_as_numbers_and_as_a_frame(report: hil.Report) -> None:
    frame = report.to_frame()
    assert list(frame.index) == ["float", "ideal", "simulated", "chip"]
    assert frame.loc["chip", "mean"] == report.accuracy.chip == report.decisive.measured.mean
    assert frame.loc["float", "mean"] == report.accuracy.float
    assert frame.loc["chip", "low"] <= report.accuracy.chip <= frame.loc["chip", "high"]
    assert set(frame["images"]) == {report.data.images}


def test_the_float_network_answers_beside_the_chip_as_the_module_does(stripes: Stripes, report: hil.Report) -> None:
    module, (inputs, labels) = stripes.module, stripes.test
    with torch.no_grad():
        right = module(torch.from_numpy(inputs)).argmax(1).numpy() == labels
    assert report.accuracy.float is not None
    assert abs(report.accuracy.float - right.mean()) < 0.04  # 300 of the 600


def test_a_run_from_python_is_a_run_of_the_command_line(report: hil.Report) -> None:
    folder = Path(report.run)
    told = subprocess.run(
        [sys.executable, "-m", "hil", "show", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert report.verdict.value.upper() in told.stdout
    assert (folder / "program.h5").is_file()


def test_a_chip_that_was_calibrated_is_not_calibrated_again(chip: hil.Chip, report: hil.Report) -> None:
    assert chip.record is not None
    assert "calibrating" not in report.timing_s
    assert cim.load_record(Path(report.run) / "record.h5").date == chip.record.date


def test_a_simulation_takes_the_samples_of_the_deployment_and_plots_an_age_each(
    chip: hil.Chip, compiled: hil.CompiledNetwork, report: hil.Report, tmp_path: Path
) -> None:
    found = hil.simulate(compiled, chip.record, ages=["1h", "30d"], chips=4, mode="fast", options=QUICK)
    assert found.images == report.data.images
    assert found.to_frame().shape == (4, 2)
    figure = found.plot()
    figure.savefig(tmp_path / "ages.png")
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1 h", "30 d"]
    assert "simulated" in axes.get_title()


def test_a_network_is_compiled_as_the_command_line_compiles_its_file(tmp_path: Path, chip: hil.Chip) -> None:
    save_network(small_network(), tmp_path / "net.pt")
    of_file, _ = program_of(tmp_path / "net.pt", NetworkOptions(macros=2), hil.Watch())
    assert hil.compile(tmp_path / "net.pt", chip).program.digest == of_file.digest
    assert hil.compile(load_network(tmp_path / "net.pt"), chip).program.digest == of_file.digest


def test_a_chip_says_what_it_is_at_a_prompt() -> None:
    with hil.open_chip("emulated:lab-128?seed=7", macros=2) as one:
        serial = one.description.serial
        assert repr(one) == f"<Chip emulated lab-128 {serial}: 2 macros; not calibrated yet>"


def test_pixels_say_how_they_become_inputs_or_are_refused(stripes: Stripes, chip: hil.Chip) -> None:
    pixels = np.zeros((20, 8, 8), np.uint8)
    with pytest.raises(hil.UsageError, match="nothing says how they become inputs"):
        hil.compile(stripes.module, chip, images=pixels)
    compiled = hil.compile(stripes.module, chip, images=pixels + np.arange(8, dtype=np.uint8), mean=(0.5,), std=(0.25,))
    assert compiled.graph is not None
    assert compiled.graph.classes == ("0", "1")
    alike = hil.compile(stripes.module, chip, images=pixels + np.arange(8, dtype=np.uint8), mean=0.5, std=0.25)
    assert alike.program.digest == compiled.program.digest, "one number is the mean of every channel"


def test_a_module_that_does_not_take_its_samples_is_told_which_axes_were_meant(
    stripes: Stripes, chip: hil.Chip
) -> None:
    channels_first = np.zeros((20, 1, 8, 8), np.uint8)
    with pytest.raises(hil.UsageError, match=r"does not take inputs of shape \(n, 8, 1, 8\)") as refused:
        hil.compile(stripes.module, chip, images=channels_first, mean=0.5, std=0.25)
    assert "(n, H, W[, C])" in str(refused.value)
    assert "axes in another order" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((np.zeros((4, 1, 8, 8), np.float32), np.zeros(3, np.int64)), "4 samples but 3 labels"),
        ((np.full((4, 1, 8, 8), np.nan, np.float32), np.zeros(4, np.int64)), "not finite"),
        ([[1.0], [2.0, 3.0]], "no array"),
        (object(), "samples of object"),
    ],
)
def test_samples_that_do_not_fit_are_refused_with_the_shapes_that_would(
    given: object, said: str, compiled: hil.CompiledNetwork, chip: hil.Chip
) -> None:
    with pytest.raises(hil.UsageError, match=said) as refused:
        hil.deploy(compiled, chip, given)
    assert "(n, H, W[, C])" in str(refused.value)


def test_bits_that_are_none_and_a_network_without_samples_are_refused(
    stripes: Stripes, chip: hil.Chip, compiled: hil.CompiledNetwork
) -> None:
    with pytest.raises(hil.UsageError, match="bits 'W9A8'"):
        hil.compile(stripes.module, chip, images=stripes.train, bits="W9A8")
    with pytest.raises(hil.UsageError, match="needs training images"):
        hil.compile(stripes.module, chip)
    with pytest.raises(hil.UsageError, match="was not deployed yet"):
        hil.simulate(hil.CompiledNetwork("n", compiled.program, None, compiled.kept))


def test_a_program_is_treated_as_it_was_compiled_for(stripes: Stripes, chip: hil.Chip, tmp_path: Path) -> None:
    chip.calibrate(budget="quick")
    plain = hil.compile(stripes.module, chip, stripes.train, without=["copies", "aims", "tune"])
    report = hil.deploy(plain, chip, stripes.test, out=tmp_path / "plain", options=QUICK)
    assert report.tune is None
    usual = hil.compile(stripes.module, chip, stripes.train)
    tuned = hil.deploy(usual, chip, stripes.test, out=tmp_path / "usual", options=QUICK)
    assert tuned.tune is not None


def test_images_in_the_place_of_the_chip_are_told_to_be_no_chip(stripes: Stripes) -> None:
    with pytest.raises(hil.UsageError, match=r"a tuple is no chip\n  try     \"lab-128\""):
        hil.compile(stripes.module, stripes.train)  # type: ignore[arg-type]
