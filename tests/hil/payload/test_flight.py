"""Emulated flight: the prediction of an orbit against emulated chips with radiation physics of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hil.payload
from cim.intervals import one_more_half_width
from hil.datasets.image_set import Dataset
from hil.emulator.address import SCHEME
from hil.errors import UsageError
from hil.payload.flight import FlightReport, FlownChip, exact_width_ratio, flight_address, fly
from hil.payload.orbit import OrbitFile, load_orbit
from hil.payload.radiation.kinds import FaultKind
from hil.payload.settings import FlightOptions
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.rewrite import Rewrite

from ..fitting import every_answer_fits as every_answer_fits

CELLS = (FaultKind.CELL_NEIGHBOUR, FaultKind.CELL_EXTREME)


def orbit(folder: Path, cell_per_day: str) -> OrbitFile:
    shipped = (Path(hil.payload.__file__).parent / "orbits" / "leo-sso.toml").read_text("utf-8")
    path = folder / "own.toml"
    path.write_text(shipped.replace("cell_per_day = { value = 4e-10", f"cell_per_day = {{ value = {cell_per_day}"))
    return load_orbit(path)


def test_the_address_of_an_emulated_chip_carries_the_rates_of_the_orbit() -> None:
    address = flight_address("lab-128", 7, 2, load_orbit("geo"))
    assert address == f"{SCHEME}lab-128?seed=7&macros=2&upsets=1.2e-09&dose_krad_per_year=10.0"


def test_a_kind_of_fault_that_the_belief_leaves_out_makes_the_verdict_disagree(
    program: ConductanceProgram, data: Dataset, tmp_path: Path
) -> None:
    options = FlightOptions((3.0,), chips=1, images=300, virtual_chips=8, left_out=CELLS)
    found = fly(program, data, orbit(tmp_path, "1e-3"), options, Watch(), chip="lab-128")
    assert found.flown[0].rejects
    assert not found.flown[0].inside
    assert found.to_json()["years"][0]["extrapolated"]
    assert "OUTSIDE" in "\n".join(found.summary().lines())


def test_emulated_and_virtual_chips_of_a_flight_are_written_again_alike(
    program: ConductanceProgram, data: Dataset
) -> None:
    once = FlightOptions((1.0,), chips=3, images=300, virtual_chips=2)
    again = replace(once, recipe=once.recipe.having(Rewrite(2)))
    plain, treated = (fly(program, data, load_orbit("geo"), o, Watch(), chip="lab-128") for o in (once, again))
    assert [f.accuracy for f in plain.flown] != [
        f.accuracy for f in treated.flown
    ]  # one may be right as often by chance
    assert plain.flown[0].predicted != treated.flown[0].predicted
    assert {"name": "rewrite", "times": 2, "after_s": 1.0, "reads": 8} in treated.to_json()["recipe"]
    assert "rewrite=times=2" in "\n".join(treated.summary().lines())


def test_bands_of_an_exact_belief_are_half_as_wide_again_as_the_spread_of_twenty_chips() -> None:
    low, middle, high = exact_width_ratio(20, 20) or (0.0, 0.0, 0.0)
    assert middle == pytest.approx(1.50, abs=0.02)
    assert low < 1.3 < 1.7 < high
    more = exact_width_ratio(20, 200)
    assert more is not None
    assert more[1] == pytest.approx(1.38, abs=0.02)
    assert exact_width_ratio(1, 20) is None


def test_a_report_sets_the_spread_of_emulated_chips_beside_that_of_virtual_ones() -> None:
    options = FlightOptions((1.0,), chips=3, virtual_chips=20)
    half = 0.02 * one_more_half_width(20)
    flown = tuple(FlownChip(n, 1.0, 0.8 + 0.01 * n, 0.81, 0.81 - half, 0.81 + half, 0.5, False) for n in range(3))
    report = FlightReport(flown, "own", options)
    assert report.spreads(1.0) == pytest.approx((0.01, 0.02))
    assert report.width_ratio(1.0) == pytest.approx(2 * half / 0.018)
    assert "standard deviation 1.00 points of emulated chips, 2.00 of virtual ones" in "\n".join(
        report.summary().lines()
    )
    assert report.to_json()["years"][0]["exact_width_ratio"] == exact_width_ratio(3, 20)


def test_a_flight_of_no_chips_or_to_no_year_is_refused() -> None:
    for wrong in ({"chips": 0}, {"years": ()}, {"years": (-1.0,)}, {"virtual_chips": 1}):
        with pytest.raises(UsageError):
            FlightOptions(**wrong)  # type: ignore[arg-type]
