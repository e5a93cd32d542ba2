"""A deployment under way: its options, and all that the chapters of one run share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from hil.deployment.inference import Corrections
from hil.deployment.programming import ProgramReport
from hil.driver.chip_driver import ChipDriver
from hil.errors import UsageError
from hil.simulation.corrections import LayerInputs
from hil.simulation.virtual_chips import VirtualChips
from mapping.program.conductance import ConductanceProgram

# What a request's ``sample`` number is for, in its top byte: no two purposes share noise.
PROGRAM, READ_BEFORE, READ_AFTER, INFER, LAYERS, CALIBRATE, READ_EARLY = (n << 56 for n in range(1, 8))
REPEAT = 1 << 40  # one pass over the images
ROUND = 1 << 32  # one round of a network that is larger than the chip


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """How a run is made; the defaults are those of ``hil deploy``.

    ``samples`` is the largest number of images; looks are planned below it. ``age_s`` is chip
    time between programming and reading.
    """

    samples: int = 2000
    seed: int = 0
    repeats: int = 3
    virtual_chips: int = 20
    tolerance: float = 0.01
    age_s: float = 3600.0
    read_back_reads: int = 32
    layer_images: int = 16
    reprogram: bool = False
    device: str = "cpu"
    causes: bool = True  # split the gap by cause; reads cells right after writing, and simulates
    early_reads: int = 8  # averaged in that reading: few, so that cells are read young
    cause_images: int = 500  # most images that the causes are simulated on
    adapt: bool = False  # around the stuck cells and poor columns that calibration found
    spare_reads: float = 0.0  # of an adapted program: most extra tile reads for spare columns, as a share

    def __post_init__(self) -> None:
        for good, text in (
            (self.samples >= 2, f"samples: {self.samples}, at least 2 images are needed"),
            (self.repeats >= 1, f"repeats: {self.repeats}, at least 1 pass is needed"),
            (self.virtual_chips >= 2, f"virtual chips: {self.virtual_chips}, at least 2 are needed"),
            (0 < self.tolerance < 1, f"tolerance: {100 * self.tolerance:g} points, not between 0 and 100"),
            (0 <= self.seed < 1 << 63, f"seed: {self.seed}, not from 0 to 2^63 - 1"),
            (0 <= self.age_s < math.inf, f"age: {self.age_s} s"),
            (1 <= self.read_back_reads <= 255, f"reads of a read-back: {self.read_back_reads}, not from 1 to 255"),
            (1 <= self.early_reads <= 255, f"reads after writing: {self.early_reads}, not from 1 to 255"),
            (0.0 <= self.spare_reads <= 1.0, f"spare reads: {100 * self.spare_reads:g} %, not from 0 to 100"),
            (self.adapt or not self.spare_reads, "spare reads need --adapt"),
            (self.cause_images >= 2, f"images of the causes: {self.cause_images}, at least 2 are needed"),
            (self.layer_images >= 1, f"images of a layer sample: {self.layer_images}, at least 1 is needed"),
        ):
            if not good:
                raise UsageError(text)
        check_device(self.device)


@dataclass(frozen=True)
class Deployment:
    """All that a run needs once the chip is open and programmed."""

    driver: ChipDriver
    program: ConductanceProgram
    record: CalibrationRecord
    corrections: Corrections
    inputs: LayerInputs
    written: ProgramReport | None  # None: the chip already held the program
    readings_us: dict[int, NDArray[np.float32]]
    options: DeployOptions
    network_name: str = ""

    def virtual_chips(self, *, conditioned: bool, chips: int | None = None) -> VirtualChips:
        """Virtual chips of this deployment: as read back, or programmed again."""
        return VirtualChips(
            self.program,
            self.record,
            self.options.age_s,
            chips or self.options.virtual_chips,
            self.options.seed,
            self.options.read_back_reads,
            corrections=self.corrections if conditioned else None,
            inputs=None if conditioned else self.inputs,
            readings_us=self.readings_us if conditioned else None,
            device=self.options.device,
        )


def check_device(device: str) -> None:
    """Refuse a torch device that this machine does not have, before hours are spent on the chip.

    Raises:
        UsageError: unknown, or no such accelerator here.
    """
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"the simulator cannot run on {device!r}: {str(error).splitlines()[0]}", hint="--device cpu"
        ) from error
