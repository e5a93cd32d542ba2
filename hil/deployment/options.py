"""Options of a deployment, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cim.simulator.modes import SimulationMode
from hil.errors import UsageError
from hil.simulation.torch_device import check_device
from mapping.network.task import TaskKind
from mapping.recipe.aim import AgedTargets
from mapping.recipe.idle_copies import IdleCopies
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe, recipe_of_effort
from mapping.recipe.tune import TunedChannels
from mapping.settings import check_limits, setting

if TYPE_CHECKING:  # the command line reads the defaults, and imports nothing that takes time
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram

AUTO = "auto"
ENGINES = (AUTO, *SimulationMode)
PATIENCE_S = 120.0  # a line may be silent or gone so long
RECORD_AGE_S = 7 * 86400.0  # a record of an earlier run holds so long
IMAGES, TASK, CELLS, VERDICT = "Images", "Task", "Writing cells", "Verdict"  # groups of options

USUAL_RECIPE = Recipe((IdleCopies(), AgedTargets(), TunedChannels()))  # what costs no macro and no training


def usual_recipe(*having: str, without: Sequence[str] = ()) -> Recipe:
    """The recipe of ``hil deploy`` after ``--with`` and ``--without``.

    Example: ``usual_recipe("rewrite=3,after=2s", without=["tune"])``.

    Raises:
        mapping.recipe.technique.RecipeError: no such technique or setting, or techniques that exclude each other.
    """
    return USUAL_RECIPE.changed(having, without)


def recipe_for(
    network: str | Path | None, having: Sequence[str], without: Sequence[str], effort: int | None = None
) -> Recipe:
    """The recipe of an effort, after ``--with`` and ``--without``.

    ``effort`` None: that which a program file holds, else the usual one. A compiled program keeps its layout.

    Raises:
        mapping.recipe.technique.RecipeError: as ``usual_recipe``; a stored recipe that is none.
    """
    stored = None
    if effort is not None:
        return recipe_of_effort(effort).changed(having, without)
    if network is not None and Path(network).suffix == ".h5":
        from mapping.program.file import stored_recipe

        stored = stored_recipe(network)
    base = USUAL_RECIPE if stored is None else Recipe.of_text(stored)
    return base.changed(having, without)


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """How a run is made; ``hil deploy`` reads its defaults here.

    ``samples`` is the largest number of images; looks are planned below it. ``age_s`` is chip
    time between programming and reading. ``tolerance`` is a score of the metric: a fraction of a share, None: the usual
    one; ``tolerance_in_units`` the same in the metric's unit, points of a share, and goes first. ``task``, ``metric``
    "": those of the network file. ``causes``: the gap is split by cause, for which cells are read right after writing.
    ``engine`` is a ``SimulationMode``; auto: fast where it was shown to be as good as exact.
    """

    samples: int = setting(
        2000, "most images to run; interim analyses at 500, 1,000, 2,000; fewer than 300 exclude the verdict agree",
        low=2, group=IMAGES,
    )  # fmt: skip
    all_images: bool = setting(
        False, "run all of them, even when fewer decide the verdict: for an accuracy", group=IMAGES
    )
    seed: int = setting(0, "seed of the host: image order and virtual chips", low=0, high=(1 << 63) - 1, group=IMAGES)
    repeats: int = setting(
        3, "passes over the images on the chip; fewer than 2 exclude the verdict agree, and leave unknown "
        "which noise is new at every read", low=1, option="repeat", group=IMAGES,
    )  # fmt: skip
    virtual_chips: int = setting(
        20, "number of virtual chips, drawn and run one after the other", low=2, option="chips", group="Chips"
    )
    tolerance: float | None = None
    tolerance_in_units: float | None = setting(
        None, "tolerance of the verdict, in the metric's unit; default: 1 point of a share",
        option="tolerance", group=VERDICT, asked=True,
    )  # fmt: skip
    task: str = setting(
        "", "classify, segment, detect, regress, autoencode or sequence; default: the network file's",
        choices=tuple(TaskKind), group=TASK, asked=True,
    )  # fmt: skip
    metric: str = setting(
        "", "metric of the task, or file.py:function; default: the task's first", group=TASK, asked=True
    )
    allow_code: bool = setting(False, "run the Python file of --metric", group=TASK)
    age_s: float = setting(
        3600.0, "chip time between programming and running: 30s, 1h, 2d", low=0, unit="s", group=CELLS
    )
    read_back_reads: int = 32
    layer_images: int = 16
    reprogram: bool = setting(False, "write even when the chip holds this program", group=CELLS)
    causes: bool = setting(
        True, "skip the causes of the gap (less simulation, one read-back less)", option="no-causes", group=VERDICT
    )
    device: str = setting("cpu", "device of the simulator: cpu or cuda", group=VERDICT)
    engine: str = setting(
        AUTO, "exact (every conversion), fast (one product, matched noise), auto: fast where as good",
        choices=ENGINES, group=VERDICT,
    )  # fmt: skip
    early_reads: int = 8  # averaged in a reading right after writing: few, so that cells are read young
    cause_images: int = 500  # most images that the causes are simulated on
    untuned_images: int = 500  # most images that are also run without the tune, once
    recipe: Recipe = USUAL_RECIPE  # what is done to the network on a chip

    def __post_init__(self) -> None:
        check_limits(self, UsageError)
        for good, text in (
            (0 < (self.tolerance or 1) < math.inf and self.tolerance != 0, f"tolerance: {self.tolerance}"),
            (
                0 < (self.tolerance_in_units or 1) < math.inf and self.tolerance_in_units != 0,
                f"tolerance: {self.tolerance_in_units}",
            ),
            (1 <= self.read_back_reads <= 255, f"reads of a read-back: {self.read_back_reads}, not from 1 to 255"),
            (1 <= self.early_reads <= 255, f"reads after writing: {self.early_reads}, not from 1 to 255"),
            (self.cause_images >= 2, f"images of the causes: {self.cause_images}, at least 2 are needed"),
            (self.untuned_images >= 2, f"images without the tune: {self.untuned_images}, at least 2 are needed"),
            (self.layer_images >= 1, f"images of a layer sample: {self.layer_images}, at least 1 is needed"),
        ):
            if not good:
                raise UsageError(text)
        check_device(self.device)

    @property
    def layout(self) -> LayoutOptions:
        """How a network is laid out for such a deployment."""
        from mapping.layout.lay_out import LayoutOptions

        return self.recipe.laid_out(LayoutOptions())

    def recipe_of(self, program: ConductanceProgram) -> Recipe:
        """What is done to ``program`` on chips of every kind: its lower slices are written where it has them.

        Raises:
            mapping.recipe.technique.RecipeError: the program has residual slices, and cells are to be rewritten.
        """
        lower = self.recipe.get(LowerSlices) or LowerSlices(cell_reads=self.read_back_reads)
        found = self.recipe.having(lower) if program.residual else self.recipe.without(LowerSlices.name)
        return replace(found, age_s=self.age_s, reads=self.read_back_reads)
