"""Networks on the sequencer over bad lines and with hosts that are killed: the bits of the host between the layers.

All built-in architectures, on a noisy chip, in simulated time.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from hil.deployment.inference import MeasuredLayers
from hil.deployment.running.network_runs import Planned, StepByStep, network_run
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport, chip_role
from mapping.compile import compile_network
from mapping.layout.place import macro_targets_us
from mapping.network.architectures import ARCHITECTURES, build
from mapping.network.file import NetworkFile
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from tests.line_simulation.port import SERIAL, PacedLine, SimulatedPort

SIDE = {"lenet5": 28, "fmnist_cnn5x5": 28}
OPTIONS: dict[str, dict[str, Any]] = {"vgg8": {"width": 16}, "resnet18": {"width": 8}}
FAULTS = {"loss": 0.05, "duplicate": 0.05, "corrupt": 0.05, "truncate": 0.02, "reorder": 0.1, "late": 0.01}
PASSES, SAMPLE, BEGAN_S = 2, 40, 100.0


def written_chip(architecture: str) -> tuple[EmulatedChip, ConductanceProgram, NDArray[np.uint8]]:
    """A chip whose cells hold a network of small maps as if they had been written a while ago, and two images."""
    side = SIDE.get(architecture, 8)
    channels = 1 if architecture in SIDE else 3
    graph = build(
        architecture, classes=tuple("0123"), rng=np.random.default_rng(1), input_shape=(channels, side, side),
        **OPTIONS.get(architecture, {}),
    )  # fmt: skip
    images = np.random.default_rng(2).integers(0, 256, (2, side, side, channels)).astype(np.uint8)
    program = compile_network(NetworkFile(graph, 4, 8, images, np.zeros(2, np.int64)), load_chip("lab-128", macros=160))
    chip = EmulatedChip(program.spec, 7)
    for slot in program.slots:
        targets = macro_targets_us(program, slot)
        cells = chip._cells[program.macro_of(slot)]
        cells._written_us[...] = np.where(np.isfinite(targets), targets, cells._written_us)
    return chip, program, images


class Killed(BaseException):
    """The host's process is no more."""


class MortalPort(SimulatedPort):
    """A port whose host dies at an instant of the line's time."""

    dies_s = float("inf")

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        data = super().read(max_bytes, min(timeout_s, max(self.dies_s - self.line.now_s, 0.0)))
        if self.line.now_s >= self.dies_s:
            raise Killed
        return data


def planned_logits(
    line: PacedLine, program: ConductanceProgram, images: NDArray[np.uint8], dies_s: float = float("inf")
) -> NDArray[np.int32]:
    """From a host that opens the line, loads the plan and runs the images, unless it is killed."""
    port = MortalPort(line)
    port.dies_s = dies_s
    driver = connect(port, chip=program.spec, clock=port.clock, silence_s=60.0)
    planned = network_run(driver, program, nominal_corrections(program))
    assert isinstance(planned, Planned)
    return planned.logits(images, SAMPLE, PASSES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_over_bad_lines_and_after_kills_a_plan_gives_the_logits_of_the_host_between_the_layers(
    architecture: str,
) -> None:
    chip, program, images = written_chip(architecture)
    with connect(InProcessTransport(chip, "fast"), chip=program.spec) as driver:
        layers = MeasuredLayers(driver, program, nominal_corrections(program))
        wanted = StepByStep(program, layers).logits(images, SAMPLE, PASSES)
    assert len(np.unique(wanted)) > 4
    rng, server = random.Random(architecture), chip_role(chip)
    clean = PacedLine(server)
    assert np.array_equal(planned_logits(clean, program, images), wanted)
    took_s = clean.now_s - BEGAN_S
    for seed in range(2):
        line = PacedLine(
            server, dataclasses.replace(SERIAL, **FAULTS), seed=seed, now_s=clean.now_s + 1000.0 * (seed + 1)
        )
        with pytest.raises(Killed):
            planned_logits(line, program, images, line.now_s + took_s * rng.random())
        assert np.array_equal(planned_logits(line, program, images), wanted)
        assert all(line.counts.values())
