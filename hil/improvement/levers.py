"""Levers of the ladder: what may be done to a network's program, from cheap to dear, and how a program is scored.

A lever takes the recipe that stands and gives another; recipes are plain data, so that a journal can hold
them and a program can be made from one at any time. Scores come from virtual chips in fast mode, on training
images that serve neither the tune nor the scales, never on test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from hil.deployment.options import DeployOptions
from hil.errors import MismatchError, UsageError
from hil.improvement.further_training import LEAST_MINUTES, FurtherTraining
from hil.simulation.cores import in_threads
from hil.simulation.virtual_chip import VirtualChip
from hil.simulation.virtual_chips import VirtualChips
from hil.verdict.tasks.task import Task
from hil.watch import Watch
from mapping.compile import CannotMap, compile_network
from mapping.layout.free_cells import MOST_COPIES, Area, Copies, choose_copies_to_average
from mapping.layout.lay_out import IDLE_COPIES, LayoutOptions
from mapping.network.file import NetworkFile, load_network
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.program.limits import RESIDUAL_READS
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.aim import AgedTargets
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe
from mapping.recipe.registry import technique
from mapping.recipe.rewrite import Rewrite
from mapping.recipe.rounds import Rounds
from mapping.recipe.tune import Adapters, TunedChannels
from mapping.tune.aims import aimed, aims_of
from mapping.tune.averaged import layer_areas
from mapping.tune.channel_affine import TuneTargets, tune_channels, tune_targets
from mapping.tune.residual import writings

REWRITES = 3  # of the lever; more give little (doi 10.1038/s41586-022-04992-8 took three)
ADAPTER_RANK = 4  # of the lever: rank 1 gives most of what 8 give
RESIDUAL_COPIES = (4, 2, 1)  # of the lever, the most that fit: with four, what is left is that of other slices
FEW_READS = 2  # of every product with the highest of them, before the lever that takes more
SENSED_IMAGES = 32  # stored training images that a layer's share of the error is taken on


@dataclass(frozen=True, slots=True)
class Trial:
    """How a program is made from the network.

    ``copies``: further copies of layers whose sums are added. ``residual``: copies of each highest bit slice, whose
    errors lower slices take up, in place of copies and rewriting; ``reads`` of every product with it.
    """

    tune: bool = False
    scales: str = ScaleRule.ROUNDING.value
    aim: bool = False
    rewrite: int = 0
    copies: Copies = field(default_factory=dict)
    residual: int = 0
    reads: int = RESIDUAL_READS
    adapters: int = 0  # rank of the digital adapter that the tune gives each layer
    finetuned: str = ""  # digest of the network that was trained on; "": the network as it came

    @property
    def compiled(self) -> str:
        """What of it decides how the network is compiled, as a key."""
        return f"{self.scales} {sorted(self.copies.items())} {self.residual} {self.reads} {self.finetuned}"

    @property
    def once(self) -> Trial:
        """The same with each layer once."""
        return replace(self, copies={})

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Trial:
        """Inverse of ``to_json``; raises ``TypeError`` or ``ValueError`` for anything else."""
        copies = {
            name: tuple(tuple(Area(*map(int, area)) for area in copy) for copy in more)
            for name, more in found["copies"].items()
        }
        return cls(**{**found, "copies": copies})

    def to_json(self) -> dict[str, Any]:
        return {
            "tune": self.tune,
            "scales": self.scales,
            "aim": self.aim,
            "rewrite": self.rewrite,
            "copies": {
                name: [[list(astuple(area)) for area in copy] for copy in more] for name, more in self.copies.items()
            },
            "residual": self.residual,
            "reads": self.reads,
            "adapters": self.adapters,
            "finetuned": self.finetuned,
        }


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracies of virtual chips (S,) on the held-out training images, or another metric that is a share."""

    chips: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.chips.mean())

    @property
    def sd(self) -> float:
        return float(self.chips.std(ddof=1)) if len(self.chips) > 1 else 0.0

    def gain_over(self, other: Score) -> tuple[float, float]:
        """Mean gain and its standard error; chip i of both has the same number."""
        gain = self.chips - other.chips
        return float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))


