"""Settings of a search: over the networks of a space, which are trained, or over pruned networks of a teacher."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from cim.simulator.modes import SimulationMode
from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, option_of, setting
from search.pruned.limits import PriceRange, PruningLimits
from search.space.limits import LEAST_SHARE

MODES = ("pareto", "paper")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SYMMETRIES = ("none", "mirror", "turn")
# Groups of options.
CHIP, IMAGES, SEARCH, LIMITS, TEACHER = "Chip", "Images", "Search", "Limits of the front", "Teacher"
TRAINING, EVALUATION, MACHINE = "Training", "Evaluation", "Machine"
CANDIDATES = "Pruned networks of a teacher (--from)"
FEW, USUAL_IMAGES = 64, 2000  # training images: with fewer no weights can be found; where no number is given
BELOW = 0.6  # of the least price that is asked for: cheaper pruned networks are not looked for
BOTH = ("data", "chip", "costs", "macros", "age_s", "subset", "seed", "workers", "recipe")
ONLY_PRUNED = ("pruned", "candidates", "edp", "weight_bits", "activation_bits")


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """All that the answer depends on, besides the files of the folder.

    ``pruned``: the networks are those that a teacher becomes without some of its channels, blocks, kernels and bits;
    their weights are found in closed form on ``subset`` training images (0: 2000), and of all that is trained nothing
    may be set. ``chip`` then measures them on its virtual chips, "": a perfect chip.
    ``chip``, ``data`` are names or absolute paths; ``costs``: array that prices networks, "": the chip.
    ``calibration`` is a path or "" (the models of the chip file).
    Operators whose layers leave the last of several arrays less than ``least_share`` used go from the space.
    ``workers`` processes do jobs side by side, in one thread each; 0: this one does them in turn.
    Caps of 0 are none; ``within`` are points of predicted accuracy that a network may lie below the best.
    Training images are moved by up to ``shift`` pixels, and mirrored or turned. Networks begin on squares of side
    ``crop`` (0: whole images), and their teacher is asked for every batch, or ``asked_once``.
    ``teacher_epochs`` 0 leaves a given teacher as it is.
    ``subset`` 0 takes all training images, ``brief_images`` 0 all of those for stages and sample networks;
    ``budget_s`` 0 sets no limit. ``samples`` networks are trained for ``sample_epochs`` to learn accuracies;
    ``networks`` of the front are trained for ``epochs`` and evaluated on ``chips`` simulated chips with ``images``
    test images.
    """

    data: str
    chip: str
    costs: str = ""
    macros: int = 0
    least_share: float = setting(
        LEAST_SHARE,
        "drop operators that fill less than this share of their last array; 0 keeps all",
        low=0,
        high=1,
        group=CHIP,
    )
    mode: str = setting(
        "pareto", "search mode: pareto (a front) or paper (accuracy, balanced, efficiency)", choices=MODES, group=SEARCH
    )
    budget_s: float = setting(
        0.0, "time for the whole search, 30m or 8h; shortens phases",
        low=0, unit="s", group=SEARCH, unset=True,
    )  # fmt: skip
    calibration: str = ""
    age_s: float = setting(3600.0, "age after programming", low=0, unit="s", group=CHIP)
    subset: int = setting(0, "number of training images; default: all", low=1, group=IMAGES, unset=True)
    brief_images: int = setting(
        0, "number of training images for stages and sample networks; default: all", low=1, group=IMAGES, unset=True
    )
    teacher_epochs: int = setting(
        15, "epochs of the teacher; default: 15, and 0 with --teacher", low=0, group=TEACHER, unset=True
    )
    stage_epochs: int = setting(5, "epochs of each stage (phase A)", low=1, group=SEARCH)
    samples: int = setting(32, "sample networks, trained briefly to predict accuracies", low=4, group=SEARCH)
    sample_epochs: int = setting(3, "epochs of each sample network", low=1, group=SEARCH)
    simulations: int = setting(1024, "networks that the search evaluates (phase B)", low=8, group=SEARCH)
    max_latency_us: float = setting(
        0.0, "latency limit of one image, for all networks of the front", low=0, group=LIMITS, unset=True
    )
    max_energy_uj: float = setting(
        0.0, "energy limit of one image, for all networks of the front", low=0, group=LIMITS, unset=True
    )
    within: float = setting(
        0.0, "limit of predicted accuracy, in points below the best network", low=0, group=LIMITS, unset=True
    )
    networks: int = setting(8, "networks of the front that are trained (phase C)", low=0, group=TRAINING)
    epochs: int = setting(20, "epochs of each network of the front", low=1, group=TRAINING)
    batch: int = setting(128, "images per training step, even", low=2, group=TRAINING)
    shift: int = 1  # most pixels that training images are shifted: of cifar10 2, of eurosat 4
    symmetry: str = setting(
        "mirror", "symmetry of training images: none, mirror (left for right) or turn (seen from above); "
        "default: eurosat turn, others mirror", choices=SYMMETRIES, group=IMAGES, unset=True,
    )  # fmt: skip
    crop: int = setting(0, "train on random squares of this side first; faster", low=1, group=IMAGES, unset=True)
    asked_once: bool = setting(
        False, "compute the teacher's outputs once per image, not once per batch", option="ask-once", group=TEACHER
    )
    chips: int = setting(20, "virtual chips for evaluating a trained network", low=2, group=EVALUATION)
    images: int = setting(1000, "test images for evaluating a trained network", low=2, group=EVALUATION)
    engine: str = setting(
        SimulationMode.EXACT.value, "simulation mode for evaluating a trained network: exact or fast",
        choices=tuple(SimulationMode), option="evaluation-mode", group=EVALUATION,
    )  # fmt: skip
    seed: int = setting(0, "seed of all random draws", low=0, high=(1 << 31) - 1, group=SEARCH)
    workers: int = 0
    device: str = setting("cpu", "device for training: cpu or cuda", group=MACHINE)
    precision: str = setting(
        "32-true", "precision of training: 32-true, bf16-mixed or 16-mixed; default: 32-true, on cuda bf16-mixed",
        choices=PRECISIONS, group=MACHINE, unset=True,
    )  # fmt: skip
    recipe: str = str(USUAL_RECIPE)  # what is done to networks on chips, as --with takes it
    pruned: bool = False
    candidates: int = setting(300, "pruned networks that are made and measured", low=1, group=CANDIDATES)
    edp: tuple[float, ...] = setting(
        (), "energy × latency in mJ·ms, comma-separated; the best network at each is written; default: three",
        group=CANDIDATES, unset=True,
    )  # fmt: skip
    weight_bits: str = setting("3-5", "fewest and most weight bits of a layer", group=CANDIDATES)
    activation_bits: str = setting("4-8", "fewest and most activation bits of a layer", group=CANDIDATES)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        of_others = [f for f in fields(self) if f.name not in BOTH and (f.name in ONLY_PRUNED) is not self.pruned]
        if more := [option_of(f) if f.metadata else f.name for f in of_others if getattr(self, f.name) != f.default]:
            raise UsageError(
                f"{', '.join(more)}: pruned networks of a teacher are not trained, so this says nothing"
                if self.pruned
                else f"{', '.join(more)}: only a search over pruned networks of a teacher takes this",
                hint="leave it out; hil finetune trains a network that was written" if self.pruned else "--from net.pt",
            )
        if self.batch % 2:
            raise UsageError(f"a batch of {self.batch}, not an even number of images")
        if self.pruned and self.subset and self.subset < FEW:
            raise UsageError(f"{self.subset} training images are too few: {FEW} at least", hint="--subset N")
        if not all(0 < price < math.inf for price in self.edp):
            raise UsageError(f"prices {self.edp}: each is more than 0 mJ·ms", hint="--edp 0.065,0.125")
        _ = self.limits
        if self.recipe != str(USUAL_RECIPE) and self.asked.get(LowerSlices):  # hil --help loads no technique
            raise UsageError("a search prices networks of plain slices", hint="hil improve NETWORK tries residual ones")

    @property
    def asked(self) -> Recipe:
        """Techniques for the networks on chips; costs include them."""
        return Recipe.of_words(self.recipe)

    @property
    def begun_with(self) -> dict[str, Any]:
        """What of it a folder keeps and compares: settings of this kind of search."""
        own = {k: v for k, v in asdict(self).items() if k in BOTH or (k in ONLY_PRUNED) is self.pruned}
        if not self.costs:  # folders that were begun before there was a choice say nothing of it
            del own["costs"]
        return own

    @property
    def limits(self) -> PruningLimits:
        (least_w, most_w), (least_a, most_a) = _ends(self.weight_bits), _ends(self.activation_bits)
        return PruningLimits(least_w, most_w, least_a, most_a)

    @property
    def window(self) -> PriceRange:
        return PriceRange(BELOW * min(self.edp), max(self.edp)) if self.edp else PriceRange()

    @property
    def rounds(self) -> tuple[int, ...]:
        """Pruned networks of each round: a third begins, the others follow from those before them."""
        first, each = self.candidates // 3, max(self.candidates // 8, 2)
        left = self.candidates - first
        return (first, *[each] * (left // each), *([left % each] if left % each else []))


def _ends(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdigit() or not (high or low).isdigit() or not 2 <= int(low) <= int(high or low) <= 8:
        raise UsageError(f"{text!r:.40} are no bits", hint="FEWEST-MOST within 2-8, as 3-6; or one number")
    return int(low), int(high or low)
