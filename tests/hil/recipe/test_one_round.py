"""Rounds are a loop over parts: a program that fits is the loop with one part, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from hil.deployment.deploy import wired_target, write_whole
from hil.deployment.layer_sums import exact_layers
from hil.deployment.options import DeployOptions, usual_recipe
from hil.deployment.rounds import RoundsRun
from hil.driver.open_chip import open_chip
from hil.watch import Watch
from mapping.program.training_inputs import training_inputs
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe, run_recipe
from mapping.recipe.repeated_rows import RepeatedRows

from ..conftest import CHIP, Small
from ..small_net import images


@pytest.mark.parametrize("having", [(), ("rewrite=1",), ("adapters=1",)], ids=str)
def test_rounds_of_a_program_that_fits_are_one_round(small: Small, having: tuple[str, ...]) -> None:
    options = DeployOptions(repeats=2, causes=False, untuned_images=20, recipe=usual_recipe("tune=16", *having))
    pixels, watch = images(60, seed=8)[0], Watch()
    recipe = options.recipe_of(small.program)
    program = recipe.prepared(small.program, small.record, watch)
    inputs, targets = training_inputs(program), recipe.targets(program)
    with open_chip(CHIP, chip=program.spec) as driver:
        first = pixels[: options.untuned_images]
        whole = write_whole(driver, program, small.record, inputs, targets, first, options, watch, force=True)
        measured = whole.measure(pixels, 0, watch)
    with open_chip(CHIP, chip=program.spec) as driver:
        target, exact = (
            wired_target(driver, small.record, options, watch, force=True),
            exact_layers(program, pixels[:4]),
        )
        with RoundsRun(target, program, exact, pixels, options, tuned_too=True) as rounds:
            run_recipe(recipe, program, target, inputs, targets, rounds)
    assert whole.tuned is not None
    assert rounds.tuned is not None
    assert rounds.untuned is not None
    assert [m.pulses.tolist() for m in rounds.macros] == [r.pulses.tolist() for r in whole.target.reports.values()]
    for slot, cells in whole.readings_us.items():
        np.testing.assert_array_equal(cells, rounds.readings_us[slot])
    assert rounds.corrections.keys() == whole.corrections.keys()
    for ours, theirs in zip(whole.tuned.fits, rounds.tuned.fits, strict=True):
        np.testing.assert_array_equal(ours.gain, theirs.gain)
        np.testing.assert_array_equal(ours.offset, theirs.offset)
    np.testing.assert_array_equal(whole.untuned, rounds.untuned)
    np.testing.assert_array_equal(measured, rounds.logits)


def test_residual_slices_take_the_place_of_repeated_rows() -> None:
    assert Recipe((RepeatedRows(),)).using(LowerSlices()).techniques == (LowerSlices(),)
