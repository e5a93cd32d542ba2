"""Checks of absolute limits and addresses, from both sides: requests beyond are refused, requests within are not.

Writes that are to be refused leave every cell alone, or exceed a limit by a millivolt on one cell: a chip that ignores
its limits is not harmed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.extensions.write_rounds import LEAVE_ALONE
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    ErrorCode,
    LayerTile,
    LoadLayer,
    Mvm,
    Polarity,
    ProgramTile,
    ReadCells,
    Request,
    Returns,
    Status,
    TileAddress,
)
from hil.driver.requests import program_request
from hil.driver.selftest.line import Bench, MessageLine, expect
from hil.driver.selftest.safety_checks import known_status

TOP, LAYER = 0xFFFF, 7  # of an address; number of a layer
WAY_PULSES, LEAST_WAY, READS = 12, 0.05, 16  # of each polarity; of the range of levels, that cells move
LOWEST_C, HIGHEST_C = 0.0, 150.0
Asked = tuple[str, Request[Any], bool]  # what, the request, whether the chip must do it


def _judged(line: MessageLine, asked: list[Asked], refusal: ErrorCode) -> str:
    """Send all requests; raises ``CheckFailed`` if the chip carries out a forbidden one or refuses an allowed one.

    A request far beyond a limit follows one slightly beyond it, and only if that was refused.
    """
    for what, request, may in asked:
        if not may:
            no = line.refused(request, refusal, what=what)
            expect(not no.limit or no.value > no.limit or no.value < 0, f"{what}: refused with {no}")
            continue
        said = line.answer(request).message
        expect(isinstance(said, request.reply_class), f"{what}, which is allowed: answered {said}"[:250])
    return f"{len(asked)} requests"


def _beyond(top: int, bits: int) -> list[int]:
    """Numbers above a limit in a field of ``bits`` bits: one more, twice, and values that 16 bits would truncate."""
    return [n for n in sorted({top + 1, 2 * top, 1 << 15, (1 << 16) - 1, (1 << 16) + 1}) if top < n < 1 << bits]


def masked_write(bench: Bench, cells: CellBlock) -> ProgramTile:
    """A write by the chip file's recipe that leaves every cell alone."""
    return program_request(bench.spec, cells, np.full((cells.rows, cells.columns), LEAVE_ALONE, np.uint16), 0)


def layer_of(tile: TileAddress, rows: int, bias: NDArray[np.int32]) -> LoadLayer:
    """A layer of one tile, of an eighth of its sums."""
    one, none = np.ones_like(bias), np.zeros_like(bias)
    part = LayerTile(tile, 0, 0, 1, 18, one << 17, none.astype(np.int64), none)
    return LoadLayer(LAYER, rows, len(bias), -1000, 1000, bias, one, 3 * one, (part,))


# --- addresses --------------------------------------------------------------------------------------


def addresses_beyond(bench: Bench) -> str:
    """Addresses beyond the chip, unknown converter ranges and codes beyond their bits are OUT_OF_RANGE."""
    spec, macro, can = bench.spec, bench.spec.macro, bench.needs()
    inside = CellBlock(spec.macros - 1, macro.rows - 1, 1, macro.columns - 1, 1)
    beyond = {
        "a macro too many": dataclasses.replace(inside, macro=spec.macros),
        "the highest macro number": dataclasses.replace(inside, macro=TOP),
        "a word line too many": dataclasses.replace(inside, row0=macro.rows),
        "two word lines from the last": dataclasses.replace(inside, rows=2),
        "word lines that end at 65,536": dataclasses.replace(inside, row0=TOP),
        "two bit lines from the last": dataclasses.replace(inside, columns=2),
        "bit lines that end at 65,536": dataclasses.replace(inside, column0=TOP),
    }
    asked: list[Asked] = [("the last cell", ReadCells(inside, 10, 1, 0), True)]
    for what, block in beyond.items():
        asked.append((f"{what}, read", ReadCells(block, 10, 1, 0), False))
        if Capability.PULSE in can:
            asked.append((f"{what}, pulsed", bench.pulse(block, 1), False))
        if Capability.PROGRAM_TILE in can:
            asked.append((f"{what}, written", masked_write(bench, block), False))
    asked += [(what, request, False) for what, request in _products_beyond(bench, can)]
    with bench.messages() as line:
        return _judged(line, asked, ErrorCode.OUT_OF_RANGE)


