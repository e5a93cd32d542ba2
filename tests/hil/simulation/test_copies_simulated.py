"""Copies of a layer on a chip that errs: the simulator asks the copy that answers, and deploy agrees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from hil.deployment.deploy import DeployOptions, deploy
from hil.simulation.virtual_chip import build_chip
from hil.simulation.virtual_chips import VirtualChips
from hil.verdict.agreement import AgreementReport
from hil.verdict.verdict import Verdict
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.place import Placement
from mapping.program.conductance import ConductanceProgram
from mapping.program.copies import copies_of
from mapping.program.execute import IdealMultiply
from mapping.program.file import save_program
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe

from ..conftest import CHIP, Small
from ..small_net import small_network


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    """The small network on four macros: three copies of the convolution, one of the rest."""
    options = LayoutOptions(Placement.SPREAD, 4)
    made = compile_network(small_network(), load_chip("lab-128", macros=4), options=options)
    assert [m.group.copies for m in made.matrices] == [2, 1] or [m.group.copies for m in made.matrices] == [3, 1]
    return made


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_cells_of_one_copy_change_its_block_of_the_map_and_no_other(program: ConductanceProgram, mode: str) -> None:
    record = nominal_record(program.spec, program.macros)
    inputs = training_inputs(program)
    chips = VirtualChips(program, record, Recipe(reads=16), 2, 0, inputs=inputs, mode=mode)
    drawn = chips.draw(0)
    step, codes = program.matrices[0], inputs["conv"][:4]
    copies = copies_of(step.group)
    other = copies[1].group.tiles[0].macro
    cells = {m: c.copy() for m, c in drawn.cells_us.items()}
    cells[other] = np.where(np.isfinite(cells[other]), 30.0, np.nan)
    answers = [
        build_chip(program, record, d, seed=1, number=0, mode=mode).sums(step, codes, 0)
        for d in (drawn, dataclasses.replace(drawn, cells_us=cells))
    ]
    differs = (answers[0] != answers[1]).any((0, 1))
    assert copies[1].block is not None
    rows, columns = copies[1].block
    inside = np.zeros(differs.shape, np.bool_)
    inside[rows.start : rows.stop, columns.start : columns.stop] = True
    assert differs[inside].all()
    assert not differs[~inside].any()
    exact = IdealMultiply(program).sums(step, codes, 0)
    assert np.corrcoef(answers[0].ravel(), exact.ravel())[0, 1] > 0.95


def test_a_deployment_with_copies_agrees_with_its_simulation(
    program: ConductanceProgram, small: Small, tmp_path: Path
) -> None:
    save_program(program, tmp_path / "program.h5")
    options = DeployOptions(samples=300, repeats=2, virtual_chips=10, tolerance=0.03)
    report = deploy(tmp_path / "program.h5", CHIP, data=str(small.data), out=tmp_path / "run", options=options)
    assert report.verdict is Verdict.AGREE
    assert report.chip.macros_used == len(program.macros)
    assert report.cells.total == 2 * sum(t.levels.size for m in program.matrices for t in m.group.tiles)
    assert isinstance(report, AgreementReport)
    assert report.causes is not None
