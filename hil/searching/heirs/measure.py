"""One heir as a job: made in closed form and measured on held-out training images, exactly or on virtual chips."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.published import nominal_record
from hil.deployment.options import DeployOptions
from hil.prediction.promise import answers_of
from hil.simulation.chip_workers import THREADS
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.errors import CannotMap
from mapping.network.file import NetworkFile
from mapping.scale_choice import judged_by_float
from search.heirs.make import Heir, heir_file, made_heir
from search.heirs.plan import HeirPlan, Teacher
from search.heirs.refit import FitSettings
from search.train.images import Images

CHIPS = 2  # virtual ones; the same for all heirs
CHIP_IMAGES = 256


@dataclass(frozen=True, slots=True, eq=False)
class HeirBench:
    """What all heirs are made and measured with; picklable. ``chip`` None: a perfect one."""

    network: NetworkFile
    teacher: Teacher
    images: NDArray[np.uint8]
    held: Images
    wanted: NDArray[np.float32]
    fitting: FitSettings
    chip: ChipSpec | None
    options: DeployOptions


@dataclass(frozen=True, slots=True)
class HeirJob:
    """One heir to be made."""

    plan: HeirPlan
    price: float


@dataclass(frozen=True, slots=True)
class MeasuredHeir:
    """Percent right of held-out training images, exactly and on virtual chips (None: not asked), and the divergence
    from the teacher. ``failed``: why the chip does not take it."""

    right: float | None
    divergence: float
    on_chips: float | None
    seconds: float
    failed: str = ""

    @property
    def judged(self) -> float | None:
        """Percent right that counts."""
        return self.right if self.on_chips is None else self.on_chips


def measure_heir(job: HeirJob, bench: HeirBench, told: Any = None) -> MeasuredHeir:
    """Make an heir and measure it."""
    began = time.process_time()
    heir = made(job, bench, bench.images)
    on_chips, failed = None, ""
    if bench.chip is not None:
        try:
            on_chips = percent_on_chips(heir, bench)
        except CannotMap as error:
            on_chips, failed = 0.0, str(error).splitlines()[0]
    answers = heir.answers
    return MeasuredHeir(answers.right, answers.divergence, on_chips, time.process_time() - began, failed)


def made(job: HeirJob, bench: HeirBench, images: NDArray[np.uint8]) -> Heir:
    """The heir with weights found on ``images``."""
    return made_heir(bench.teacher, job.plan, images, bench.held, bench.wanted, job.price, bench.fitting)


def percent_on_chips(heir: Heir, bench: HeirBench) -> float:
    """Of held-out training images, treated as deployed, in fast simulation.

    Raises:
        CannotMap: no chip of this kind takes the heir.
    """
    assert bench.chip is not None
    chip, options, some = bench.chip, bench.options, bench.held.spread(CHIP_IMAGES)
    file = heir_file(bench.network, heir, bench.teacher, (bench.held,), "hil search run --from")
    program = judged_by_float(file, partial(compile_network, file, chip, options=options.layout))[0]
    record = nominal_record(program.spec, program.macros)
    logits = answers_of(program, record, options, some.pixels, Watch(), THREADS)
    return 100.0 * float((logits.argmax(axis=-1) == some.labels).mean())