def _products_beyond(bench: Bench, can: Capability) -> Iterable[tuple[str, Request[Any]]]:
    macro, returns = bench.spec.macro, Returns.SUMS if Capability.SUMS in can else Returns.RAW
    rows, bits, ranges = min(8, macro.logical_rows), macro.inputs.bits, len(macro.adc.full_scales_us)
    tile, codes = TileAddress(0, 0, rows, 0, 1), np.zeros((1, rows), np.int16)
    good = Mvm(returns, tile, 0, ranges - 1, bits, False, 0, 1, 0, codes)
    yield "a converter range too many", dataclasses.replace(good, range_code=ranges)
    for code, signed in ((4, False), (-1, False), *((2, True), (-3, True)) * (macro.inputs.signed != "offset")):
        yield (
            f"{'signed' * signed} code {code} in 2 bits",
            dataclasses.replace(good, input_bits=2, input_signed=signed, codes=np.full((1, rows), code, np.int16)),
        )
    tiles = {
        "a macro too many": dataclasses.replace(tile, macro=bench.spec.macros),
        "rows beyond the macro": dataclasses.replace(tile, row0=macro.rows),
        "rows that end at 65,536": dataclasses.replace(tile, row0=TOP + 1 - rows),
        "an output too many": dataclasses.replace(tile, output0=macro.outputs),
        "the highest output": dataclasses.replace(tile, output0=TOP),
    }
    for what, wrong in tiles.items():
        yield f"{what}, in a product", dataclasses.replace(good, tile=wrong)
        if Capability.LAYER in can:
            yield f"{what}, in a layer", layer_of(wrong, rows, np.zeros(1, np.int32))


# --- pulses -------------------------------------------------------------------------------------------


def single_pulses(bench: Bench) -> str:
    """A pulse above a limit of voltage or width is LIMIT, of either polarity, before any cell took one."""
    bench.needs(Capability.PULSE)
    limits, write, cells = bench.spec.limits, bench.spec.write, CellBlock(0, 0, 1, 0, 2)
    one = dataclasses.replace(cells, columns=1)
    asked: list[Asked] = []
    for polarity, top_v, usual_v in (
        (Polarity.SET, limits.set_v, write.set_stop_v),
        (Polarity.RESET, limits.reset_v, write.reset_stop_v),
    ):
        top, widest, name = round(1000 * top_v), round(limits.pulse_width_ns), polarity.name
        usual = min(round(1000 * usual_v), top)
        for place in (0, 1):
            above = bench.pulse(cells, 1, polarity)
            above.millivolts[0, place] = top + 1
            asked.append((f"{name} of {top + 1} mV on cell {place} of 2", above, False))
        shortest = dataclasses.replace(bench.pulse(one, 1, polarity), width_ns=1)
        for far in _beyond(top, 16)[1:]:  # as short as can be: a chip that gives it must live
            beyond = dataclasses.replace(shortest, millivolts=np.full((1, 1), far, np.uint16))
            asked.append((f"{name} of {far} mV", beyond, False))
        asked += [
            (f"{name} for {width} ns", dataclasses.replace(shortest, width_ns=width), width == widest)
            for width in (*_beyond(widest, 32), widest)
        ]
        asked.append((f"{name} of {usual} mV", bench.pulse(one, usual, polarity), True))
    with bench.messages() as line:
        before = known_status(line)
        count = _judged(line, asked, ErrorCode.LIMIT)
        after = known_status(line)
        count += f", {_pulses_go_their_way(bench, line)}"
        if after is not None and after.pulses_total:
            _status_counts(bench, line)
    given = None if before is None or after is None else after.pulses_total - before.pulses_total
    if not given:
        return f"{count}; no STATUS counts pulses"
    expect(given == 4, f"{given} pulses were given, 4 were allowed")
    return f"{count}, 4 of them allowed and given"


