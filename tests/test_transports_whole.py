"""A whole deployment over every kind of wire: the same messages, the same bits, and again from the log.

The chip is an emulated one with all its noise, the network a small one with every kind of
node; tests/hil holds the parts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from hil.deployment.inference import MeasuredLayers
from hil.deployment.running.network_runs import network_run
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip, read_back
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.emulator.chip import EmulatedChip
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import run

from .hil.wires import WIRES, messages, over
from .mapping.small_networks import every_node, network

SPEC = load_chip("lab-128", macros=3)
SEED = 7
IMAGES = 4

Session = tuple[list[NDArray[np.generic]], list[tuple[int, bytes | str]]]


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    rng = np.random.default_rng(5)
    return compile_network(network(every_node(rng), rng, weight_bits=4, images=16), SPEC)


def session(driver: ChipDriver, program: ConductanceProgram) -> list[NDArray[np.generic]]:
    """Write, wait an hour, read the cells, run images as layers and as sums, read again; all that came back."""
    written = program_chip(driver, program, sample=1, watch=Watch())
    driver.wait(3600.0)
    before = read_back(driver, program.macros, reads=2, sample=2, watch=Watch())
    images, corrections = program.calibration_images[:IMAGES], nominal_corrections(program)
    layers = run(program, images, MeasuredLayers(driver, program, corrections), sample=3)
    sums = run(program, images, MeasuredSums(driver, corrections), sample=3)
    planned = network_run(driver, program, corrections).logits(images, 3, passes=2)
    after = read_back(driver, program.macros, reads=2, sample=4, watch=Watch())
    driver.outputs_off()
    assert driver.counters["requests"] == driver.counters["replies"]
    return [
        *(a for m in written.macros for a in (m.readings_us, m.pulses, m.reached, np.array(m.programmed_s))),
        *before.values(),
        *after.values(),
        planned[1],
        layers,
        sums,
        planned[0],
        np.array(driver.chip_time_ns),
    ]


@pytest.fixture(scope="module")
def reference(program: ConductanceProgram, tmp_path_factory: pytest.TempPathFactory) -> Session:
    log = tmp_path_factory.mktemp("reference") / "wire.log"
    with open_chip(f"emulated:lab-128?seed={SEED}&macros={SPEC.macros}", log=log) as driver:
        results = session(driver, program)
    return results, messages(log)


def check(results: list[NDArray[np.generic]], log: Path, reference: Session) -> None:
    assert len(results) == len(reference[0])
    for got, wanted in zip(results, reference[0], strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert messages(log) == reference[1]


@pytest.mark.parametrize("kind", WIRES)
def test_a_deployment_is_the_same_over_every_wire_and_from_its_log(
    kind: str, program: ConductanceProgram, reference: Session, tmp_path: Path
) -> None:
    log, again = tmp_path / "wire.log", tmp_path / "again.log"
    with over(kind, EmulatedChip(SPEC, SEED), SPEC, tmp_path, log) as driver:
        results = session(driver, program)
    check(results, log, reference)
    with open_chip(f"replay:{log}", log=again, chip=SPEC) as driver:
        replayed = session(driver, program)
    check(replayed, again, reference)


def test_layers_sums_and_the_plan_draw_the_same_noise_and_another_chip_gives_other_bits(
    program: ConductanceProgram, reference: Session, tmp_path: Path
) -> None:
    results, sent = reference
    np.testing.assert_array_equal(results[-4], results[-3])
    np.testing.assert_array_equal(results[-2], results[-3])  # the chip's sequencer, too
    assert not np.array_equal(results[-5], results[-2])  # another pass has noise of its own
    log = tmp_path / "wire.log"
    with open_chip(f"emulated:lab-128?seed={SEED + 1}&macros={SPEC.macros}", log=log) as driver:
        other = session(driver, program)
    assert not np.array_equal(other[-3], results[-3])
    assert not np.array_equal(other[-2], results[-2])
    assert not np.array_equal(other[0], results[0])
    assert len(messages(log)) == len(sent) > 20
