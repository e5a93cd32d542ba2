"""One pruned network as a job: made in closed form and measured on held-out images, exactly or on virtual chips."""

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
from search.pruned.make import PrunedNetwork, make_pruned, pruned_file
from search.pruned.plan import PruningPlan, Teacher
from search.pruned.refit import FitSettings
from search.train.images import Images

CHIPS = 2  # virtual ones; the same for all pruned networks
CHIP_IMAGES = 256


@dataclass(frozen=True, slots=True, eq=False)
class PruningContext:
    """What all pruned networks are made and measured with; picklable. ``chip`` None: a perfect one."""

    network: NetworkFile
    teacher: Teacher
    images: NDArray[np.uint8]
    held: Images
    wanted: NDArray[np.float32]
    fitting: FitSettings
    chip: ChipSpec | None
    options: DeployOptions


@dataclass(frozen=True, slots=True)
class PruningJob:
    """One pruned network to be made."""

    plan: PruningPlan
    price: float


@dataclass(frozen=True, slots=True)
class MeasuredPruned:
    """Percent right of held-out training images, exactly and on virtual chips (None: not asked), and the divergence
    from the teacher. ``failed``: why the chip does not take it."""

    right: float | None
    divergence: float
    on_chips: float | None
    seconds: float
    failed: str = ""

    @property
    def judged(self) -> float | None:
        """Accuracy by which the network is judged, %: on virtual chips, or where there are none the exact one."""
        return self.right if self.on_chips is None else self.on_chips


def measure_pruned(job: PruningJob, bench: PruningContext, told: Any = None) -> MeasuredPruned:
    """Make a pruned network and measure it."""
    began = time.process_time()
    pruned = made(job, bench, bench.images)
    on_chips, failed = None, ""
    if bench.chip is not None:
        try:
            on_chips = percent_on_chips(pruned, bench)
        except CannotMap as error:
            on_chips, failed = 0.0, str(error).splitlines()[0]
    answers = pruned.answers
    return MeasuredPruned(answers.right, answers.divergence, on_chips, time.process_time() - began, failed)


def made(job: PruningJob, bench: PruningContext, images: NDArray[np.uint8]) -> PrunedNetwork:
    """The pruned network with weights found on ``images``."""
    return make_pruned(bench.teacher, job.plan, images, bench.held, bench.wanted, job.price, bench.fitting)


def percent_on_chips(pruned: PrunedNetwork, bench: PruningContext) -> float:
    """Accuracy, %, on held-out training images, of virtual chips treated as in a deployment, in fast simulation.

    Raises:
        CannotMap: no chip of this kind takes the pruned network.
    """
    assert bench.chip is not None
    chip, options, some = bench.chip, bench.options, bench.held.spread(CHIP_IMAGES)
    file = pruned_file(bench.network, pruned, bench.teacher, (bench.held,), "hil search run --from")
    program = judged_by_float(file, partial(compile_network, file, chip, options=options.layout))[0]
    record = nominal_record(program.spec, program.macros)
    logits = answers_of(program, record, options, some.pixels, Watch(), THREADS)
    return 100.0 * float((logits.argmax(axis=-1) == some.labels).mean())
