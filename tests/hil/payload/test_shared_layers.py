"""Campaigns on networks with a layer that is read again: its cells are struck once, its sums and codes at every use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from hil.datasets.image_set import Dataset
from hil.payload.orbit import load_orbit
from hil.payload.radiation.block import fault_context
from hil.payload.radiation.campaign import run_campaign
from hil.payload.radiation.faults import Fault, FaultSpace, fault_space, inject
from hil.payload.radiation.run import FaultContext
from hil.payload.settings import AS_COMPILED, FaultKind, OrbitSettings
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.moves import Flatten
from mapping.operators.products import Conv, Linear
from mapping.program.conductance import AgainStep, ConductanceProgram
from mapping.program.execute import run

from ..small_net import NAMES, SIDE, images


@pytest.fixture(scope="module")
def twice() -> ConductanceProgram:
    """A program whose second convolution reads the cells of the first."""
    rng = np.random.default_rng(5)
    first = rng.normal(0, 0.4, (4, 1, 3, 3)).astype(np.float32)
    same = rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32)
    last = rng.normal(0, 0.3, (4, 4 * SIDE * SIDE)).astype(np.float32)
    nodes = (
        Conv(name="first", inputs=("input",), weight=first, padding=(1, 1)),
        Relu(name="relu0", inputs=("first",)),
        Conv(name="one", inputs=("relu0",), weight=same, padding=(1, 1)),
        Relu(name="relu1", inputs=("one",)),
        Conv(name="two", inputs=("relu1",), weight=same, padding=(1, 1)),
        Relu(name="relu2", inputs=("two",)),
        Flatten(name="flat", inputs=("relu2",)),
        Linear(name="fc", inputs=("flat",), weight=last),
    )
    pixels, labels = images(32, seed=2)
    graph = NetworkGraph((1, SIDE, SIDE), nodes, Preprocess((0.5,), (1.0,)), NAMES)
    return compile_network(NetworkFile(graph, 4, 8, pixels, labels), load_chip("lab-128", macros=4))


@pytest.fixture(scope="module")
def turns(twice: ConductanceProgram) -> tuple[str, str]:
    """Names of the first use of the shared layer and of the second."""
    again = next(step for step in twice.steps if isinstance(step, AgainStep))
    return again.layer, again.name


@pytest.fixture(scope="module")
def bench_of_twice(twice: ConductanceProgram) -> FaultContext:
    record = nominal_record(twice.spec, twice.macros)
    return fault_context(twice, record, AS_COMPILED, seed=3)


def test_cells_of_a_shared_layer_are_counted_once_and_its_sums_at_each_use(
    twice: ConductanceProgram, turns: tuple[str, str]
) -> None:
    space: FaultSpace = fault_space(twice)
    steps = {kind: [block.step for block in space.blocks[kind]] for kind in FaultKind}
    for kind in (FaultKind.CELL_EXTREME, FaultKind.CORRECTION, FaultKind.IMAGE_LEVEL, FaultKind.REQUANTISE):
        assert turns[0] in steps[kind]
        assert turns[1] not in steps[kind]
    for kind in (FaultKind.CONVERSION, FaultKind.ACCUMULATOR, FaultKind.ACTIVATION):
        assert set(turns) <= set(steps[kind])


def test_a_chip_without_a_fault_answers_as_it_does_outside_the_campaign(
    twice: ConductanceProgram, bench_of_twice: FaultContext, data: Dataset
) -> None:
    pixels = data.images[:20]
    assert np.array_equal(bench_of_twice.healthy(pixels, 0).logits, run(twice, pixels, bench_of_twice.virtual))


def test_a_struck_cell_changes_both_uses_and_a_struck_sum_only_its_own(
    twice: ConductanceProgram, bench_of_twice: FaultContext, turns: tuple[str, str], data: Dataset
) -> None:
    pixels = data.images[:20]
    before = bench_of_twice.healthy(pixels, 0)
    row = Fault(FaultKind.ROW_ENABLE, turns[0], 0, 4, 0)
    after = bench_of_twice.faulted(inject(bench_of_twice.chip, row), before, pixels, 0)
    assert all(not np.array_equal(after.sums[name], before.sums[name]) for name in turns)
    late = Fault(FaultKind.ACCUMULATOR, turns[1], -1, 7, 12)
    after = bench_of_twice.faulted(inject(bench_of_twice.chip, late), before, pixels, 0)
    assert np.array_equal(after.sums[turns[0]], before.sums[turns[0]])
    moved = np.abs(after.sums[turns[1]].astype(np.int64) - before.sums[turns[1]])
    assert set(np.unique(moved)) == {0, 1 << 12}


def test_a_struck_rule_of_a_shared_layer_changes_both_uses(
    bench_of_twice: FaultContext, turns: tuple[str, str], data: Dataset
) -> None:
    pixels = data.images[:20]
    before = bench_of_twice.healthy(pixels, 0)
    rule = Fault(FaultKind.REQUANTISE, turns[0], -1, 10, 0)  # a bit of the first bias
    after = bench_of_twice.faulted(inject(bench_of_twice.chip, rule), before, pixels, 0)
    assert all(not np.array_equal(after.codes[name], before.codes[name]) for name in turns)


def test_a_campaign_on_such_a_network_has_every_kind(twice: ConductanceProgram, data: Dataset, tmp_path: Path) -> None:
    options = OrbitSettings(injections=26, widen_images=20, alarm_images=20)
    record = nominal_record(twice.spec, twice.macros)
    found = run_campaign(twice, data, record, load_orbit("leo-sso"), tmp_path / "campaign", options, Watch())
    assert {result.kind for result in found.results} == {str(kind) for kind in FaultKind}
