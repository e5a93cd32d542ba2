"""Checks of cells and products: cells read back as written, true write reports, products, chip time, pulse counts."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import split_planes
from cim.chip.encoding import tile_halves_us
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    Describe,
    HoldProgram,
    ProgramTile,
    ReadCells,
    TileProgrammed,
)
from hil.driver.requests import conductance_unit_ns
from hil.driver.selftest.digital_checks import codes_of, widest, write_tile
from hil.driver.selftest.limit_checks import masked_write
from hil.driver.selftest.line import Bench, MessageLine, expect
from hil.driver.selftest.safety_checks import known_status

READS = 16
LEAST_REACHED, LEAST_CORRELATION = 0.85, 0.9
MANY, LONG = 257, 4097  # reads of a cell: whose noise must be less, whose time must be seen; both are 1 in 8 bits
LONG_S = 15.0  # that one answer of these may take: fewer cells, or reads, are seen where each takes long
MOST_NOISE, LEAST_TIME = 0.6, 4.0  # of the mean of many beside that of one: its variance; time of long reads
REPEATS = 12
MOST_RATIO_ERROR = 0.15  # of codes in two converter ranges
WAIT_S = 5.0  # more nanoseconds than 32 bits hold
FAR_PULSES = 2  # of a write whose target no cell reaches


def a_level_written_is_read(bench: Bench) -> str:
    """A level that is written is read back."""
    macro = bench.spec.macro
    with bench.driver() as driver:
        _, targets = write_tile(driver, bench)
        read = driver.read_cells(0, reads=READS)
    off = np.abs(read - targets)[~np.isnan(targets)]
    window = max(3.0 * macro.tolerance_us, 0.25 * macro.level_gap_us)
    near = float(np.mean(off <= window))
    expect(near >= LEAST_REACHED, f"{100 * near:.1f} % of cells within {window:.2f} µS")
    return f"{100 * near:.1f} % of {off.size} cells within {window:.2f} µS"


def _fitting(bench: Bench, codes: NDArray[np.int16], plus: NDArray[np.float32], minus: NDArray[np.float32]) -> int:
    """The smallest converter range that holds these products with a fifth to spare."""
    macro = bench.spec.macro
    planes = split_planes(codes, macro.inputs, macro.inputs.bits, False).astype(np.float64)
    lines = [plus - minus] if macro.adc_signed else [plus, minus]
    top = 1.2 * max(float(np.abs(planes @ line).max()) for line in lines)
    return next((r for r, full in enumerate(macro.adc.full_scales_us) if full >= top), widest(bench))


def a_product_is_linear(bench: Bench) -> str:
    """A product follows the conductances read, doubles with its inputs, and is the same in every range."""
    macro = bench.spec.macro
    with bench.driver() as driver:
        tile, _ = write_tile(driver, bench)
        plus, minus = tile_halves_us(driver.read_cells(0, reads=READS), macro, 0, tile.rows, 0, tile.outputs)
        codes = codes_of(bench, 48, tile.rows) // 2
        fitting = _fitting(bench, 2 * codes, plus, minus)
        small = driver.mvm(tile, codes, range_code=fitting, sample=6).values.astype(np.float64)
        large = driver.mvm(tile, 2 * codes, range_code=fitting, sample=7).values.astype(np.float64)
        coarse = min(fitting + 2, widest(bench))
        other = driver.mvm(tile, 2 * codes, range_code=coarse, sample=8).values.astype(np.float64)
    wanted = codes.astype(np.float64) @ (plus - minus)
    centred = [a - a.mean(0) for a in (wanted, small, large, other)]
    follows = [float(np.corrcoef(centred[0][:, o], centred[1][:, o])[0, 1]) for o in range(tile.outputs)]
    slope = float((centred[0] * centred[2]).sum() / (centred[0] * centred[1]).sum())
    expect(float(np.median(follows)) >= LEAST_CORRELATION, f"median correlation {np.median(follows):.3f}")
    expect(1.85 < slope < 2.15, f"twice the inputs give {slope:.3f} times the product")
    by_codes = float((centred[0] * centred[2]).sum() / (centred[0] * centred[3]).sum())
    by_file = macro.lsb_us(coarse) / macro.lsb_us(fitting)
    text = f"ranges {fitting} and {coarse} give {by_codes:.2f} times the codes, by the chip file {by_file:.2f}"
    expect(abs(by_codes / by_file - 1.0) < MOST_RATIO_ERROR, text)
    return f"median correlation {np.median(follows):.4f}, doubled {slope:.3f}; {text}"


# --- reads of cells -----------------------------------------------------------------------------------


def _readings(line: MessageLine, request: ReadCells) -> tuple[NDArray[np.float64], int]:
    """Conductances read, nS, and the chip time after the reading."""
    reply = line.get(request)
    return reply.readings.astype(np.float64) * reply.unit_ns, line.log[-1].reply.chip_time_ns


def reads_have_their_unit(bench: Bench) -> str:
    """Readings come in the unit that was asked for."""
    macro, usual = bench.spec.macro, conductance_unit_ns(bench.spec.macro)
    cells, coarse = CellBlock(0, 0, min(8, macro.rows), 0, min(8, macro.columns)), 50 * usual
    with bench.messages() as line:
        fine, _ = _readings(line, ReadCells(cells, usual, READS, 3))
        rough, _ = _readings(line, ReadCells(cells, coarse, READS, 3))
    ratio = float(rough.sum() / max(fine.sum(), 1.0))
    off = coarse * fine.size / max(fine.sum(), 1.0)  # as much as rounding may change
    expect(
        abs(ratio - 1.0) < 0.1 + off, f"in units of {coarse} nS cells are {ratio:.2f} times what they are in {usual}"
    )
    return f"{usual} and {coarse} nS"


def reads_are_averaged(bench: Bench) -> str:
    """The mean of many reads has less noise than one read, or takes as much longer."""
    macro, unit = bench.spec.macro, conductance_unit_ns(bench.spec.macro)
    cells = CellBlock(0, 0, min(8, macro.rows), 0, min(16, macro.columns))
    with bench.messages() as line:

        def reading(block: CellBlock, reads: int) -> tuple[NDArray[np.float64], float]:
            """Readings (repeats, rows, columns) and how long one of one cell takes, s."""
            began_s = time.monotonic()
            found = [_readings(line, ReadCells(block, unit, reads, 1000 * reads + n))[0] for n in range(REPEATS)]
            return np.array(found), (time.monotonic() - began_s) / (REPEATS * reads * block.rows * block.columns)

        once, read_s = reading(cells, 1)
        fewer = dataclasses.replace(cells, rows=_within(LONG_S, read_s * MANY * cells.columns, cells.rows, 1))
        often, read_s = reading(fewer, MANY)
        one, many = (float(np.var(each[:, : fewer.rows], 0, ddof=1).mean()) for each in (once, often))
        few = dataclasses.replace(cells, rows=1, columns=min(8, macro.columns))
        long = _within(LONG_S, read_s * few.columns, LONG, MANY)
        times = [_readings(line, ReadCells(few, unit, reads, reads))[1] for reads in (1, 1, long)]
    once_ns, long_ns = times[1] - times[0], times[2] - times[1]
    expect(long_ns > 0, f"chip time stood still at {times[1]} ns while cells were read {long} times")
    if one < unit * unit:
        return f"readings do not differ: nothing to average; {long_ns * 1e-6:.3g} ms for {long} reads"
    less, longer = many / one, long_ns / max(once_ns, 1)
    good = less < MOST_NOISE or longer > LEAST_TIME
    expect(
        good, f"{MANY} reads have {less:.2f} times the variance of one, {long} take {longer:.1f} times as long as one"
    )
    return f"{MANY} reads have {less:.3f} times the variance of one"


def _within(seconds: float, each_s: float, most: int, least: int) -> int:
    """How many pieces of work of ``each_s`` fit into ``seconds``, between ``least`` and ``most``."""
    return min(most, max(least, int(seconds / each_s)))


# --- writes -------------------------------------------------------------------------------------------


def writes_say_what_they_did(bench: Bench) -> str:
    """A write leaves masked cells alone, and its reply is true: cells reached or not, their pulses and the total."""
    bench.needs(Capability.PROGRAM_TILE)
    macro, limits = bench.spec.macro, bench.spec.limits
    cells = CellBlock(0, 0, min(8, macro.rows), 0, min(16, macro.columns))
    recipe = masked_write(bench, cells)
    targets = recipe.targets.copy()
    written = np.zeros(targets.shape, np.bool_)
    written[::2, ::2] = written[1::2, 1::2] = True
    middle = macro.levels_us[len(macro.levels_us) // 2]
    targets[written] = round(middle * 1000 / recipe.unit_ns)
    far = dataclasses.replace(
        recipe,
        cells=dataclasses.replace(cells, rows=1),
        targets=np.full((1, cells.columns), LEAVE_ALONE - 1, np.uint16),
        max_pulses=min(FAR_PULSES, limits.pulses_per_cell),
        sample=2,
    )
    with bench.messages() as line:
        before = known_status(line)
        kept, _ = _readings(line, ReadCells(cells, recipe.unit_ns, READS, 5))
        told = [line.get(dataclasses.replace(recipe, targets=targets, sample=1)), line.get(far)]
        now, _ = _readings(line, ReadCells(cells, recipe.unit_ns, READS, 6))
        after = known_status(line)
    alone, window = ~written, max(4.0 * macro.tolerance_us, macro.level_gap_us) * 1000
    alone[0] = False  # which the second write changed
    moved = np.abs(now - kept)[alone]
    expect(float(np.median(moved)) < window / 2, f"cells left alone moved by {np.median(moved) / 1000:.2f} µS")
    expect(float(np.mean(moved > window)) < 0.1, f"{np.count_nonzero(moved > window)} cells left alone moved")
    for reply, request in zip(told, (dataclasses.replace(recipe, targets=targets), far), strict=True):
        consistent(reply, request)
    pulses = sum(int(reply.pulses.sum()) for reply in told)
    if before is None or after is None or not (after.pulses_total or after.programmed_cells):
        return f"{written.sum()} of {written.size} cells written; no STATUS counts pulses"
    given = after.pulses_total - before.pulses_total
    expect(given == pulses, f"STATUS counts {given} pulses, the replies {pulses}")
    return f"{written.sum()} of {written.size} cells written, {pulses} pulses"


def consistent(reply: TileProgrammed, request: ProgramTile) -> None:
    """Whether a write report is consistent: cells are reached if in the window, others took all pulses, masked none."""
    asked = request.targets != LEAVE_ALONE
    readings = reply.readings.astype(np.float64) * reply.unit_ns
    off = np.abs(readings - request.targets.astype(np.float64) * request.unit_ns)
    about, well_inside = (off <= (request.tolerance + more) * request.unit_ns for more in (1, -1))
    expect(not reply.pulses[~asked].any(), "cells that were to be left alone took pulses")
    lies = asked & (reply.reached & ~about | ~reply.reached & well_inside)
    expect(not lies.any(), f"{lies.sum()} cells are said to be reached or not against what was read of them")
    few = asked & ~reply.reached & (reply.pulses < request.max_pulses)
    expect(not few.any(), f"{few.sum()} cells are not reached after fewer pulses than allowed")


def pulses_forget_the_program(bench: Bench) -> str:
    """The chip reports the digest of its program until a cell is written."""
    can = bench.needs(Capability.HELD_PROGRAM)
    digest, cell = bytes(range(1, 33)), CellBlock(0, 0, 1, 0, 1)
    written = dataclasses.replace(masked_write(bench, cell), targets=np.full((1, 1), 2000, np.uint16))
    writes: dict[Capability, Any] = {Capability.PULSE: bench.pulse(cell, 1), Capability.PROGRAM_TILE: written}
    done = [name for name in writes if name in can]
    with bench.messages() as line:
        for name in done:
            line.get(HoldProgram(digest))
            held = line.get(Describe()).program_digest
            expect(held == digest, "it does not report the digest that it was to hold")
            line.get(writes[name])
            held = line.get(Describe()).program_digest
            expect(not any(held), f"it still holds the program after {name.name}")
    return f"{len(done)} kinds of writes"


# --- time ---------------------------------------------------------------------------------------------


def chip_time_moves(bench: Bench) -> str:
    """Chip time never runs backwards and counts a WAIT."""
    with bench.driver(Capability.WAIT) as driver:
        start = driver.chip_time_ns
        driver.wait(WAIT_S)
        end = driver.chip_time_ns
    expect(end - start >= WAIT_S * 1e9, f"{end - start} ns passed in a WAIT of {WAIT_S:g} s")
    return f"{(end - start) * 1e-9:.3f} s"


PHYSICS = (
    a_level_written_is_read, a_product_is_linear, reads_have_their_unit, reads_are_averaged, writes_say_what_they_did,
    pulses_forget_the_program, chip_time_moves,
)  # fmt: skip
