"""Emulated flight: the prediction of an orbit against emulated chips with radiation physics of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hil.datasets.image_set import Dataset
from hil.payload.radiation.faults import CELLS
from hil.payload.radiation.timeline import chosen_images
from hil.payload.settings import OrbitSettings
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.rewrite import Rewrite

from ...scripts import benchmark
from ..fitting import every_answer_fits as every_answer_fits
from .conftest import own_orbit

STUDY = benchmark("flight")


def test_upsets_that_the_belief_leaves_out_make_the_verdict_disagree_and_both_sides_follow_one_recipe(
    program: ConductanceProgram, data: Dataset, tmp_path: Path
) -> None:
    without = OrbitSettings(years=(3.0,), year_images=300, left_out=CELLS, recipe=STUDY.FLOWN_RECIPE)
    again = replace(without, recipe=without.recipe.having(Rewrite(2)))
    orbit, part = own_orbit(tmp_path, cell_per_day="1e-3"), chosen_images(data, without)
    plain, treated = (
        STUDY.judge_flight(program, part, orbit, o, *STUDY.fly_chip(program, part, orbit, o, 100, chip="lab-128"))
        for o in (without, again)
    )
    assert plain.rejects
    assert not plain.inside
    assert plain.predicted != treated.predicted
