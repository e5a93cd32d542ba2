"""A virtual chip as the target of a recipe: what writing cells again does to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cim.cells.programming_law import redraw_law
from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.simulation.virtual_target import VirtualTarget
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe, write_cells
from mapping.recipe.rewrite import Rewrite, expected_us, left_window
from mapping.recipe.technique import RecipeError

from ..conftest import Small

TARGETS = np.full((128, 128), 20.0, np.float32)


@pytest.fixture(scope="module")
def record() -> CalibrationRecord:
    found = nominal_record(load_chip("lab-128"), range(4))
    noise = found.read_noise
    quiet = dataclasses.replace(noise, variance_us2=0 * noise.variance_us2, flicker_us2=0 * noise.flicker_us2)
    return dataclasses.replace(found, read_noise=quiet)


def cells_of(
    program: ConductanceProgram, record: CalibrationRecord, recipe: Recipe, targets: np.ndarray = TARGETS
) -> np.ndarray:
    rng = np.random.default_rng(0)
    target = VirtualTarget(
        record, redraw_law(record.programming, rng), rng, treated=recipe.treats_cells, targets_of=lambda slot: targets
    )
    target.read_back(write_cells(recipe, program, target).program, recipe.reads)
    return target.cells_us[program.slots[0]]


def spread(cells: np.ndarray) -> float:
    return float(np.std(cells[np.isfinite(cells)]))


def test_rewritten_cells_lie_closer_soon_after_and_still_later(small: Small, record: CalibrationRecord) -> None:
    for age_s in (1e-3, 3600.0):
        once, often = (cells_of(small.program, record, Recipe(t, age_s)) for t in ((), (Rewrite(5),)))
        assert spread(often) < 0.97 * spread(once)


def test_nothing_is_written_where_nothing_was(small: Small, record: CalibrationRecord) -> None:
    some = np.where(np.arange(128) < 64, TARGETS, np.nan).astype(np.float32)
    cells = cells_of(small.program, record, Recipe((Rewrite(1),)), some)
    assert np.isnan(cells[:, 64:]).all()
    assert np.isfinite(cells[:, :64]).all()


def test_the_window_is_about_where_the_law_expects_the_middle_cell(record: CalibrationRecord) -> None:
    law = dataclasses.replace(record.programming, loc_us=record.programming.loc_us - 0.5)
    expected = expected_us(law, np.array([[20.0, np.nan]]), 1.0)
    assert expected[0, 0] == pytest.approx(19.5, abs=1e-6)
    off = left_window(np.array([[18.4, 3.0]]), expected, 1.0)
    assert off.tolist() == [[True, False]]
    assert not left_window(np.array([[20.4, 3.0]]), expected, 1.0).any()


def test_impossible_rewrites_are_refused() -> None:
    with pytest.raises(RecipeError, match="rewrite: times: 0"):
        Rewrite(0)
