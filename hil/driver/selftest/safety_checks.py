"""Checks of safety: outputs and work end in time, with another host and without any."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cim.chip.spec import ChipSpec
from firmware_protocols.codec import encode
from firmware_protocols.dead_man import DEAD_MAN_S
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    ErrorCode,
    ErrorReply,
    KernelWindow,
    Message,
    Mvm,
    OutputsOff,
    Progress,
    ReadCells,
    Request,
    Reset,
    Returns,
    Status,
    StatusReply,
    Sweep,
    TileAddress,
)
from firmware_protocols.sending import CONTROL
from hil.driver.selftest.line import BUSY, Bench, CheckFailed, Heard, MessageLine, NotThere, NotTried, ends, expect

READ = ReadCells(CellBlock(0, 0, 1, 0, 1), 10, 1, 0)
TRIES, IDLE = 3, 3  # of what a busy machine may delay; of answers when nothing runs
STATUS_S, OFF_S, HOPELESS_S = 0.3, 0.5, 10.0  # beside the time that an answer takes when nothing runs
PULSES_THERE_S, AFTERWARDS_S = 0.3, 1.5  # in which pulses arrive behind work; in which stopped work would be heard of
ACKNOWLEDGES_S, RESTARTS_S = 0.3, 10.0  # in which a chip hears that its last reply arrived; has acted on RESET
SILENT_S, LONG_SILENT_S, MEASURED_S = DEAD_MAN_S + 1.0, 3 * DEAD_MAN_S, 20.0
MOST_WORKED_S = 1.8 * DEAD_MAN_S  # for a silent host; 20 s works who does not care, after the link was given up
STEADY, SIGNS = 1.25, 4  # times a pace that it may be another time; of progress, that say a pace


def status_of(line: MessageLine) -> StatusReply:
    """The STATUS reply; raises ``NotThere`` if the chip has no STATUS."""
    said = known_status(line)
    if said is None:
        raise NotThere("no STATUS")
    return said


def known_status(line: MessageLine) -> StatusReply | None:
    """The STATUS reply; None if the chip has no STATUS."""
    said = line.answer(Status()).message
    if _code(said) is ErrorCode.UNSUPPORTED:
        return None
    if not isinstance(said, StatusReply):
        raise CheckFailed(f"STATUS was answered {said}"[:200])
    return said


def _code(message: Message) -> ErrorCode | None:
    return message.code if isinstance(message, ErrorReply) else None


def off_ends_the_work(bench: Bench) -> str:
    """OUTPUTS_OFF overtakes all work, which ends and is answered STOPPED; STATUS is answered during work."""
    capabilities = bench.needs()
    unheeded, late_s = 0, list[float]()
    with bench.messages() as line:
        byte_s = 1.0 / pace_bytes_s(line, bench.spec)
        for work in long_works(line, bench.spec):
            status_s = _status_beside(line, byte_s, at_once=Capability.DEAD_MAN in capabilities)
            off = _switched_off(bench, line, work, byte_s, pulses=Capability.PULSE in capabilities)
            if off is None:
                continue
            may_s = 2 * _usual_s(line) + bench.lag_s
            if not off.stopped:
                unheeded += off.after_s > OFF_S + may_s  # else the work had ended, and its answer was on the line
                expect(unheeded < TRIES, f"work ended as if OUTPUTS_OFF had not been sent, {unheeded} times")
                continue
            slower_s = max(0.0 if status_s is None else status_s - STATUS_S, off.after_s - OFF_S)
            late_s.append(slower_s - may_s)
            if late_s[-1] <= 0.0:
                told = "" if status_s is None else f", STATUS after {1e3 * max(status_s, 0.0):.0f} ms beside the work"
                return f"off after {1e3 * max(off.after_s, 0.0):.0f} ms{told}"
            expect(len(late_s) < TRIES, f"answers came {1e3 * min(late_s):.0f} ms too late, {TRIES} times")
    raise NotTried("all that harms nothing is over before OUTPUTS_OFF is there")


def _usual_s(line: MessageLine) -> float:
    """Time that OUTPUTS_OFF takes on an idle chip, the slowest of a few tries, s."""
    slowest_s = 0.0
    for _ in range(IDLE):
        began_s = time.monotonic()
        line.answer(OutputsOff(), channel=CONTROL)
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s


def _status_beside(line: MessageLine, byte_s: float, *, at_once: bool) -> float | None:
    """Time that STATUS took during work, s; None without STATUS, or if it may wait its turn (before protocol 1.3)."""
    if not at_once:
        return None
    waited_s = line.watch(byte_s)
    (request_id,) = line.begin(Status())
    there = line.wait_for([request_id], HOPELESS_S)
    expect(there, f"STATUS had no answer beside work within {HOPELESS_S:g} s")
    (answer,) = ends(line.log, request_id)
    said = answer.reply.message
    if not isinstance(said, StatusReply):
        return None
    expect(said.outputs_on, "STATUS says that the outputs are off while cells are read")
    return waited_s(answer)


class _Off(NamedTuple):
    """Result of OUTPUTS_OFF during work: time until its answer, s, and whether any work was answered STOPPED."""

    after_s: float
    stopped: bool


def _switched_off(bench: Bench, line: MessageLine, work: list[int], byte_s: float, *, pulses: bool) -> _Off | None:
    """Send OUTPUTS_OFF during work, with pulses queued behind; None if the work ended before it was sent."""
    (first_status,), waits = line.begin(Status()), list(work)
    if pulses:
        waits += line.begin(bench.pulse(CellBlock(0, 0, 1, 0, min(16, bench.spec.macro.columns)), 1))
    over = line.wait_for(waits, PULSES_THERE_S)
    waited_s = line.watch(byte_s)
    (off,) = line.begin(OutputsOff(), channel=CONTROL)
    there = line.wait_for([off, *waits], HOPELESS_S)
    expect(bool(ends(line.log, off)), f"OUTPUTS_OFF had no answer within {HOPELESS_S:g} s while cells were read")
    expect(there, "the work that OUTPUTS_OFF ended has no answer")
    (answer,) = ends(line.log, off)
    expect(_code(answer.reply.message) is None, f"OUTPUTS_OFF was answered {answer.reply.message}"[:200])
    if over:
        return None
    ended = [ends(line.log, number)[0].reply for number in waits]
    for one in ended:
        expect(_code(one.message) in (None, ErrorCode.STOPPED), f"work was answered {one.message}"[:200])
        late = _code(one.message) is None and one.chip_time_ns > answer.reply.chip_time_ns
        expect(not late, f"work that OUTPUTS_OFF ended went on, and was answered {one.message}"[:200])
    more = [one for one in line.hear(lambda heard: False, AFTERWARDS_S) if one.reply.request_id in waits]
    expect(not more, f"the work continues after OUTPUTS_OFF: {more[0].reply.message if more else ''}"[:200])
    (last_status,) = line.begin(Status())
    line.wait_for([first_status, last_status])
    before, after = (ends(line.log, number)[0].reply.message for number in (first_status, last_status))
    if isinstance(before, StatusReply) and isinstance(after, StatusReply):
        expect(not after.outputs_on, "the outputs are on again after OUTPUTS_OFF")
        given = after.pulses_total - before.pulses_total
        expect(not given or _code(ended[-1].message) is None, "pulses were given after OUTPUTS_OFF")
    return _Off(waited_s(answer), _code(ended[-1].message) is ErrorCode.STOPPED)


def outputs_go_off(bench: Bench) -> str:
    """OUTPUTS_OFF takes the voltages off, on the control channel, also twice."""
    with bench.messages() as line:
        line.get(READ)
        for _ in range(2):
            line.get(OutputsOff(), channel=CONTROL)
            expect(not status_of(line).outputs_on, "STATUS says that the outputs are on")
    return "twice"


def another_host_finds_them_off(bench: Bench) -> str:
    """Another host that takes the chip over finds the outputs off."""
    with bench.messages() as line:
        line.get(READ)
        status_of(line)
    with bench.messages() as line:
        expect(not status_of(line).outputs_on, "the outputs are on as the host before left them")
    return "the one before did not switch them off"


def a_reset_starts_anew(bench: Bench) -> str:
    """RESET takes the voltages off, says a new boot id and its cause, and forgets loaded layers."""
    capabilities = bench.needs(Capability.RESET)
    with bench.messages() as line:
        line.get(READ)
        before = line.hello.boot_id
        line.get(Reset(), channel=CONTROL)
        line.settle(ACKNOWLEDGES_S)
    with after_reset(bench, before) as line:
        expect(line.hello.boot_id != before, f"the boot id is {before} as before")
        cause = line.hello.reset_cause
        expect(cause == 2, f"the reset cause is {cause}, not 2 (commanded)")
        on = Capability.TEMPERATURE in capabilities and status_of(line).outputs_on
        expect(not on, "the outputs are on after RESET")
    return f"boot id {before}, then another"


def after_reset(bench: Bench, boot_id: int, nonce: int | None = None, session: int = 0) -> MessageLine:
    """A line to the chip, reopened until it reports another boot id, for some seconds at most."""
    give_up_s = time.monotonic() + RESTARTS_S
    while True:
        line = bench.messages(nonce=nonce, session=session)
        if line.hello.boot_id != boot_id or time.monotonic() > give_up_s:
            return line
        line.close()
        time.sleep(0.1)


SAFETY = (off_ends_the_work, outputs_go_off, another_host_finds_them_off, a_reset_starts_anew)

# --- a host that is gone -------------------------------------------------------------------------------


def silence_switches_off(bench: Bench) -> str:
    """After 10 s without a good frame of the host the outputs are off; they are on again with the next work."""
    bench.needs(Capability.DEAD_MAN)
    with bench.messages() as line:
        line.get(READ)
        before = status_of(line).outputs_on
        line.settle(0.2)  # so that the last reply is acknowledged: nothing is on its way
        silent_s = SILENT_S + bench.lag_s
        line.be_silent(silent_s)
        expect(not status_of(line).outputs_on, f"the outputs are on after {silent_s:g} s of silence")
        line.get(READ)
        line.get(OutputsOff(), channel=CONTROL)
    return f"{'on' if before else 'off'} after a read, off after {silent_s:g} s"


def work_waits_for_a_silent_host(bench: Bench) -> str:
    """Work pauses from 10 s after the host's last good frame until the next one, and then continues."""
    bench.needs(Capability.DEAD_MAN)
    certain, least_s = False, float("inf")
    for _ in range(TRIES):
        worked_s, steady = _worked_while_silent(bench)
        if worked_s < MOST_WORKED_S:
            return f"of {LONG_SILENT_S:g} s of silence it worked for {worked_s:.1f} s"
        certain, least_s = certain or steady, min(worked_s, least_s)
    text = f"it worked on for {least_s:.1f} s of {LONG_SILENT_S:g} s of silence, {TRIES} times"
    expect(not certain, text)
    raise NotTried(f"{text}, but its pace is not steady, {BUSY}")


