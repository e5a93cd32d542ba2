"""Settings of a search."""

from __future__ import annotations

from dataclasses import dataclass

from cim.simulator.modes import SimulationMode
from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe
from mapping.settings import check_limits, setting
from search.space.limits import LEAST_SHARE

MODES = ("pareto", "paper")
ESTIMATORS = ("path", "alpha")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SYMMETRIES = ("none", "mirror", "turn")
# Groups of options.
CHIP, IMAGES, SEARCH, LIMITS, TEACHER = "Chip", "Images", "Search", "Limits of the front", "Teacher"
TRAINING, EVALUATION, MACHINE = "Training", "Evaluation", "Machine"


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """All that the answer depends on, besides the files of the folder.

    ``chip``, ``data`` are names or absolute paths; ``costs``: array that prices networks, "": the chip.
    ``calibration`` is a path or "" (the models of the chip file).
    Operators whose layers leave the last of several arrays less than ``least_share`` used go from the space.
    ``workers`` processes do jobs side by side, in one thread each; 0: this one does them in turn.
    Caps of 0 are none; ``within`` are points of predicted accuracy that a network may lie below the best.
    Training images are moved by up to ``shift`` pixels, and mirrored or turned. Networks begin on squares of side
    ``crop`` (0: whole images), and their teacher is asked for every batch, or ``asked_once``; they may begin with the
    weights of what they have in common with it (``inherited``).
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
        "drop operators that use less of the last of several arrays; 0 keeps all",
        low=0,
        high=1,
        group=CHIP,
    )
    mode: str = setting(
        "pareto", "pareto (a front) or paper (accuracy, balanced, efficiency)", choices=MODES, group=SEARCH
    )
    estimator: str = setting(
        "path", "estimator of phase A: path (single paths) or alpha (mixtures)", choices=ESTIMATORS, group=SEARCH
    )
    budget_s: float = setting(
        0.0, "time for the whole search, 30m or 8h; phases are cut short to keep it",
        low=0, unit="s", group=SEARCH, unset=True,
    )  # fmt: skip
    calibration: str = ""
    data_dir: str = ""
    age_s: float = setting(3600.0, "age after programming", low=0, unit="s", group=CHIP)
    subset: int = setting(0, "number of training images; default: all", low=1, group=IMAGES, unset=True)
    brief_images: int = setting(
        0, "number of those for stages and sample networks; default: all", low=1, group=IMAGES, unset=True
    )
    teacher_epochs: int = setting(
        15, "epochs of the teacher; default: 15, and 0 with --teacher", low=0, group=TEACHER, unset=True
    )
    stage_epochs: int = setting(5, "epochs of each stage (phase A)", low=1, group=SEARCH)
    samples: int = setting(32, "sample networks, trained briefly to predict accuracies", low=4, group=SEARCH)
    sample_epochs: int = setting(3, "epochs of each of them", low=1, group=SEARCH)
    simulations: int = setting(1024, "whole networks simulated (phase B)", low=8, group=SEARCH)
    max_latency_us: float = setting(
        0.0, "limit for one image, for all networks of the front", low=0, group=LIMITS, unset=True
    )
    max_energy_uj: float = setting(
        0.0, "limit for one image, for all networks of the front", low=0, group=LIMITS, unset=True
    )
    within: float = setting(
        0.0, "most points of predicted accuracy below the best network", low=0, group=LIMITS, unset=True
    )
    networks: int = setting(8, "networks of the front that are trained (phase C)", low=0, group=TRAINING)
    epochs: int = setting(20, "epochs of each of them", low=1, group=TRAINING)
    batch: int = setting(128, "images a training step; even", low=2, group=TRAINING)
    shift: int = setting(
        1, "most pixels that training images are shifted; default: cifar10 2, eurosat 4, others 1",
        low=0, group=IMAGES, unset=True,
    )  # fmt: skip
    symmetry: str = setting(
        "mirror", "symmetry of training images: none, mirror (left for right) or turn (seen from above); "
        "default: eurosat turn, others mirror", choices=SYMMETRIES, group=IMAGES, unset=True,
    )  # fmt: skip
    crop: int = setting(
        0, "side of the random squares that training begins on, which take less time", low=1, group=IMAGES, unset=True
    )
    asked_once: bool = setting(
        False, "ask the teacher once for each whole image, not for every batch", option="ask-once", group=TEACHER
    )
    inherited: bool = setting(
        False, "begin networks with the weights of the blocks that their teacher has too",
        option="inherit", group=TRAINING,
    )  # fmt: skip
    chips: int = setting(20, "virtual chips that a trained network is evaluated on", low=2, group=EVALUATION)
    images: int = setting(1000, "test images of that evaluation", low=2, group=EVALUATION)
    engine: str = setting(
        SimulationMode.EXACT.value, "mode of that evaluation: exact or fast",
        choices=tuple(SimulationMode), option="evaluation-mode", group=EVALUATION,
    )  # fmt: skip
    seed: int = setting(0, "seed of everything random", low=0, high=(1 << 31) - 1, group=SEARCH)
    workers: int = 0
    device: str = setting("cpu", "cpu or cuda", group=MACHINE)
    devices: int = setting(1, "GPUs that train side by side", low=1, group=MACHINE)
    precision: str = setting(
        "32-true", "precision of training: 32-true, bf16-mixed or 16-mixed; default: 32-true, on cuda bf16-mixed",
        choices=PRECISIONS, group=MACHINE, unset=True,
    )  # fmt: skip
    recipe: str = str(USUAL_RECIPE)  # what is done to networks on chips, as --with takes it

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        if self.batch % 2 or self.batch % self.devices:
            raise UsageError(f"a batch of {self.batch} on {self.devices} devices, not an even number of images on each")
        if self.recipe != str(USUAL_RECIPE) and self.asked.get(LowerSlices):  # hil --help loads no technique
            raise UsageError("a search prices networks of plain slices", hint="hil improve NETWORK tries residual ones")

    @property
    def asked(self) -> Recipe:
        """What is done to the networks on chips: costs are of what is written then."""
        return Recipe.of_words(self.recipe)
