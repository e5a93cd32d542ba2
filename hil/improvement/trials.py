"""Trials: what ``hil improve`` may do to a network's program, from cheap to dear.

Most are what techniques offer (``mapping.recipe.technique.Offer``): order, exclusions and settings are theirs. Two are
of the network itself: the rule of its weight scales, and training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from hil.deployment.options import TechniqueOptions
from hil.errors import UsageError
from hil.improvement.context import Candidate, TrialContext
from hil.improvement.further_training import LEAST_MINUTES
from mapping.compile import CannotMap
from mapping.layout.lay_out import LayoutOptions
from mapping.network.task import TaskKind
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe
from mapping.recipe.registry import offers, technique
from mapping.recipe.rounds import Rounds
from mapping.recipe.technique import Offer, RecipeError, Technique
from mapping.recipe.tune import TunedChannels


@dataclass(frozen=True, slots=True)
class Trial:
    """One technique to try. ``propose`` gives the candidate, or the reason why there is none.

    ``dear``, ``effort`` and ``leads`` are those of an ``Offer``; ``technique`` that it uses, "": none of a recipe.
    """

    name: str
    words: str
    dear: int
    effort: int
    propose: Callable[[TrialContext, Candidate], Candidate | str]
    technique: str = ""
    leads: bool = False


def all_trials() -> tuple[Trial, ...]:
    """All of them, from cheap to dear: none writes a cell more, then cells, chip time and wear, macros, work of the
    host, training."""
    offered = [
        Trial(offer.name, offer.words, offer.dear, offer.effort, partial(_offered, kind, offer), kind.name, offer.leads)
        for kind, offer in offers()
    ]
    return tuple(sorted((*offered, *OF_THE_NETWORK), key=lambda trial: trial.dear))


def _offered(kind: type[Technique], offer: Offer, context: TrialContext, candidate: Candidate) -> Candidate | str:
    """The first settings of an offer that the chip has a place for, in place of what the technique excludes."""
    stands, why = candidate.recipe.get(kind) or context.asked.get(kind), ""
    if offer.upon and candidate.recipe.get(kind) is None:
        return f"{kind.name} is not in the recipe"
    if offer.upon and (other := [f"{n}={value:g}" for n, value in offer.upon.items() if getattr(stands, n) != value]):
        return f"it is tried upon {kind.name} with {', '.join(other)}"
    for changes in offer.changes:
        try:
            wanted = replace(stands or kind(), **changes)  # type: ignore[type-var]
            recipe = candidate.recipe.without(*kind.excludes).having(wanted)
        except RecipeError as error:
            return str(error)
        found = replace(candidate, recipe=recipe)
        why = _no_place(context, candidate, found)
        if not why:
            return found
    return why


def _no_place(context: TrialContext, candidate: Candidate, found: Candidate) -> str:
    """Why there is no place for another layout on the macros that may be used, or nothing to it; "": there is."""
    if found.recipe.laid_out(LayoutOptions()) == candidate.recipe.laid_out(LayoutOptions()):
        return "" if found.recipe != candidate.recipe else "the recipe has it already"
    try:
        program = context.program(found)
    except CannotMap as error:
        return error.reason
    if len(program.macros) > context.macros:
        return f"it takes {len(program.macros)} macros, {context.macros} may be used"
    if not context.record.macros.keys() >= set(program.macros):
        return "it takes macros that are not in the record: calibrate the whole chip"
    if program.digest == context.program(candidate).digest:
        lacking = "; the record lacks further ones: calibrate the whole chip" if context.unknown else ""
        return f"no layer fits once more on the {len(program.macros)} macros in use or on free ones{lacking}"
    return ""


def _scales(context: TrialContext, candidate: Candidate) -> Candidate | str:
    if candidate.recipe.get(LowerSlices):
        return "weights in residual slices are rounded"
    return replace(candidate, scales=ScaleRule.OUTPUT.value)


def _finetune(context: TrialContext, candidate: Candidate) -> Candidate | str:
    if context.task.kind is not TaskKind.CLASSIFY:
        return f"training is for networks that give classes, this one is to {context.task.kind}"
    if candidate.recipe.get(LowerSlices):
        return "residual slices leave errors too small to train for"
    if context.training is None:
        return "training was not requested"
    if context.minutes_left is None:
        return "training takes what is left of --minutes, and none were given"
    if context.minutes_left < LEAST_MINUTES:
        return f"{max(context.minutes_left, 0.0):.1f} minutes are left, training takes {LEAST_MINUTES:g}"
    program = context.program(candidate)
    settings = context.training.settings(program, context.minutes_left, age_s=context.age_s, seed=context.seed)
    trained = context.training.trained(context.network, settings, context.images, context.watch)
    return replace(candidate, finetuned=trained.digest)


OF_THE_NETWORK = (
    Trial("scales", "weight scales by the error of the output on a chip", 15, 1, _scales),
    Trial(
        "finetune", "trained on for the chip's errors, in what is left of --minutes (hil finetune)", 90, 3, _finetune
    ),
)


def improvement_recipe(asked: TechniqueOptions, effort: int) -> tuple[Recipe, tuple[Trial, ...]]:
    """What the first trial begins with (rounds, and how a tune is made), and the trials of an effort.

    Raises:
        RecipeError: no such technique or setting. UsageError: one that hil improve tries by itself.
    """
    recipe = Recipe().changed(asked.having, [])
    own = [t.name for t in recipe.techniques if not isinstance(t, Rounds | TunedChannels)]
    if own:
        raise UsageError(f"{', '.join(own)}: hil improve tries it by itself", hint="hil deploy --with uses it unasked")
    names = {technique(name).name for name in asked.without}
    return recipe, tuple(trial for trial in all_trials() if trial.technique not in names and trial.effort <= effort)