def _worked_while_silent(bench: Bench) -> tuple[float, bool]:
    """Time that long work continued after the host went silent, s, and whether its pace was steady enough to tell."""
    with bench.messages() as line:
        work = next(long_works(line, bench.spec, reads_first=True), [0])
        first, rate = _pace(line, work[0])
        line.be_silent(LONG_SILENT_S)
        back_s = time.monotonic()
        last, rate_after = _pace(line, work[0])
        line.wait_for([*line.begin(OutputsOff(), channel=CONTROL), *work])
    here_s = max(last.at_s - back_s, 0.0)
    worked_s = (_done(last) - _done(first)) / max(rate, rate_after) - here_s
    return max(worked_s, 0.0), max(rate, rate_after) < STEADY * min(rate, rate_after)


def _done(heard: Heard) -> int:
    assert isinstance(heard.reply.message, Progress)
    return heard.reply.message.done


def _pace(line: MessageLine, work: int) -> tuple[Heard, float]:
    """The last of some progress reports, and steps per second."""

    def told(heard: list[Heard]) -> list[Heard]:
        return [one for one in heard if one.reply.request_id == work and isinstance(one.reply.message, Progress)]

    heard = told(line.hear(lambda heard: bool(ends(heard, work)) or len(told(heard)) >= SIGNS, MEASURED_S))
    if len(heard) < SIGNS:
        raise NotTried("long work reports no progress here, or ends too soon")
    return heard[-1], (_done(heard[-1]) - _done(heard[0])) / max(heard[-1].at_s - heard[0].at_s, 1e-3)


