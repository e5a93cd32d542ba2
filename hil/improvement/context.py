"""Shared by all trials: the best candidate so far, how its program is made, and how virtual chips score it.

Scores come from virtual chips in fast mode, on training images that serve neither the tune nor the scales, never on
test images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.record.calibration import CalibrationRecord
from hil.deployment.options import DeployOptions
from hil.errors import MismatchError
from hil.improvement.further_training import FurtherTraining
from hil.simulation.chip_workers import ChipWorkers
from hil.simulation.virtual_chips import VirtualChips, at_once
from hil.verdict.tasks.task import Task
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.layout.free_cells import MOST_COPIES, Copies, choose_copies_to_average
from mapping.layout.lay_out import IDLE_COPIES, LayoutOptions
from mapping.network.file import NetworkFile, load_network
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, Multiply, run
from mapping.program.training_inputs import correction_inputs
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.idle_copies import IdleCopies
from mapping.recipe.recipe import Recipe
from mapping.recipe.technique import RecipeError
from mapping.recipe.tune import TunedChannels
from mapping.scale_choice import judged_by_float
from mapping.tune.averaged import layer_areas
from mapping.tune.channel_affine import TuneTargets, tune_channels
from mapping.tune.residual import with_reads

SENSED_IMAGES = 32  # stored training images that a layer's share of the error is taken on


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe and the network it applies to: its rule of weight scales ("": as a deployment chooses, with copies), and
    the digest of its training data ("": not trained further)."""

    recipe: Recipe = field(default_factory=Recipe)
    scales: str = ScaleRule.ROUNDING.value
    finetuned: str = ""

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Candidate:
        """Inverse of ``to_json``; raises ``KeyError`` or ``ValueError`` for anything else."""
        scales, finetuned = found["scales"], found["finetuned"]
        if not (isinstance(scales, str) and isinstance(finetuned, str)):
            raise ValueError("scales and finetuned are words")
        try:
            return cls(Recipe.from_json(found["recipe"]), ScaleRule(scales).value, finetuned)
        except RecipeError as error:
            raise ValueError(str(error)) from error

    def to_json(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_json(), "scales": self.scales, "finetuned": self.finetuned}


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
class TrialContext:
    """Shared inputs of all trials. ``images`` and ``targets`` are held-out training images, as ``task`` scores them.

    ``asked``: techniques in every trial (rounds), and settings of techniques to try (the tune's images).
    ``training``: setup of further training; None: no training. ``crew`` runs the virtual chips.
    ``minutes_left`` of the time budget of ``hil improve``; None: no budget.
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
    macros: int  # that may be used
    watch: Watch
    asked: Recipe = field(default_factory=Recipe)
    made: dict[tuple[object, ...], ConductanceProgram] = field(default_factory=dict)  # by what decides the compilation
    training: FurtherTraining | None = None
    crew: ChipWorkers = field(default_factory=ChipWorkers)
    minutes_left: float | None = None
    scales: str = ScaleRule.ROUNDING.value  # of the candidate that is first
    sensed: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)  # by scales and network

    def few(self, chips: int, images: int) -> TrialContext:
        """The context with the first of its chips and images."""
        return replace(self, chips=chips, images=self.images[:images], targets=self.targets[:images])

    @property
    def begun(self) -> Candidate:
        """The candidate of the first trial: only the techniques that the user requires, without a tune."""
        return Candidate(self.asked.without(TunedChannels.name), self.scales)

    def recipe(self, candidate: Candidate) -> Recipe:
        """The recipe of this candidate, for the planned age."""
        return replace(candidate.recipe, age_s=self.age_s)

    def program(self, candidate: Candidate) -> ConductanceProgram:
        """The program of a candidate as chips of the record are written (untuned, as each chip gets its own tune)."""
        recipe = self.recipe(candidate)
        layout, copies = recipe.laid_out(LayoutOptions()), self._copies(candidate)
        cells = layout.read_once
        key, first = ((each, candidate.scales, candidate.finetuned) for each in (layout, cells))
        if first not in self.made:
            network, rule = self.network_of(candidate), ScaleRule(candidate.scales) if candidate.scales else None
            compiled = partial(
                compile_network, network, self.spec, copies=copies, options=cells, progress=self.watch.step
            )
            self.made[first] = compiled(scale_rule=rule) if rule else judged_by_float(network, compiled)[0]
        if key not in self.made:
            self.made[key] = with_reads(self.made[first], layout)
        return recipe.prepared(self.made[key], self.record, self.watch)

    def _copies(self, candidate: Candidate) -> Copies | None:
        """Further copies of layers where they help most, on the network's own macros and on further ones.

        Each round of a larger network may use all macros of the record.
        """
        if not candidate.scales:
            return None
        wanted = candidate.recipe.get(IdleCopies)
        if wanted is None or candidate.recipe.laid_out(LayoutOptions()).residual:
            return {}
        plain = replace(candidate, recipe=self.begun.recipe)
        once = self.program(plain)
        allowed = None
        if once.rounds > 1:
            allowed = set(self.record.macros)
        elif wanted.macros:
            allowed = {*once.macros, *self.free(once)[: wanted.macros]}
        most = MOST_COPIES if wanted.macros else IDLE_COPIES
        errors = self.sensitivity(plain)
        return choose_copies_to_average(layer_areas(once), self.spec, errors, allowed=allowed, most=most)

    def free(self, program: ConductanceProgram) -> list[int]:
        """Free macros: allowed, empty, and calibrated by the record."""
        most = max(self.macros - len(program.macros), 0)
        return [m for m in range(self.spec.macros) if m not in program.macros and m in self.record.macros][:most]

    @property
    def unknown(self) -> bool:
        """Whether the chip has macros that the record lacks."""
        return not self.record.macros.keys() >= set(range(self.spec.macros))

    def deploy_options(self) -> tuple[str, ...]:
        """Options of ``hil deploy`` that treat a program as ``score`` does, beside its own recipe."""
        return () if self.age_s == DeployOptions().age_s else (f"--age {self.age_s:g}s",)

    def network_of(self, candidate: Candidate) -> NetworkFile:
        """The network of a candidate: the original, or trained further.

        Raises:
            MismatchError: the trained network in the folder is not the candidate's.
        """
        if not candidate.finetuned:
            return self.network
        if self.training is None:
            raise MismatchError("the network of this folder was trained on", hint="continue with --effort 3")
        found = load_network(self.training.out)
        if found.digest != candidate.finetuned:
            raise MismatchError(
                f"{self.training.out} is not the network that hil improve has trained", hint="begin in another folder"
            )
        return found

    def score(
        self, candidate: Candidate, images: NDArray[np.uint8] | None = None, targets: NDArray[np.generic] | None = None
    ) -> Score:
        """Accuracies of virtual chips programmed with the candidate, each tuned to its own answers if it says so."""
        program, recipe = self.program(candidate), self.recipe(candidate)
        x, y = (self.images, self.targets) if images is None or targets is None else (images, targets)
        virtual = self._chips(program, recipe, recipe.targets(program))
        found = []
        each = self.crew.each(_accuracy, range(self.chips), virtual, x, y, self.task, at_once=at_once(program))
        for number, share in enumerate(each):
            self.watch.step(number + 1, self.chips, f"virtual chip {number + 1} of {self.chips}")
            found.append(share)
        return Score(np.array(found))

    def sensitivity(self, candidate: Candidate) -> dict[str, float]:
        """Mean square error of logits, by layer, if a virtual chip multiplies this layer only, tuned if the network
        stores images for a tune. Computed once for a network and a rule of its scales."""
        key = candidate.scales, candidate.finetuned
        if key not in self.sensed:
            self.sensed[key] = self._sensitivity(candidate)
        return self.sensed[key]

    def _sensitivity(self, candidate: Candidate) -> dict[str, float]:
        program, recipe = self.program(candidate), self.recipe(candidate)
        images = program.calibration_images[:SENSED_IMAGES]
        ideal = run(program, images, IdealMultiply(program)).astype(np.float64)
        chip, found = self._chips(program, recipe, None).chip(0), {}
        targets = Recipe((TunedChannels(SENSED_IMAGES),)).targets(program)
        for done, step in enumerate(program.matrices):
            self.watch.step(done, len(program.matrices), f"sensitivity of {step.name}")
            only = OneLayer(program, chip, step.name)
            running = program if targets is None else tune_channels(program, targets, only).program
            found[step.name] = float(((run(running, images, only) - ideal) ** 2).mean())
        return found

    def _chips(self, program: ConductanceProgram, recipe: Recipe, targets: TuneTargets | None) -> VirtualChips:
        return VirtualChips(
            program,
            self.record,
            recipe,
            self.chips,
            self.seed,
            inputs=correction_inputs(program),
            mode="fast",
            targets=targets,
        )


def _accuracy(
    number: int, virtual: VirtualChips, images: NDArray[np.uint8], targets: NDArray[np.generic], task: Task
) -> float:
    """Accuracy of one virtual chip, tuned to its own answers where the others are tuned."""
    chip = virtual.chip(number)
    return float(task.totals(task.scores(run(virtual.running(number, chip), images, chip), targets)))


class OneLayer:
    """Exact products for all layers but one, which a virtual chip multiplies; satisfies ``Multiply``."""

    def __init__(self, program: ConductanceProgram, chip: Multiply, layer: str) -> None:
        self._exact, self._chip, self._layer = IdealMultiply(program), chip, layer

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        source: Multiply = self._chip if step.name == self._layer else self._exact
        return source.sums(step, codes, sample)
