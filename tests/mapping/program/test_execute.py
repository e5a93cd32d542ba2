"""A compiled network runs exactly as its steps say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.chip.windows import Window, unfold
from mapping.compile import compile_network
from mapping.operators.activations import RescaleStep
from mapping.operators.affine import AffineStep
from mapping.operators.joins import AddStep, ConcatStep
from mapping.operators.moves import Flatten, Slice
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPoolStep, MaxPool
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile, TileGroup
from mapping.program.exact_product import ExactProduct, dense_blocks, unfold_columns
from mapping.program.execute import IdealMultiply, input_codes, run

from ..small_networks import every_node, network, pooled_logits, slow_run

LAB = load_chip("lab-128", macros=400)


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng), LAB)


def images_of(program: ConductanceProgram, count: int = 3) -> NDArray[np.uint8]:
    return program.calibration_images[:count]


def test_the_small_network_holds_every_kind_of_step(program: ConductanceProgram) -> None:
    kinds = {type(step) for step in program.steps}
    assert kinds == {MatrixStep, RescaleStep, AddStep, ConcatStep, MaxPool, AvgPoolStep, Flatten,
                     PadChannels, PadMap, Slice, AffineStep}  # fmt: skip


@pytest.mark.parametrize("chip", ["lab-128", "neurram-256", "a111"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_execution_equals_plain_python_integers(chip: str, bits: int) -> None:
    rng = np.random.default_rng(5)
    for graph in (every_node(rng), pooled_logits(rng)):
        program = compile_network(network(graph, rng, bits), load_chip(chip, macros=400))
        images = images_of(program, 2)
        assert run(program, images, IdealMultiply(program)).tolist() == [slow_run(program, i) for i in images]


def test_results_do_not_depend_on_the_batch(program: ConductanceProgram) -> None:
    images = images_of(program, 7)
    whole = run(program, images, IdealMultiply(program))
    assert np.array_equal(whole, run(program, images, IdealMultiply(program), batch=3))
    assert run(program, images[:0], IdealMultiply(program)).shape == (0, 4)


def test_each_image_has_its_own_sample_number(program: ConductanceProgram) -> None:
    ideal, seen = IdealMultiply(program), []

    class Noted:
        def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
            seen.append((step.name, sample, len(codes)))
            return ideal.sums(step, codes, sample)

    run(program, images_of(program, 5), Noted(), sample=100, batch=2)
    first = program.matrices[0].name
    assert [entry[1:] for entry in seen if entry[0] == first] == [(100, 2), (102, 2), (104, 1)]


def test_the_tap_sees_inputs_and_level_sums_of_every_layer(program: ConductanceProgram) -> None:
    seen = {}
    ideal = IdealMultiply(program)
    run(program, images_of(program), ideal, tap=lambda step, codes, sums: seen.update({step.name: (codes, sums)}))
    assert list(seen) == [m.name for m in program.matrices]
    for step in program.matrices:
        codes, sums = seen[step.name]
        assert codes.dtype == np.int16
        assert np.array_equal(sums, ideal.sums(step, codes, 0))


def test_a_chip_that_finishes_layers_gives_the_same_logits(program: ConductanceProgram) -> None:
    from mapping.operators.integer import digital_ops

    ideal = IdealMultiply(program)

    class Layers:
        def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
            return digital_ops.finish(ideal.sums(step, codes, sample), step.bias, step.requantise).astype(np.int32)

    images = images_of(program)
    assert np.array_equal(run(program, images, Layers()), run(program, images, ideal))


def test_images_of_another_shape_are_refused(program: ConductanceProgram) -> None:
    with pytest.raises(ValueError, match=r"the network takes uint8 \(8, 8, 3\)"):
        run(program, np.zeros((1, 8, 9, 3), np.uint8), IdealMultiply(program))


def test_input_codes_come_from_the_table(program: ConductanceProgram) -> None:
    images = images_of(program, 1)
    codes = input_codes(images, program.input)
    assert codes[0, 2, 3, 4] == program.input.table[2, images[0, 3, 4, 2]]


@pytest.mark.parametrize(
    "window",
    [
        Window(3, 9, 7, (3, 3), (1, 1), (1, 1)),
        Window(2, 9, 8, (3, 2), (2, 3), (2, 1), (2, 3)),
        Window(4, 5, 5),
        Window(1, 6, 6, (5, 5), (1, 2), (2, 2)),
    ],
)
def test_columns_are_the_transpose_of_the_shared_unfolding(window: Window) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (2, window.channels, window.height, window.width))
    codes = codes.astype(np.int16)
    assert np.array_equal(unfold_columns(codes, window), unfold(codes, window).transpose(0, 2, 1))


def group_of(matrix: NDArray[np.int8], multiplier: int = 1) -> TileGroup:
    tile = Tile(0, 0, 0, range(matrix.shape[0]), range(matrix.shape[1]), multiplier, matrix)
    return TileGroup("layer", None, *matrix.shape, 8, False, 0, 0.0, (tile,))


def test_products_stay_exact_beyond_24_bits() -> None:
    matrix = np.full((2000, 2), 127, np.int8)
    matrix[0] = 126  # odd sums, which float32 could not hold
    group = group_of(matrix)
    codes = np.full((1, 2000), 255, np.int16)
    assert dense_blocks(group)[0].weights.dtype == np.float64
    assert ExactProduct(group)(codes).tolist() == [[255 * (127 * 2000 - 1)] * 2]
    assert dense_blocks(group_of(matrix[:100]))[0].weights.dtype == np.float32


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    "window", [Window(8, 9, 7, (3, 3), (1, 1), (1, 1)), Window(8, 9, 8, (3, 2), (2, 1), (2, 1), (2, 3))]
)
def test_convolved_maps_have_the_integers_of_the_unfolded_ones(window: Window, groups: int) -> None:
    """Sums close to 2^24, where an addition that is not plain would show."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    rows, outputs = window.rows // groups, 12 // groups
    levels = rng.choice([-127, 127], (groups, rows, outputs)).astype(np.int8)
    multiplier = ((1 << 24) - 1) // (127 * 256 * rows)
    tiles = tuple(
        Tile(0, 0, 0, range(g * rows, (g + 1) * rows), range(g * outputs, (g + 1) * outputs), multiplier, levels[g])
        for g in range(groups)
    )
    group = TileGroup("layer", window, window.rows, 12, 8, False, 0, 0.0, tiles, groups)
    codes = rng.integers(0, 256, (20, 8, window.height, window.width)).astype(np.int16)
    vectors = unfold(codes, window).astype(np.int64).reshape(20, window.positions, groups, rows)
    expected = np.einsum("npgr,gro->ngop", vectors, multiplier * levels.astype(np.int64)).reshape(20, 12, -1)
    assert np.abs(expected).max() > 1 << 20
    found = ExactProduct(group)(codes)
    np.testing.assert_array_equal(found.reshape(20, 12, -1), expected)
    assert found.transpose(0, 2, 3, 1).flags.c_contiguous  # it was a convolution


def test_sums_beyond_32_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 32 bits"):
        ExactProduct(group_of(np.full((1000, 1), 127, np.int8), multiplier=4096))


def test_a_depthwise_layer_stays_in_blocks_and_a_dense_one_is_joined() -> None:
    levels = np.ones((4, 2), np.int8)
    apart = [Tile(i, 0, 0, range(4 * i, 4 * i + 4), range(2 * i, 2 * i + 2), 1, levels) for i in range(3)]
    group = TileGroup("layer", None, 12, 6, 8, False, 0, 0.0, tuple(apart))
    assert [b.weights.shape for b in dense_blocks(group)] == [(2, 4)] * 3
    bridge = Tile(3, 0, 0, range(2, 6), range(4, 6), 1, levels)
    joined = dataclasses.replace(group, tiles=(*apart, bridge))
    assert [b.weights.shape for b in dense_blocks(joined)] == [(6, 12)]
