"""A network as ``hil deploy`` treats it by default, on virtual chips: what a fine-tuning is judged by.

Copies on idle cells, targets for the planned age, columns corrected and gains tuned, in rounds where it is larger than
the chip; the law that training draws its errors from has none of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import image_digests
from hil.datasets.seen_images import seen_images
from hil.deployment.options import DeployOptions, usual_recipe
from hil.improvement.finetuning.inputs import FinetuneInputs
from hil.improvement.finetuning.settings import FinetuneSettings
from hil.prediction.predict import OF_CELLS, VirtualRow, with_nominal_macros
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import NetworkFile
from mapping.quantise.weight_scales import ScaleRule
from search.train.images import Images

CHIPS = 4  # virtual ones; those of two networks have the same numbers
LEAST_IMAGES = 40  # that no network was trained on
MOST_IMAGES = 1000  # of those held out: one half chooses between two networks, the other says what the choice gives


@dataclass(frozen=True, slots=True)
class AsDeployed:
    """Right answers (chips, images) of one network to the images that choose, and to those that say what it gives."""

    choosing: NDArray[np.bool_]
    scoring: NDArray[np.bool_]

    @property
    def percent(self) -> float:
        """Of images that neither trained nor chose."""
        return 100.0 * float(self.scoring.mean())

    def beats(self, other: AsDeployed) -> bool:
        """Whether it is no worse on the images that choose."""
        return float(self.choosing.mean()) >= float(other.choosing.mean())


def judging_images(inputs: FinetuneInputs, watch: Watch) -> Images:
    """Images held out that no network was trained on: of copies of one image some may have been; all where few are."""
    kept, train = inputs.kept, set(image_digests(inputs.train.pixels))
    stored, trained = seen_images(kept.pixels, inputs.network)
    fresh = ~(stored | trained) & [digest not in train for digest in image_digests(kept.pixels)]
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
) -> AsDeployed:
    """Run a network's virtual chips on images of ``judging_images``, at most ``MOST_IMAGES``; fast simulation.

    Args:
        record: None: the models of the chip file. Macros that it lacks are as the chip file says.

    Raises:
        CannotMap: no chip of this kind takes the network.
    """
    options = DeployOptions(
        virtual_chips=CHIPS,
        age_s=settings.age_s,
        seed=settings.seed,
        recipe=usual_recipe("rounds", without=[] if settings.aimed else ["aims"]),
    )
    program = compile_network(network, spec, options=options.layout, scale_rule=ScaleRule.OUTPUT)
    known = record or nominal_record(spec, program.macros)
    lacking = () if known.kind not in OF_CELLS else program.macros
    lacking = lacking or tuple(macro for macro in program.macros if macro not in known.macros)
    known = with_nominal_macros(known, spec, program.macros)
    recipe = options.recipe_of(program)
    program = recipe.prepared(program, known, watch)
    targets = recipe.targets(program, watch)
    row = VirtualRow(
        program, known, lacking, (settings.age_s,), known.temperature_c, options, SimulationMode.FAST, targets
    )
    half = max(min(len(images), MOST_IMAGES) // 2, 1)
    right = []
    for number, logits in enumerate(row.run(images.pixels[: 2 * half])):
        watch.step(number + 1, CHIPS, f"virtual chip {number + 1} of {CHIPS}")
        right.append(logits[0].argmax(axis=1) == images.labels[: 2 * half])
    found = np.stack(right)
    return AsDeployed(found[:, :half], found[:, -half:])
