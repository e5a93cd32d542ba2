"""One pruned network as a job: inputs of a search over them, made in closed form, measured on held-out images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.published import nominal_record
from hil.deployment.options import DeployOptions
from hil.prediction.promise import answers_of
from hil.searching.folder import SearchFolder
from hil.searching.inputs import check_origins
from hil.searching.pruning import erring_chip, fit_settings, pruning_images
from hil.searching.settings import SearchSettings
from hil.simulation.chip_workers import THREADS
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.errors import CannotMap
from mapping.network.file import NetworkFile, load_network
from mapping.network.float_run import float_logits
from mapping.scale_choice import judged_by_float
from search.pruned.genes import PruningSpace, pruning_space
from search.pruned.make import SEEN, PrunedNetwork, make_pruned, pruned_file, teacher_of
from search.pruned.plan import PruningPlan, Teacher
from search.pruned.price import PlanPrices
from search.pruned.refit import FitSettings
from search.pruned.relevance import Relevance, relevance
from search.space.target import Target, load_target
from search.train.images import Images

CHIPS, CHIP_IMAGES = 2, 256  # virtual chips, the same for all pruned networks
SAMPLED = 384  # images that weights of a sample are found on


@dataclass(frozen=True, slots=True, eq=False)
class PruningInputs:
    """``fit``: images that the weights of the final pruned networks are fitted on; samples use a part (``bench``)."""

    space: PruningSpace
    relevance: Relevance
    target: Target
    prices: PlanPrices
    bench: PruningContext
    fit: Images


def load_pruning_inputs(folder: SearchFolder, settings: SearchSettings, watch: Watch) -> PruningInputs:
    """Load everything.

    Raises:
        UsageError: too few images, or a scale of costs where a chip is asked for.
        MismatchError: the folder was begun with other inputs.
        search.errors.SearchError: the teacher has parts whose channels cannot be taken apart.
    """
    found = pruning_inputs(folder.teacher, settings)
    bench = found.bench
    here = {
        "teacher": bench.network.digest,
        "array": found.target.digest,
        "chip description": bench.chip.digest if bench.chip else "",
        "images": found.fit.digest,
        "images held out": bench.held.digest,
    }
    check_origins(folder, here)
    return found


def pruning_inputs(teacher_file: Path, settings: SearchSettings) -> PruningInputs:
    """The same of a network file, without a folder."""
    chip = erring_chip(settings.chip, settings.macros or None)
    given = load_network(teacher_file)
    fit, held = pruning_images(given, settings.data or None, settings.subset, settings.seed)
    recipe = settings.asked
    options = DeployOptions(virtual_chips=CHIPS, age_s=settings.age_s, seed=settings.seed, recipe=recipe)
    costs = settings.costs or settings.chip
    target = load_target(costs, macros=(settings.macros or None) if costs == settings.chip else None, recipe=recipe)
    teacher = teacher_of(given.graph)
    seen = relevance(teacher.graph, teacher.channels, teacher.blocks, fit.spread(SEEN).pixels, settings.seed)
    wanted = np.asarray(float_logits(teacher.graph, held.pixels), np.float32)
    fitting = fit_settings(chip)
    bench = PruningContext(given, teacher, fit.spread(SAMPLED).pixels, held, wanted, fitting, chip, options)
    space = pruning_space(teacher, seen, settings.limits)
    return PruningInputs(space, seen, target, PlanPrices(teacher, target), bench, fit)


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
