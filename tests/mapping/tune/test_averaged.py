"""Copies whose sums are added: the same network, with smaller errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.free_cells import choose_copies_to_average
from mapping.layout.place import Placement
from mapping.network.file import NetworkFile
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.tune.averaged import averaged, layer_areas

from ..small_networks import every_node, network


@pytest.fixture(scope="module")
def file() -> NetworkFile:
    rng = np.random.default_rng(3)
    return network(every_node(rng), rng, weight_bits=4, images=20)


@pytest.fixture(scope="module")
def program(file: NetworkFile) -> ConductanceProgram:
    return compile_network(file, load_chip("lab-128", macros=30))


def cells(program: ConductanceProgram) -> int:
    return sum(t.levels.size for step in program.matrices for t in step.group.tiles)


def test_averaged_copies_give_the_same_answers_and_come_back_from_the_file(
    program: ConductanceProgram, tmp_path: Path
) -> None:
    few = {name: more[:2] for name, more in choose_copies_to_average(layer_areas(program), program.spec).items()}
    twice = averaged(program, {program.matrices[0].name: few[program.matrices[0].name]})
    images = program.calibration_images
    a, b = (run(p, images, IdealMultiply(p)).astype(float) for p in (twice, program))
    assert np.abs(a - b).max() <= 1e-3 * np.abs(b).max() + 1
    assert len(twice.matrices[0].group.tiles) == 3 * len(program.matrices[0].group.tiles)
    save_program(twice, tmp_path / "twice.h5")
    assert load_program(tmp_path / "twice.h5").digest == twice.digest != program.digest


def test_a_copy_of_other_tiles_than_the_layers_is_refused(program: ConductanceProgram) -> None:
    first, last = program.matrices[0].name, program.matrices[-1].name
    copies = choose_copies_to_average(layer_areas(program), program.spec)
    with pytest.raises(ValueError, match="does not hold a tile"):
        averaged(program, {first: copies[last]})


def test_copies_that_a_layout_makes_of_idle_cells_take_no_further_macro(file: NetworkFile) -> None:
    once, more = (
        compile_network(file, load_chip("lab-128", macros=30), options=LayoutOptions(averaged=on))
        for on in (False, True)
    )
    assert more.macros == once.macros
    assert cells(more) > 2 * cells(once)
    images = once.calibration_images
    a, b = (run(p, images, IdealMultiply(p)).astype(float) for p in (more, once))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99  # scales of the weights may differ: smaller errors


def test_copies_of_a_network_in_rounds_are_written_in_their_layers_rounds(file: NetworkFile) -> None:
    spec = load_chip("lab-128", macros=3)
    once, more = (
        compile_network(file, spec, options=LayoutOptions(Placement.SPREAD, rounds=True, averaged=on))
        for on in (False, True)
    )
    assert once.rounds > 1
    assert more.rounds == once.rounds
    assert cells(more) > cells(once)
    for a, b in zip(once.matrices, more.matrices, strict=True):
        assert {t.round for t in a.group.tiles} == {t.round for t in b.group.tiles}


def test_copies_go_where_they_take_most_error_away_for_each_macro(program: ConductanceProgram) -> None:
    layers = layer_areas(program)
    names = list(layers)
    assert set(choose_copies_to_average(layers, program.spec, dict.fromkeys(names, 0.0) | {names[2]: 1.0})) == {
        names[2]
    }
    idle = choose_copies_to_average(layers, program.spec, most=1000)
    every = choose_copies_to_average(layers, program.spec, allowed=range(30), most=1000)
    assert averaged(program, idle).macros == program.macros
    assert averaged(program, every).macros == tuple(range(30))
    assert sum(map(len, every.values())) > sum(map(len, idle.values()))
    check_program(averaged(program, every))  # no two tiles on the same cells
    assert choose_copies_to_average(layers, program.spec, dict.fromkeys(names, 0.0)) == {}
