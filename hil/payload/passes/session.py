"""A session over many passes: a program up, an update up, a telemetry dump down, each planned and then done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hil.errors import DeviceError, UsageError
from hil.pages.summary import Headline, Summary, Tone
from hil.pages.tables import Table
from hil.payload.passes.commands import TAKE_PROGRAM, TAKE_UPDATE, FlightComputer, function_call, read_telemetry
from hil.payload.passes.flight_image import flight_program, pack_image
from hil.payload.passes.transfer import TransferPlan, TransferResult, plan_transfer, run_transfer
from hil.payload.passes.update import pack_update
from hil.payload.passes.windows import ContactWindow
from hil.payload.settings import LinkFigures
from mapping.program.conductance import ConductanceProgram

FORMAT = "hil.passes/1.0"
DUMP = 0xD0A1  # purpose tag of the host's seeds
PROGRAM_FILE, UPDATE_FILE, DUMP_FILE = "program.hilf", "update.hilu", "telemetry.bin"
MOST_DUMP = 1 << 27


@dataclass(frozen=True)
class PassSession:
    """Plans and results, in order, and the digests on both sides after them."""

    plans: tuple[TransferPlan, ...]
    results: tuple[TransferResult, ...]
    ground_digest: str
    board_digest: str

    @property
    def identical(self) -> bool:
        return self.ground_digest == self.board_digest and all(r.identical for r in self.results)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "identical": self.identical,
            "ground_digest": self.ground_digest,
            "board_digest": self.board_digest,
            "transfers": [result.to_json() for result in self.results],
        }

    def summary(self) -> Summary:
        """Files as they were planned and sent, and whether ground and board hold the same program."""
        rows = []
        for r in self.results:
            planned = "more" if r.plan.passes is None else str(r.plan.passes)
            same = "identical" if r.identical else "DIFFERENT"
            sent = (
                f"{r.passes}",
                f"{r.on_air_s:.2f} s",
                f"{r.lost} of {r.packets}",
                f"{r.digest_received[:12]} {same}",
            )
            rows.append((r.plan.name, f"{r.plan.bytes:,}", planned, *sent))
        header = ("file", "bytes", "planned", "needed", "on air", "packets lost", "digest")
        both = f"on the ground {self.ground_digest[:12]}, on board {self.board_digest[:12]}"
        word = "IDENTICAL" if self.identical else "DIFFERENT"
        return Summary(
            f"{len(self.results)} files over contact windows",
            "SIMULATED",
            Headline(Tone.GOOD if self.identical else Tone.BAD, word, f"program {both}"),
            (Table("Files", header, tuple(rows)),),
        )


def run_session(
    program: ConductanceProgram,
    tuned: ConductanceProgram | None,
    windows: Sequence[ContactWindow],
    figures: LinkFigures,
    *,
    dump_bytes: int = 0,
    seed: int = 0,
) -> PassSession:
    """Upload a program, then an update of its gains and biases, then dump telemetry.

    Args:
        tuned: the same program after ``hil tune``; None: no update.
        dump_bytes: of the telemetry dump; its content follows from the seed.

    Raises:
        LinkError: the passes end before a file is there.
        MismatchError: ``tuned`` is another program.
    """
    if not 0 <= dump_bytes <= MOST_DUMP:
        raise UsageError(f"a telemetry dump of {dump_bytes:,} bytes, at most {MOST_DUMP:,}")
    flying = flight_program(program)
    jobs = [(PROGRAM_FILE, pack_image(flying), True, TAKE_PROGRAM)]
    if tuned is not None:
        jobs.append((UPDATE_FILE, pack_update(flying, flight_program(tuned), 1), True, TAKE_UPDATE))
    if dump_bytes:
        rng = np.random.default_rng(np.random.SeedSequence([seed, DUMP]))
        jobs.append((DUMP_FILE, rng.integers(0, 256, dump_bytes, dtype=np.uint8).tobytes(), False, 0))
    board, ground = FlightComputer(program.spec), FlightComputer(program.spec)
    plans, results, after_s = [], [], 0.0
    for number, (name, data, up, function) in enumerate(jobs, 1):
        plan = plan_transfer(name, len(data), windows, figures, up=up, after_s=after_s)
        done = run_transfer(plan, data, windows, figures, seed=seed, number=number, up=up, after_s=after_s)
        plans.append(plan)
        results.append(done)
        after_s = done.end_s
        if function:
            for side in (board, ground):  # the ground applies the same bytes, and so knows what must come out
                side.keep(name, data)
                _called(side, function, name, number)
    assert board.program is not None
    assert ground.program is not None
    return PassSession(tuple(plans), tuple(results), ground.program.digest, board.program.digest)


def _called(side: FlightComputer, function: int, name: str, sequence: int) -> None:
    answers = [read_telemetry(p) for p in side.take(function_call(function, name.encode(), sequence))]
    if not any((a.service, a.subservice) == (1, 7) for a in answers):
        reason = next((a.content[-1] for a in answers if (a.service, a.subservice) == (1, 8)), 0)
        raise DeviceError(f"the flight computer refused {name}, reason {reason}")
