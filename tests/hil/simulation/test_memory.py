"""Memory of virtual chips: large maps go through a chip and its tune a few images at a time."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from hil.deployment.options import DeployOptions
from hil.prediction.predict import VirtualRow
from mapping.compile import compile_network
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.pools import GlobalAvgPool
from mapping.operators.products import Linear
from mapping.program import execute
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, images_in_flight
from mapping.program.training_inputs import training_inputs
from mapping.tune import channel_affine
from mapping.tune.channel_affine import tune_channels, tune_targets

from ...mapping.small_networks import conv

SIDE, CHANNELS, IMAGES = 112, 24, 64


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    """One layer of large maps, and one of their means."""
    rng = np.random.default_rng(7)
    nodes = (
        conv(rng, "wide", "input", (CHANNELS, 3, 3, 3), padding=(1, 1)),
        Relu(name="relu", inputs=("wide",)),
        GlobalAvgPool(name="mean", inputs=("relu",)),
        Linear(name="fc", inputs=("mean",), weight=rng.normal(0, 0.3, (4, CHANNELS)).astype(np.float32)),
    )
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    graph = NetworkGraph((3, SIDE, SIDE), nodes, Preprocess((0.5,) * 3, (0.3,) * 3), tuple("abcd"))
    return compile_network(NetworkFile(graph, 4, 8, images), load_chip("lab-128"))


def test_a_virtual_chip_holds_the_sums_of_a_few_large_maps_and_not_of_all(
    program: ConductanceProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "SUM_BYTES", 1 << 22)
    monkeypatch.setattr(channel_affine, "IN_MEMORY_BYTES", 1 << 23)
    options = DeployOptions(virtual_chips=2)
    recipe = options.recipe_of(program)
    row = VirtualRow(
        program, nominal_record(program.spec, program.macros), program.macros, (3600.0,), 25.0, options, "fast",
        recipe.targets(program),
    )  # fmt: skip
    one_map = 4 * CHANNELS * SIDE**2  # level sums of one image, bytes
    tracemalloc.start()
    try:
        row.answers(0, program.calibration_images, training_inputs(program))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / one_map < 1.0 * IMAGES


def test_images_in_flight_are_fewer_where_maps_are_larger(program: ConductanceProgram) -> None:
    assert images_in_flight(program) == (1 << 25) // (4 * CHANNELS * SIDE**2)


def test_a_tune_is_the_same_with_its_sums_in_files(
    program: ConductanceProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = program.calibration_images[:8]
    within = tune_targets(program, images)
    tuned = tune_channels(program, within, IdealMultiply(program))
    monkeypatch.setattr(channel_affine, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(execute, "SUM_BYTES", 1 << 22)
    in_files = tune_targets(program, images)
    assert tune_channels(program, in_files, IdealMultiply(program)).program.digest == tuned.program.digest
    assert type(in_files.sums) is not type(within.sums)
    assert list(in_files.sums) == list(within.sums)
    assert all(np.array_equal(in_files.sums[layer], within.sums[layer]) for layer in within.sums)


def test_sums_in_files_go_to_another_process(program: ConductanceProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_affine, "IN_MEMORY_BYTES", 0)
    here = tune_targets(program, program.calibration_images[:4]).sums
    there = pickle.loads(pickle.dumps(here))
    assert all(np.array_equal(there[layer], here[layer]) for layer in here)
