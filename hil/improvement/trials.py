"""Trials: what ``hil improve`` may do to a network's program, from cheap to dear.

Most are what techniques offer (``mapping.recipe.technique.Offer``), in the order of the price list; exclusions and
settings are theirs. Two are of the network itself: the rule of its weight scales, and training.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from hil.cost.plan import DeploymentPlan
from hil.deployment.options import TRAINING, TechniqueOptions
from hil.deployment.plan import plan_of
from hil.deployment.price_list import Priced, price_list
from hil.errors import UsageError
from hil.improvement.context import Candidate, TrialContext
from hil.improvement.further_training import LEAST_MINUTES
from mapping.compile import CannotMap
from mapping.layout.lay_out import LayoutOptions
from mapping.network.task import TaskKind
from mapping.program.conductance import ConductanceProgram
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe
from mapping.recipe.rounds import Rounds
from mapping.recipe.technique import RecipeError
from mapping.recipe.tune import TunedChannels


@dataclass(frozen=True, slots=True)
class Trial:
    """One technique to try. ``propose`` gives the candidate, or the reason why there is none.

    ``name``: as for ``--with``. ``leads``: as in an ``Offer``.
    """

    name: str
    words: str
    propose: Callable[[TrialContext, Candidate], Candidate | str]
    leads: bool = False


def trials_of(context: TrialContext, left_out: Collection[str] = (), effort: int = TRAINING) -> tuple[Trial, ...]:
    """All that may be tried, from cheap to dear: scales, which cost a chip nothing, the price list of the techniques on
    this network and chip, and training.

    Args:
        left_out: names of techniques that are not tried.
        effort: highest effort level of a technique.
    """
    if effort == 0:
        return ()
    return (SCALES, *offered(context, left_out, effort), *([FINETUNE] if effort == TRAINING else []))


def offered(context: TrialContext, left_out: Collection[str] = (), effort: int = TRAINING) -> list[Trial]:
    """The trials of ``trials_of`` that are techniques."""
    return [
        Trial(str(one.technique), one.technique.words, partial(_offered, one), one.offer.leads)
        for one in prices_for(context)
        if one.technique.name not in left_out and one.offer.effort <= effort
    ]


def prices_for(context: TrialContext) -> tuple[Priced, ...]:
    """The price list of techniques, on the macros that may be used."""

    def planned(recipe: Recipe) -> DeploymentPlan:
        program = context.program(replace(context.begun, recipe=recipe))
        if why := _beyond(context, program):
            raise CannotMap(why, chip=context.spec.name)
        return plan_of(program, replace(recipe, age_s=context.age_s), context.record)

    return price_list(planned, context.watch, context.begun.recipe, context.asked)


def _offered(priced: Priced, context: TrialContext, candidate: Candidate) -> Candidate | str:
    """The candidate with a technique and those it requires, less those it excludes; or why it has no room."""
    if priced.plan is None:
        return priced.why
    try:
        found = replace(candidate, recipe=candidate.recipe.using(priced.technique, context.asked))
    except RecipeError as error:
        return str(error)
    return _no_place(context, candidate, found) or found


def _no_place(context: TrialContext, candidate: Candidate, found: Candidate) -> str:
    """Why a technique's layout does not fit the allowed macros, or changes nothing; "": it fits."""
    if found.recipe.laid_out(LayoutOptions()) == candidate.recipe.laid_out(LayoutOptions()):
        return "" if found.recipe != candidate.recipe else "the recipe has it already"
    try:
        program = context.program(found)
    except CannotMap as error:
        return error.reason
    if why := _beyond(context, program):
        return why
    if program.digest == context.program(candidate).digest:
        lacking = "; the record lacks further ones: calibrate the whole chip" if context.unknown else ""
        return f"no layer fits once more on the {len(program.macros)} macros in use or on free ones{lacking}"
    return ""


def _beyond(context: TrialContext, program: ConductanceProgram) -> str:
    """Why a program does not fit the allowed macros; "": it fits."""
    if len(program.macros) > context.macros:
        return f"it takes {len(program.macros)} macros, {context.macros} may be used"
    if not context.record.macros.keys() >= set(program.macros):
        return "it takes macros that are not in the record: calibrate the whole chip"
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


SCALES = Trial("scales", "weight scales by the error of the output on a chip", _scales)
FINETUNE = Trial("finetune", "trained on for the chip's errors, in what is left of --minutes (hil finetune)", _finetune)


def begun_with(asked: TechniqueOptions) -> Recipe:
    """The recipe of the first trial: rounds, and settings of the tune.

    Raises:
        RecipeError: no such technique or setting. UsageError: one that hil improve tries by itself.
    """
    recipe = Recipe().changed(asked.having, asked.without)
    own = [t.name for t in recipe.techniques if not isinstance(t, Rounds | TunedChannels)]
    if own:
        raise UsageError(f"{', '.join(own)}: hil improve tries it by itself", hint="hil deploy --with uses it unasked")
    return recipe
