"""Virtual chips: drawn from a record, each its own, repeatable from the seed."""

from __future__ import annotations

import dataclasses
import os
import weakref

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.cells.read_noise import ReadNoise
from cim.record.calibration import CalibrationRecord, CellState
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import DeployOptions
from hil.errors import MismatchError
from hil.prediction.predict import predict
from hil.simulation.virtual_chip import TUNE_IMAGES, VirtualChip
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.layout.place import macro_targets_us
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe
from mapping.tune.columns import column_corrections

from ..conftest import Small
from ..small_net import images

PIXELS, LABELS = images(120, seed=11)


def virtual(small: Small, *, conditioned: bool, chips: int = 3, seed: int = 0) -> VirtualChips:
    program, record = small.program, small.record
    inputs = training_inputs(program)
    if not conditioned:
        return VirtualChips(program, record, Recipe(reads=16), chips, seed, inputs=inputs)
    rng = np.random.default_rng(5)
    readings: dict[int, NDArray[np.float32]] = {}
    for macro in program.macros:
        targets = np.nan_to_num(macro_targets_us(program, macro), nan=2.0)
        stuck = record.macro(macro).stuck_us
        wrong = np.where(np.isfinite(stuck), stuck, targets + rng.normal(0, 2, targets.shape))
        readings[macro] = wrong.astype(np.float32)
    corrections = column_corrections(program, record, readings, inputs)
    return VirtualChips(program, record, Recipe(reads=16), chips, seed, corrections=corrections, readings_us=readings)


