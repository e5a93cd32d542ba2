"""Gain and offset of every channel, fitted layer by layer to what a chip answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.place import Placement
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import ExactProduct, IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.program.rounds import part_of_round
from mapping.tune.channel_affine import ChannelTune, fit_channels, tune_channels, tune_targets

from ..permuted import ordered
from ..small_networks import every_node, network


class Bent:
    """The exact product with a gain and an offset of its own in every channel, by name of the layer."""

    def __init__(self, program: ConductanceProgram, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.gain = {m.name: rng.uniform(0.5, 1.6, m.group.outputs) for m in program.matrices}
        self.offset = {m.name: rng.uniform(-300, 300, m.group.outputs) for m in program.matrices}
        self.samples: list[int] = []

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        self.samples.append(sample)
        sums = ExactProduct(step.group)(codes)  # of a part of the tiles, too
        across = (1, -1) + (1,) * (sums.ndim - 2)
        bent = sums * self.gain[step.name].reshape(across) + self.offset[step.name].reshape(across)
        return np.rint(bent).astype(np.int32)


def compiled(macros: int = 30, **more: object) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    file = network(every_node(rng), rng, images=40)
    return compile_network(file, load_chip("lab-128", macros=macros), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return compiled()


def same_answers(a: ConductanceProgram, chip: Bent, b: ConductanceProgram, images: NDArray[np.uint8]) -> float:
    """Distance of logits, as a share of their spread."""
    first, second = run(a, images, chip).astype(float), run(b, images, IdealMultiply(b)).astype(float)
    return float(np.abs(first - second).mean() / second.std())


def test_the_line_is_that_of_least_squares() -> None:
    z = np.random.default_rng(0).integers(-500, 500, (20, 3, 50)).astype(np.int32)
    y = np.rint(z * np.array([0.8, 1.3, 1.0])[:, None] + np.array([3.0, -40.0, 0.0])[:, None]).astype(np.int32)
    fit = fit_channels("layer", y, z)
    np.testing.assert_allclose(fit.gain, [1.25, 1 / 1.3, 1.0], rtol=1e-3)
    np.testing.assert_allclose(fit.offset, [-3.75, 40 / 1.3, 0.0], atol=0.05)
    assert fit.before > 0.04
    assert fit.after < 1e-5
    assert np.abs(fit.applied(y) - z).max() <= 1


def test_noise_in_a_channel_lowers_its_gain_as_least_squares_does() -> None:
    rng = np.random.default_rng(1)
    z = np.rint(100 * rng.standard_normal((200, 1, 100))).astype(np.int32)
    y = z + np.rint(100 * rng.standard_normal(z.shape)).astype(np.int32)
    assert fit_channels("layer", y, z).gain[0] == pytest.approx(0.5, abs=0.02)


def test_a_channel_that_never_varies_keeps_its_gain_and_gets_the_mean() -> None:
    z = np.arange(40, dtype=np.int32).reshape(10, 1, 4)
    fit = fit_channels("layer", np.full_like(z, 7), z)
    assert (fit.gain[0], fit.offset[0], fit.still, fit.limited) == (1.0, z.mean() - 7.0, 1, 0)


def test_gains_stay_within_their_limits() -> None:
    z = np.arange(40, dtype=np.int32).reshape(10, 1, 4)
    fit = fit_channels("layer", np.concatenate([z * 100, -z, np.rint(z / 20).astype(np.int32)], 1), z.repeat(3, 1))
    assert (fit.gain.min(), fit.gain.max(), fit.limited) == (0.2, 5.0, 3)


def test_a_tuned_program_undoes_the_lines_of_a_chip_layer_after_layer(program: ConductanceProgram) -> None:
    chip, images = Bent(program), program.calibration_images
    tuned = tune_channels(program, tune_targets(program, images), chip).program
    assert same_answers(program, chip, program, images) > 0.3
    assert same_answers(tuned, chip, program, images) < 0.02


def test_a_chip_without_errors_is_left_as_it_is(program: ConductanceProgram) -> None:
    targets = tune_targets(program, program.calibration_images)
    tuned = tune_channels(program, targets, IdealMultiply(program))
    images = program.calibration_images
    assert all((f.before, f.after, f.limited) == (0.0, 0.0, 0) for f in tuned.fits)
    ideal = IdealMultiply(program)
    np.testing.assert_array_equal(run(tuned.program, images, ideal), run(program, images, ideal))


def test_channels_in_another_order_are_tuned_in_it(program: ConductanceProgram) -> None:
    moved = ordered(program, np.random.default_rng(5))
    chip, images = Bent(moved), program.calibration_images
    tuned = tune_channels(moved, tune_targets(moved, images), chip).program
    assert same_answers(tuned, chip, program, images) < 0.02


def test_copies_and_rounds_are_tuned_too() -> None:
    copied = compiled(options=LayoutOptions(None, 30))
    assert max(m.group.copies for m in copied.matrices) > 1
    chip, images = Bent(copied), copied.calibration_images
    tuned = tune_channels(copied, tune_targets(copied, images), chip).program
    assert same_answers(tuned, chip, copied, images) < 0.02

    in_rounds = compiled(macros=3, options=LayoutOptions(Placement.SPREAD, rounds=True))
    assert in_rounds.rounds > 1
    chip = Bent(in_rounds)
    targets = tune_targets(in_rounds, images)
    walk = ChannelTune(in_rounds, targets)
    for number in range(in_rounds.rounds):
        assert part_of_round(in_rounds, number).matrices
        walk.run(chip, number=number)
    assert [f.layer for f in walk.tuned.fits] == [m.name for m in in_rounds.matrices]
    assert same_answers(walk.tuned.program, chip, in_rounds, images) < 0.02


def test_every_image_has_noise_of_its_own_number(program: ConductanceProgram) -> None:
    chip = Bent(program)
    tune_channels(program, tune_targets(program, program.calibration_images), chip, sample=1000)
    assert set(chip.samples) == {1000, 1032}


def test_fewer_than_two_images_are_refused(program: ConductanceProgram) -> None:
    with pytest.raises(ValueError, match="1 images to tune with"):
        tune_targets(program, program.calibration_images[:1])


def test_a_tuned_program_is_held_as_the_one_whose_cells_it_has(program: ConductanceProgram, tmp_path: Path) -> None:
    tuned = tune_channels(program, tune_targets(program, program.calibration_images), Bent(program)).program
    tuned = dataclasses.replace(tuned)
    assert tuned.digest != program.digest
    assert tuned.held_digest == program.held_digest == program.digest
    save_program(tuned, tmp_path / "tuned.h5")
    loaded = load_program(tmp_path / "tuned.h5")
    assert (loaded.digest, loaded.held_digest) == (tuned.digest, program.digest)
    np.testing.assert_array_equal(loaded.matrices[0].requantise.multiplier, tuned.matrices[0].requantise.multiplier)
