"""The emulated chip as a chip: what it refuses, its clock, its address, and what it never tells."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.handlers import ChipHandlers, Refusal
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    ErrorCode,
    HoldProgram,
    KernelWindow,
    LayerTile,
    LoadLayer,
    Mvm,
    Polarity,
    Pulse,
    ReadCells,
    Returns,
    Sweep,
    TileAddress,
    Wait,
)
from hil.emulator.address import chip_from_address
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.errors import UsageError

from ..emulated_bench import finish, multiply, program_request, read_us, wait_s, write_cells, write_levels


@pytest.fixture
def chip() -> EmulatedChip:
    return EmulatedChip(load_chip("lab-128", macros=1), seed=11)


def refused(call: object, *arguments: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        finish(call(*arguments))  # type: ignore[operator]
    return caught.value


def test_it_has_every_verb_of_the_chip_role(chip: EmulatedChip) -> None:
    assert isinstance(chip, ChipHandlers)
    assert chip.capabilities == ~(
        Capability.AUTHORITY | Capability.DEAD_MAN | Capability.PACKED
    )  # these are of the chip role


def test_a_cell_is_pulsed_no_more_than_it_bears_in_its_life() -> None:
    spec = load_chip("lab-128", macros=1)
    assert spec.cost is not None
    assert spec.life_pulses == round(spec.cost.endurance_cycles * spec.cost.mean_pulses)
    short = dataclasses.replace(spec, cost=dataclasses.replace(spec.cost, endurance_cycles=3.0, mean_pulses=1.0))
    chip = EmulatedChip(short, seed=11)
    pulse = Pulse(CellBlock(0, 0, 1, 0, 2), Polarity.SET, 100, 0, np.array([[900, 0]], np.uint16))
    for _ in range(3):
        chip.pulse(pulse)
    refusal = refused(chip.pulse, pulse)
    assert (refusal.code, refusal.value, refusal.limit) == (ErrorCode.LIMIT, 4.0, 3.0)
    chip.pulse(dataclasses.replace(pulse, millivolts=np.array([[0, 900]], np.uint16)))
    assert chip.status().pulses_total == 4


def test_the_description_names_the_chip_but_not_the_seed(chip: EmulatedChip) -> None:
    description = chip.describe()
    assert (description.name, description.kind, description.macros) == ("lab-128", "emulated", 1)
    assert description.spec_digest.hex() == chip.spec.digest
    others = {EmulatedChip(chip.spec, seed).describe().serial for seed in (10, 11, 12)}
    assert len(others) == 3
    assert description.serial in others
    assert description.serial != "11"


@pytest.mark.parametrize(
    ("change", "value", "limit"),
    [
        ({"set_stop_mv": 4001}, 4.001, 4.0),
        ({"reset_start_mv": 4100}, 4.1, 4.0),
        ({"pulse_width_ns": 10001}, 10001, 10000),
        ({"max_pulses": 1001}, 1001, 1000),
    ],
)
def test_writes_above_a_limit_are_refused_before_any_pulse(
    chip: EmulatedChip, change: dict[str, int], value: float, limit: float
) -> None:
    request = dataclasses.replace(program_request(chip, np.full((128, 128), 20.0)), **change)
    refusal = refused(chip.program_tile, request)
    assert (refusal.code, refusal.value, refusal.limit) == (ErrorCode.LIMIT, value, limit)
    assert chip.status().pulses_total == 0


@pytest.mark.parametrize("polarity", list(Polarity))
def test_pulses_above_a_limit_are_refused(chip: EmulatedChip, polarity: Polarity) -> None:
    block = CellBlock(0, 0, 1, 0, 1)
    high = Pulse(block, polarity, 1000, 0, np.array([[4001]], np.uint16))
    assert refused(chip.pulse, high).code is ErrorCode.LIMIT
    wide = Pulse(block, polarity, 20000, 0, np.array([[2000]], np.uint16))
    assert refused(chip.pulse, wide).code is ErrorCode.LIMIT
    assert chip.status().pulses_total == 0


def mvm(tile: TileAddress | None, codes: np.ndarray, **change: object) -> Mvm:
    base = Mvm(Returns.SUMS, tile, 0, 0, 8, False, 0, 1, 0, codes.astype(np.int16))
    return dataclasses.replace(base, **change)  # type: ignore[arg-type]


def test_requests_outside_the_chip_are_refused_with_their_numbers(chip: EmulatedChip) -> None:
    tile, codes = TileAddress(0, 0, 8, 0, 4), np.zeros((1, 8))
    cases = [
        (chip.mvm, mvm(TileAddress(1, 0, 8, 0, 4), codes), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(TileAddress(0, 121, 8, 0, 4), codes), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(TileAddress(0, 0, 8, 61, 4), codes), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(tile, codes, range_code=8), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(tile, codes, input_bits=9), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(tile, codes + 256), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(tile, codes - 1), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(tile, np.zeros((1, 9))), ErrorCode.MALFORMED),
        (chip.mvm, mvm(None, codes), ErrorCode.MALFORMED),
        (chip.mvm, mvm(tile, codes, vectors_per_sample=0), ErrorCode.OUT_OF_RANGE),
        (chip.mvm, mvm(None, codes, returns=Returns.LAYER, layer=4), ErrorCode.NO_SUCH_LAYER),
        (chip.read_cells, ReadCells(CellBlock(0, 100, 29, 0, 1), 1, 1, 0), ErrorCode.OUT_OF_RANGE),
        (chip.read_cells, ReadCells(CellBlock(0, 0, 1, 0, 1), 1, 0, 0), ErrorCode.OUT_OF_RANGE),
        (chip.read_cells, ReadCells(CellBlock(3, 0, 1, 0, 1), 1, 1, 0), ErrorCode.OUT_OF_RANGE),
        (chip.hold_program, HoldProgram(b"short"), ErrorCode.MALFORMED),
    ]
    for call, request, code in cases:
        assert refused(call, request).code is code, request


def test_a_layer_that_does_not_fit_together_is_refused(chip: EmulatedChip) -> None:
    def layer(outputs: int = 4, first_input: int = 0, shift: int = 10, corrections: int = 4) -> LoadLayer:
        tables = [np.ones(corrections, np.int32), np.ones(corrections, np.int64), np.ones(corrections, np.int32)]
        tile = LayerTile(TileAddress(0, 0, 8, 0, 4), first_input, 0, 1, shift, *tables)
        ones = np.ones(4, np.int32)
        return LoadLayer(0, 8, outputs, 0, 255, ones, ones, ones, (tile,))

    finish(chip.load_layer(layer()))
    assert refused(chip.load_layer, layer(outputs=3)).code is ErrorCode.OUT_OF_RANGE
    assert refused(chip.load_layer, layer(first_input=1)).code is ErrorCode.OUT_OF_RANGE
    assert refused(chip.load_layer, layer(shift=63)).code is ErrorCode.OUT_OF_RANGE
    assert refused(chip.load_layer, layer(corrections=3)).code is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "window",
    [
        KernelWindow(1, 2, 2, (3, 3), (1, 1), (0, 0), (1, 1)),
        KernelWindow(1, 2, 2, (1, 1), (1, 1), (0, -1), (1, 1)),
        KernelWindow(1, 2, 2, (2, 2), (1, 1), (0, 0), (-1, 1)),
        KernelWindow(1, 2, 2, (1, 1), (-1, 1), (0, 0), (1, 1)),
        KernelWindow(1, 3, 2, (1, 1), (1, 1), (0, 0), (1, 1)),
    ],
)
def test_a_window_that_does_not_fit_its_map_or_steps_backwards_is_refused(
    chip: EmulatedChip, window: KernelWindow
) -> None:
    request = Sweep(
        Returns.SUMS, TileAddress(0, 0, 9, 0, 1), 0, 0, 8, False, window, 0, 0, np.zeros((1, 1, 2, 2), np.int16)
    )
    assert refused(chip.sweep, request).code is ErrorCode.MALFORMED


def test_what_a_simpler_board_lacks_is_unsupported() -> None:
    board = EmulatedChip(load_chip("lab-128", macros=1), 1, capabilities=Capability.PULSE | Capability.RAW)
    assert refused(board.program_tile, program_request(board, np.full((128, 128), 9.0))).code is ErrorCode.UNSUPPORTED
    assert refused(board.wait, Wait(1)).code is ErrorCode.UNSUPPORTED
    assert refused(board.mvm, mvm(TileAddress(0, 0, 8, 0, 4), np.zeros((1, 8)))).code is ErrorCode.UNSUPPORTED
    assert ALL_CAPABILITIES & Capability.PROGRAM_TILE


def test_chip_time_moves_by_operations_and_waits_only(chip: EmulatedChip) -> None:
    assert chip.chip_time_ns == 0
    chip.describe()
    chip.status()
    assert chip.chip_time_ns == 0
    timing = chip.spec.timing
    result = write_cells(chip, np.full((128, 128), 20.0))
    written = chip.chip_time_ns
    assert written >= result.pulses.sum() * timing.pulse_ns
    read_us(chip, 10, 20, reads=3)
    assert chip.chip_time_ns - written == 10 * 20 * 3 * timing.cell_read_ns
    before = chip.chip_time_ns
    multiply(chip, TileAddress(0, 0, 8, 0, 16), np.zeros((5, 8)))
    plane = timing.row_setup_ns + timing.input_cycle_ns + 8 * timing.conversion_ns
    assert chip.chip_time_ns - before == 5 * 8 * plane
    before = chip.chip_time_ns
    wait_s(chip, 3600.0)
    assert chip.chip_time_ns - before == 3600 * 10**9


def test_computing_between_two_waits_does_not_age_the_cells(chip: EmulatedChip) -> None:
    tile = write_levels(chip, np.full((64, 8), 2, np.int8))
    first = multiply(chip, tile, np.full((4, 64), 200), sample=1, range_code=7).values
    for sample in range(2, 20):
        multiply(chip, tile, np.full((40, 64), 200), sample=sample)
    np.testing.assert_array_equal(first, multiply(chip, tile, np.full((4, 64), 200), sample=1, range_code=7).values)
    wait_s(chip, 1e4)
    assert (first != multiply(chip, tile, np.full((4, 64), 200), sample=1, range_code=7).values).any()


def test_outputs_go_on_with_work_and_off_when_told(chip: EmulatedChip) -> None:
    assert not chip.status().outputs_on
    read_us(chip, 1, 1)
    assert chip.status().outputs_on
    chip.outputs_off()
    assert not chip.status().outputs_on


def test_any_write_forgets_the_held_program_and_a_reset_forgets_layers(chip: EmulatedChip) -> None:
    digest = bytes(range(32))
    chip.hold_program(HoldProgram(digest))
    assert chip.describe().program_digest == digest
    chip.reset()
    assert chip.describe().program_digest == digest
    pulse = Pulse(CellBlock(0, 0, 1, 0, 1), Polarity.SET, 1000, 0, np.array([[1500]], np.uint16))
    chip.pulse(pulse)
    assert chip.describe().program_digest == bytes(32)


def test_no_reply_holds_a_true_conductance(chip: EmulatedChip) -> None:
    """Readings of one cell differ from the truth and from each other, at any number of reads."""
    result = write_cells(chip, np.full((128, 128), 20.0))
    truth = chip._cells[0].conductance_us(chip._settled_ns)
    for shown in (result.readings * 1e-3, read_us(chip, 128, 128), read_us(chip, 128, 128, reads=1000, sample=1)):
        assert (np.abs(shown - truth) < 5e-4).mean() < 0.05


def test_an_address_chooses_chip_seed_size_and_overrides() -> None:
    chip = chip_from_address("emulated:yao-2020?seed=7&macros=2&supply_droop=0.02")
    assert (chip.spec.name, chip.spec.macros) == ("yao-2020", 2)
    assert chip._sample.parameters.supply_droop == 0.02
    assert chip.describe().serial == EmulatedChip(load_chip("yao-2020"), 7).describe().serial
    ideal = chip_from_address("emulated:lab-128?ideal=1&macros=1")
    assert ideal.spec.revision.endswith("ideal")
    assert ideal.status().temperature_c == 25.0


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("emulated:lab-128?sead=7", "keys are seed, macros, ideal, key, traces, stuck_low_share"),
        ("emulated:lab-128?seed=x", "no whole number"),
        ("emulated:lab-128?seed=-1", "below 0"),
        ("emulated:lab-128?macros=0", "below 1"),
        ("emulated:lab-128?wire_ohm=much", "no number"),
        ("emulated:lab-128?wire_ohm=nan", "no number"),
        ("emulated:lab-128?ideal=2", "neither 0 nor 1"),
        ("tcp://somewhere", "not an address of an emulated chip"),
    ],
)
def test_a_wrong_address_says_what_is_wrong(address: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        chip_from_address(address)
    assert says in str(caught.value)