@dataclass(frozen=True)
class LeverBench:
    """All that levers need. ``images`` and ``targets`` are held-out training images, as ``task`` scores them.

    ``training``: what the network may be trained on with, None: it is not. ``minutes_left`` of the ladder's time; None:
    nobody said how long it may take. ``rounds``: a network larger than the chip is written part after part.
    """

    network: NetworkFile
    spec: ChipSpec
    record: CalibrationRecord
    source: str
    images: NDArray[np.uint8]
    targets: NDArray[np.generic]
    task: Task
    age_s: float
    chips: int
    seed: int
    tune_images: int
    macros: int  # that may be used
    watch: Watch
    made: dict[str, ConductanceProgram] = field(default_factory=dict)  # by ``Trial.compiled``
    training: FurtherTraining | None = None
    minutes_left: float | None = None
    rounds: bool = False
    sensed: dict[str, dict[str, float]] = field(default_factory=dict)  # by recipe

    def program(self, recipe: Trial) -> ConductanceProgram:
        """The program of a recipe (untuned: a tune is made on each chip)."""
        key = recipe.compiled
        if key not in self.made:
            self.made[key] = compile_network(
                self.network_of(recipe),
                self.spec,
                scale_rule=ScaleRule(recipe.scales),
                copies=recipe.copies,
                options=LayoutOptions(
                    rounds=self.rounds and not recipe.residual, residual=recipe.residual, residual_reads=recipe.reads
                ),
                progress=self.watch.step,
            )
        program = self.made[key]
        if recipe.aim:
            age_s = self.age_s + LowerSlices().wait_s * writings(program)
            program = aimed(program, aims_of(self.record.programming, self.spec.macro, age_s, self.source))
        return program

    def deploy_options(self) -> tuple[str, ...]:
        """Options by which ``hil deploy`` treats a program as ``score`` does, beside the recipe that it holds."""
        return () if self.age_s == DeployOptions().age_s else (f"--age {self.age_s:g}s",)

    def whole_recipe(self, trial: Trial) -> Recipe:
        """All that is done to a program of this trial, as it is stored in it."""
        found = self.recipe(self.program(trial), trial)
        if trial.aim:
            found = found.having(AgedTargets())
        if trial.tune:
            found = found.having(TunedChannels(self.tune_images))
        return found.having(Adapters(trial.adapters)) if trial.adapters else found

    def network_of(self, recipe: Trial) -> NetworkFile:
        """The network of a recipe: as it came, or trained on.

        Raises:
            MismatchError: the trained network in the ladder's folder is not the recipe's.
        """
        if not recipe.finetuned:
            return self.network
        if self.training is None:
            raise MismatchError("the ladder's network was trained on", hint="go on without --no-finetune")
        found = load_network(self.training.out)
        if found.digest != recipe.finetuned:
            raise MismatchError(
                f"{self.training.out} is not the network that the ladder has trained", hint="begin in another folder"
            )
        return found

    def score(
        self, recipe: Trial, images: NDArray[np.uint8] | None = None, targets: NDArray[np.generic] | None = None
    ) -> Score:
        """Accuracies of virtual chips programmed with the recipe, each tuned to its own answers if it says so."""
        program = self.program(recipe)
        x, y = (self.images, self.targets) if images is None or targets is None else (images, targets)
        stored = program.calibration_images[: self.tune_images]
        aims = tune_targets(program, stored, recipe.adapters) if recipe.tune else None
        virtual = self._chips(program, recipe, aims)

        def accuracy(number: int) -> float:
            chip = virtual.chip(number)
            return float(self.task.totals(self.task.scores(run(virtual.running(number, chip), x, chip), y)))

        found = []
        for number, share in enumerate(in_threads(accuracy, range(self.chips))):
            self.watch.step(number + 1, self.chips, f"virtual chip {number + 1} of {self.chips}")
            found.append(share)
        return Score(np.array(found))

    def sensitivity(self, recipe: Trial) -> dict[str, float]:
        """By layer, the mean square error of the logits when this layer alone is a virtual chip's, tuned if so said.

        Measured once for a recipe.
        """
        key = repr(recipe.to_json())
        if key not in self.sensed:
            self.sensed[key] = self._sensitivity(recipe)
        return self.sensed[key]

    def _sensitivity(self, recipe: Trial) -> dict[str, float]:
        program = self.program(recipe)
        images = program.calibration_images[:SENSED_IMAGES]
        ideal = run(program, images, IdealMultiply(program)).astype(np.float64)
        chip, found = self._chips(program, recipe, None).chip(0), {}
        targets = tune_targets(program, images) if recipe.tune else None
        for done, step in enumerate(program.matrices):
            self.watch.step(done, len(program.matrices), f"sensitivity of {step.name}")
            only = OneLayer(program, chip, step.name)
            running = program if targets is None else tune_channels(program, targets, only).program
            found[step.name] = float(((run(running, images, only) - ideal) ** 2).mean())
        return found

    def recipe(self, program: ConductanceProgram, trial: Trial) -> Recipe:
        """What is done to the cells of each chip."""
        lower = (LowerSlices(),) if program.residual else ()
        again = (Rewrite(trial.rewrite),) if trial.rewrite else ()
        return Recipe((*lower, *again), self.age_s)

    def _chips(self, program: ConductanceProgram, recipe: Trial, targets: TuneTargets | None) -> VirtualChips:
        return VirtualChips(
            program,
            self.record,
            self.recipe(program, recipe),
            self.chips,
            self.seed,
            inputs=training_inputs(program),
            mode="fast",
            targets=targets,
        )


