"""``hil board pulse``: experiments on single cells by address, their files and their page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.calibration.pulsing.experiments import Act, BipolarSweep, Experiment, Noise, Retention, Staircase
from hil.calibration.pulsing.page import pulse_page
from hil.calibration.pulsing.run import Series, cells_named, run_experiment, series_csv
from hil.cli import run as hil
from hil.device_fit.measured_tables import read_table
from hil.device_fit.result import fit_source
from hil.driver.open_chip import open_chip
from hil.errors import ExitCode, UsageError
from hil.report.terminal.quantities import seconds
from hil.watch import Watch

CHIP = "emulated:lab-128?macros=1&seed=3"
BENCH = ("--port", CHIP)


def run(experiment: Experiment, *cells: str) -> Series:
    with open_chip(CHIP) as driver:
        series = Series(experiment, driver.spec, cells_named(cells, driver.spec), driver.description.kind)
        run_experiment(driver, series, watch=Watch())
    return series


def test_a_staircase_reads_after_each_pulse() -> None:
    series = run(Staircase(start_v=1.0, stop_v=2.5, step_v=0.1, count=3, width_s=1e-6, reads=64), "0-7,3")
    lines = list(csv.DictReader(series_csv(series).splitlines()))
    assert len(lines) == 8 * (1 + 16 * 3)
    last = [line for line in lines if line["row"] == "7"][-1]
    assert (last["pulses"], last["pulse"], last["pulse_v"], last["pulse_s"]) == ("48", "set", "2.5", "1e-06")
    assert float(last["conductance_us"]) > float(last["initial_us"]), "SET pulses raise conductance"


def test_retention_goes_straight_into_a_fit(tmp_path: Path) -> None:
    series = run(Retention(first_s=1.0, last_s=1000.0, per_decade=2, reads=4), "0-15,0-15")
    file = tmp_path / "ret.csv"
    file.write_text(series_csv(series))
    assert len(series.readings) == 256 * 8
    cells = read_table(str(file))
    assert len(np.unique(cells.cell)) == 256
    assert fit_source(file).cells + fit_source(file).held_out_cells == 256


def test_sweeps_go_up_and_back_with_either_polarity() -> None:
    spec = load_chip("lab-128", macros=1)
    found = BipolarSweep(set_v=0.3, reset_v=0.2, step_v=0.1, count=2).actions(spec)
    pulses = [(a.act, a.volts_v) for a in found if a.act is not Act.READ]
    once = [(Act.SET, v) for v in (0.1, 0.2, 0.3, 0.2, 0.1)] + [(Act.RESET, v) for v in (0.1, 0.2, 0.1)]
    assert pulses == once * 2


def test_an_interval_passes_on_the_chips_clock() -> None:
    times = [reading.time_s for reading in run(Noise(count=5, interval_s=10.0), "1,1").readings]
    np.testing.assert_allclose(np.diff(times), 10.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("stop_v=4.5", "takes above 0 to 4 V"),
        ("width=20us", "takes 1 ns to 1e-05 s"),
        ("count=1.5", "count=1.5: not a whole number"),
        ("count=10000", "220,000 pulses to each cell; lab-128 allows a cell 100,000 in its life"),
    ],
)
def test_no_pulse_beyond_the_limits_of_the_chip_file(
    asked: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.csv"
    assert hil(["board", "pulse", "staircase", asked, *BENCH, "--cell", "0,0", "-o", str(out)]) == ExitCode.USAGE
    assert told in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("cells", ["0,128", "1:0,0", "5-3,0", "a,b", ""])
def test_cells_that_a_chip_has_not_are_refused(cells: str) -> None:
    with pytest.raises(UsageError, match="cells"):
        cells_named([cells], load_chip("lab-128", macros=1))


def test_the_page_reads_itself_again_while_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "noise.csv"
    assert hil(["board", "pulse", "noise", "count=20", *BENCH, "--cell", "0-2,0", "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["readings"] == 60
    page = Path(found["page"]).read_text()
    assert 'http-equiv="refresh"' not in page
    assert "NOT SILICON" in page
    series = run(Noise(count=3), "0,0")
    assert 'http-equiv="refresh"' in pulse_page(series, running=True)


def test_a_setting_of_another_experiment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--cell", "0,0", "-o", str(tmp_path / "a.csv"), "last=1h"]
    assert hil(["board", "pulse", "noise", *BENCH, *asked]) == ExitCode.USAGE
    assert "noise has no setting last" in capsys.readouterr().err
    assert hil(["board", "pulse", "noises", *BENCH, *asked]) == ExitCode.USAGE
    assert "retention" in capsys.readouterr().err


def test_short_durations_have_units() -> None:
    assert [seconds(text) for text in ("100ns", "1us", "5ms", "2m")] == pytest.approx([1e-7, 1e-6, 5e-3, 120.0])
