"""Boards with one small fault each, as emulated chips: does ``hil board selftest`` catch each?

Every fault was missed by the self-test of version 0.9. Exit code 1 when one is not caught, or the sound board fails.

    python benchmarks/studies.py faulty-boards [--only NAME]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cim.chip.file import load_chip
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE
from firmware_protocols.frames import Flag, FrameReader, encode_frame
from hil.driver.selftest.line import Bench
from hil.driver.selftest.suite import GROUPS, CheckOutcome, run_on
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport, chip_role

ROOT = Path(__file__).parents[3]
SPEC = load_chip("lab-128", macros=64)
SLOW = {"silence", "power", "authority"}  # groups that wait, or that no fault here concerns
Chip = Any
Wire = Callable[[bytes], bytes]


class Fault(NamedTuple):
    """``into`` a chip the fault is built; its group of checks is the one that catches it."""

    group: str
    into: Callable[[Chip], None]


def patched(
    verb: str, before: Callable[[Any], Any] = lambda it: it, after: Callable[[Any], Any] = lambda it: it
) -> Any:
    """A fault that changes the requests of one verb before the chip sees them, or its replies."""

    def into(chip: Chip) -> None:
        real = getattr(chip, verb)

        def changed(*request: Any) -> Any:
            answer = real(*map(before, request))
            return changed_later(answer) if isinstance(answer, Generator) else after(answer)

        def changed_later(steps: Any) -> Any:
            return after((yield from steps))

        setattr(chip, verb, changed)

    return into


def each(*faults: Callable[[Chip], None]) -> Callable[[Chip], None]:
    return lambda chip: [fault(chip) for fault in faults] and None


def cells_of(change: Callable[[Any], None]) -> Callable[[Chip], None]:
    """A fault in the cells of every macro."""
    return lambda chip: [change(cells) for cells in chip._cells] and None


def _polarity(cells: Any) -> None:
    real = cells.pulse
    cells.pulse = lambda now, block, volts, up, width, sample: real(now, block, volts, not up, width, sample)


def _alias(cells: Any) -> None:
    settle, conductance = cells._settle, cells.conductance_us
    last = SPEC.macro.columns - 1

    def aliased(now_ns: int, block: Any = np.s_[:, :]) -> Any:
        whole = conductance(now_ns)
        whole[:, last] = whole[:, last - 1]
        return whole[block]

    cells.conductance_us = aliased
    cells._settle = lambda numbers, *rest: settle(np.where(numbers % (last + 1) == last, numbers - 1, numbers), *rest)


def _macro_bit(request: Any) -> Any:
    """The request, for the macro whose number lacks bit 3."""
    if getattr(request, "tiles", None) is not None:
        parts = (replace(t, address=replace(t.address, macro=t.address.macro & ~8)) for t in request.tiles)
        return replace(request, tiles=tuple(parts))
    name = "cells" if hasattr(request, "cells") else "tile"
    at = getattr(request, name)
    return request if at is None else replace(request, **{name: replace(at, macro=at.macro & ~8)})


class _Exchanged:
    """Cells as products see them, two word lines exchanged."""

    def __init__(self, cells: Any, one: int, other: int) -> None:
        self._cells, self._lines = cells, (one, other)

    @property
    def version(self) -> int:
        return self._cells.version

    def conductance_us(self, now_ns: int) -> Any:
        whole, (one, other) = self._cells.conductance_us(now_ns), self._lines
        whole[[one, other]] = whole[[other, one]]
        return whole


def _word_lines(chip: Chip) -> None:
    chip._converter._cells = tuple(_Exchanged(cells, 20, 21) for cells in chip._cells)


def _never_inside(chip: Chip) -> None:
    """No cell is ever in the window: each takes all pulses, and is said not to be reached."""
    real = chip.program_tile

    def write(request: Any) -> Any:
        done = yield from real(replace(request, tolerance=0))
        return replace(done, reached=done.reached & (request.targets == LEAVE_ALONE))

    chip.program_tile = write  # type: ignore[method-assign]


def dropped(number: int) -> Callable[[Chip], None]:
    """A fault that leaves out one step of each plan in silence: it does the one before twice, so that counts agree."""

    def into(chip: Chip) -> None:
        real = chip.load_plan

        def load(request: Any) -> Any:
            answer, plan = real(request), chip._plan.plan
            if plan is not None:  # all parts have come; a plan that is made anew would be refused
                steps = plan.steps
                object.__setattr__(plan, "steps", (*steps[:number], steps[number - 1], *steps[number + 1 :]))
            return answer

        chip.load_plan = load

    return into


def _lowest(request: Any) -> Any:
    lowest = -(1 << (request.input_bits - 1))
    codes = np.where(request.input_signed & (request.codes == lowest), lowest + 1, request.codes)
    return replace(request, codes=codes.astype(np.int16))


def _clock(change: Callable[[int], int]) -> Callable[[Chip], None]:
    def into(chip: Chip) -> None:
        chip.__class__ = type("Clocked", (EmulatedChip,), {"chip_time_ns": property(lambda own: change(own._now_ns))})

    return into


def _back(chip: Chip) -> None:
    real = chip.outputs_off

    def off() -> Any:
        chip._now_ns = max(chip._now_ns - 1000, 0)
        return real()

    chip.outputs_off = off


def _deaf(chip: Chip) -> None:
    """The frame of sequence 65535 is never heard."""
    chip.deaf = True


class DeafLine(InProcessTransport):
    """The line to a chip that drops a host's frames of the last sequence number."""

    def __init__(self, chip: Any, address: str) -> None:
        super().__init__(chip, address)
        self._frames = FrameReader()

    def write(self, data: bytes) -> None:
        kept = [f for f in self._frames.feed(data) if f.flags & Flag.ACK or f.sequence != 0xFFFF]
        super().write(b"".join(map(encode_frame, kept)))


