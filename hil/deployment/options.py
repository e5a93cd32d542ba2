"""Options of a deployment, checked when they are made."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cim.simulator.modes import SimulationMode
from hil.errors import UsageError
from mapping.bits import ACTIVATION_BITS, LEAST, MOST, WEIGHT_BITS, LayerBits, parse_layer_bits
from mapping.network.task import TaskKind
from mapping.recipe.aim import AgedTargets
from mapping.recipe.idle_copies import IdleCopies
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe, recipe_of_effort
from mapping.recipe.tune import TunedChannels
from mapping.settings import check_limits, setting

if TYPE_CHECKING:  # the command line reads the defaults, and imports nothing that takes time
    from cim.chip.encoding import WeightForm
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram
    from mapping.quantise.weight_scales import ScaleRule

Kind = TypeVar("Kind", bound=enum.StrEnum)
AUTO = "auto"
ENGINES = (AUTO, *SimulationMode)
RECONNECT_TIMEOUT_S = 120.0  # a line may be silent or gone so long
RECORD_AGE_S = 7 * 86400.0  # a record of an earlier run holds so long
# Groups of options.
CHIP, IMAGES, TASK, CELLS, VERDICT = "Chip", "Images", "Task", "Writing cells", "Verdict"
TECHNIQUES, OUTPUT, BITS, PLACE = "Techniques", "Run and output", "Bits and weights", "Place"
TRAINING = 3  # the effort that trains

USUAL_RECIPE = Recipe((IdleCopies(), AgedTargets(), TunedChannels()))  # what costs no macro and no training


def usual_recipe(*having: str, without: Sequence[str] = ()) -> Recipe:
    """The recipe of ``hil deploy`` after ``--with`` and ``--without``.

    Example: ``usual_recipe("rewrite=3,after=2s", without=["tune"])``.

    Raises:
        mapping.recipe.technique.RecipeError: no such technique or setting, or techniques that exclude each other.
    """
    return USUAL_RECIPE.changed(having, without)


@dataclass(frozen=True, slots=True)
class TechniqueOptions:
    """Techniques for a network on a chip: those of an effort level, techniques added to it, and techniques left out."""

    effort: int | None = setting(
        None, "techniques to use: 0: none, 1: without further macros or training, 2: also with free macros and chip "
        "time, 3: also training; default: of program.h5, else 1", low=0, high=TRAINING, group=TECHNIQUES, unset=True,
    )  # fmt: skip
    having: tuple[str, ...] = setting(
        (), "a technique to add: rewrite=3 (hil help techniques)",
        option="with", form="NAME[=SETTINGS]", group=TECHNIQUES, unset=True,
    )  # fmt: skip
    without: tuple[str, ...] = setting(
        (), "a technique to leave out, by its name: tune", form="NAME", group=TECHNIQUES, unset=True
    )

    def __post_init__(self) -> None:
        check_limits(self, UsageError)

    @property
    def any(self) -> bool:
        """Whether an effort or a technique was named."""
        return self.effort is not None or bool(self.having or self.without)

    @property
    def trains(self) -> bool:
        return self.effort == TRAINING

    def recipe(self, network: str | Path | None = None) -> Recipe:
        """The recipe of the effort, with techniques added or left out; without an effort, of a program file, else the
        usual.

        A compiled program keeps its layout.

        Raises:
            mapping.recipe.technique.RecipeError: as ``usual_recipe``; the stored recipe is invalid.
        """
        stored = None
        if self.effort is not None:
            return recipe_of_effort(self.effort).changed(self.having, self.without)
        if network is not None and Path(network).suffix == ".h5":
            from mapping.program.file import stored_recipe

            stored = stored_recipe(network)
        base = USUAL_RECIPE if stored is None else Recipe.of_text(stored)
        return base.changed(self.having, self.without)


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Chip and images of a network, and facts that an ONNX or exported file lacks when it is imported first.

    ``data`` None: the bundled images. ``mean``, ``std``: of each channel, of pixels in 0…1; activation ranges come from
    the training split of ``data``. ``trust``: formats that can run code may do so.
    """

    chip: str = setting("lab-128", "chip file: a name from `hil chip list`, or a path to a .toml", group=CHIP)
    macros: int | None = setting(None, "number of macros; default: the chip file's", low=1, group=CHIP, unset=True)
    data: str | None = setting(
        None, "fashion-mnist, cifar10, eurosat, or a path; default: the bundled images", group=IMAGES, unset=True
    )
    mean: tuple[float, ...] | None = setting(
        None, "mean per channel, pixels in 0…1: 0.5,0.5,0.5; for files without it", group=IMAGES, unset=True
    )
    std: tuple[float, ...] | None = setting(None, "standard deviation per channel of pixels", group=IMAGES, unset=True)
    trust: bool = setting(False, "load file formats that can run code", option="trust-model", group=OUTPUT)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)