SILENCE = (silence_switches_off, work_waits_for_a_silent_host)


# --- work that lasts for seconds and harms nothing ---

MOST_READS, MOST_SUMS = 0xFFFF, 0x100  # of a cell, and of a product whose sums are added
FEW_READS, SEEN_S, LONG_S = 64, 0.05, 100.0  # that show how long reads take; more than the noise of that; enough
SOON_S = 1.0  # work that is answered so much later than a single read's is long
MOST_IN_A_ROW = 8  # fewer where the line takes long: what is on it is in the way of everything else
TURNS = 3  # with each kind of work
LARGEST_MAP = 64
ON_THE_LINE_S = 3.0  # that one request, or one answer, may take: a megabyte is a minute and a half at 115,200 baud


def long_works(line: MessageLine, spec: ChipSpec, *, reads_first: bool = False) -> Iterator[list[int]]:
    """Start work that lasts long, of one kind after another, several times each; yields the ids of its queued requests.

    The time of a single read is measured first, as most of it may be the line's. On a machine that is
    busy, or where reads are remembered, work may still be over too soon.
    """
    room = min(line.max_message - 128, int(ON_THE_LINE_S * pace_bytes_s(line, spec)))
    kinds = (_reads, _products) if reads_first else (_products, _reads)
    for request in (request for kind in kinds for request in kind(line, spec, room)):
        for _ in range(TURNS):
            line_s, began_s = _lasts_s(line, replace(request, reads=1)), time.monotonic()
            first = line.begin(request)
            over = bool(ends(line.hear(lambda heard: bool(ends(heard)), line_s + SOON_S)))
            by_line, by_room = SOON_S / max(line_s, 1e-3), line.max_message // len(encode(request, 0))
            row = max(1, min(MOST_IN_A_ROW, int(by_line), by_room))
            if over and row * (time.monotonic() - began_s - line_s) < SOON_S:
                break
            others = line.begin(*[request] * (row if over else row - 1))
            yield others if over else first + others


