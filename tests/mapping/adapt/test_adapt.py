"""Adapting a program to one chip: what pairs can hold, orders; the integers stay the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm, tile_halves_us
from cim.chip.file import load_chip
from cim.chip.spec import Encoding, PairSubtraction
from cim.record.calibration import CellState, nominal_macro
from cim.record.published import nominal_record
from mapping.adapt.adaptation import AdaptOptions, adapt
from mapping.adapt.compensation import column_errors, loss_table, pair_choices, rebalanced
from mapping.adapt.defects import Defects, MacroDefects, record_defects, tile_stuck_us
from mapping.adapt.orders import PlaceLosses, best_orders
from mapping.compile import CannotMap, compile_network
from mapping.layout.place import macro_targets_us
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run

from ..small_networks import every_node, network

LAB = load_chip("lab-128", macros=30)
SPEC = LAB.macro
TOP = SPEC.max_level
TABLE = np.array(SPEC.levels_us)
PLAIN = AdaptOptions(permute=False, swap=False, balance=False)


def make(form: WeightForm = WeightForm.SIGN, bits: int = 4) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits=bits, images=8), LAB, weight_form=form)


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return make()


@pytest.fixture(scope="module")
def inputs(program: ConductanceProgram) -> dict[str, NDArray[np.int16]]:
    return layer_inputs(program)


def layer_inputs(program: ConductanceProgram) -> dict[str, NDArray[np.int16]]:
    codes: dict[str, NDArray[np.int16]] = {}
    run(
        program,
        program.calibration_images,
        IdealMultiply(program),
        tap=lambda step, x, sums: codes.__setitem__(step.name, x),
        batch=64,
    )
    return codes


def random_defects(program: ConductanceProgram, seed: int, low: float = 0.05, high: float = 0.01) -> Defects:
    rng = np.random.default_rng(seed)
    defects = {}
    for macro in program.macros:
        lot = rng.random((SPEC.rows, SPEC.columns))
        bottom, top = rng.uniform(0.1, 0.9, lot.shape) * TABLE[0], rng.uniform(1.0, 1.2, lot.shape) * TABLE[-1]
        stuck = np.where(lot < low, bottom, np.where(lot < low + high, top, np.nan)).astype(np.float32)
        defects[macro] = MacroDefects(stuck, np.zeros(SPEC.outputs))
    return defects


def held(program: ConductanceProgram, defects: Defects, step: MatrixStep) -> NDArray[np.float64]:
    """The matrix that the cells of a layer hold, (inputs, outputs) in levels, by place."""
    total = np.zeros((step.group.inputs, step.group.outputs))
    for tile in step.group.tiles:
        targets = macro_targets_us(program, tile.macro)
        cells = np.where(np.isfinite(defects[tile.macro].stuck_us), defects[tile.macro].stuck_us, targets)
        size = len(tile.inputs), len(tile.outputs)
        plus, minus = tile_halves_us(np.nan_to_num(cells), SPEC, tile.row0, size[0], tile.output0, size[1])
        signs = 1 if tile.signs is None else tile.signs
        here = (slice(tile.inputs.start, tile.inputs.stop), slice(tile.outputs.start, tile.outputs.stop))
        total[here] += tile.multiplier * signs * (plus - minus) / SPEC.level_step_us
    return total


def intended(step: MatrixStep) -> NDArray[np.int64]:
    total = np.zeros((step.group.inputs, step.group.outputs), np.int64)
    for tile in step.group.tiles:
        here = (slice(tile.inputs.start, tile.inputs.stop), slice(tile.outputs.start, tile.outputs.stop))
        total[here] += tile.multiplier * tile.levels.astype(np.int64)
    return total


# --- what a pair can hold ------------------------------------------------------------------


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("stuck", range(TOP + 1))
def test_a_partner_holds_every_level_from_s_minus_kmax_to_s(half: int, stuck: int) -> None:
    """Closed form: plus stuck at level s leaves s − k_max..s, minus stuck −s..k_max − s."""
    us = np.full((2, 1, 15), np.nan)
    us[half] = TABLE[stuck]
    k = np.arange(-TOP, TOP + 1)
    low, high = (stuck - TOP, stuck) if half == 0 else (-stuck, TOP - stuck)
    distance = np.maximum(np.maximum(low - k, k - high), 0)
    assert np.allclose(loss_table(us[:, 0], SPEC)[np.arange(15), k + TOP], distance**2, atol=1e-9)
    choices = pair_choices(us, SPEC)
    index = choices.nearest(k[None].astype(float))
    cells = choices.cells_at(index)[:, 0]
    assert (cells[half] == stuck).all()
    sign = 1 if half == 0 else -1
    assert np.array_equal(cells[1 - half], np.clip(stuck - sign * k, 0, TOP))


def test_a_cell_stuck_between_levels_is_met_by_the_nearest_partner() -> None:
    us = np.full((2, 1, 1), np.nan)
    us[1] = TABLE[0] + 3.4 * SPEC.level_step_us  # minus at level 3.4
    choices = pair_choices(us, SPEC)
    index = choices.nearest(np.array([[2.0]]))
    assert choices.cells_at(index)[:, 0, 0].tolist() == [5, 3]
    assert choices.held_at(index)[0, 0] == pytest.approx(5 - 3.4, abs=1e-5)


def test_a_pair_with_two_stuck_cells_has_no_choice() -> None:
    us = np.array([[[TABLE[0]]], [[TABLE[7]]]])
    assert np.isfinite(pair_choices(us, SPEC).held[:, 0, 0]).sum() == 1
    assert np.allclose(loss_table(us[:, 0], SPEC)[0], (np.arange(-7, 8) + 7) ** 2, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_balancing_a_column_never_raises_its_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, outputs = 12, 5
    stuck = np.where(rng.random((2, rows, outputs)) < 0.2, rng.uniform(0, 44, (2, rows, outputs)), np.nan)
    wanted = rng.integers(-TOP, TOP + 1, (rows, outputs)).astype(float)
    x = rng.integers(0, 256, (40, rows)) * (rng.random(rows) < 0.8)  # some rows are never driven
    moments = x.T @ x / len(x)
    choices = pair_choices(stuck, SPEC)
    start = choices.nearest(wanted)
    end = rebalanced(choices, start, wanted, moments)
    errors = [column_errors(choices.held_at(index) - wanted, moments) for index in (start, end)]
    assert (errors[1] <= errors[0] * (1 + 1e-6) + 1e-6).all()
    both = np.isfinite(stuck).all(0)
    assert np.array_equal(choices.held_at(start)[both], choices.held_at(end)[both])


def test_a_neighbour_that_sees_the_same_input_makes_up_for_a_lost_weight() -> None:
    stuck = np.full((2, 2, 1), np.nan)
    stuck[0, 0] = TABLE[0]  # the plus cell of row 0 is stuck low; row 0 wants 4
    choices, wanted = pair_choices(stuck, SPEC), np.array([[4.0], [1.0]])
    index = rebalanced(choices, choices.nearest(wanted), wanted, np.ones((2, 2)))
    assert choices.held_at(index)[:, 0].tolist() == pytest.approx([0.0, 5.0], abs=1e-5)


# --- programs ------------------------------------------------------------------------------


def test_with_the_stuck_map_known_pairs_hold_what_they_can_unless_their_column_was_better_as_it_was(
    program: ConductanceProgram, inputs: dict[str, NDArray[np.int16]]
) -> None:
    defects = random_defects(program, 1)
    done = adapt(program, defects, inputs, serial="X", options=PLAIN)
    columns_seen = compensated = 0
    for before, step in zip(program.matrices, done.program.matrices, strict=True):
        error = held(done.program, defects, step) - intended(step)
        blind = held(program, defects, before) - intended(before)
        for tile in step.group.tiles:
            stuck = tile_stuck_us(defects, SPEC, tile)
            rows, columns = np.nonzero(np.isfinite(stuck).any(0))
            table = loss_table(stuck[:, rows, columns], SPEC)
            loss2 = table[np.arange(len(rows)), tile.levels[rows, columns].astype(int) + TOP]
            at = (tile.inputs.start + rows, tile.outputs.start + columns)
            close = np.abs(np.abs(error[at]) - np.sqrt(loss2)) < 1e-3
            same = np.abs(error[at] - blind[at]) < 1e-3
            for column in np.unique(columns):
                mine = columns == column
                assert close[mine].all() or same[mine].all()
                columns_seen += 1
                compensated += close[mine].all()
    assert columns_seen > 20
    assert compensated > 0.8 * columns_seen
    assert done.total("hit") > done.total("left") > 0


@pytest.mark.parametrize("form", list(WeightForm))
@pytest.mark.parametrize("bits", [4, 6])
def test_an_adapted_program_gives_the_same_logits_and_expects_no_more_error(form: WeightForm, bits: int) -> None:
    program = make(form, bits)
    defects, codes = random_defects(program, 2), layer_inputs(program)
    images = program.calibration_images
    done = adapt(program, defects, codes, serial="X")
    check_program(done.program)
    adapted = done.program
    assert adapted.adapted_to == "X"
    assert adapted.digest != program.digest
    assert np.array_equal(run(adapted, images, IdealMultiply(adapted)), run(program, images, IdealMultiply(program)))
    assert all(layer.adapted <= layer.blind * (1 + 1e-9) for layer in done.layers)
    assert done.error[1] < 0.3 * done.error[0]


def test_every_means_lowers_the_expected_error(
    program: ConductanceProgram, inputs: dict[str, NDArray[np.int16]]
) -> None:
    defects = random_defects(program, 4)
    options = (
        PLAIN,
        dataclasses.replace(PLAIN, swap=True),
        dataclasses.replace(PLAIN, swap=True, permute=True),
        AdaptOptions(),
    )
    found = [adapt(program, defects, inputs, serial="X", options=o) for o in options]
    errors = [found[0].error[0], *(f.error[1] for f in found)]
    assert errors == sorted(errors, reverse=True)
    assert found[1].total("swapped") > 0
    assert found[2].total("moved") > 0


def test_the_expected_error_is_that_of_the_cells(
    program: ConductanceProgram, inputs: dict[str, NDArray[np.int16]]
) -> None:
    """One layer of one tile: the mean square of (held − levels) · x over the same vectors."""
    defects = random_defects(program, 5)
    done = adapt(program, defects, inputs, serial="X", options=dataclasses.replace(AdaptOptions(), permute=False))
    number = next(n for n, m in enumerate(program.matrices) if m.name == "fc")
    step = done.program.matrices[number]
    assert len(step.group.tiles) == 1
    x = inputs["fc"].astype(float)
    scale = step.requantise.multiplier / np.exp2(step.requantise.shift)
    error, wanted = (x @ m * scale for m in (held(done.program, defects, step) - intended(step), intended(step)))
    assert done.layers[number].adapted == pytest.approx((error**2).sum() / (wanted**2).sum(), rel=1e-3)


def test_a_chip_without_defects_leaves_the_program_as_it_is(
    program: ConductanceProgram, inputs: dict[str, NDArray[np.int16]]
) -> None:
    done = adapt(program, random_defects(program, 0, 0.0, 0.0), inputs, serial="X")
    assert dataclasses.replace(done.program, adapted_to=None, digest=program.digest).steps == program.steps
    assert max(done.error) < 1e-12
    assert done.total("stuck") == 0


def test_adapting_is_deterministic(program: ConductanceProgram, inputs: dict[str, NDArray[np.int16]]) -> None:
    first, second = (adapt(program, random_defects(program, 7), inputs, serial="X") for _ in range(2))
    assert first.program.digest == second.program.digest


def test_it_is_refused_twice_and_without_pairs(
    program: ConductanceProgram, inputs: dict[str, NDArray[np.int16]]
) -> None:
    done = adapt(program, random_defects(program, 1), inputs, serial="X")
    with pytest.raises(CannotMap, match="adapted to chip X already"):
        adapt(done.program, {}, inputs, serial="Y")
    lone = dataclasses.replace(LAB, macro=dataclasses.replace(SPEC, encoding=Encoding.SINGLE_ENDED))
    with pytest.raises(CannotMap, match="one cell a weight"):
        adapt(dataclasses.replace(program, spec=lone), {}, inputs, serial="X")


# --- orders --------------------------------------------------------------------------------


def test_the_best_order_avoids_a_dead_column_with_the_least_important_output(program: ConductanceProgram) -> None:
    step = next(m for m in program.matrices if m.name == "conv1")
    (tile,) = step.group.tiles
    rows = np.arange(len(tile.inputs))
    nothing = np.tile(np.arange(-TOP, TOP + 1) ** 2.0, (len(rows), 1))  # both cells low: only 0 is held
    noise = np.zeros(len(tile.outputs))
    losses = PlaceLosses(tile, rows, np.full(len(rows), 2), nothing, noise)
    weights = np.full(step.group.outputs, 5.0)
    weights[6] = 1e-3
    squares = np.ones(step.group.inputs)
    _, outputs = best_orders(step, [losses], squares, weights)
    assert outputs[2] == 6


def test_an_important_output_gets_the_quiet_column(program: ConductanceProgram) -> None:
    step = next(m for m in program.matrices if m.name == "conv1")
    (tile,) = step.group.tiles
    none = np.zeros(0, np.intp)
    noise = np.array([9.0, 8.0, 7.0, 0.5, 6.0, 5.0, 4.0, 3.0])
    losses = PlaceLosses(tile, none, none, np.zeros((0, 15)), noise)
    weights = np.arange(1.0, 9.0)
    _, outputs = best_orders(step, [losses], np.ones(step.group.inputs), weights)
    assert outputs[3] == 7
    assert np.array_equal(weights[outputs][np.argsort(noise)], weights[::-1])


# --- from a record -------------------------------------------------------------------------


def test_a_records_stuck_cells_and_converters_become_defects() -> None:
    part = nominal_macro(SPEC, 4)
    cells, stuck_us = part.cells.copy(), part.stuck_us.copy()
    cells[0, 0], cells[1, 1], cells[2, 2], cells[3, 3] = (
        CellState.STUCK_LOW,
        CellState.STUCK_HIGH,
        CellState.NOT_REACHED,
        CellState.STUCK_HIGH,
    )
    stuck_us[0, 0], stuck_us[1, 1] = 1.2, 43.0  # the third was never read
    noise, gain = np.zeros(SPEC.outputs), np.ones(SPEC.outputs)
    noise[5], gain[5] = 3.0, 2.0
    inl = np.zeros_like(part.inl_codes)
    inl[2] = 0.5  # of converter 2, columns 16 to 23
    part = dataclasses.replace(
        part, cells=cells, stuck_us=stuck_us, conversion_noise_codes=noise, gain=gain, inl_codes=inl, inl_se=inl
    )
    record = dataclasses.replace(nominal_record(LAB, (4,)), macros={4: part})
    found = record_defects(record, SPEC)[4]
    assert found.stuck == 3
    assert found.stuck_us[[0, 1, 3], [0, 1, 3]].tolist() == pytest.approx([1.2, 43.0, TABLE[-1]])
    assert found.column_codes2[[0, 5, 16, 23]].tolist() == pytest.approx([0.0, 9.0 / 4.0, 0.25, 0.25])


def test_two_conversions_of_a_digital_pair_add_their_noise() -> None:
    digital = dataclasses.replace(SPEC, pair_subtraction=PairSubtraction.DIGITAL)
    part = nominal_macro(digital, 0)
    noise = np.zeros_like(part.gain)
    noise[3], noise[3 + digital.outputs] = 1.0, 2.0
    record = dataclasses.replace(
        nominal_record(LAB, (0,)), macros={0: dataclasses.replace(part, conversion_noise_codes=noise)}
    )
    columns = record_defects(record, digital)[0].column_codes2
    assert columns.shape == (digital.outputs,)
    assert columns[3] == pytest.approx(5.0)
