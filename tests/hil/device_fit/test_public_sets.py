"""Open measurements by name; what they say of the laws. Needs the sets below HIL_DATA."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from hil.device_fit.inputs import BenchResult, TraceResult, Unsaid, fit_source, in_siemens
from hil.device_fit.public_sets import SETS, find_set, read_bench, read_cells, read_traces
from hil.device_fit.result import FitResult
from hil.errors import FileError, UsageError
from hil.pages.tables import as_lines


@pytest.fixture(scope="session")
def data() -> Path:
    root = os.environ.get("HIL_DATA", "")
    if not root:
        pytest.skip("HIL_DATA not set: open device measurements are read from there")
    try:
        find_set("levy-tech-c", root)
    except FileError:
        pytest.skip(f"no device measurements below HIL_DATA={root}")
    return Path(root)


def test_an_unknown_set_a_missing_folder_and_missing_files_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIL_DATA", raising=False)
    with pytest.raises(UsageError, match="no public set"):
        find_set("levy", tmp_path)
    with pytest.raises(UsageError, match="hil fit --data-dir DIR"):
        find_set("ember-1")
    with pytest.raises(FileError, match="no retention"):
        find_set("ember-1", tmp_path)
    with pytest.raises(UsageError, match="no readings of cells over time"):
        read_cells("bench", tmp_path)


def test_a_broken_set_is_said(tmp_path: Path) -> None:
    path = tmp_path / "retention.min.csv.gz"
    for content, word in (
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "columns 'a,b'"),
        (gzip.compress(b",addr,time,lvl,lvli,i,tmin,tmax,timept\n1,2\n", mtime=0), "2 columns, not 9"),
        (gzip.compress(b",addr,time,lvl,lvli,i,tmin,tmax,timept\n1,2,x,4,5,6,7,8,9\n", mtime=0), "cannot be read"),
        (gzip.compress(b",addr,time,lvl,lvli,i,tmin,tmax,timept\n1,2,nan,4,5,6,7,8,9\n", mtime=0), "not numbers"),
        (b"no gzip at all", "cannot be read"),
        (gzip.compress(b"1,2" * 99, mtime=0)[:-9], "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileError) as error:
            read_cells("ember-1", tmp_path)
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "cells", "ages"), [("levy-tech-c", 16292, 6), ("levy-tech-b", 7981, 7), ("ember-1", 16384, 8)]
)
def test_sets_hold_what_their_sources_say(data: Path, name: str, cells: int, ages: int) -> None:
    table = read_cells(name, data)
    assert len(np.unique(table.cell)) == cells
    assert table.nominal_s is not None
    assert len(np.unique(table.nominal_s)) == ages
    assert table.target_is_initial
    assert (table.unit == "levels") == name.startswith("ember")


def test_folders_are_found_from_above_and_by_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = find_set("ember-2", data)
    monkeypatch.setenv("HIL_DATA", str(exact.parent))
    assert find_set("ember-2") == exact
    assert find_set("ember-2", exact) == exact


def test_tech_c_odd_addresses_follow_the_law_of_the_even_ones(data: Path) -> None:
    """The distances of the law are asserted where it is fitted (tests.cim); here: the door gives them."""
    result = fit_source(None, "levy-tech-c", data)
    assert isinstance(result, FitResult)
    assert result.held_out == "odd"
    assert result.held_out_cells == 8158
    by_time = {round(row.age_s, 2): row for row in result.goodness}
    for row in result.goodness:
        assert row.law < 0.05
        assert row.law < 0.7 * row.gaussian
    assert by_time[1.0].published == pytest.approx(0.13, abs=0.01)
    assert by_time[100005.4].published == pytest.approx(0.195, abs=0.01)
    assert by_time[1.0].gaussian == pytest.approx(0.10, abs=0.02)


def test_levels_are_no_siemens_unless_someone_says_so(data: Path) -> None:
    table = read_cells("ember-1", data)
    assert in_siemens(table, None).unit == "levels"
    assert in_siemens(table, 0.5).conductance_us.max() == 0.5 * table.conductance_us.max()
    with pytest.raises(UsageError, match="a record needs µS"):
        fit_source(None, "ember-1", data, record_wanted=True)
    with pytest.raises(UsageError, match="µS a level"):
        fit_source(None, "ember-1", data, unsaid=Unsaid(us_per_level=-1.0))


def test_one_chip_says_how_well_it_speaks_for_another(data: Path) -> None:
    result = fit_source(None, "ember-1", data, test_on="ember-2", ages_to_s=1000.0)
    assert isinstance(result, FitResult)
    own = {round(np.log10(r.age_s)): r.law for r in result.goodness}
    other = {round(np.log10(r.age_s)): r.law for r in result.other_goodness}
    assert own[3] < 0.035
    assert own[5] < 0.06, "two decades beyond the fit"
    assert other[5] > 2 * own[5], "calibrations do not transfer for free"


def test_noise_traces_have_a_slope_near_minus_one(data: Path) -> None:
    traces, interval_s = read_traces(data)
    assert traces.shape == (5, 100_000)
    assert interval_s == 0.0025
    result = fit_source(None, "levy-tech-a", data)
    assert isinstance(result, TraceResult)
    assert all(-1.3 <= s.slope <= -0.8 for s in result.spectra)
    assert "too few cells for a population" in "\n".join(as_lines(result.lines()))
    with pytest.raises(UsageError, match="no record"):
        fit_source(None, "levy-tech-a", data, record_wanted=True)


def test_the_bench_gives_non_linearity_pulse_steps_and_bakes(data: Path) -> None:
    sweeps = read_bench(data)
    assert set(sweeps.bakes) == {110, 130}
    result = fit_source(None, "bench", data)
    assert isinstance(result, BenchResult)
    assert np.all(np.diff(result.current.k_per_v2) < 0), "low conductances bend most"
    assert 0 < result.steps.wl_v[0] < result.steps.wl_v[-1]
    middle = next(row for row in result.bakes[110] if row[0] == 30.0)
    assert 9.0 < middle[4] < 14.0
    text = "\n".join(as_lines(result.lines()))
    for word in ("k, 1/V²", "word line V", "bake at 130 °C", "no activation energy"):
        assert word in text


def test_every_set_says_where_it_is_from() -> None:
    from hil.device_fit import public_sets

    assert public_sets.__doc__ is not None
    for name in SETS:
        assert name.rsplit("-", 1)[0] in public_sets.__doc__
