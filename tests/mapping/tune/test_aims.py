"""Targets beside the levels, for an age."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from cim.cells.programming_law import ProgrammingLaw
from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.errors import ProgramFileError
from mapping.layout.place import macro_levels_us, macro_targets_us
from mapping.program.conductance import Aims, ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.tune.aims import aimed, aims_of, mean_error_us

from ..small_networks import every_node, network

SPEC = load_chip("lab-128", macros=30)
LEVELS = np.array(SPEC.macro.levels_us)


def law(loc_us: list[float], levels_us: list[float]) -> ProgrammingLaw:
    """A Gaussian law whose mean is nothing at 1 s and ``loc_us`` at 3,600 s."""
    loc = np.array([np.zeros(len(loc_us)), loc_us])
    one = np.ones_like(loc)
    none = np.zeros_like(loc)
    return ProgrammingLaw(
        np.array([1.0, 3600.0]), np.array(levels_us), loc, one, 1e6 * one, none, none, none, 0.0, 0.0, 0.0, np.zeros(0)
    )  # fmt: skip


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, images=8), SPEC)


def test_cells_stand_on_their_levels_at_the_planned_age() -> None:
    found = law([0.0, -0.5, -0.9], [2.0, 20.0, 40.0])
    aims = aims_of(found, SPEC.macro, 3600.0, "a record")
    targets = np.array(aims.targets_us)
    np.testing.assert_allclose(targets + mean_error_us(found, targets, 3600.0), LEVELS, atol=1e-3)
    assert (aims.age_s, aims.source) == (3600.0, "a record")
    assert aims_of(found, SPEC.macro, 1.0, "a record").targets_us == pytest.approx(LEVELS, abs=1e-3)


def test_lowest_cells_that_rise_take_the_other_half_of_every_pair_with_them() -> None:
    found = law([0.3, 0.3, 0.3], [2.0, 20.0, 40.0])
    assert aims_of(found, SPEC.macro, 3600.0, "a record").targets_us == pytest.approx(LEVELS, abs=1e-3)


def test_targets_rise_and_stay_within_the_window() -> None:
    aims = aims_of(law([3.0, -20.0, -20.0], [2.0, 20.0, 40.0]), SPEC.macro, 3600.0, "odd")
    assert all(np.diff(aims.targets_us) > 0)
    assert aims.targets_us[0] == 2.0
    assert aims.targets_us[-1] == pytest.approx(41.0)


def test_levels_shrink_together_where_the_highest_cannot_be_written_high_enough() -> None:
    found = law([0.0, -1.0, -2.0], [2.0, 20.0, 40.0])
    targets = np.array(aims_of(found, SPEC.macro, 3600.0, "a record").targets_us)
    stand = targets + mean_error_us(found, targets, 3600.0)
    assert targets[-1] == pytest.approx(41.0)
    np.testing.assert_allclose(stand - 2.0, (LEVELS - 2.0) * 37.0 / 38.0, atol=2e-3)


def test_aims_move_targets_and_nothing_else(program: ConductanceProgram, tmp_path: Path) -> None:
    moved = aimed(program, Aims(tuple(LEVELS + 0.5), 3600.0, "by hand"))
    macro = program.macros[0]
    np.testing.assert_allclose(macro_targets_us(moved, macro), macro_targets_us(program, macro) + 0.5, rtol=1e-5)
    np.testing.assert_array_equal(macro_levels_us(moved, macro), macro_targets_us(program, macro))
    images = program.calibration_images
    np.testing.assert_array_equal(
        run(moved, images, IdealMultiply(moved)), run(program, images, IdealMultiply(program))
    )
    save_program(moved, tmp_path / "aimed.h5")
    assert load_program(tmp_path / "aimed.h5").aims == moved.aims
    assert aimed(moved, None).digest == program.digest


def test_another_law_does_not_make_a_held_program_stale_but_another_age_does(program: ConductanceProgram) -> None:
    old = aimed(program, Aims(tuple(LEVELS + 0.5), 3600.0, "old record"))
    new = aimed(old, Aims(tuple(LEVELS + 0.6), 3600.0, "new record"))
    later = aimed(program, Aims(tuple(LEVELS + 0.5), 86400.0, "old record"))
    assert old.held_digest == new.held_digest
    assert len({old.held_digest, later.held_digest, program.held_digest}) == 3
    assert old.digest != new.digest


def test_impossible_aims_of_a_file_are_refused(program: ConductanceProgram, tmp_path: Path) -> None:
    path = tmp_path / "aimed.h5"
    for targets in (tuple(LEVELS[::-1]), tuple(LEVELS[:-1]), tuple(LEVELS * 2)):
        broken = dataclasses.replace(program, aims=Aims(targets, 3600.0, "broken"))
        save_program(broken, path)
        with pytest.raises(ProgramFileError, match="rising targets"):
            load_program(path)
    with h5py.File(path, "r") as file:
        assert file.attrs["version"] == "1.8"