@pytest.mark.parametrize("conditioned", [True, False])
def test_chips_repeat_from_their_seed_and_differ_from_each_other(small: Small, conditioned: bool) -> None:
    first = virtual(small, conditioned=conditioned).run(PIXELS, 0, Watch())
    again = virtual(small, conditioned=conditioned).run(PIXELS, 0, Watch())
    other = virtual(small, conditioned=conditioned, seed=1).run(PIXELS, 0, Watch())
    assert first.shape == (3, 120, 4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_an_image_has_noise_of_its_own_number_whatever_ran_before_it(small: Small) -> None:
    """Looks run images in parts; the parts must give what the whole gives."""
    chips = virtual(small, conditioned=True)
    whole = chips.run(PIXELS[:40], 0, Watch())
    parts = [chips.run(PIXELS[:25], 0, Watch()), chips.run(PIXELS[25:40], 25, Watch())]
    assert np.array_equal(whole, np.concatenate(parts, axis=1))
    moved = chips.run(PIXELS[:40], 1000, Watch())
    assert not np.array_equal(whole, moved)


def test_more_chips_leave_the_first_ones_as_they_were(small: Small) -> None:
    few, many = (virtual(small, conditioned=False, chips=n).run(PIXELS[:20], 0, Watch()) for n in (2, 5))
    assert np.array_equal(few, many[:2])


def test_chips_as_read_back_differ_less_than_chips_programmed_again(small: Small) -> None:
    spread = {}
    for conditioned in (True, False):
        logits = virtual(small, conditioned=conditioned, chips=8).run(PIXELS, 0, Watch()).astype(float)
        spread[conditioned] = logits.var(axis=0).mean()
    assert spread[True] < 0.8 * spread[False]


def test_virtual_chips_answer_near_the_ideal_network_and_not_as_it(small: Small) -> None:
    """By logits: an error can put a single image right, so that accuracy on few images need not fall."""
    ideal = run(small.program, PIXELS, IdealMultiply(small.program))
    logits = virtual(small, conditioned=False, chips=4).run(PIXELS, 0, Watch())
    error = ((logits - ideal) ** 2).mean((1, 2)) / ideal.var()
    assert (error > 1e-4).all()
    assert (error < 0.2).all()
    same = (logits.argmax(2) == ideal.argmax(1)).mean(1)
    assert 0.9 < same.mean() < 1.0
    assert (logits.argmax(2) == LABELS).mean() > 0.8


def test_stuck_cells_of_the_record_stay_stuck_in_every_chip(small: Small) -> None:
    """A record that says every cell of the last layer is stuck low: no virtual chip can tell classes apart."""
    record = small.record
    part = record.macros[1]
    dead = dataclasses.replace(
        part,
        cells=np.full_like(part.cells, CellState.STUCK_LOW),
        stuck_us=np.full_like(part.stuck_us, 1.0),
    )
    record = dataclasses.replace(record, macros={**record.macros, 1: dead})
    inputs = training_inputs(small.program)
    chips = VirtualChips(small.program, record, Recipe(reads=16), 3, 0, inputs=inputs)
    logits = chips.run(PIXELS, 0, Watch())
    assert (logits.argmax(2) == LABELS).mean() < 0.5


def test_layer_sums_come_from_every_chip_with_the_saturated_share(small: Small) -> None:
    chips = virtual(small, conditioned=True)
    step = small.program.matrices[1]
    codes = training_inputs(small.program)["fc"]
    sums, share = chips.layer_sums({"fc": codes})["fc"]
    assert sums.shape == (3, len(codes), 4, 1)  # a vector is a map of one place
    assert 0 <= share < 0.05
    exact = IdealMultiply(small.program).sums(step, codes, 0)
    assert np.corrcoef(sums.mean(0).ravel(), exact.ravel())[0, 1] > 0.95


def test_the_saturated_share_counts_conversions_of_runs(small: Small) -> None:
    chips = virtual(small, conditioned=True)
    chips.run(PIXELS[:10], 0, Watch())
    assert 0 <= chips.saturated_share < 0.05
    chip = chips.chip(0)
    per_image = sum(copy.conversions(1) for copies in chip.layers.values() for copy in copies)
    assert chips.conversions == 3 * 10 * per_image


def test_a_chip_is_the_same_whenever_it_is_drawn(small: Small) -> None:
    chips = virtual(small, conditioned=True)
    first, again, other = chips.draw(1), virtual(small, conditioned=True).draw(1), chips.draw(2)
    assert chips.draw(1) is first  # small ones are kept between two looks
    for macro in small.program.macros:
        assert np.array_equal(first.cells_us[macro], again.cells_us[macro], equal_nan=True)
        assert not np.array_equal(first.cells_us[macro], other.cells_us[macro], equal_nan=True)


def test_chips_that_do_not_fit_together_are_let_go_so_that_many_need_no_more_memory_than_few(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.simulation.virtual_chips.KEPT_BYTES", 1 << 16)
    alive: list[weakref.ref[VirtualChip]] = []
    most = 0

    class Counted(VirtualChips):
        def chip(self, number: int) -> VirtualChip:
            nonlocal most
            chip = super().chip(number)
            alive.append(weakref.ref(chip))
            most = max(most, sum(r() is not None for r in alive))
            return chip

    inputs = training_inputs(small.program)
    chips = Counted(small.program, small.record, Recipe(reads=16), 12, 0, inputs=inputs)
    chips.run(PIXELS[:4], 0, Watch())
    assert len(alive) == 12
    assert most <= 2 * (os.cpu_count() or 1)


def test_chips_need_either_readings_or_layer_inputs(small: Small) -> None:
    with pytest.raises(ValueError, match="need corrections"):
        VirtualChips(small.program, small.record, Recipe(reads=16), 2, 0)
    with pytest.raises(ValueError, match="need corrections"):
        VirtualChips(small.program, small.record, Recipe(reads=16), 2, 0, readings_us={})


# --- prediction ---------------------------------------------------------------------------------


def test_prediction_from_a_record_is_near_what_other_chips_measure(small: Small, tmp_path: object) -> None:
    data = load_dataset(small.data)
    options = DeployOptions(samples=300, virtual_chips=6)
    result = predict(small.program, data, small.record, options, Watch())
    assert result.images == 300
    assert result.chips.shape == (6,)
    assert 0.9 < result.chips.mean() < result.ideal
    assert "6 virtual chips" in "\n".join(result.summary().lines())


def test_prediction_refuses_a_record_of_another_description(small: Small) -> None:
    wrong = dataclasses.replace(small.record, spec_digest="0" * 64)
    with pytest.raises(MismatchError):
        predict(small.program, load_dataset(small.data), wrong, DeployOptions(samples=10), Watch())


def test_prediction_refuses_a_record_without_the_macros_of_the_program(small: Small) -> None:
    part = dataclasses.replace(small.record, macros={0: small.record.macros[0]})
    with pytest.raises(MismatchError, match="macro 1"):
        predict(small.program, load_dataset(small.data), part, DeployOptions(samples=10), Watch())


def test_fast_virtual_chips_are_as_good_as_exact_ones(small: Small) -> None:
    """Same draws, other arithmetic: mean accuracies within two points of each other on 120 images."""
    inputs = training_inputs(small.program)
    scores = []
    for mode in ("exact", "fast"):
        chips = VirtualChips(small.program, small.record, Recipe(reads=16), 4, 0, inputs=inputs, mode=mode)
        logits = chips.run(PIXELS, 0, Watch())
        scores.append((logits.argmax(2) == LABELS).mean())
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


def lasting(small: Small, growth_us2: float) -> CalibrationRecord:
    """The record with flicker of this growth a decade, and nothing new at every read."""
    levels = small.record.read_noise.levels_us
    none = np.zeros_like(levels)
    noise = ReadNoise(levels, none, none, flicker_us2=none + growth_us2, flicker_se_us2=none + growth_us2 / 100.0)
    return dataclasses.replace(small.record, read_noise=noise)


@pytest.mark.parametrize("mode", SimulationMode)
@pytest.mark.parametrize("conditioned", [True, False])
def test_read_noise_that_lasts_moves_a_virtual_chip_between_its_tune_and_inference(
    small: Small, conditioned: bool, mode: SimulationMode
) -> None:
    chips = dataclasses.replace(virtual(small, conditioned=conditioned), record=lasting(small, 1.0), mode=mode)
    still = dataclasses.replace(
        virtual(small, conditioned=conditioned), record=lasting(small, 0.0), mode=mode, drawn={}, kept={}
    )
    step, codes = small.program.matrices[1], training_inputs(small.program)["fc"]

    def sums(chips: VirtualChips, sample: int) -> NDArray[np.float64]:
        return chips.chip(0).sums(step, codes, sample).astype(np.float64)

    quiet, tuned, later = sums(still, 0), sums(chips, TUNE_IMAGES), sums(chips, 0)
    conversion = float((sums(still, TUNE_IMAGES) - quiet).std())
    for one, other in ((quiet, tuned), (quiet, later), (tuned, later)):
        assert (one - other).std() > 2 * conversion
    assert np.array_equal(sums(chips, TUNE_IMAGES), tuned)  # the same when asked again
    assert (sums(chips, TUNE_IMAGES + 1000) - tuned).std() <= 2 * conversion  # other images, the same cells


def test_a_record_without_read_noise_that_lasts_draws_what_it_drew_before(small: Small) -> None:
    drawn = virtual(small, conditioned=False).draw(0)
    record = lasting(small, 1.0)
    noise = dataclasses.replace(record.read_noise, variance_us2=small.record.read_noise.variance_us2)
    noisy = dataclasses.replace(
        virtual(small, conditioned=False), record=dataclasses.replace(record, read_noise=noise), drawn={}
    )
    assert not drawn.lasting_us
    assert noisy.draw(0).lasting_us
    for slot, cells in drawn.cells_us.items():
        assert np.array_equal(cells, noisy.draw(0).cells_us[slot], equal_nan=True)
