"""Values of levels: even ones count up, others get the smallest integers that say them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cim.chip.encoding import LevelOutOfRange, encode_tile, tile_halves_us
from cim.chip.file import ChipFileError, chip_names, idealised, load_chip, parse_chip, render_chip
from cim.chip.spec import ChipSpec, Encoding, MacroSpec, PairSubtraction, level_values
from cim.simulator.training_errors import cell_levels
from hil.calibration.patterns import pattern_levels

DOUBLING = (2.0, 4.0, 8.0, 16.0, 32.0)
LAB = load_chip("lab-128")


def uneven(encoding: Encoding = Encoding.DIFFERENTIAL_COLUMNS) -> ChipSpec:
    pairs = PairSubtraction.ANALOG if encoding is Encoding.DIFFERENTIAL_COLUMNS else PairSubtraction.DIGITAL
    macro = dataclasses.replace(LAB.macro, levels_us=DOUBLING, encoding=encoding, pair_subtraction=pairs)
    return dataclasses.replace(LAB, macro=macro)


@pytest.mark.parametrize("name", chip_names())
def test_even_levels_are_worth_their_number(name: str) -> None:
    macro = load_chip(name).macro
    levels = macro.levels_us
    assert macro.even_levels
    assert macro.values.values == tuple(range(len(levels)))
    assert macro.level_step_us == (levels[-1] - levels[0]) / (len(levels) - 1) == macro.level_gap_us
    assert macro.weight_values == tuple(range(-macro.max_level, macro.max_level + 1))


def test_doubling_levels_have_doubling_values() -> None:
    macro = uneven().macro
    assert macro.values.values == (0, 1, 3, 7, 15)
    assert (macro.level_step_us, macro.values.error_us, macro.max_level) == (2.0, 0.0, 15)
    assert macro.weight_values == (-15, -7, -3, -1, 0, 1, 3, 7, 15)
    assert macro.level_gap_us == 7.5


def test_a_quarter_of_the_window_decides_how_fine_values_are() -> None:
    levels = (2.0, 4.1, 8.0, 16.0, 32.0)
    coarse, fine = level_values(levels, 0.5), level_values(levels, 0.2)
    assert coarse.values == (0, 1, 3, 7, 15)
    assert coarse.error_us == pytest.approx(0.1)
    assert fine.values[-1] > 15
    assert fine.error_us <= 0.05
    for found in (coarse, fine):
        rebuilt = levels[0] + found.unit_us * np.array(found.values)
        assert np.abs(rebuilt - levels).max() == pytest.approx(found.error_us, abs=1e-12)


def test_levels_off_their_line_by_less_than_a_quarter_window_count_as_even() -> None:
    assert level_values((2.0, 7.2, 12.0), 1.0).even
    assert not level_values((2.0, 7.5, 12.0), 1.0).even


def test_many_even_levels_need_no_table() -> None:
    assert level_values(tuple(float(k) for k in range(255)), 1.0).even


def test_levels_that_no_integers_tell_apart_are_refused_with_their_line() -> None:
    with pytest.raises(ValueError, match=r"closer than 1/127"):
        level_values((2.0, 2.1, 40.0), 0.1)
    macro = dataclasses.replace(LAB.macro, levels_us=(2.0, 2.1, 40.0), tolerance_us=0.1)
    with pytest.raises(ChipFileError, match=r"cell.levels_us: two levels are closer than 1/127"):
        parse_chip(render_chip(dataclasses.replace(LAB, macro=macro)), "mine.toml")


def test_single_cells_hold_what_lies_around_their_middle() -> None:
    macro = uneven(Encoding.OFFSET_COLUMN).macro
    assert macro.zero_level == 3
    assert macro.weight_values == (-7, -6, -4, 0, 8)
    assert macro.max_level == 7


@pytest.mark.parametrize("encoding", list(Encoding))
def test_cells_hold_the_value_that_a_weight_asks_for(encoding: Encoding) -> None:
    macro = uneven(encoding).macro
    levels = np.array([macro.weight_values], np.int8).T
    tile = encode_tile(levels, macro, 0, 0)
    assert set(tile.targets_us.reshape(-1).tolist()) <= set(DOUBLING)
    cells = np.zeros((macro.rows, macro.columns))
    cells[np.ix_(tile.word_lines, tile.bit_lines)] = tile.targets_us
    plus, minus = tile_halves_us(cells, macro, 0, len(levels), 0, 1)
    rest = macro.levels_us[macro.zero_level] if encoding is Encoding.SINGLE_ENDED else 0.0
    np.testing.assert_array_equal((plus - minus - rest) / macro.level_step_us, levels)


def test_a_value_that_no_cell_holds_is_refused_with_its_place() -> None:
    with pytest.raises(LevelOutOfRange, match="level 5 at row 1, output 0 is none that cells hold"):
        encode_tile(np.array([[1], [5]], np.int8), uneven().macro, 0, 0)
    with pytest.raises(LevelOutOfRange, match="beyond ±15"):
        encode_tile(np.array([[16]], np.int8), uneven().macro, 0, 0)


def test_an_idealised_chip_keeps_its_values() -> None:
    for levels in (DOUBLING, (1.0, 3.0, 10.0, 30.0, 100.0), (2.0, 4.1, 8.0, 16.0, 32.0)):
        spec = dataclasses.replace(LAB, macro=dataclasses.replace(LAB.macro, levels_us=levels, tolerance_us=0.2))
        ideal = idealised(spec).macro
        assert ideal.values.values == spec.macro.values.values
        assert ideal.values.error_us == 0.0
        again = parse_chip(render_chip(idealised(spec)), "ideal.toml").macro
        assert again == ideal


@pytest.mark.parametrize("encoding", list(Encoding))
def test_calibration_writes_every_value(encoding: Encoding) -> None:
    macro: MacroSpec = uneven(encoding).macro
    found = pattern_levels(macro, np.random.default_rng(0))
    assert tuple(np.unique(found).tolist()) == macro.weight_values


def test_layers_in_training_find_the_cells_of_values() -> None:
    macro = uneven().macro
    assert cell_levels(torch.tensor([0.0, 1.0, 3.0, 7.0, 15.0]), macro).tolist() == [0, 1, 2, 3, 4]
