"""Cutting matrices into pieces and giving them places."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim.chip.encoding import tile_halves_us
from cim.chip.file import chip_names, load_chip
from cim.chip.spec import Encoding
from mapping.bits import BitWidths
from mapping.layout.lay_out import lay_out
from mapping.layout.place import LayerCopy, Placement, macros_needed, place
from mapping.layout.tile import Bundle, MatrixShape, Piece, cut, digit, piece_levels, slices_needed, stretch

LAB = load_chip("lab-128")


def alone(pieces: Sequence[Piece]) -> tuple[Bundle, ...]:
    return tuple(Bundle((piece,)) for piece in pieces)


def assembled(shape: MatrixShape, pieces: tuple[Piece, ...], weights: np.ndarray, max_level: int) -> np.ndarray:
    matrix = np.zeros((shape.outputs, shape.inputs), np.int64)
    for piece in pieces:
        levels = piece_levels(weights, piece, max_level)
        assert np.abs(levels).max() <= max_level
        rows, columns = slice(piece.outputs.start, piece.outputs.stop), slice(piece.inputs.start, piece.inputs.stop)
        matrix[rows, columns] += (max_level + 1) ** piece.slice * levels.T.astype(np.int64)
    return matrix


def block_diagonal(weights: np.ndarray) -> np.ndarray:
    groups, outputs, inputs = weights.shape
    matrix = np.zeros((groups * outputs, groups * inputs), np.int64)
    for g in range(groups):
        matrix[g * outputs : (g + 1) * outputs, g * inputs : (g + 1) * inputs] = weights[g]
    return matrix


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 40),
    outputs=st.integers(1, 150),
    channels=st.integers(1, 40),
    kernel=st.sampled_from([1, 4, 9, 25, 49, 121, 169]),
    chip=st.sampled_from(chip_names()),
    bits=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_reassemble_to_the_weight_matrix(
    groups: int, outputs: int, channels: int, kernel: int, chip: str, bits: int, seed: int
) -> None:
    if groups > 1:
        outputs, channels = min(outputs, 6), min(channels, 6)
    macro = load_chip(chip).macro
    top = (1 << (bits - 1)) - 1
    inputs = channels * kernel
    weights = np.random.default_rng(seed).integers(-top, top + 1, (groups, outputs, inputs)).astype(np.int16)
    shape = MatrixShape("layer", groups * inputs, groups * outputs, groups, kernel)
    pieces = cut(shape, macro, slices_needed(top, macro.max_level))
    for piece in pieces:
        assert 1 <= len(piece.inputs) <= macro.logical_rows
        assert 1 <= len(piece.outputs) <= macro.outputs
    assert np.array_equal(assembled(shape, pieces, weights, macro.max_level), block_diagonal(weights))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 128), st.integers(1, 64)), min_size=1, max_size=60),
    macros=st.integers(1, 12),
)
def test_no_two_tiles_overlap_and_none_leaves_its_macro(sizes: list[tuple[int, int]], macros: int) -> None:
    spec = dataclasses.replace(LAB, macros=macros)
    pieces = tuple(Piece(range(rows), range(outputs), 0) for rows, outputs in sizes)
    taken = np.zeros((len(pieces), 128, 64), np.int32)
    (places,) = place([LayerCopy("layer", 0, alone(pieces))], spec)
    for piece, at in zip(pieces, places, strict=True):
        rows, outputs = len(piece.inputs), len(piece.outputs)
        assert at.row0 + rows <= 128
        assert at.output0 + outputs <= 64
        taken[at.macro, at.row0 : at.row0 + rows, at.output0 : at.output0 + outputs] += 1
    assert taken.max() == 1


@pytest.mark.parametrize(("channels", "parts"), [(16, [8, 8]), (32, [11, 11, 10]), (64, [13, 13, 13, 13, 12])])
def test_rows_are_cut_evenly_between_whole_channels(channels: int, parts: list[int]) -> None:
    pieces = cut(MatrixShape("conv", channels * 9, 16, kernel=9), LAB.macro, 1)
    assert [len(p.inputs) for p in pieces] == [9 * part for part in parts]


def test_a_kernel_larger_than_a_macro_is_cut_anywhere() -> None:
    pieces = cut(MatrixShape("conv", 2 * 169, 4, kernel=169), LAB.macro, 1)
    assert [len(p.inputs) for p in pieces] == [113, 113, 112]


def test_depthwise_channels_share_a_macro_block_diagonally() -> None:
    weights = np.ones((32, 1, 9), np.int16)
    pieces = cut(MatrixShape("depthwise", 288, 32, 32, 9), LAB.macro, 1)
    assert [(len(p.inputs), len(p.outputs)) for p in pieces] == [(99, 11), (99, 11), (90, 10)]
    levels = piece_levels(weights, pieces[0], 7)
    assert levels.sum() == 99
    assert np.array_equal(levels, np.kron(np.eye(11, dtype=np.int8), np.ones((9, 1), np.int8)))


def test_blocks_of_a_depthwise_layer_stand_on_one_macro_and_are_read_with_their_own_rows() -> None:
    """Read together, each output would add up the noise of 126 rows, of which 9 are its own."""
    shape = MatrixShape("depthwise", 28 * 9, 28, groups=28, kernel=9)
    pieces, places = lay_out([shape], LAB, BitWidths(4, 8))
    parts = list(zip(pieces["depthwise"], places["depthwise"], strict=True))
    assert [(len(piece.inputs), len(piece.outputs)) for piece, _ in parts] == 2 * [(45, 5), (45, 5), (36, 4)]
    assert {at.macro for _, at in parts} == {0, 1}
    for piece, at in parts:  # where they would stand had they been read together
        assert (at.row0, at.output0) == (piece.inputs.start - 126 * at.macro, piece.outputs.start - 14 * at.macro)
    weights = np.random.default_rng(0).integers(-7, 8, (28, 1, 9)).astype(np.int16)
    assert (assembled(shape, pieces["depthwise"], weights, 7) == block_diagonal(weights)).all()


def test_digits_carry_the_sign_of_the_weight() -> None:
    weights = np.array([-13, 13, 127, -127], np.int16)
    digits = [digit(weights, s, 7) for s in range(3)]
    assert digits[0].tolist() == [-5, 5, 7, -7]
    assert digits[1].tolist() == [-1, 1, 7, -7]
    assert digits[2].tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("weight_max", "max_level", "slices"),
    [(7, 7, 1), (8, 7, 2), (63, 7, 2), (127, 7, 3), (127, 1, 7), (127, 15, 2), (1, 1, 1), (7, 3, 2)],
)
def test_as_many_slices_as_the_digits_need(weight_max: int, max_level: int, slices: int) -> None:
    assert slices_needed(weight_max, max_level) == slices
    assert (max_level + 1) ** slices - 1 >= weight_max


def test_narrow_weights_are_stretched_over_the_cells() -> None:
    assert [stretch(top, 7) for top in (1, 3, 7, 15, 127)] == [7, 2, 1, 4, 4]
    assert [stretch(top, 1) for top in (1, 7, 127)] == [1, 1, 1]


def test_one_tile_a_macro_while_there_are_enough_else_few_macros() -> None:
    layer = LayerCopy("layer", 0, alone((Piece(range(32), range(16), 0),) * 16))
    (places,) = place([layer], dataclasses.replace(LAB, macros=16))
    assert [p.macro for p in places] == list(range(16))
    assert macros_needed(place([layer], dataclasses.replace(LAB, macros=15))) == 1
    assert macros_needed(place([layer], LAB, Placement.PACKED)) == 1
    assert macros_needed(place([layer], dataclasses.replace(LAB, macros=15), Placement.SPREAD)) == 16


def test_placement_is_the_same_every_time() -> None:
    rng = np.random.default_rng(1)
    pieces = tuple(Piece(range(int(r)), range(int(o)), 0) for r, o in rng.integers(1, 64, (40, 2)))
    for name in ("lab-128", "a111"):
        spec = load_chip(name, macros=3)
        assert place([LayerCopy("a", 0, alone(pieces))], spec) == place([LayerCopy("a", 0, alone(pieces))], spec)


def test_an_offset_column_chip_keeps_its_reference_out_of_tiles() -> None:
    macro = dataclasses.replace(LAB.macro, encoding=Encoding.OFFSET_COLUMN)
    pieces = cut(MatrixShape("linear", 100, 200), macro, 1)
    assert max(len(p.outputs) for p in pieces) <= macro.outputs == 127
    assert tile_halves_us(np.zeros((128, 128)), macro, 0, 100, 0, 100).shape == (2, 100, 100)


def test_a_matrix_that_does_not_divide_into_its_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="do not divide into 3 groups"):
        MatrixShape("conv", 10, 6, 3, 1)
