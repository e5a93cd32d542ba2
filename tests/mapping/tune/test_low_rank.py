"""Adapters: a low-rank digital term that takes away what lines of channels cannot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.cost.events import executor_of
from cim.cost.workload import Executor
from mapping.errors import ProgramFileError
from mapping.operators.integer.requantise import Requantise
from mapping.program.adapter import adapted, adapter_products, adapter_share
from mapping.program.conductance import Adapter, ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.program.limits import MOST_RANK
from mapping.tune.channel_affine import ChannelTune, Tuned, tune_channels, tune_targets
from mapping.tune.low_rank import with_blank_adapters
from mapping.workload import program_workload

from ..permuted import ordered
from .test_channel_affine import compiled, same_answers

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent.parent / "golden" / "digital_ops.json").read_text("utf-8"))


class Leaning:
    """The exact product, and in every layer an error that one direction of its inputs makes in all outputs."""

    def __init__(self, program: ConductanceProgram) -> None:
        rng = np.random.default_rng(7)
        self._ideal = IdealMultiply(program)
        blank = with_blank_adapters(program, 1)
        self._error: dict[str, Adapter] = {}
        for step in blank.matrices:
            if step.adapter is not None:
                down = rng.integers(-100, 100, step.adapter.down.shape).astype(np.int8)
                up = rng.integers(-100, 100, step.adapter.up.shape).astype(np.int8)
                narrow = Requantise(np.ones(1, np.int32), np.array([3], np.int32), -32767, 32767)
                wide = Requantise(np.ones(1, np.int32), np.array([2], np.int32), -(1 << 24), 1 << 24)
                self._error[step.name] = Adapter(down, up, narrow, wide)

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        sums = self._ideal.sums(step, codes, sample)
        error = self._error.get(step.name)
        return sums if error is None else adapted(dataclasses.replace(step, adapter=error), codes, sums)


class Finishing(Leaning):
    """The same, a chip that finishes layers by itself; it counts them."""

    finished = 0

    def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[Any]:
        self.finished += 1
        raise AssertionError("a layer with an adapter is finished by the host")


def tuned_to(program: ConductanceProgram, chip: Leaning, rank: int) -> Tuned:
    return tune_channels(program, tune_targets(program, program.calibration_images, rank), chip)


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return compiled()


@pytest.fixture(scope="module")
def tuned(program: ConductanceProgram) -> ConductanceProgram:
    return tuned_to(program, Leaning(program), 1).program


def test_the_integers_of_an_adapter_equal_the_golden_vectors() -> None:
    (case,) = GOLDEN["adapter"]
    down, up = (np.array(case[k], np.int8) for k in ("down", "up"))
    rules = [
        Requantise(
            *(np.array(case[k][name], np.int32) for name in ("multiplier", "shift")), case[k]["low"], case[k]["high"]
        )
        for k in ("narrow", "wide")
    ]
    tile = Tile(0, 0, 0, range(5), range(3), 1, np.zeros((5, 3), np.int8))
    group = TileGroup("layer", None, 5, 3, 8, False, 0, 0.0, (tile,))
    step = MatrixStep(
        name="layer",
        inputs=("input",),
        group=group,
        bias=np.zeros(3, np.int32),
        requantise=rules[1],
        adapter=Adapter(down, up, *rules),
    )
    found = adapted(step, np.array(case["codes"], np.int16), np.array(case["sums"], np.int32))
    assert found.tolist() == case["expected"]


def test_an_adapter_takes_away_an_error_that_lines_cannot(
    program: ConductanceProgram, tuned: ConductanceProgram
) -> None:
    chip, images = Leaning(program), program.calibration_images
    lines = tuned_to(program, chip, 0)
    assert same_answers(lines.program, chip, program, images) > 0.15
    assert same_answers(tuned, chip, program, images) < 0.1
    before, after = lines.fits[0].after, tuned_to(program, chip, 1).fits[0].after
    assert after < before / 20


def test_a_chip_without_errors_gets_no_adapter(program: ConductanceProgram) -> None:
    found = tune_channels(program, tune_targets(program, program.calibration_images, 3), IdealMultiply(program))
    assert all(step.adapter is None for step in found.program.matrices)


def test_layers_of_groups_keep_their_lines_alone(tuned: ConductanceProgram) -> None:
    with_adapter = {step.name: step.adapter is not None for step in tuned.matrices}
    assert with_adapter["conv1"]
    assert not with_adapter["depthwise"]


def test_a_chip_that_finishes_layers_is_asked_for_sums_where_there_is_an_adapter(
    program: ConductanceProgram, tuned: ConductanceProgram
) -> None:
    finishing = with_blank_adapters(tuned, 1)
    plain = [step for step in finishing.matrices if step.adapter is None]
    images, chip = program.calibration_images[:4], Finishing(program)
    if plain:
        with pytest.raises(AssertionError, match="finished by the host"):
            run(finishing, images, chip)
    assert chip.finished == len(plain[:1])


def test_channels_in_another_order_are_adapted_in_it(program: ConductanceProgram) -> None:
    moved = ordered(program, np.random.default_rng(5))
    chip = Leaning(moved)
    found = tuned_to(moved, chip, 1).program
    assert same_answers(found, chip, program, program.calibration_images) < 0.1


def test_a_layer_of_several_rounds_has_one_adapter(program: ConductanceProgram) -> None:
    targets = tune_targets(program, program.calibration_images, 2)
    walk = ChannelTune(program, targets)
    walk.run(Leaning(program), number=0)
    assert sum(step.adapter is not None for step in walk.tuned.program.matrices) >= 2


def test_an_adapted_program_is_stored_and_its_cells_are_those_of_before(
    program: ConductanceProgram, tuned: ConductanceProgram, tmp_path: Path
) -> None:
    save_program(tuned, tmp_path / "adapted.h5")
    loaded = load_program(tmp_path / "adapted.h5")
    assert (loaded.digest, loaded.held_digest) == (tuned.digest, program.digest)
    chip, images = Leaning(program), program.calibration_images
    np.testing.assert_array_equal(run(loaded, images, chip), run(tuned, images, chip))


def test_what_adapters_cost_is_in_the_workload(tuned: ConductanceProgram) -> None:
    work = {layer.name: layer for layer in program_workload(tuned).layers}
    first = tuned.matrices[0]
    host = work[f"{first.name} adapter"]
    assert host.operations == adapter_products(first) == 64 * (3 * 9 + 8)
    assert (executor_of(host, tuned.spec.cost), work[first.name].output_bits) == (Executor.HOST, 32)
    assert host.name in {name for layer in work.values() for name in layer.inputs}
    assert 0 < adapter_share(tuned) < 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"down": np.zeros((1, 5), np.int8)}, "has an adapter of"),
        ({"down": np.zeros((MOST_RANK + 1, 27), np.int8)}, "has an adapter of"),
        ({"up": np.zeros((7, 1), np.int8)}, "has an adapter of"),
        ({"down": np.zeros(27, np.int8)}, "has an adapter of"),
        ({"down": np.zeros((1, 27), np.int16)}, "another type"),
        ({"narrow": Requantise(np.ones(1, np.int32), np.zeros(1, np.int32), -(1 << 20), 1 << 20)}, "more than 16 bits"),
        ({"wide": Requantise(np.ones(1, np.int32), np.full(1, 99, np.int32), -9, 9)}, "shift"),
    ],
)
def test_impossible_adapters_of_a_file_are_refused(
    tuned: ConductanceProgram, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    first = tuned.matrices[0]
    assert first.adapter is not None
    broken = dataclasses.replace(first, adapter=dataclasses.replace(first.adapter, **change))
    steps = tuple(broken if step is first else step for step in tuned.steps)
    save_program(dataclasses.replace(tuned, steps=steps), tmp_path / "broken.h5")
    with pytest.raises(ProgramFileError, match=words):
        load_program(tmp_path / "broken.h5")


def test_a_rank_beyond_the_largest_is_refused(program: ConductanceProgram) -> None:
    with pytest.raises(ValueError, match="not from 0 to 64"):
        tune_targets(program, program.calibration_images, MOST_RANK + 1)
