"""Copies whose sums are added: the same network, with smaller errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from mapping.compile import CannotMap, compile_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.tune.averaged import averaged, choose_averages, layer_macros

from ..small_networks import every_node, network


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits=4, images=20), load_chip("lab-128", macros=30))


def test_averaged_copies_give_the_same_answers_and_come_back_from_the_file(
    program: ConductanceProgram, tmp_path: Path
) -> None:
    counts = {program.matrices[0].name: 3, program.matrices[-1].name: 2}
    twice = averaged(program, counts)
    images = program.calibration_images
    a, b = (run(p, images, IdealMultiply(p)).astype(float) for p in (twice, program))
    assert np.abs(a - b).max() <= 1e-3 * np.abs(b).max() + 1
    assert len(twice.matrices[0].group.tiles) == 3 * len(program.matrices[0].group.tiles)
    assert len(twice.macros) == len(program.macros) + 2 * len(layer_macros(program.matrices[0])) + len(
        layer_macros(program.matrices[-1])
    )
    save_program(twice, tmp_path / "twice.h5")
    assert load_program(tmp_path / "twice.h5").digest == twice.digest != program.digest


def test_too_many_copies_are_refused_with_the_numbers(program: ConductanceProgram) -> None:
    with pytest.raises(CannotMap, match=r"8 copies of .* macros more, 4 are free"):
        averaged(program, {m.name: 8 for m in program.matrices})


def test_copies_go_where_they_take_most_error_away_for_each_macro(program: ConductanceProgram) -> None:
    names = [m.name for m in program.matrices]
    errors = dict.fromkeys(names, 1e-6) | {names[2]: 1.0}
    counts = choose_averages(program, errors, len(program.macros) + 3 * len(layer_macros(program.matrices[2])))
    assert counts[names[2]] == 4
    assert sum(counts.values()) == len(names) + 3
    averaged(program, counts)
    every = choose_averages(program, dict.fromkeys(names, 1.0))
    assert len(averaged(program, every).macros) <= 30
    assert choose_averages(program, dict.fromkeys(names, 0.0)) == dict.fromkeys(names, 1)
