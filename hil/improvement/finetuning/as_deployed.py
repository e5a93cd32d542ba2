"""A network as ``hil deploy`` treats it by default or as asked, on virtual chips, to judge a fine-tuning.

Copies on idle cells, targets for the planned age, columns corrected and gains tuned, in rounds where it is larger than
the chip; the error law of training models none of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.datasets.seen_images import seen_images, shared_images
from hil.deployment.options import DeployOptions
from hil.improvement.finetuning.inputs import FinetuneInputs
from hil.improvement.finetuning.settings import FinetuneSettings
from hil.prediction.promise import Promise, answers_of, fresh, promise_of
from hil.simulation.chip_workers import ChipWorkers
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import NetworkFile
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe
from mapping.recipe.rounds import Rounds
from mapping.scale_choice import judged_by_float
from search.train.images import Images

CHIPS = 4  # virtual ones that choose; those of two networks have the same numbers
FRESH_CHIPS = 6  # others, which say what the choice gives
LEAST_IMAGES = 40  # that no network was trained on
MOST_IMAGES = 1000  # of those held out: one half chooses between two networks, the other says what the choice gives


@dataclass(frozen=True, slots=True)
class AsDeployed:
    """Correct answers (chips, images) of one network as deployed: on chips and images that choose between networks, and
    on others that give the final score."""

    choosing: NDArray[np.bool_]
    scoring: NDArray[np.bool_]

    @property
    def percent(self) -> float:
        """Mean accuracy, %, on chips and images that had no part in training or in choosing."""
        return 100.0 * float(self.scoring.mean())

    @property
    def promise(self) -> Promise:
        """Prediction interval for the score of one further chip on further images."""
        return promise_of(self.scoring)

    def beats(self, other: AsDeployed) -> bool:
        """Whether this network is no worse than another on the images that choose."""
        return float(self.choosing.mean()) >= float(other.choosing.mean())


def judging_images(inputs: FinetuneInputs, watch: Watch) -> Images:
    """Held-out images without a copy in training or calibration; all held-out images if too few remain."""
    kept = inputs.kept
    stored, trained = seen_images(kept.pixels, inputs.network)
    fresh = ~(stored | trained | shared_images(kept.pixels, inputs.train.pixels))
    if fresh.sum() >= min(LEAST_IMAGES, len(kept)):
        return kept.part(np.flatnonzero(fresh))
    watch.note(
        f"{int(fresh.sum())} of the {len(kept)} images held out were in no training: all of them judge, "
        "which flatters a network that knows them"
    )
    return kept


def as_deployed(
    network: NetworkFile,
    images: Images,
    spec: ChipSpec,
    record: CalibrationRecord | None,
    settings: FinetuneSettings,
    watch: Watch,
    crew: ChipWorkers,
) -> AsDeployed:
    """Run a network's virtual chips on images of ``judging_images``, at most ``MOST_IMAGES``; fast simulation.

    Args:
        record: None: the models of the chip file. Macros that it lacks are as the chip file says.

    Raises:
        CannotMap: no chip of this kind takes the network.
    """
    half = max(min(len(images), MOST_IMAGES) // 2, 1)
    choosing = choosing_answers(network, images, spec, record, settings, watch, crew)
    options = _options(settings, FRESH_CHIPS, fresh(settings.seed))
    program = program_as_deployed(network, spec, options)
    last = images.part(np.arange(half, 2 * half)) if len(images) > half else images
    return AsDeployed(choosing, _right(program, last, record, options, watch, crew))


def choosing_answers(
    network: NetworkFile,
    images: Images,
    spec: ChipSpec,
    record: CalibrationRecord | None,
    settings: FinetuneSettings,
    watch: Watch,
    crew: ChipWorkers,
) -> NDArray[np.bool_]:
    """Right answers (chips, images) of the chips and images that choose between networks."""
    half = max(min(len(images), MOST_IMAGES) // 2, 1)
    options = _options(settings, CHIPS, settings.seed)
    program = program_as_deployed(network, spec, options)
    return _right(program, images.part(np.arange(half)), record, options, watch, crew)


def program_as_deployed(network: NetworkFile, spec: ChipSpec, options: DeployOptions) -> ConductanceProgram:
    """Compiled as ``hil deploy`` compiles a network file by default, its rule of weight scales chosen as there."""
    compiled = partial(compile_network, network, spec, options=options.layout)
    return judged_by_float(network, compiled)[0]


def _options(settings: FinetuneSettings, chips: int, seed: int) -> DeployOptions:
    recipe = recipe_judged(settings)
    return DeployOptions(virtual_chips=chips, age_s=settings.age_s, seed=seed, recipe=recipe)


def recipe_judged(settings: FinetuneSettings) -> Recipe:
    """The recipe under which a fine-tuned network is judged: as the user asks, with rounds if they are allowed."""
    recipe = settings.treated
    return recipe if any(t.name in Rounds.excludes for t in recipe.techniques) else recipe.having(Rounds())


def _right(
    program: ConductanceProgram,
    images: Images,
    record: CalibrationRecord | None,
    options: DeployOptions,
    watch: Watch,
    crew: ChipWorkers,
) -> NDArray[np.bool_]:
    known = record or nominal_record(program.spec, program.macros)
    logits = answers_of(program, known, options, images.pixels, watch, crew)
    return np.asarray(logits.argmax(axis=-1) == images.labels)


def strength_of(program: ConductanceProgram) -> float:
    """Scale of layer errors under a program's copies: averaging n copies scales errors by 1/√n."""
    return round(float(np.sqrt(np.mean([1.0 / step.group.averages for step in program.matrices]))), 3)