class OneLayer:
    """Exact products but for one layer, which a virtual chip multiplies; satisfies ``Multiply``."""

    def __init__(self, program: ConductanceProgram, chip: VirtualChip, layer: str) -> None:
        self._exact, self._chip, self._layer = IdealMultiply(program), chip, layer

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        source: IdealMultiply | VirtualChip = self._chip if step.name == self._layer else self._exact
        return source.sums(step, codes, sample)


@dataclass(frozen=True, slots=True)
class Lever:
    """One rung. ``pull`` gives the recipe to try, or the reason why there is none."""

    name: str
    words: str
    pull: Callable[[LeverBench, Trial], Trial | str]
    technique: str = ""  # that it uses; "": none of a recipe


def _tune(bench: LeverBench, recipe: Trial) -> Trial | str:
    if len(bench.network.calibration_images) < 2:
        return "the network stores no training images"
    return replace(recipe, tune=True)


def _scales(bench: LeverBench, recipe: Trial) -> Trial | str:
    return replace(recipe, scales=ScaleRule.OUTPUT.value)


def _aims(bench: LeverBench, recipe: Trial) -> Trial | str:
    aims = aims_of(bench.record.programming, bench.spec.macro, bench.age_s, bench.source)
    if max(abs(a - g) for a, g in zip(aims.targets_us, bench.spec.macro.levels_us, strict=True)) < 0.01:
        return "the law has no mean drift at this age"
    return replace(recipe, aim=True)


def _rewrite(bench: LeverBench, recipe: Trial) -> Trial | str:
    return replace(recipe, rewrite=REWRITES)


def _idle(bench: LeverBench, recipe: Trial) -> Trial | str:
    return _with_copies(bench, recipe, None, IDLE_COPIES)


def _residual(bench: LeverBench, recipe: Trial) -> Trial | str:
    why = ""
    for copies in RESIDUAL_COPIES:
        found = replace(recipe, residual=copies, reads=FEW_READS, copies={}, rewrite=0)
        why = _no_place(bench, found)
        if not why:
            return found
    return why


def _no_place(bench: LeverBench, recipe: Trial) -> str:
    """Why residual slices have no place on the macros that may be used; "": they have."""
    try:
        macros = bench.program(recipe).macros
    except CannotMap as error:
        return error.reason
    if len(macros) > bench.macros:
        return f"residual slices take {len(macros)} macros, {bench.macros} may be used"
    if not bench.record.macros.keys() >= set(macros):
        return "residual slices take macros that are not in the record: calibrate the whole chip"
    return ""


def _reads(bench: LeverBench, recipe: Trial) -> Trial | str:
    return replace(recipe, reads=RESIDUAL_READS) if recipe.residual else "there are no residual slices"