@dataclass(frozen=True, slots=True)
class BitOptions:
    """Bit widths of a network; None and "": those of its file, else the usual ones (``mapping.bits``)."""

    weight_bits: int | None = setting(
        None, f"weight bits, 2–8; default: the file's, else {WEIGHT_BITS}", low=LEAST, high=MOST, group=BITS, unset=True
    )
    activation_bits: int | None = setting(
        None, f"activation bits, 2–8; default: the network file's, else {ACTIVATION_BITS}",
        low=LEAST, high=MOST, group=BITS, unset=True,
    )  # fmt: skip
    layers: str = setting(
        "", "bits of single layers: conv1=8,fc=W8A6 (a bare number is weight bits)",
        option="layer-bits", group=BITS, unset=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_limits(self, UsageError)

    @property
    def any(self) -> bool:
        """Whether any bit width was given."""
        return self != BitOptions()

    @property
    def of_layers(self) -> dict[str, LayerBits]:
        """Bits of single layers by name."""
        try:
            return parse_layer_bits(self.layers) if self.layers else {}
        except ValueError as error:
            raise UsageError(f"bits of single layers: {error}", hint="write conv1=8,fc=W8A6") from None


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """How weights become cells, and how tiles are placed.

    Raises (on reading):
        UsageError: an unknown name, or text in place of a number.
    """

    bits: str = setting(
        "", "auto: fewest bits of each layer that lose at most half a point of accuracy against float weights, at the "
        "least cost on this chip; auto=1.0: at most 1.0 points", group=BITS, unset=True,
    )  # fmt: skip
    weight_scales: str = setting(
        "", "rule for weight scales: largest (no clipping), rounding or output (least error of each); default: output "
        "unless it loses too much accuracy", group=BITS, unset=True,
    )  # fmt: skip
    weight_form: str = setting(
        "sign", "form of differential pairs: sign (one cell at G_min) or balanced (both about mid-range)", group=BITS
    )
    placement: str = setting(
        "", "tile placement: spread (one tile a macro) or packed (few macros); default: spread if macros suffice",
        group=PLACE, unset=True,
    )  # fmt: skip
    copies_budget: str = setting(
        "", "macros in total, filled with copies of slow layers: a number, or all", group=PLACE, unset=True
    )
    slices: str = setting(
        "macros", "place of the bit slices of a weight: columns (of one macro) or macros (apart)", group=PLACE
    )

    @property
    def loss(self) -> float | None:
        """Accuracy loss allowed when bits are chosen automatically, as a fraction; None: bits are not chosen."""
        from mapping.auto_bits import LOSS

        name, _, points = self.bits.partition("=")
        if not self.bits or self.bits == "auto":
            return LOSS if self.bits else None
        try:
            loss = float(points) / 100.0
        except ValueError:
            loss = math.nan
        if name != "auto" or not 0 < loss < 1:
            raise UsageError(f"{self.bits!r} is not auto or auto=POINTS", hint="hil compile --bits auto=1.0")
        return loss

    @property
    def rule(self) -> ScaleRule | None:
        from mapping.quantise.weight_scales import ScaleRule

        return _one_of(ScaleRule, self.weight_scales, "--weight-scales") if self.weight_scales else None

    @property
    def form(self) -> WeightForm:
        from cim.chip.encoding import WeightForm

        return _one_of(WeightForm, self.weight_form, "--weight-form")

    def layout(self, macros: int) -> LayoutOptions:
        """Options of the layout on a chip of ``macros`` macros."""
        from mapping.layout.lay_out import LayoutOptions
        from mapping.layout.place import Placement
        from mapping.layout.tile import SlicePlacement

        budget, text = None, self.copies_budget
        if text:
            if text != "all" and (not text.isdecimal() or int(text) < 1):
                raise UsageError(f"{text!r} is not a number of macros", hint="hil compile --copies-budget all")
            budget = macros if text == "all" else int(text)
        lying = _one_of(Placement, self.placement, "--placement") if self.placement else None
        return LayoutOptions(lying, budget, slices=_one_of(SlicePlacement, self.slices, "--slices"))


def _one_of(kind: type[Kind], name: str, option: str) -> Kind:
    """The member of an enumeration by its name."""
    try:
        return kind(name)
    except ValueError:
        raise UsageError(f"{option} {name!r} is not a choice", hint=f"one of {', '.join(kind)}") from None


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """How a run is made; ``hil deploy`` reads its defaults here.

    ``samples`` is the largest number of images; interim analyses are planned below it. ``age_s`` is chip
    time between programming and reading. ``tolerance`` is a score of the metric: a fraction of a share, None: the usual
    one; ``tolerance_in_units`` the same in the metric's unit, points of a share, and goes first. ``task``, ``metric``
    "": those of the network file. ``causes``: split the gap by cause; for it, cells are read right after writing.
    ``mode`` is a ``SimulationMode``; auto: fast where it is as accurate as exact. ``effort`` is that of
    ``TechniqueOptions``; a ``recipe`` overrides it.
    """

    samples: int = setting(
        2000, "most images to run; interim analyses at 500, 1,000, 2,000; below 300, the verdict agree is impossible",
        low=2, group=IMAGES,
    )  # fmt: skip
    all_images: bool = setting(
        False, "run all images, even if fewer decide the verdict: measures accuracy", group=IMAGES
    )
    seed: int = setting(0, "seed of the host: image order and virtual chips", low=0, high=(1 << 63) - 1, group=IMAGES)
    repeats: int = setting(
        3, "passes over the images on the chip; below 2, the verdict agree is impossible, and noise of single "
        "reads stays unknown", low=1, option="repeat", group=IMAGES,
    )  # fmt: skip
    virtual_chips: int = setting(
        20, "number of virtual chips, drawn and run one after the other", low=2, option="chips", group="Chips"
    )
    tolerance: float | None = None
    tolerance_in_units: float | None = setting(
        None, "tolerance of the verdict, in the metric's unit; default: 1 point for accuracies",
        option="tolerance", group=VERDICT, unset=True,
    )  # fmt: skip
    task: str = setting(
        "", "task: classify, segment, detect, regress, autoencode or sequence; default: the network file's",
        choices=tuple(TaskKind), group=TASK, unset=True,
    )  # fmt: skip
    metric: str = setting(
        "", "metric of the task, or file.py:function; default: its main metric", group=TASK, unset=True
    )
    allow_code: bool = setting(False, "run the Python file of --metric", group=TASK)
    age_s: float = setting(
        3600.0, "chip time between programming and running: 30s, 1h, 2d", low=0, unit="s", group=CELLS
    )
    read_back_reads: int = 32
    layer_images: int = 16
    reprogram: bool = setting(False, "write cells even when the chip holds this program", group=CELLS)
    causes: bool = setting(
        True, "do not split the gap by cause (less simulation, no read-back for it)", option="no-causes", group=VERDICT
    )
    mode: str = setting(
        AUTO, "exact (each conversion), fast (one product, matched noise), auto: fast if as accurate",
        choices=ENGINES, group=VERDICT,
    )  # fmt: skip
    early_reads: int = 8  # averaged in a reading right after writing: few, so that cells are read young
    cause_images: int = 500  # most images that the causes are simulated on
    untuned_images: int = 500  # most images that are also run without the tune, once
    effort: int | None = None
    recipe: Recipe = None  # type: ignore[assignment]  # what is done to the network on a chip; None: that of the effort

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", self.recipe or TechniqueOptions(self.effort).recipe())
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

    @property
    def layout(self) -> LayoutOptions:
        """How a network is laid out for such a deployment."""
        from mapping.layout.lay_out import LayoutOptions

        return self.recipe.laid_out(LayoutOptions())

    def compiled_for(self, program: ConductanceProgram) -> DeployOptions:
        """Options with the techniques that a program was compiled for, unless the user named techniques."""
        others = self.effort is not None or self.recipe != USUAL_RECIPE
        return self if others or not program.recipe else replace(self, recipe=Recipe.of_text(program.recipe))

    def recipe_of(self, program: ConductanceProgram) -> Recipe:
        """The recipe for ``program`` with the run's age and reads; with its lower slices if it has residual slices.

        Raises:
            mapping.recipe.technique.RecipeError: the program has residual slices, and cells are to be rewritten.
        """
        lower = self.recipe.get(LowerSlices) or LowerSlices(cell_reads=self.read_back_reads)
        found = self.recipe.having(lower) if program.residual else self.recipe.without(LowerSlices.name)
        return replace(found, age_s=self.age_s, reads=self.read_back_reads)
