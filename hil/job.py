"""A deployment under way: its options, and all that the chapters of one run share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord
from hil.corrections import LayerInputs
from hil.driver import ChipDriver
from hil.infer import Corrections
from hil.program import ProgramReport
from hil.simulate import VirtualChips
from mapping.program import ConductanceProgram

# What a request's ``sample`` number is for, in its top byte: no two purposes share noise.
PROGRAM, READ_BEFORE, READ_AFTER, INFER, LAYERS, CALIBRATE = (n << 56 for n in range(1, 7))
REPEAT = 1 << 40  # one pass over the images


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
    read_back_reads: int = 16
    layer_images: int = 16
    reprogram: bool = False
    device: str = "cpu"


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
