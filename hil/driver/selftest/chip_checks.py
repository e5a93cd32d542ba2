"""Limits, integers after the converters, and physics: what a chip of its description must do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import input_planes, shift_add, split_planes
from cim.chip.correction import Correction, apply_correction, round_shift
from cim.chip.encoding import encode_tile, tile_halves_us
from cim.chip.spec import SignedInput
from cim.chip.windows import Window, unfold
from firmware_protocols.codec import encode
from firmware_protocols.messages import (
    READ_STEP,
    Capability,
    CellBlock,
    ErrorCode,
    ErrorReply,
    LayerTile,
    LoadLayer,
    Mvm,
    OutputsOff,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Request,
    Returns,
    Status,
    StatusReply,
    TileAddress,
)
from hil.driver.chip_driver import ChipDriver
from hil.driver.selftest.bench import Bench, CheckSkipped, NotThere, expect

ROWS, OUTPUTS = 32, 8  # of the tile that is written, or less on a smaller macro
READS = 16
STANDARD_ERRORS = 6.0  # apart, of means of so many reads; by chance one of 700,000 normal differences
LEAST_REACHED, LEAST_CORRELATION = 0.85, 0.9


def _tile(bench: Bench) -> TileAddress:
    macro = bench.spec.macro
    return TileAddress(0, 0, min(ROWS, macro.logical_rows), 0, min(OUTPUTS, macro.outputs))


def _codes(bench: Bench, vectors: int, rows: int) -> NDArray[np.int16]:
    top = 1 << bench.spec.macro.inputs.bits
    return np.random.default_rng(2).integers(0, top, (vectors, rows)).astype(np.int16)


def _widest(bench: Bench) -> int:
    return len(bench.spec.macro.adc.full_scales_us) - 1


# --- limits -----------------------------------------------------------------------------------------


def addresses_beyond(bench: Bench) -> str:
    """Addresses beyond the chip and an unknown converter range are OUT_OF_RANGE."""
    spec, tile = bench.spec, _tile(bench)
    codes = np.zeros((1, tile.rows), np.int16)
    with bench.driver() as driver:
        returns = Returns.SUMS if Capability.SUMS in driver.capabilities else Returns.RAW
    read = Mvm(returns, tile, 0, 0, spec.macro.inputs.bits, False, 0, 1, 0, codes)
    requests: tuple[Request[Any], ...] = (
        ReadCells(CellBlock(spec.macros, 0, 1, 0, 1), 10, 1, 0),
        ReadCells(CellBlock(0, spec.macro.rows, 1, 0, 1), 10, 1, 0),
        ReadCells(CellBlock(0, 0, 1, spec.macro.columns - 1, 2), 10, 1, 0),
        dataclasses.replace(read, range_code=_widest(bench) + 1),
        dataclasses.replace(read, tile=dataclasses.replace(tile, output0=spec.macro.outputs)),
    )
    with bench.messages() as line:
        for number, request in enumerate(requests, 1):
            reply = line.answer(encode(request, number)).message
            wrong = not isinstance(reply, ErrorReply) or reply.code is not ErrorCode.OUT_OF_RANGE
            expect(not wrong, f"request {number}, {type(request).__name__}: {reply}"[:200])
    return f"{len(requests)} of {len(requests)}"


def voltages_above(bench: Bench) -> str:
    """A voltage above the absolute limit is LIMIT, and no cell of the request takes a pulse."""
    top = round(bench.spec.limits.set_v * 1000)
    millivolts = np.array([[1, top + 1]], np.uint16)
    with bench.driver(Capability.PULSE) as driver:
        before = driver.known_status()
    with bench.messages() as line:
        request = Pulse(CellBlock(0, 0, 1, 0, 2), Polarity.SET, 100, 0, millivolts)
        reply = line.answer(encode(request, 1)).message
    expect(isinstance(reply, ErrorReply) and reply.code is ErrorCode.LIMIT, f"answered {reply}"[:200])
    if before is None:
        return f"{top + 1} mV; no STATUS counts pulses"
    with bench.driver() as driver:
        expect(driver.status().pulses_total == before.pulses_total, "pulses were given")
    return f"{top + 1} mV"


def pulses_above(bench: Bench) -> str:
    """More pulses for a cell, or longer ones, than the absolute limits allow are LIMIT."""
    limits = bench.spec.limits
    with bench.driver(Capability.PROGRAM_TILE):
        pass
    block, targets = CellBlock(0, 0, 1, 0, 1), np.array([[1500]], np.uint16)
    good = ProgramTile(block, 10, 100, 1, 1, 1, 1, 1, 1, 1, 1, 100, 0, targets)
    with bench.messages() as line:
        for number, what in enumerate(
            (
                {"max_pulses": limits.pulses_per_cell + 1},
                {"pulse_width_ns": round(limits.pulse_width_ns) + 1},
                {"set_stop_mv": round(limits.set_v * 1000) + 1},
                {"reset_start_mv": round(limits.reset_v * 1000) + 1},
            ),
            1,
        ):
            reply = line.answer(encode(dataclasses.replace(good, **what), number)).message  # type: ignore[arg-type]
            wrong = not isinstance(reply, ErrorReply) or reply.code is not ErrorCode.LIMIT
            expect(not wrong, f"{what}: answered {reply}"[:200])
    return "4 of 4"


def codes_beyond_their_bits(bench: Bench) -> str:
    """An input code that does not fit its bits is OUT_OF_RANGE."""
    tile = _tile(bench)
    codes = np.full((1, tile.rows), 4, np.int16)
    with bench.driver() as driver:
        returns = Returns.SUMS if Capability.SUMS in driver.capabilities else Returns.RAW
    with bench.messages() as line:
        reply = line.answer(encode(Mvm(returns, tile, 0, 0, 2, False, 0, 1, 0, codes), 1)).message
    expect(isinstance(reply, ErrorReply) and reply.code is ErrorCode.OUT_OF_RANGE, f"answered {reply}"[:200])
    return "code 4 in 2 bits"


LIMITS = (addresses_beyond, voltages_above, pulses_above, codes_beyond_their_bits)

# --- digital ------------------------------------------------------------------------------------------


def _alike(one: Callable[[], NDArray[np.integer]], other: Callable[[], NDArray[np.integer]]) -> str:
    """How two ways to the same integers agree; raises ``CheckFailed``.

    Bit by bit where a sample number brings the same noise back, as on an emulated chip. Where noise is new at each
    read: means of ``READS`` reads of both ways in turn, within ``STANDARD_ERRORS`` of them.
    """
    pairs = [(one(), other())]
    if np.array_equal(*pairs[0]):
        return "bit by bit"
    pairs += [(one(), other()) for _ in range(READS - 1)]
    first, second = np.array(pairs, np.float64).swapaxes(0, 1)
    error = np.sqrt((first.var(0, ddof=1) + second.var(0, ddof=1)) / READS)
    wrong = np.abs(first.mean(0) - second.mean(0)) > STANDARD_ERRORS * error
    expect(not wrong.any(), f"{np.count_nonzero(wrong)} of {wrong.size} differ")
    return f"means of {READS} reads"


def sums_are_shift_added(bench: Bench) -> str:
    """SUMS are the RAW conversions, pairs subtracted, planes shifted and added."""
    tile, macro = _tile(bench), bench.spec.macro
    codes = _codes(bench, 5, tile.rows)
    with bench.driver(Capability.RAW, Capability.SUMS) as driver:

        def added() -> NDArray[np.int32]:
            raw = driver.mvm(tile, codes, range_code=_widest(bench), sample=3, returns=Returns.RAW)
            expect(raw.conversions == raw.values.size, f"{raw.conversions} conversions counted, {raw.values.size} came")
            return shift_add(raw.values, macro, input_planes(macro.inputs, macro.inputs.bits, False))

        how = _alike(added, lambda: driver.mvm(tile, codes, range_code=_widest(bench), sample=3).values)
    return f"{len(codes) * tile.outputs} sums, {how}"


def sweeps_are_products(bench: Bench) -> str:
    """A SWEEP is the product of every window, padding as code 0."""
    window = Window(2, 5, 4, (3, 3), (2, 1), (1, 1), (1, 1))
    tile = TileAddress(0, 0, 18, 0, _tile(bench).outputs)
    with bench.driver(Capability.SWEEP, Capability.SUMS) as driver:
        if bench.spec.macro.logical_rows < tile.rows:
            raise CheckSkipped("fewer than 18 rows")
        maps = _codes(bench, 2, 40).reshape(2, 2, 5, 4)
        vectors = np.ascontiguousarray(unfold(maps, window).reshape(-1, 18))
        read: dict[str, Any] = {"range_code": _widest(bench), "sample": 4}
        how = _alike(
            lambda: driver.mvm(tile, vectors, vectors_per_sample=window.positions, **read).values,
            lambda: driver.sweep(tile, maps, window, **read).values,
        )
    return f"{len(vectors)} windows, {how}"


def layers_are_integers(bench: Bench) -> str:
    """A loaded layer is its sums corrected, added to the bias, requantised, halves away from zero."""
    tile, rng = _tile(bench), np.random.default_rng(3)
    n, signed = tile.outputs, bench.spec.macro.inputs.signed is SignedInput.PLANE
    codes = _codes(bench, 12, tile.rows) - np.int16(signed << (bench.spec.macro.inputs.bits - 1))
    gain, input_gain = (rng.integers(1 << 16, 1 << 18, n).astype(np.int32), rng.integers(-999, 999, n).astype(np.int32))
    offset, bias = rng.integers(-(1 << 20), 1 << 20, n), rng.integers(-400, 400, n).astype(np.int32)
    multiplier, shift = rng.integers(1 << 20, 1 << 22, n).astype(np.int32), np.full(n, 25, np.int32)
    part = LayerTile(tile, 0, 0, 3, 18, gain, offset, input_gain)
    drive: dict[str, Any] = {"range_code": _widest(bench), "input_signed": signed, "sample": 5}
    with bench.driver(Capability.LAYER, Capability.SUMS) as driver:

        def by_hand() -> NDArray[np.int64]:
            sums = driver.mvm(tile, codes, **drive).values
            levels = apply_correction(sums, codes.sum(1, dtype=np.int64), Correction(gain, offset, input_gain, 18))
            total = (levels.astype(np.int64) * 3 + bias) * multiplier.astype(np.int64)
            return np.clip(round_shift(total, shift.astype(np.int64)), -128, 127)

        driver.load_layer(LoadLayer(7, tile.rows, n, -128, 127, bias, multiplier, shift, (part,)))
        how = _alike(by_hand, lambda: driver.run_layer(7, codes, **drive).values)
        values = len(np.unique(by_hand()))
    return f"{len(codes) * n} codes, {values} values, {how}"


def reads_are_added(bench: Bench) -> str:
    """Repeated reads are the sums of single ones, and a loaded layer takes their mean."""
    tile, rng, n, reads = _tile(bench), np.random.default_rng(6), _tile(bench).outputs, (4, 2)
    codes, signed = _codes(bench, 6, tile.rows), bench.spec.macro.inputs.signed is SignedInput.PLANE
    gain, zeros = rng.integers(1 << 16, 1 << 18, n).astype(np.int32), np.zeros(n, np.int32)
    offset, bias = rng.integers(-(1 << 20), 1 << 20, n), rng.integers(-400, 400, n).astype(np.int32)
    codes = codes - np.int16(signed << (bench.spec.macro.inputs.bits - 1))
    drive: dict[str, Any] = {"range_code": _widest(bench), "input_signed": signed}
    with bench.driver(Capability.REPEATED_READS, Capability.SUMS) as driver:

        def single() -> NDArray[np.int32]:
            return np.stack(
                [driver.mvm(tile, codes, **drive, sample=8 + k * READ_STEP).values for k in range(reads[0])]
            )

        def mean() -> NDArray[np.int64]:
            alone, total = single(), np.zeros((len(codes), n), np.int64)
            for each in reads:
                correction = Correction(gain, offset, zeros, 18).of_reads(each)
                levels = apply_correction(np.sum(alone[:each], 0), np.zeros(len(codes), np.int64), correction)
                total += 3 * (reads[0] // each) * levels.astype(np.int64)
            halves_away = np.sign(total) * ((2 * np.abs(total) + reads[0]) // (2 * reads[0]))
            return np.asarray(np.clip(halves_away + bias, -(1 << 15), (1 << 15) - 1))

        how = _alike(
            lambda: np.sum(single(), 0), lambda: driver.mvm(tile, codes, **drive, sample=8, reads=reads[0]).values
        )
        if Capability.LAYER not in driver.capabilities:
            return f"{len(codes) * n} sums, {how}"
        parts = tuple(LayerTile(tile, 0, 0, 3, 18, gain, offset, zeros, each) for each in reads)
        driver.load_layer(LoadLayer(7, tile.rows, n, -(1 << 15), (1 << 15) - 1, bias, zeros + 1, zeros, parts))
        how = _alike(mean, lambda: driver.run_layer(7, codes, **drive, sample=8).values)
    return f"{len(codes) * n} sums, as many codes of a layer, {how}"


DIGITAL = (sums_are_shift_added, sweeps_are_products, layers_are_integers, reads_are_added)

# --- physics -------------------------------------------------------------------------------------------


def _write(driver: ChipDriver, bench: Bench) -> tuple[TileAddress, NDArray[np.float32]]:
    """Random levels in the tile of the checks; the tile and the targets of the whole macro, µS."""
    macro, tile = bench.spec.macro, _tile(bench)
    levels = np.random.default_rng(4).choice(macro.weight_values, (tile.rows, tile.outputs)).astype(np.int8)
    cells = encode_tile(levels, macro, 0, 0)
    targets = np.full((macro.rows, macro.columns), np.nan, np.float32)
    targets[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    driver.program_cells(0, targets, sample=11)
    return tile, targets


def _fitting(bench: Bench, codes: NDArray[np.int16], plus: NDArray[np.float32], minus: NDArray[np.float32]) -> int:
    """The smallest converter range that holds these products with a fifth to spare."""
    macro = bench.spec.macro
    planes = split_planes(codes, macro.inputs, macro.inputs.bits, False).astype(np.float64)
    lines = [plus - minus] if macro.adc_signed else [plus, minus]
    top = 1.2 * max(float(np.abs(planes @ line).max()) for line in lines)
    return next((r for r, full in enumerate(macro.adc.full_scales_us) if full >= top), _widest(bench))


def a_level_written_is_read(bench: Bench) -> str:
    """A level written is a level read."""
    macro = bench.spec.macro
    with bench.driver() as driver:
        _, targets = _write(driver, bench)
        read = driver.read_cells(0, reads=READS)
    off = np.abs(read - targets)[~np.isnan(targets)]
    window = max(3.0 * macro.tolerance_us, 0.25 * macro.level_gap_us)
    near = float(np.mean(off <= window))
    expect(near >= LEAST_REACHED, f"{100 * near:.1f} % of cells within {window:.2f} µS")
    return f"{100 * near:.1f} % of {off.size} cells within {window:.2f} µS"


def a_product_is_linear(bench: Bench) -> str:
    """A product follows the conductances read, and doubles with its inputs."""
    macro = bench.spec.macro
    with bench.driver() as driver:
        tile, _ = _write(driver, bench)
        plus, minus = tile_halves_us(driver.read_cells(0, reads=READS), macro, 0, tile.rows, 0, tile.outputs)
        codes = _codes(bench, 48, tile.rows) // 2
        fitting = _fitting(bench, 2 * codes, plus, minus)
        small = driver.mvm(tile, codes, range_code=fitting, sample=6).values.astype(np.float64)
        large = driver.mvm(tile, 2 * codes, range_code=fitting, sample=7).values.astype(np.float64)
    wanted = codes.astype(np.float64) @ (plus - minus)
    centred = [a - a.mean(0) for a in (wanted, small, large)]
    follows = [float(np.corrcoef(centred[0][:, o], centred[1][:, o])[0, 1]) for o in range(tile.outputs)]
    slope = float((centred[0] * centred[2]).sum() / (centred[0] * centred[1]).sum())
    expect(float(np.median(follows)) >= LEAST_CORRELATION, f"median correlation {np.median(follows):.3f}")
    expect(1.85 < slope < 2.15, f"twice the inputs give {slope:.3f} times the product")
    return f"median correlation {np.median(follows):.4f}, doubled {slope:.3f}"


def outputs_go_off(bench: Bench) -> str:
    """OUTPUTS_OFF takes the voltages off, on the control channel."""
    with bench.driver() as driver:
        driver.read_cells(0, lines=range(1))
        driver.outputs_off()
        status = driver.known_status()
        if status is None:
            raise NotThere("no STATUS")
        if math.isnan(status.temperature_c) and not status.programmed_cells + status.pulses_total:
            raise CheckSkipped("its STATUS knows nothing")
        off = not status.outputs_on
    expect(off, "STATUS says that the outputs are on")
    with bench.messages() as line:
        line.ask(encode(OutputsOff(), 1), channel=0)
        again = line.answer(encode(Status(), 2)).message
    expect(isinstance(again, StatusReply) and not again.outputs_on, f"{again}"[:200])
    return "twice"


def chip_time_moves(bench: Bench) -> str:
    """Chip time never runs backwards and counts a WAIT."""
    with bench.driver(Capability.WAIT) as driver:
        start = driver.chip_time_ns
        driver.wait(1.0)
        end = driver.chip_time_ns
    expect(end - start >= 1_000_000_000, f"{end - start} ns passed in a WAIT of 1 s")
    return f"{(end - start) * 1e-9:.3f} s"


PHYSICS = (a_level_written_is_read, a_product_is_linear, outputs_go_off, chip_time_moves)
