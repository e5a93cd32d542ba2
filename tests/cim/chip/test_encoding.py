"""Levels, cells and converters: closed forms, and the ideal limit is the integer product."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim.chip.converters import (
    CodeOutOfRange,
    conversions,
    input_planes,
    quantise_adc,
    shift_add,
    split_planes,
    to_offset,
)
from cim.chip.correction import apply_correction, nominal_correction, round_shift
from cim.chip.encoding import LevelOutOfRange, TileOutOfMacro, encode_tile, tile_halves_us
from cim.chip.file import idealised, load_chip
from cim.chip.spec import Encoding, InputCoding, InputSpec, MacroSpec, PairSubtraction, SignedInput

LAB = load_chip("lab-128").macro


def variant(encoding: Encoding, subtraction: PairSubtraction, signed: SignedInput, coding: InputCoding) -> MacroSpec:
    """An exact macro of any encoding and input coding."""
    base = load_chip("lab-128")
    inputs = InputSpec(coding, 8, 4 if coding is InputCoding.PULSE_COUNT else 1, signed)
    levels = (
        LAB.levels_us
        if encoding in (Encoding.DIFFERENTIAL_COLUMNS, Encoding.ROW_PAIRS)
        else tuple(float(2 + 2 * k) for k in range(15))
    )
    macro = dataclasses.replace(
        base.macro, encoding=encoding, pair_subtraction=subtraction, inputs=inputs, levels_us=levels
    )
    return idealised(dataclasses.replace(base, macro=macro)).macro


def read_macro(
    spec: MacroSpec, levels: np.ndarray, codes: np.ndarray, bits: int, signed: bool, row0: int, output0: int
) -> np.ndarray:
    """A macro without any error, from cells to level sums."""
    cells = np.full((spec.rows, spec.columns), spec.levels_us[0], np.float64)
    tile = encode_tile(levels, spec, row0, output0)
    cells[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us
    rows, outputs = levels.shape
    halves = tile_halves_us(cells, spec, row0, rows, output0, outputs).astype(np.float64)
    driven = to_offset(codes, bits) if signed and spec.inputs.signed is SignedInput.OFFSET else codes
    planes = split_planes(driven, spec.inputs, bits, signed).astype(np.float64)
    plus, minus = planes @ halves[0], planes @ halves[1]
    if spec.encoding is Encoding.OFFSET_COLUMN:
        currents = np.concatenate([plus, minus[..., :1]], axis=-1)
    elif spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        currents = np.concatenate([plus, minus], axis=-1)
    else:
        currents = plus - minus if spec.paired else plus
    assert currents.shape[-1] == conversions(spec, outputs)
    adc = quantise_adc(currents, spec.lsb_us(0), spec.adc.bits, spec.adc_signed)
    sums = shift_add(adc.transpose(1, 0, 2), spec, input_planes(spec.inputs, bits, signed))
    correction = nominal_correction(spec, 0, levels, bits, signed)
    return apply_correction(sums, driven.sum(1), correction)


ENCODINGS = [
    *product((Encoding.DIFFERENTIAL_COLUMNS, Encoding.ROW_PAIRS), (PairSubtraction.ANALOG, PairSubtraction.DIGITAL)),
    (Encoding.OFFSET_COLUMN, PairSubtraction.DIGITAL),
    (Encoding.SINGLE_ENDED, PairSubtraction.DIGITAL),
]
CODINGS = [
    *product((InputCoding.BIT_SERIAL, InputCoding.PULSE_COUNT), (SignedInput.PLANE, SignedInput.OFFSET)),
    (InputCoding.TERNARY, SignedInput.TERNARY),
    (InputCoding.UNARY, SignedInput.TERNARY),
]


@pytest.mark.parametrize(("encoding", "subtraction"), ENCODINGS)
@pytest.mark.parametrize(("coding", "signs"), CODINGS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 8])
def test_an_exact_macro_gives_the_integer_product(
    encoding: Encoding, subtraction: PairSubtraction, coding: InputCoding, signs: SignedInput, signed: bool, bits: int
) -> None:
    spec = variant(encoding, subtraction, signs, coding)
    rng = np.random.default_rng(5)
    levels = rng.integers(-spec.max_level, spec.max_level + 1, (40, 9)).astype(np.int8)
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    low += signed and signs is SignedInput.TERNARY  # sign and magnitude
    codes = rng.integers(low, high, (7, 40)).astype(np.int16)
    got = read_macro(spec, levels, codes, bits, signed, row0=3, output0=2)
    np.testing.assert_array_equal(got, codes.astype(np.int64) @ levels)


def test_level_minus_five_is_a_low_plus_cell_and_a_high_minus_cell() -> None:
    tile = encode_tile(np.array([[-5]], np.int8), LAB, row0=41, output0=17)
    assert tile.word_lines.tolist() == [41]
    assert tile.bit_lines.tolist() == [34, 35]
    np.testing.assert_allclose(tile.targets_us, [[2.0, 29.142857]], rtol=1e-6)


def test_row_pairs_put_plus_on_even_and_minus_on_odd_word_lines() -> None:
    tile = encode_tile(np.array([[3]], np.int8), load_chip("yao-2020").macro, row0=2, output0=5)
    assert (tile.word_lines.tolist(), tile.bit_lines.tolist()) == ([4, 5], [5])
    assert tile.targets_us[0, 0] > tile.targets_us[1, 0]


def test_a_level_beyond_the_cell_names_its_place() -> None:
    levels = np.zeros((4, 3), np.int8)
    levels[2, 1] = 8
    with pytest.raises(LevelOutOfRange, match="row 2, output 1"):
        encode_tile(levels, LAB, 0, 0)


def test_a_tile_beyond_the_macro_is_refused() -> None:
    with pytest.raises(TileOutOfMacro, match="64 outputs"):
        encode_tile(np.zeros((4, 10), np.int8), LAB, 0, 60)


def test_dead_rows_are_stepped_over() -> None:
    spec = dataclasses.replace(LAB, dead_rows=(0, 2))
    assert encode_tile(np.zeros((2, 1), np.int8), spec, 0, 0).word_lines.tolist() == [1, 3]


def test_the_sign_plane_has_negative_weight() -> None:
    spec = InputSpec(InputCoding.BIT_SERIAL, 8, 1, SignedInput.PLANE)
    assert [p.weight for p in input_planes(spec, 4, True)] == [1, 2, 4, -8]
    assert [p.weight for p in input_planes(spec, 4, False)] == [1, 2, 4, 8]


def test_signed_inputs_are_refused_where_a_chip_takes_none() -> None:
    spec = InputSpec(InputCoding.BIT_SERIAL, 8, 1, SignedInput.NONE)
    with pytest.raises(CodeOutOfRange):
        input_planes(spec, 4, True)
    with pytest.raises(CodeOutOfRange):
        split_planes(np.array([[16]], np.int16), spec, 4, False)


def test_the_converter_rounds_half_up_and_clips() -> None:
    sums = np.array([-1e9, -1.5, -0.5, 0.49, 0.5, 1.5, 1e9])
    assert quantise_adc(sums, 1.0, 4, True).tolist() == [-8, -1, 0, 0, 1, 2, 7]
    assert quantise_adc(sums, 1.0, 4, False).tolist() == [0, 0, 0, 0, 1, 2, 15]


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(0, 30))
def test_round_shift_rounds_half_away_from_zero(value: int, shift: int) -> None:
    got = int(round_shift(np.array([value], np.int64), shift)[0])
    exact = abs(value) / (1 << shift)
    assert got == (1 if value >= 0 else -1) * int(exact + 0.5)
