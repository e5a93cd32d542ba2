"""Emulated flight: the prediction of an orbit against emulated chips with radiation physics of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hil.datasets.image_set import Dataset
from hil.deployment.options import USUAL_RECIPE
from hil.emulator.address import SCHEME
from hil.errors import UsageError
from hil.payload.flight import flight_address, fly
from hil.payload.orbit import load_orbit
from hil.payload.radiation.faults import CELLS
from hil.payload.settings import OrbitSettings
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.rewrite import Rewrite

from ..fitting import every_answer_fits as every_answer_fits
from .conftest import own_orbit

RECIPE = USUAL_RECIPE.without("aims")


def test_the_address_of_an_emulated_chip_carries_the_rates_of_the_orbit() -> None:
    address = flight_address("lab-128", 7, 2, load_orbit("geo"))
    assert address == f"{SCHEME}lab-128?seed=7&macros=2&upsets=1.2e-09&dose_krad_per_year=10.0"


def test_a_kind_of_fault_that_the_belief_leaves_out_makes_the_verdict_disagree(
    program: ConductanceProgram, data: Dataset, tmp_path: Path
) -> None:
    options = OrbitSettings(years=(3.0,), chips=1, year_images=300, virtual_chips=8, left_out=CELLS, recipe=RECIPE)
    found = fly(program, data, own_orbit(tmp_path, cell_per_day="1e-3"), options, Watch(), chip="lab-128")
    assert found.flown[0].rejects
    assert not found.flown[0].inside
    assert found.to_json()["years"][0]["extrapolated"]
    assert "OUTSIDE" in "\n".join(found.summary().lines())


def test_emulated_and_virtual_chips_of_a_flight_are_written_again_alike(
    program: ConductanceProgram, data: Dataset
) -> None:
    once = OrbitSettings(years=(1.0,), chips=3, year_images=300, virtual_chips=2, recipe=RECIPE)
    again = replace(once, recipe=once.recipe.having(Rewrite(2)))
    plain, treated = (fly(program, data, load_orbit("geo"), o, Watch(), chip="lab-128") for o in (once, again))
    assert [f.accuracy for f in plain.flown] != [
        f.accuracy for f in treated.flown
    ]  # one may be right as often by chance
    assert plain.flown[0].predicted != treated.flown[0].predicted
    assert {"name": "rewrite", "times": 2, "after_s": 1.0, "reads": 8} in treated.to_json()["recipe"]
    assert "rewrite=times=2" in "\n".join(treated.summary().lines())


def test_a_flight_of_no_chips_or_to_no_year_is_refused() -> None:
    for wrong in ({"chips": -1}, {"years": ()}, {"years": (-1.0,)}, {"virtual_chips": 1}):
        with pytest.raises(UsageError):
            OrbitSettings(**wrong)  # type: ignore[arg-type]