FAULTS: dict[str, Fault] = {
    "voltages of pulses are compared in 16 bits": Fault(
        "limits", patched("pulse", lambda r: replace(r, millivolts=np.where(r.millivolts > 0x7FFF, 0, r.millivolts)))
    ),
    "widths of pulses are compared in 16 bits": Fault(
        "limits", patched("pulse", lambda r: replace(r, width_ns=max(r.width_ns & 0xFFFF, 1)))
    ),
    "widths of a write are compared in 16 bits": Fault(
        "limits", patched("program_tile", lambda r: replace(r, pulse_width_ns=max(r.pulse_width_ns & 0xFFFF, 1)))
    ),
    "ramps of a write are compared in 16 bits": Fault(
        "limits",
        patched("program_tile", lambda r: replace(r, reset_stop_mv=0 if r.reset_stop_mv > 0x7FFF else r.reset_stop_mv)),
    ),
    "SET and RESET are exchanged": Fault("limits", cells_of(_polarity)),
    "macro bit 3 is not connected": Fault(
        "addresses",
        each(*(patched(v, _macro_bit) for v in ("program_tile", "pulse", "read_cells", "mvm", "sweep", "load_layer"))),
    ),
    "two word lines are exchanged in products": Fault("addresses", _word_lines),
    "the last bit line is its neighbour": Fault("addresses", cells_of(_alias)),
    "bias above output 32 is ignored": Fault(
        "digital", patched("load_layer", lambda r: replace(r, bias=np.where(np.arange(r.outputs) < 32, r.bias, 0)))
    ),
    "the lowest signed code is the next one": Fault(
        "digital", each(patched("mvm", _lowest), patched("sweep", _lowest))
    ),
    "no cell is said to be reached": Fault("physics", _never_inside),
    "reads of cells are counted in 8 bits": Fault(
        "physics", patched("read_cells", lambda r: replace(r, reads=max(r.reads & 0xFF, 1)))
    ),
    "reads of products are counted in 8 bits": Fault(
        "digital", patched("mvm", lambda r: replace(r, reads=max(r.reads & 0xFF, 1)))
    ),
    "a step of a plan is dropped": Fault("digital", dropped(9)),
    "a frame of sequence 65535 is not heard": Fault("frames", _deaf),
    "the clock has 32 bits": Fault("physics", _clock(lambda now_ns: now_ns % (1 << 32))),
    "the clock runs back when outputs go off": Fault("safety", _back),
    "STATUS counts half of the cells": Fault(
        "limits", patched("status", after=lambda s: replace(s, programmed_cells=s.programmed_cells // 2))
    ),
    "the sign of the temperature is lost": Fault(
        "limits", patched("status", after=lambda s: replace(s, temperature_c=-s.temperature_c))
    ),
}


def judged(name: str, groups: Iterable[str] = tuple(GROUPS.keys() - SLOW)) -> dict[str, Any]:
    """What fails of a board with one fault; of any other name, of the sound one."""
    chip: Any = EmulatedChip(SPEC, 2)
    chip.deaf = False
    if name in FAULTS:
        FAULTS[name].into(chip)
    kind, role = DeafLine if chip.deaf else InProcessTransport, chip_role(chip)
    results = run_on(Bench(name, lambda: kind(role, name), SPEC), groups).results
    failed = [{"check": r.name, "text": r.text} for r in results if r.outcome is CheckOutcome.FAILED]
    took = {"seconds": round(sum(r.seconds for r in results), 1), "clock_s": round(chip.chip_time_ns / 1e9, 1)}
    return {"board": name, "failed": failed, **took}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="boards whose name holds this")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "faulty_boards.jsonl")
    asked = parser.parse_args()
    rows = []
    for name in [name for name in ("sound", *FAULTS) if asked.only in name]:
        rows.append(judged(name, [FAULTS[name].group] if name in FAULTS else GROUPS.keys() - SLOW))
        print(name, "-", "; ".join(f["check"][:60] for f in rows[-1]["failed"]) or "NOTHING", flush=True)
    if not asked.only:
        asked.out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return int(any(bool(row["failed"]) == (row["board"] == "sound") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
