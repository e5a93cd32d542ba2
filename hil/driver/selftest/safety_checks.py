"""What must not hurt a die: outputs and work when they are to end, whoever the host is and whether it is there."""

from __future__ import annotations

import time

import numpy as np

from firmware_protocols.codec import encode
from firmware_protocols.dead_man import DEAD_MAN_S
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    ErrorCode,
    ErrorReply,
    Message,
    OutputsOff,
    Polarity,
    Progress,
    Pulse,
    ReadCells,
    Reset,
    Status,
    StatusReply,
)
from firmware_protocols.sending import CONTROL
from hil.driver.selftest.bench import Bench, CheckFailed, NotThere, NotTried, expect
from hil.driver.selftest.line import Heard, MessageLine
from hil.driver.selftest.long_work import long_work

READ = ReadCells(CellBlock(0, 0, 1, 0, 1), 10, 1, 0)
TRIES = 3  # of what a busy machine may delay
STATUS_S, OFF_S, HOPELESS_S = 0.3, 0.5, 3.0  # beside the time that an answer takes when nothing runs
AFTERWARDS_S = 1.5  # in which stopped work would be heard of
RESTARTS_S = 0.3  # within which a chip has acted on RESET
SILENT_S, LONG_SILENT_S, MEASURED_S = DEAD_MAN_S + 1.0, 3 * DEAD_MAN_S, 4.0
MOST_WORKED_S = 1.8 * DEAD_MAN_S  # for a silent host; 20 s works who does not care, after the link was given up
STEADY = 1.25  # times a pace that it may be another time


def status_of(line: MessageLine, request_id: int) -> StatusReply:
    """STATUS; raises ``NotThere`` where there is none."""
    said = line.answer(encode(Status(), request_id)).message
    if isinstance(said, ErrorReply) and said.code is ErrorCode.UNSUPPORTED:
        raise NotThere("no STATUS")
    if not isinstance(said, StatusReply):
        raise CheckFailed(f"STATUS was answered {said}"[:200])
    return said


def _code(message: Message) -> ErrorCode | None:
    return message.code if isinstance(message, ErrorReply) else None


def _of(heard: list[Heard], request_id: int) -> list[Heard]:
    return [h for h in heard if h.reply.request_id == request_id]


def _ends(heard: list[Heard], request_id: int) -> list[Heard]:
    return [h for h in _of(heard, request_id) if not isinstance(h.reply.message, Progress)]


def off_ends_the_work(bench: Bench) -> str:
    """OUTPUTS_OFF overtakes all work, which is answered STOPPED and is over; STATUS is answered beside it."""
    capabilities = bench.needs()
    with bench.messages() as line:
        began_s = time.monotonic()
        line.ask(encode(OutputsOff(), 1), channel=CONTROL)
        usual_s, slowest = time.monotonic() - began_s, list[float]()
        for turn in range(TRIES):
            first = 100 * (turn + 1)
            work, _ = long_work(line, bench.spec, first)
            status_s = _status_beside(line, first + 10, at_once=Capability.DEAD_MAN in capabilities)
            off_s = _stopped(bench, line, work, first + 20, pulses=Capability.PULSE in capabilities)
            slowest.append(max(0.0 if status_s is None else status_s - STATUS_S, off_s - OFF_S) - 2 * usual_s)
            if slowest[-1] <= 0.0:
                told = "" if status_s is None else f", STATUS after {1e3 * status_s:.0f} ms beside the work"
                return f"off after {1e3 * off_s:.0f} ms{told}"
    raise CheckFailed(f"answers came {1e3 * min(slowest):.0f} ms too late, {TRIES} times")


def _status_beside(line: MessageLine, request_id: int, *, at_once: bool) -> float | None:
    """How long STATUS took beside work; None where there is none, or where it may wait its turn (before 1.3)."""
    if not at_once:
        return None
    began_s = time.monotonic()
    line.send(encode(Status(), request_id))
    answer = _ends(line.hear(lambda heard: bool(_ends(heard, request_id)), HOPELESS_S), request_id)
    expect(bool(answer), f"STATUS had no answer beside work within {HOPELESS_S:g} s")
    said = answer[0].reply.message
    if not isinstance(said, StatusReply):
        return None
    expect(said.outputs_on, "STATUS says that the outputs are off while cells are read")
    return answer[0].at_s - began_s


def _stopped(bench: Bench, line: MessageLine, work: int, first: int, *, pulses: bool) -> float:
    """Switch off beside work, with pulses waiting behind it; how long the answer took, s."""
    waits = [work]
    before = known_status(line, first)
    if pulses:
        shape = (1, min(16, bench.spec.macro.columns))
        tiny = np.ones(shape, np.uint16)
        line.send(encode(Pulse(CellBlock(0, 0, 1, 0, shape[1]), Polarity.SET, 100, 0, tiny), first + 1))
        waits.append(first + 1)
        line.settle(0.3)
    off, began_s = first + 2, time.monotonic()
    line.send(encode(OutputsOff(), off), channel=CONTROL)
    heard = line.hear(lambda heard: all(_ends(heard, i) for i in (off, *waits)), HOPELESS_S)
    answer = _ends(heard, off)
    expect(bool(answer), f"OUTPUTS_OFF had no answer within {HOPELESS_S:g} s while cells were read")
    expect(_code(answer[0].reply.message) is None, f"OUTPUTS_OFF was answered {answer[0].reply.message}"[:200])
    for waiting in waits:
        ended = _ends(heard, waiting)
        expect(bool(ended), "the work that OUTPUTS_OFF ended has no answer")
        expect(_code(ended[0].reply.message) is ErrorCode.STOPPED, f"it was answered {ended[0].reply.message}"[:200])
    more = [h for h in line.hear(lambda heard: False, AFTERWARDS_S) if h.reply.request_id in waits]
    expect(not more, f"the work goes on after OUTPUTS_OFF: {more[0].reply.message if more else ''}"[:200])
    after = known_status(line, first + 3)
    if before is not None and after is not None:
        expect(not after.outputs_on, "the outputs are on again after OUTPUTS_OFF")
        expect(after.pulses_total == before.pulses_total, "pulses were given after OUTPUTS_OFF")
    return answer[0].at_s - began_s


