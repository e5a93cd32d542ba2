"""Settings of a search, and the folder that it fills: ``settings.json`` and the names of all other files."""

from __future__ import annotations

import contextlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cim.simulator.modes import SimulationMode
from hil.atomic import write_bytes, write_text
from hil.errors import FileError, OutputError, UsageError
from search.files import read_json
from search.space.file import load_space
from search.space.genes import Space
from search.space.prune import LEAST_SHARE

FORMAT = "hil.search"
VERSION = "1.0"
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


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """Folder of one search. ``allow_code``: operators that its space names as Python may run here."""

    root: Path
    allow_code: bool = False

    def load_space(self) -> Space:
        """The space as it was given, before the chip took from it."""
        return load_space(self.space, allow_code=self.allow_code)

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def space(self) -> Path:
        return self.root / "space.toml"

    @property
    def origins(self) -> Path:
        """Digests of chip, images and errors that the folder was begun with."""
        return self.root / "origins.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def teacher(self) -> Path:
        return self.root / "teacher.pt"

    @property
    def given_teacher(self) -> Path:
        """One that is to be trained further before it teaches."""
        return self.root / "given.pt"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def candidates(self) -> Path:
        return self.root / "candidates.jsonl"

    @property
    def significance(self) -> Path:
        return self.root / "significance.json"

    @property
    def front(self) -> Path:
        return self.root / "front.json"

    @property
    def own(self) -> Path:
        """Networks that a user named beside the front."""
        return self.root / "own.json"

    @property
    def networks(self) -> Path:
        return self.root / "networks"

    @property
    def page(self) -> Path:
        return self.root / "front.html"

    @property
    def table(self) -> Path:
        return self.root / "table.json"


def begin_folder(
    root: Path, settings: SearchSettings, space_text: str, teacher: Path | None = None, *, allow_code: bool = False
) -> SearchFolder:
    """Make the folder of a new search, with settings, space and teacher (None: the search trains one).

    Raises:
        UsageError: no teacher, and no epochs to train one, or networks should inherit from it.
        OutputError: it exists and is not empty, or cannot be written.
    """
    folder = SearchFolder(root, allow_code)
    if teacher is None and not settings.teacher_epochs:
        raise UsageError("no teacher is given, and none is trained in 0 epochs", hint="--teacher-epochs N")
    if teacher is None and settings.inherited:
        raise UsageError("a teacher that a search trains has no block of its space to inherit", hint="--teacher net.pt")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        again = f"hil search resume {root}, or " if folder.settings.exists() else ""
        raise OutputError(f"{root} exists and is not empty", hint=f"{again}name another folder: --out FOLDER")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {root}: {error.strerror}", hint="choose another place: --out FOLDER") from error
    write_text(folder.space, space_text)
    if teacher is not None:
        write_bytes(folder.given_teacher if settings.teacher_epochs else folder.teacher, teacher.read_bytes())
    write_text(folder.settings, json.dumps({"format": FORMAT, "version": VERSION, **asdict(settings)}, indent=1) + "\n")
    return folder


def discard_unbegun(folder: SearchFolder) -> None:
    """Remove the folder of a search whose inputs were refused, so that the corrected command may use its name."""
    if folder.origins.exists():
        return
    for path in (folder.settings, folder.space, folder.teacher, folder.given_teacher):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there
        folder.root.rmdir()


def open_folder(root: Path, *, allow_code: bool = False) -> tuple[SearchFolder, SearchSettings]:
    """The folder of a search that was begun; settings that its version did not know have their defaults.

    Raises:
        FileError: it is none, or its settings are broken.
    """
    folder = SearchFolder(root, allow_code)
    if not folder.settings.is_file() or not folder.space.is_file():
        raise FileError(
            f"{root} is not a folder of a search",
            where=f"no {folder.settings.name} and {folder.space.name} in it" if root.is_dir() else "no such folder",
            hint="hil search run --data NAME --out FOLDER begins one",
        )
    data = read_json(folder.settings, FORMAT, 1)
    if data.get("mirror") is False:  # as version 0.4 called it
        data["symmetry"] = "none"
    try:
        known = {f.name: f.type for f in fields(SearchSettings) if f.name in data or f.default is MISSING}
        return folder, SearchSettings(**{name: _typed(data[name], kind) for name, kind in known.items()})
    except (KeyError, TypeError) as error:
        raise FileError(f"settings of a search are broken: {error}", where=str(folder.settings)) from error


def _typed(value: Any, kind: Any) -> Any:
    """``value``, whose type must be that of the field (annotations are texts here)."""
    wanted = {"str": str, "int": int, "float": float, "bool": bool}[str(kind)]
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise TypeError(f"{value!r:.60} is no {wanted.__name__}")
    return value