def _pulses_go_their_way(bench: Bench, line: MessageLine) -> str:
    """SET raises conductances and RESET lowers them, by readings."""
    macro, write, limits, unit = bench.spec.macro, bench.spec.write, bench.spec.limits, 100
    cells, means = CellBlock(0, 0, min(4, macro.rows), 0, min(8, macro.columns)), list[float]()
    down = (Polarity.RESET, min(write.reset_stop_v, limits.reset_v))
    for polarity, volts in (down, (Polarity.SET, min(write.set_stop_v, limits.set_v)), down):
        for number in range(WAY_PULSES):
            line.get(dataclasses.replace(bench.pulse(cells, round(1000 * volts), polarity), sample=number))
        means.append(float(line.get(ReadCells(cells, unit, READS, 7)).readings.mean()) * unit / 1000)
    text = f"after RESET, SET and RESET cells read {', '.join(f'{mean:.1f}' for mean in means)} µS"
    expect(means[1] - max(means[0], means[2]) > LEAST_WAY * (macro.levels_us[-1] - macro.levels_us[0]), text)
    return text


def _status_counts(bench: Bench, line: MessageLine) -> None:
    """STATUS counts each pulse, and each cell once that took one; its temperature is one of a laboratory."""
    macro, first, status = bench.spec.macro, list[int](), line.get(Status())
    if Capability.TEMPERATURE in line.hello.capabilities:
        text = f"{status.temperature_c:.1f} °C: the sign is wrong, or this is not a laboratory"
        expect(LOWEST_C <= status.temperature_c <= HIGHEST_C, text)
    for number in sorted({bench.spec.macros - 1, bench.spec.macros // 2, 0}, reverse=True):
        cells = CellBlock(number, macro.rows // 2, 1, macro.columns // 2, min(7, macro.columns // 2))
        for again in (False, True):
            line.get(bench.pulse(cells, 1))
            before, status = status, line.get(Status())
            given, more = status.pulses_total - before.pulses_total, status.programmed_cells - before.programmed_cells
            expect(given == cells.columns, f"STATUS counts {given} pulses of {cells.columns}")
            expect(not (again and more), f"{more} cells count again that had a pulse before")
            first.append(more)
    expect(bool({0, cells.columns} & set(first[::2])), f"{cells.columns} cells with a pulse count as {first[::2]}")


def writes(bench: Bench) -> str:
    """A write above a limit of voltage, width or pulses is answered by LIMIT; a write at the limits is done."""
    bench.needs(Capability.PROGRAM_TILE)
    limits = bench.spec.limits
    good = masked_write(bench, CellBlock(0, 0, 1, 0, 1))
    set_mv, reset_mv = round(1000 * limits.set_v), round(1000 * limits.reset_v)
    tops = {
        "set_start_mv": set_mv,
        "set_stop_mv": set_mv,
        "reset_start_mv": reset_mv,
        "reset_stop_mv": reset_mv,
        "pulse_width_ns": round(limits.pulse_width_ns),
        "max_pulses": limits.pulses_per_cell,
    }
    asked: list[Asked] = []
    for what, top in tops.items():
        for value in (top, *_beyond(top, 32 if what == "pulse_width_ns" else 16)):
            changed: dict[str, Any] = {what: value}
            asked.append((f"{what} {value}", dataclasses.replace(good, **changed), value == top))
    with bench.messages() as line:
        return _judged(line, asked, ErrorCode.LIMIT)


LIMITS = (addresses_beyond, single_pulses, writes)