def _copies(bench: LeverBench, recipe: Trial) -> Trial | str:
    if recipe.residual:
        return "residual slices stand in their place"
    once = bench.program(recipe.once)
    free = [m for m in range(bench.spec.macros) if m not in once.macros]
    if bench.macros <= len(once.macros) or not free:
        return f"no macro is free: the network takes {len(once.macros)} of {bench.macros}"
    known = [m for m in free if m in bench.record.macros]
    if not known:
        return "no free macro is in the record: calibrate the whole chip"
    return _with_copies(bench, recipe, known[: bench.macros - len(once.macros)], MOST_COPIES)


def _with_copies(bench: LeverBench, recipe: Trial, further: Sequence[int] | None, most: int) -> Trial | str:
    """Copies where they help most, on the network's own macros and on these further ones.

    A network of several rounds has the whole chip in each, as far as the record knows it.
    """
    once = bench.program(recipe.once)
    allowed = None if further is None else {*once.macros, *further}
    if once.rounds > 1:
        allowed = set(bench.record.macros)
    errors = bench.sensitivity(recipe.once)
    copies = choose_copies_to_average(layer_areas(once), bench.spec, errors, allowed=allowed, most=most)
    if not copies:
        return "no layer fits a second time"
    if copies == recipe.copies:
        return "no further copy fits"
    return replace(recipe, copies=copies)


def _adapters(bench: LeverBench, recipe: Trial) -> Trial | str:
    if not recipe.tune:
        return "adapters are fitted by the tune, which did not help"
    return replace(recipe, adapters=ADAPTER_RANK)


def _finetune(bench: LeverBench, recipe: Trial) -> Trial | str:
    if bench.task.kind is not TaskKind.CLASSIFY:
        return f"training is for networks that give classes, this one is to {bench.task.kind}"
    if recipe.residual:
        return "residual slices leave errors too small to train for"
    if bench.training is None:
        return "training was not asked for"
    if bench.minutes_left is None:
        return "training takes what is left of --minutes, and none were given"
    if bench.minutes_left < LEAST_MINUTES:
        return f"{max(bench.minutes_left, 0.0):.1f} minutes are left, training takes {LEAST_MINUTES:g}"
    settings = bench.training.settings(bench.program(recipe), bench.minutes_left, age_s=bench.age_s, seed=bench.seed)
    trained = bench.training.trained(bench.network, settings, bench.images, bench.watch)
    return replace(recipe, finetuned=trained.digest)


LEVERS: tuple[Lever, ...] = (
    Lever("tune", "gains and biases tuned on each chip with stored training images", _tune, "tune"),
    Lever("scales", "weight scales by the error of the output on a chip", _scales),
    Lever("aims", "cells written beside their levels, right at the planned age", _aims, "aims"),
    Lever("idle", "copies of layers on cells that would be idle, sums added", _idle, "copies"),
    Lever("rewrite", f"cells that left their window written again, {REWRITES} times", _rewrite, "rewrite"),
    Lever(
        "residual",
        f"residual slices, up to {RESIDUAL_COPIES[0]} copies of the highest, in place of both",
        _residual,
        "residual",
    ),
    Lever(
        "reads",
        f"{RESIDUAL_READS} reads of every product with the highest of them, {FEW_READS} before",
        _reads,
        "residual",
    ),
    Lever("copies", "copies on further macros, where they help most", _copies, "copies"),
    Lever("adapters", f"digital adapters of rank {ADAPTER_RANK}, executed by the host", _adapters, "adapters"),
    Lever("finetune", "trained on for the chip's errors, in what is left of --minutes (hil finetune)", _finetune),
)
"""From cheap to dear: none writes a cell more, then chip time and wear, then cells by the macro, then digital work,
then training."""


def improvement_recipe(having: Sequence[str], without: Sequence[str]) -> tuple[Recipe, tuple[Lever, ...]]:
    """What a ladder is begun with (rounds, and how a tune is made), and the levers that are tried.

    Raises:
        RecipeError: no such technique or setting. UsageError: one that the ladder tries by itself.
    """
    recipe = Recipe().changed(having, [])
    own = [t.name for t in recipe.techniques if not isinstance(t, Rounds | TunedChannels)]
    if own:
        raise UsageError(f"{', '.join(own)}: the ladder tries it by itself", hint="hil deploy --with uses it unasked")
    names = {technique(name).name for name in without}
    return recipe, tuple(lever for lever in LEVERS if lever.technique not in names)
