"""Checks of what survives a power failure between two requests, or during a write to the chip's memory.

Somebody must cut the power and give it back (``Bench.cut_power``): a person at the bench, or a command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from firmware_protocols.codec import decode, encode
from firmware_protocols.errors import ProtocolError
from firmware_protocols.extensions.messages import AskJournal, ImageBegin, ImageStatus
from firmware_protocols.messages import Capability, CellBlock, ProgramTile, TileProgrammed, Wait
from hil.driver.selftest.limit_checks import masked_write
from hil.driver.selftest.line import Bench, CheckFailed, MessageLine, NotTried, expect
from hil.driver.selftest.physics_checks import consistent
from hil.errors import HilError

STARTS_S = 20.0  # within which a board is back
CUTS = 8
IMAGE_BYTES = 5000
NOBODY = "nobody cuts the power: hil board selftest --power-cycle ask, or a command that does"


def memory_outlives_the_power(bench: Bench) -> str:
    """After a power loss, finished requests get the same answer bytes; the image stays; the clock never runs back."""
    can = bench.needs(Capability.JOURNAL, Capability.WAIT)
    digest = secrets.token_bytes(32)
    with bench.messages() as line:
        wait = encode(Wait(2_000_000), 21)
        (first,) = line.ask(wait)
        if Capability.IMAGES in can:
            line.get(ImageBegin(digest, IMAGE_BYTES))
        line.settle(0.2)
        boot, nonce, session = line.hello.boot_id, line.nonce, line.session
    _cut(bench)
    with _back(bench, nonce, session) as line:
        expect(line.hello.boot_id != boot, f"the boot id is {boot} as before the loss of power")
        (again,) = line.ask(wait)
        expect(again == first, "what was finished before the loss of power has another answer")
        now = line.answer(AskJournal())
        expect(now.chip_time_ns >= decode(first).chip_time_ns, f"chip time ran back to {now.chip_time_ns} ns")
        if Capability.IMAGES in can:
            expect(line.get(ImageStatus()).digest == digest, "the image that was begun is gone")
    return f"boot id {boot}, then another; chip time {now.chip_time_ns * 1e-9:.3f} s"


def a_cut_write_leaves_whole_records(bench: Bench) -> str:
    """A power failure during a memory write leaves stored answers whole, with or without the newest."""
    bench.needs(Capability.JOURNAL, Capability.PROGRAM_TILE)
    if bench.cut_power is None:
        raise NotTried(NOBODY)
    macro, rng = bench.spec.macro, np.random.default_rng(7)
    rows = min(macro.rows, 32)
    blank = masked_write(bench, CellBlock(0, 0, rows, 0, min(macro.columns, 32)))
    # Some pulses each, up and down: each answer differs from the one before.
    targets = rng.choice(macro.levels_us, blank.targets.shape) * 1000 / blank.unit_ns
    write = dataclasses.replace(blank, targets=targets.astype(np.uint16), max_pulses=3)
    with bench.messages() as line:
        began_s = time.monotonic()
        line.get(write)
        lasts_s = time.monotonic() - began_s
    redone = 0
    for cut in range(CUTS):
        redone += _cut_in(bench, dataclasses.replace(write, sample=cut), lasts_s * float(rng.uniform(0.05, 1.0)))
    return f"{CUTS} cuts, {redone} of them before the answer was kept"


def _cut_in(bench: Bench, write: ProgramTile, after_s: float) -> bool:
    """Cut the power some time after sending a write, and repeat the request; whether the chip carried it out again."""
    with bench.messages() as line, ThreadPoolExecutor(1) as pool:
        nonce, session = line.nonce, line.session
        line.send(encode(write, 1))
        cutting = pool.submit(_cut, bench, after_s)
        with contextlib.suppress(ProtocolError, HilError):
            line.settle(after_s + 0.1)
        cutting.result()
    with _back(bench, nonce, session) as line:
        state = line.get(AskJournal())
        expect(len(state.entries) <= state.depth + 1, f"the journal of {state.depth} lists {len(state.entries)}")
        kept = (nonce, 1) in [(entry.nonce, entry.request_id) for entry in state.entries]
        reply = line.answer(encode(write, 1))
        if not isinstance(reply.message, TileProgrammed):
            raise CheckFailed(f"after the cut the write was answered {reply.message}"[:200])
        expect(reply.message.readings.shape == write.targets.shape, "the answer after a cut is of another write")
        consistent(reply.message, write)
    return not kept


def _cut(bench: Bench, after_s: float = 0.0) -> None:
    if bench.cut_power is None:
        raise NotTried(NOBODY)
    time.sleep(after_s)
    bench.cut_power()


@contextlib.contextmanager
def _back(bench: Bench, nonce: int, session: int) -> Iterator[MessageLine]:
    """The line of the same host after a restart; its port may have vanished with the power."""
    give_up_s = time.monotonic() + STARTS_S
    while True:
        try:
            line = bench.messages(nonce=nonce, session=session)
            break
        except (HilError, ProtocolError, TimeoutError, OSError):
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.5)
    with line:
        yield line


POWER = (memory_outlives_the_power, a_cut_write_leaves_whole_records)
