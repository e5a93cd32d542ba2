"""Layers behind measured codes: they begin as a program, learn what a teacher says, and go back into the program."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from cim.chip.file import load_chip  # noqa: E402
from cim.record.published import nominal_record  # noqa: E402
from cim.simulator.training_errors import array_noise  # noqa: E402
from mapping.compile import LayoutOptions, compile_network  # noqa: E402
from mapping.network.file import NetworkFile  # noqa: E402
from mapping.program.conductance import ConductanceProgram, MatrixStep  # noqa: E402
from mapping.program.execute import IdealMultiply, input_codes, run  # noqa: E402
from mapping.program.partial_run import PartialRun  # noqa: E402
from mapping.tune.reweighted import reweighted  # noqa: E402
from search.train.downstream import DownstreamLayers, DownstreamRecipe  # noqa: E402
from search.train.images import Images  # noqa: E402
from search.train.training import Machine  # noqa: E402

from ...mapping.small_networks import every_node, network  # noqa: E402

LAB = load_chip("lab-128", macros=60)
NOISE = array_noise(LAB.macro, nominal_record(LAB, [0]), 3600.0)


def made(weight_bits: int) -> tuple[NetworkFile, ConductanceProgram, DownstreamLayers]:
    rng = np.random.default_rng(3)
    file = network(every_node(rng), rng, weight_bits=weight_bits, images=96)
    program = compile_network(file, LAB, options=LayoutOptions(averaged=True, halves=False))
    pixels = file.calibration_images
    images, kept = (Images(part, np.zeros(len(part), np.int64)) for part in (pixels[:64], pixels[64:]))
    return file, program, DownstreamLayers(file, program, NOISE, images, kept, Machine())


class Loud:
    """An exact multiplier whose first layer gives sums that are off by a third of their spread."""

    def __init__(self, program: ConductanceProgram) -> None:
        self.first, self.ideal = program.matrices[0].name, IdealMultiply(program)

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        sums = self.ideal.sums(step, codes, sample)
        if step.name != self.first:
            return sums
        shape = (1, sums.shape[1], *(1,) * (sums.ndim - 2))
        off = np.random.default_rng(0).normal(0, sums.std() / 3, shape)
        return (sums * np.where(off > 0, 1.4, 0.6) + off).astype(np.int32)


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_what_was_not_trained_is_the_program_that_it_began_as(weight_bits: int) -> None:
    _, program, behind = made(weight_bits)
    again = reweighted(program, behind.weights(program, list(program.layers)))
    for before, after in zip(program.matrices, again.matrices, strict=True):
        for one, other in zip(before.group.tiles, after.group.tiles, strict=True):
            np.testing.assert_array_equal(one.levels, other.levels)
        assert np.abs(before.bias.astype(int) - after.bias).max() <= 1
    images = program.calibration_images[:8]
    a, b = (run(p, images, IdealMultiply(p)).astype(float) for p in (program, again))
    assert np.abs(a - b).max() <= 1e-3 * np.abs(a).max() + 2


def test_layers_behind_learn_to_live_with_what_was_measured_and_leave_the_written_one_alone(tmp_path: Path) -> None:
    _, program, behind = made(4)
    first = program.matrices[0].name
    codes = []
    for images in (behind.images, behind.kept):
        under_way = PartialRun({"input": input_codes(images.pixels, program.input)})
        under_way.go_on(program, first, Loud(program))
        codes.append(under_way.values)
    recipe = DownstreamRecipe(epochs=6, batch=16, rate=0.004, strength=0.3)
    found = behind.train([first], codes[0], codes[1], recipe, checkpoint=tmp_path / "checkpoint", key="a")
    assert found.kept
    assert found.after < 0.9 * found.before
    again = reweighted(program, behind.weights(program, list(program.layers)))
    assert all(
        np.array_equal(one.levels, other.levels)
        for one, other in zip(program.layers[first].group.tiles, again.layers[first].group.tiles, strict=True)
    )
    assert again.digest != program.digest
    worse = dataclasses.replace(recipe, rate=0.9, epochs=1)
    state = behind.state()
    before = {name: value.clone() for name, value in state.items()}
    assert not behind.train([first], codes[0], codes[1], worse, checkpoint=tmp_path / "other", key="b").kept
    assert all(torch.equal(before[name], value) for name, value in behind.state().items())


def test_codes_of_something_that_the_network_does_not_have_are_refused(tmp_path: Path) -> None:
    _, _, behind = made(4)
    wrong = {"nothing": np.zeros((64, 3), np.int16)}
    with pytest.raises(ValueError, match="no operations of the network: nothing"):
        behind.train([], wrong, wrong, DownstreamRecipe(1, 16, 0.001), checkpoint=tmp_path / "c", key="")
