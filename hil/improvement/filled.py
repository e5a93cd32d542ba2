"""A chip that is not full is filled: techniques that fit the macros are kept where virtual chips show a gain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.record.calibration import CalibrationRecord
from cim.record.published import NoModels, nominal_record
from hil.deployment.network_source import BUNDLED_NETWORK, open_network, program_of
from hil.deployment.options import USUAL_RECIPE, DeployOptions, NetworkOptions
from hil.deployment.price_list import planner, price_list
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.errors import CannotMap
from mapping.network.float_run import float_logits
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import correction_inputs
from mapping.recipe.recipe import Recipe
from mapping.recipe.technique import RecipeError
from mapping.scale_choice import compared_images
from mapping.workload import unplaced_workload

CHIPS = 8  # virtual chips that decide
EFFORT = 2  # of the offers that are weighed: no training
WEIGHED = 100_000  # most multiplications of an image: a small network is weighed in seconds
ENOUGH = 0.01  # share of the answers lost on virtual chips, below which nothing is weighed


def filled(
    network: str | Path | None,
    source: NetworkOptions,
    options: DeployOptions,
    record: CalibrationRecord | None,
    watch: Watch,
) -> Recipe:
    """The recipe of a deployment that names no technique, with what fits the macros and gains more than its standard
    error on virtual chips, from cheap to dear.

    A gain is of the float network's answers to stored images that nothing was fitted on. A network that loses less than
    ``ENOUGH``, a network of more than ``WEIGHED`` multiplications, one that does not classify, one that stores too few
    images, and all that is no net.pt keep the usual recipe. The watch is told what was weighed.
    """
    path = Path(network) if network else BUNDLED_NETWORK
    if path.suffix != ".pt" or not path.is_file() or options.recipe != USUAL_RECIPE:
        return options.recipe
    file = open_network(path, source, watch=watch)
    work = unplaced_workload(file.graph, weight_bits=file.weight_bits, activation_bits=file.activation_bits)
    at, held_out = compared_images(file)
    if not file.graph.classes or not held_out or work.macs > WEIGHED:
        return options.recipe
    images = file.calibration_images[at]
    answers = float_logits(file.graph, images).argmax(1)
    made = partial(program_of, network, source, Watch())
    stands = options.recipe

    def kept(recipe: Recipe) -> NDArray[np.float64]:
        return _kept(
            made(recipe=recipe)[0], replace(recipe, age_s=options.age_s), record, options.seed, images, answers
        )

    try:
        best = kept(stands)
    except NoModels:  # nothing is known of such a chip before it is measured
        return stands
    if best.mean() >= 1 - ENOUGH:
        return stands
    weighed = []
    for priced in price_list(planner(network, source), Watch()):  # from cheap to dear
        if priced.plan is None or priced.offer.effort > EFFORT:
            continue
        try:
            recipe = stands.using(priced.technique)
            if recipe == stands:
                continue
            found = kept(recipe)
        except (CannotMap, RecipeError):
            continue
        gain = found - best
        error = gain.std(ddof=1) / np.sqrt(CHIPS)
        keeps = gain.mean() > error
        let_go = "" if keeps else ", let go"
        weighed.append(f"{priced.technique} {100 * gain.mean():+.1f} ± {100 * error:.1f}{let_go}")
        if keeps:
            stands, best = recipe, found
    watch.note(f"weighed on {CHIPS} virtual chips, points of {len(images)} stored images: {'; '.join(weighed)}")
    return stands


def _kept(
    program: ConductanceProgram,
    recipe: Recipe,
    record: CalibrationRecord | None,
    seed: int,
    images: NDArray[np.uint8],
    answers: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Share of the float network's answers that each virtual chip gives."""
    spec = program.spec
    fits = record is not None and record.spec_digest == spec.digest and record.macros.keys() >= set(program.macros)
    known = record if record is not None and fits else nominal_record(spec, program.macros)
    program = recipe.prepared(program, known, Watch())
    chips = VirtualChips(
        program, known, recipe, CHIPS, seed,
        inputs=correction_inputs(program), mode="fast", targets=recipe.targets(program),
    )  # fmt: skip
    logits = chips.run(images, 0, Watch())
    return np.asarray((logits.argmax(-1) == answers).mean(-1))
