"""Settings of a search."""

from __future__ import annotations

from dataclasses import dataclass

from cim.simulator.modes import SimulationMode
from hil.deployment.options import USUAL_RECIPE
from hil.errors import UsageError
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe
from search.space.limits import LEAST_SHARE

MODES = ("pareto", "paper")
ESTIMATORS = ("path", "alpha")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SYMMETRIES = ("none", "mirror", "turn")


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """All that the answer depends on, besides the files of the folder.

    ``chip``, ``data`` are names or absolute paths; ``calibration`` is a path or "" (the models of the chip file).
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
    mode: str = "pareto"
    estimator: str = "path"
    macros: int = 0
    least_share: float = LEAST_SHARE
    calibration: str = ""
    data_dir: str = ""
    age_s: float = 3600.0
    subset: int = 0
    brief_images: int = 0
    budget_s: float = 0.0
    seed: int = 0
    batch: int = 128
    shift: int = 1
    symmetry: str = "mirror"
    crop: int = 0
    asked_once: bool = False
    inherited: bool = False
    teacher_epochs: int = 15
    stage_epochs: int = 5
    samples: int = 32
    sample_epochs: int = 3
    simulations: int = 1024
    max_latency_us: float = 0.0
    max_energy_uj: float = 0.0
    within: float = 0.0
    networks: int = 8
    epochs: int = 20
    chips: int = 20
    images: int = 1000
    engine: str = SimulationMode.EXACT.value  # mode of the simulator
    recipe: str = str(USUAL_RECIPE)  # what is done to networks on chips, as --with takes it
    workers: int = 0
    device: str = "cpu"
    devices: int = 1
    precision: str = "32-true"

    def __post_init__(self) -> None:
        for good, text in (
            (self.mode in MODES, f"mode {self.mode!r}, one of {', '.join(MODES)}"),
            (self.estimator in ESTIMATORS, f"estimator {self.estimator!r}, one of {', '.join(ESTIMATORS)}"),
            (self.engine in tuple(SimulationMode), f"engine {self.engine!r}, one of {', '.join(SimulationMode)}"),
            (self.precision in PRECISIONS, f"precision {self.precision!r}, one of {', '.join(PRECISIONS)}"),
            (
                self.devices >= 1 and self.batch % max(self.devices, 1) == 0,
                f"a batch of {self.batch} on {self.devices} devices",
            ),
            (self.symmetry in SYMMETRIES, f"symmetry {self.symmetry!r}, one of {', '.join(SYMMETRIES)}"),
            (0 <= self.least_share <= 1, f"a least share of {self.least_share}, not from 0 to 1"),
            (self.crop >= 0, f"squares of {self.crop} pixels"),
            (self.shift >= 0, f"images moved by {self.shift} pixels"),
            (self.brief_images >= 0, f"{self.brief_images} images of brief training"),
            (self.workers >= 0, f"{self.workers} workers"),
            (self.samples >= 4, f"{self.samples} sample networks, at least 4 are needed to learn accuracies"),
            (self.simulations >= 8, f"{self.simulations} simulations, at least 8 are needed"),
            (self.batch >= 2 and self.batch % 2 == 0, f"a batch of {self.batch}, not an even number of images"),
            (
                min(self.stage_epochs, self.sample_epochs, self.epochs) >= 1,
                "a phase of no epochs, at least 1 is needed",
            ),
            (self.teacher_epochs >= 0, f"{self.teacher_epochs} epochs of the teacher"),
            (
                min(self.max_latency_us, self.max_energy_uj, self.within) >= 0,
                f"caps of {self.max_latency_us} us, {self.max_energy_uj} uJ, {self.within} points",
            ),
            (self.networks >= 0, f"{self.networks} networks to train"),
            (self.chips >= 2 and self.images >= 2, f"{self.chips} chips, {self.images} images: at least 2 of each"),
            (0 <= self.seed < 1 << 31, f"seed {self.seed}, not from 0 to 2^31 - 1"),
        ):
            if not good:
                raise UsageError(text)
        if self.recipe != str(USUAL_RECIPE) and self.asked.get(LowerSlices):  # hil --help loads no technique
            raise UsageError("a search prices networks of plain slices", hint="hil improve NETWORK tries residual ones")

    @property
    def asked(self) -> Recipe:
        """What is done to the networks on chips: costs are of what is written then."""
        return Recipe().changed(self.recipe.split(), ())