def known_status(line: MessageLine, request_id: int) -> StatusReply | None:
    """STATUS; None where there is none."""
    said = line.answer(encode(Status(), request_id)).message
    return said if isinstance(said, StatusReply) else None


def outputs_go_off(bench: Bench) -> str:
    """OUTPUTS_OFF takes the voltages off, on the control channel, also twice."""
    with bench.messages() as line:
        line.answer(encode(READ, 1))
        for number in (2, 4):
            said = line.answer(encode(OutputsOff(), number), channel=CONTROL).message
            expect(_code(said) is None, f"answered {said}"[:200])
            expect(not status_of(line, number + 1).outputs_on, "STATUS says that the outputs are on")
    return "twice"


def another_host_finds_them_off(bench: Bench) -> str:
    """Another host that takes the chip over finds the outputs off."""
    with bench.messages() as line:
        line.answer(encode(READ, 1))
        status_of(line, 2)
    with bench.messages() as line:
        expect(not status_of(line, 1).outputs_on, "the outputs are on as the host before left them")
    return "the one before did not switch them off"


def a_reset_starts_anew(bench: Bench) -> str:
    """RESET takes the voltages off, says a new boot id and its cause, and forgets loaded layers."""
    capabilities = bench.needs(Capability.RESET)
    with bench.messages() as line:
        line.answer(encode(READ, 1))
        before = line.hello.boot_id
        line.ask(encode(Reset(), 2), channel=CONTROL)
        line.settle(RESTARTS_S)
    with bench.messages() as line:
        expect(line.hello.boot_id != before, f"the boot id is {before} as before")
        cause = line.hello.reset_cause
        expect(cause == 2, f"the reset cause is {cause}, not 2 (commanded)")
        on = Capability.TEMPERATURE in capabilities and status_of(line, 1).outputs_on
        expect(not on, "the outputs are on after RESET")
    return f"boot id {before}, then another"


SAFETY = (off_ends_the_work, outputs_go_off, another_host_finds_them_off, a_reset_starts_anew)

# --- a host that is gone -------------------------------------------------------------------------------


def silence_switches_off(bench: Bench) -> str:
    """Without a good frame of the host for 10 s the outputs are off, and are on again with the next work."""
    bench.needs(Capability.DEAD_MAN)
    with bench.messages() as line:
        line.answer(encode(READ, 1))
        before = status_of(line, 2).outputs_on
        line.settle(0.2)  # so that the last reply is acknowledged: nothing is on its way
        silent_s = SILENT_S + bench.lag_s
        line.be_silent(silent_s)
        expect(not status_of(line, 3).outputs_on, f"the outputs are on after {silent_s:g} s of silence")
        said = line.answer(encode(READ, 4)).message
        expect(_code(said) is None, f"the next read was answered {said}"[:200])
        line.ask(encode(OutputsOff(), 5), channel=CONTROL)
    return f"{'on' if before else 'off'} after a read, off after {silent_s:g} s"


def work_waits_for_a_silent_host(bench: Bench) -> str:
    """Work is held up, from 10 s after the last good frame until the host is heard again, and then goes on."""
    bench.needs(Capability.DEAD_MAN)
    for _ in range(TRIES):
        worked_s, steady = _worked_while_silent(bench)
        if worked_s < MOST_WORKED_S:
            return f"of {LONG_SILENT_S:g} s of silence it worked for {worked_s:.1f} s"
        text = f"it worked on for {worked_s:.1f} s of {LONG_SILENT_S:g} s of silence"
        expect(not steady, text)
    raise NotTried(f"{text}, but its pace is not steady, as on a busy machine")


def _worked_while_silent(bench: Bench) -> tuple[float, bool]:
    """How long long work went on while the host was silent, s, and whether its pace says so for certain."""
    with bench.messages() as line:
        work, _ = long_work(line, bench.spec, 1)
        first, rate = _pace(line, work)
        line.be_silent(LONG_SILENT_S)
        back_s = time.monotonic()
        last, rate_after = _pace(line, work)
        line.ask(encode(OutputsOff(), 50), channel=CONTROL, answers=2)
    here_s = max(last.at_s - back_s, 0.0)
    worked_s = (_done(last) - _done(first)) / max(rate, rate_after) - here_s
    return max(worked_s, 0.0), max(rate, rate_after) < STEADY * min(rate, rate_after)


def _done(heard: Heard) -> int:
    assert isinstance(heard.reply.message, Progress)
    return heard.reply.message.done


def _pace(line: MessageLine, work: int) -> tuple[Heard, float]:
    """The last progress of some seconds, and steps a second."""
    heard = line.hear(lambda heard: bool(_ends(heard, work)), MEASURED_S)
    told = [h for h in _of(heard, work) if isinstance(h.reply.message, Progress)]
    if len(told) < 2:
        raise NotTried("long work tells no progress here, or ends too soon")
    return told[-1], (_done(told[-1]) - _done(told[0])) / max(told[-1].at_s - told[0].at_s, 1e-3)


SILENCE = (silence_switches_off, work_waits_for_a_silent_host)
