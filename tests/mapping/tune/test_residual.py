"""Lower slices that take up what the cells of the highest slice missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.chip.file import load_chip
from mapping.bits import BitWidths, LayerBits
from mapping.compile import CannotMap, compile_network
from mapping.layout.lay_out import LayoutOptions
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram, Tile
from mapping.program.execute import IdealMultiply, run
from mapping.tune.residual import around_stuck, recoded, residual, with_lower_slices, with_top_copies, writings

from ..small_networks import every_node, network

MACROS = 120


def made(weight_bits: int, layout: LayoutOptions | None = None) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    chip = load_chip("lab-128", macros=MACROS)
    return compile_network(network(every_node(rng), rng, weight_bits=weight_bits, images=20), chip, options=layout)


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return made(8)


def held(program: ConductanceProgram, readings: dict[int, np.ndarray], layer: int = 0) -> np.ndarray:
    """The matrix that cells of a layer hold, by readings, in the unit of its weights."""
    step = program.matrices[layer]
    found = np.zeros((step.group.inputs, step.group.outputs))
    for tile in step.group.tiles:
        block = readings[program.slot(tile)][
            tile.row0 : tile.row0 + len(tile.inputs), 2 * tile.output0 : 2 * (tile.output0 + len(tile.outputs))
        ]
        levels = (block[:, 0::2] - block[:, 1::2]) / program.spec.macro.level_step_us
        levels = levels if tile.signs is None else levels * tile.signs
        found[np.ix_(tile.inputs, tile.outputs)] += tile.multiplier * levels
    return found


def tops(program: ConductanceProgram, layer: int = 0) -> list[Tile]:
    """Tiles of the highest slice of a layer."""
    tiles = program.matrices[layer].group.tiles
    return [t for t in tiles if t.multiplier == max(t.multiplier for t in tiles)]


def read_tops(
    program: ConductanceProgram, read: dict[int, np.ndarray], targets: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """Cells of the highest slice of the first layer as read, all others on their targets."""
    found = {slot: part.copy() for slot, part in targets.items()}
    for tile in tops(program):
        rows = slice(tile.row0, tile.row0 + len(tile.inputs))
        columns = slice(2 * tile.output0, 2 * (tile.output0 + len(tile.outputs)))
        found[program.slot(tile)][rows, columns] = read[program.slot(tile)][rows, columns]
    return found


def test_rounded_digits_and_copies_of_the_highest_slice_give_the_same_answers(program: ConductanceProgram) -> None:
    images = program.calibration_images
    expected = run(program, images, IdealMultiply(program))
    other = recoded(program)
    assert (run(other, images, IdealMultiply(other)) == expected).all()
    copied = with_top_copies(program, 4)
    found = run(copied, images, IdealMultiply(copied))
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max() + 1
    assert len(tops(copied)) == 4 * len(tops(program))


def test_lower_slices_take_up_errors_and_stuck_cells_of_the_highest(program: ConductanceProgram) -> None:
    rng = np.random.default_rng(3)
    copied = with_top_copies(program, 4)
    exact = {slot: macro_targets_us(copied, slot) for slot in copied.slots}
    read = {}
    for slot, targets in exact.items():
        read[slot] = targets + rng.normal(0.0, 2.0, targets.shape).astype(np.float32)
        read[slot][rng.random(targets.shape) < 0.005] = 2.0  # stuck at the lowest level
    found = residual(copied, read)
    wanted = held(copied, exact)
    after = {slot: macro_targets_us(found.program, slot) for slot in copied.slots}
    before_error = held(copied, read_tops(copied, read, exact)) - wanted
    after_error = held(found.program, read_tops(copied, read, after)) - wanted
    assert np.sqrt((after_error**2).mean()) < 0.3 * np.sqrt((before_error**2).mean())
    assert found.left < 0.3


def test_stuck_cells_are_gone_around_before_anything_is_written(program: ConductanceProgram) -> None:
    rng = np.random.default_rng(4)
    copied = with_top_copies(made(8, LayoutOptions(residual=1)), 4)  # weights leave room
    exact = {slot: macro_targets_us(copied, slot) for slot in copied.slots}
    stuck = {
        slot: np.where(rng.random(t.shape) < 0.03, np.float32(2.0), np.float32(np.nan)) for slot, t in exact.items()
    }
    around = around_stuck(copied, stuck)
    wanted = held(copied, exact)

    def off(of: ConductanceProgram) -> np.ndarray:
        targets = {slot: macro_targets_us(of, slot) for slot in of.slots}
        read = {slot: np.where(np.isfinite(stuck[slot]), stuck[slot], t) for slot, t in targets.items()}
        return np.abs(held(of, read) - wanted)

    assert off(around).mean() < 0.1 * off(copied).mean()
    assert (off(around) < 32).mean() > 0.99  # half a level of one copy of the highest slice


def test_columns_whose_stuck_cells_take_less_of_negated_weights_are_turned(program: ConductanceProgram) -> None:
    compiled = recoded(made(8, LayoutOptions(residual=1)))
    exact = {slot: macro_targets_us(compiled, slot) for slot in compiled.slots}
    wanted, tile = held(compiled, exact), tops(compiled)[0]
    column = 2 * tile.output0  # its plus cells, all stuck: only negative weights could be held
    stuck = {slot: np.full(t.shape, np.nan, np.float32) for slot, t in exact.items()}
    rows = np.flatnonzero(tile.levels[:, 0] > 0)
    stuck[compiled.slot(tile)][tile.row0 + rows, column] = 2.0
    around = around_stuck(compiled, stuck)
    turned = tops(around)[0]
    assert turned.signs is not None
    assert turned.signs.tolist() == [-1, *[1] * (len(tile.outputs) - 1)]
    targets = {slot: macro_targets_us(around, slot) for slot in around.slots}
    assert np.isclose(held(around, targets), wanted).all()  # no weight is lost
    again = around_stuck(around, stuck)
    assert again.digest == around.digest


def test_weights_that_lower_slices_cannot_hold_are_written_anew_and_then_held(program: ConductanceProgram) -> None:
    copied = with_top_copies(made(8, LayoutOptions(residual=1)), 4)  # weights leave room
    read = {slot: macro_targets_us(copied, slot).copy() for slot in copied.slots}
    tile = tops(copied)[0]
    cell = (tile.row0, 2 * tile.output0)
    read[program.slot(tile)][cell] += 32.0  # six levels: more than lower slices reach
    first = residual(copied, read, 1)
    assert np.isfinite(first.targets_us[program.slot(tile)][cell])
    assert first.left < 0.05
    written = {slot: macro_targets_us(first.program, slot) for slot in copied.slots}
    later = residual(first.program, written, 2)
    assert not any(np.isfinite(later.targets_us[t.macro]).any() for t in tops(copied) if t.macro in later.targets_us)


def test_slices_are_read_in_proportion_to_what_their_noise_counts(program: ConductanceProgram) -> None:
    copied = with_top_copies(program, 4, reads=8)
    groups = [step.group for step in copied.matrices]
    assert {t.multiplier: r for t, r in zip(groups[1].tiles, groups[1].reads, strict=True)} == {64: 8, 32: 4, 4: 1}
    assert groups[0].residual_reads == 32  # it reads pictures
    assert writings(copied) == 3
    assert writings(program) == 0


def test_a_program_that_stands_as_read_is_meant_as_it_was_written(program: ConductanceProgram) -> None:
    plain = recoded(program)
    exact = {slot: macro_targets_us(plain, slot) for slot in plain.slots}
    found = residual(plain, exact)
    assert found.left < 1e-6
    after = {slot: macro_targets_us(found.program, slot) for slot in plain.slots}
    assert np.abs(held(plain, after) - held(plain, exact)).max() < 1e-3


@pytest.mark.parametrize(
    ("asked", "max_level", "given"), [(4, 7, 7), (2, 7, 7), (5, 7, 7), (6, 7, 7), (8, 7, 8), (3, 3, 5), (8, 255, 8)]
)
def test_weights_get_the_most_bits_that_their_slices_hold_two_at_least(asked: int, max_level: int, given: int) -> None:
    layers = {"conv": LayerBits(weight=asked), "head": LayerBits(activation=6)}
    wide = with_lower_slices(BitWidths(asked, 8, layers), max_level)
    assert (wide.weight, wide.weights_of("conv"), wide.weights_of("head")) == (given, given, given)
    assert (wide.activation, wide.inputs_of("head")) == (8, 6)


def test_what_residual_slices_cannot_be_made_of_is_refused_with_what_would_do(program: ConductanceProgram) -> None:
    with pytest.raises(CannotMap, match=r"weights of one slice.*\n.*--weight-bits"):
        with_top_copies(made(4), 2)
    small = load_chip("lab-128", macros=len(program.macros))
    with pytest.raises(CannotMap, match=r"64 copies of the highest slices take \d+ macros.*\n(.*\n)*.*--macros"):
        with_top_copies(replace(program, spec=small), 64)
    with pytest.raises(CannotMap, match="not 1 to 64"):
        with_top_copies(program, 65)
    with pytest.raises(CannotMap, match="3 copies"):
        with_top_copies(program, 3)