def _lasts_s(line: MessageLine, request: Request[Any]) -> float:
    began_s = time.monotonic()
    line.answer(request)
    return time.monotonic() - began_s


def pace_bytes_s(line: MessageLine, spec: ChipSpec) -> float:
    """Bytes a second on the line, at least, timed by a long answer, most of whose time is transfer."""
    rows = max(1, min(spec.macro.rows, (line.max_message - 128) // (2 * spec.macro.columns)))
    lasts_s = _lasts_s(line, ReadCells(CellBlock(0, 0, rows, 0, spec.macro.columns), 10, 1, 0))
    return len(line.log[-1].data) / max(lasts_s, 1e-6)


def _reads(line: MessageLine, spec: ChipSpec, room: int) -> Iterator[ReadCells]:
    """Many reads of cells, where a few take time: an emulated die does an hour of its clock at once."""
    rows = min(spec.macro.rows, room // (2 * spec.macro.columns))
    if rows:
        once = ReadCells(CellBlock(0, 0, rows, 0, spec.macro.columns), 10, 1, 0)
        once_s, few_s = (min(_lasts_s(line, replace(once, reads=n)) for _ in range(TRIES)) for n in (1, FEW_READS))
        if few_s - once_s > SEEN_S:
            yield replace(once, reads=min(MOST_READS, int(LONG_S * FEW_READS / (few_s - once_s))))


def _products(line: MessageLine, spec: ChipSpec, room: int) -> Iterator[Sweep | Mvm]:
    macro, can = spec.macro, line.hello.capabilities
    reads = MOST_SUMS if Capability.REPEATED_READS in can else 1
    widest, rows = len(macro.adc.full_scales_us) - 1, min(macro.logical_rows, 128)
    side, kernel = min(LARGEST_MAP, math.isqrt(room // 4)), (8, rows // 8)
    if Capability.SWEEP | Capability.SUMS in can and kernel[1] and max(kernel) <= side:
        window = KernelWindow(1, side, side, kernel, (1, 1), (0, 0), (1, 1))
        tile, codes = TileAddress(0, 0, kernel[0] * kernel[1], 0, 1), np.ones((1, 1, side, side), np.int16)
        yield Sweep(Returns.SUMS, tile, 0, widest, macro.inputs.bits, False, window, 0, 0, codes, reads)
    if Capability.SUMS in can and room >= 2 * rows:
        tile, codes = TileAddress(0, 0, rows, 0, 1), np.ones((room // (2 * rows), rows), np.int16)
        yield Mvm(Returns.SUMS, tile, 0, widest, macro.inputs.bits, False, 0, 1, 0, codes, reads)
