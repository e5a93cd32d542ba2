"""Floors of throughput, and sessions so long that their numbers wrap: whole transfers on lines of one kind each.

A floor of share finds what makes every frame slow; what happens once in 65,536 frames is a pause of the line, and what
happens at the start of a session a late first answer.
"""

from __future__ import annotations

from typing import NamedTuple

from firmware_protocols.connection import LinkLimits
from firmware_protocols.errors import ProtocolError
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.goodput import answers_s, virtual_goodput

BYTES_PER_S = 92_160.0  # of a serial line of 921,600 baud


LONGEST_PAUSE_S = 0.005  # of a line without faults on which there is more to send
ANSWER_LOSS = 0.2  # of frames
FIRST_ANSWER_S, NEXT_ANSWER_S = 0.7, 0.2  # mean time from the first hello; of an answer, asked for alone


class Floor(NamedTuple):
    """A line, and the least share of its bytes that must be input codes."""

    name: str
    faults: LineFaults
    limits: LinkLimits
    seconds: float
    least: float


FLOORS = (
    Floor("a clean line", LineFaults(bytes_per_s=BYTES_PER_S), LinkLimits(512, 32, 1 << 20), 6.0, 0.94),
    Floor(
        "1 % of frames lost", LineFaults(loss=0.01, bytes_per_s=BYTES_PER_S), LinkLimits(512, 32, 1 << 20), 12.0, 0.92
    ),
    Floor(
        "5 % of frames lost", LineFaults(loss=0.05, bytes_per_s=BYTES_PER_S), LinkLimits(512, 32, 1 << 20), 12.0, 0.8
    ),
    Floor("a long way", LineFaults(delay_s=0.05, bytes_per_s=BYTES_PER_S), LinkLimits(512, 32, 1 << 20), 12.0, 0.92),
    Floor("70,000 short frames", LineFaults(bytes_per_s=BYTES_PER_S), LinkLimits(64, 32, 1 << 20), 49.0, 0.74),
)


def below_floors() -> list[str]:
    """Each line that carries less than it must, or fails; empty: all held."""
    found = []
    for floor in FLOORS:
        try:
            seen = virtual_goodput(floor.faults, seconds=floor.seconds, limits=floor.limits)
        except ProtocolError as error:
            found.append(f"{floor.name}: {type(error).__name__}: {error}")
            continue
        if not floor.faults.loss and seen.longest_pause_s > LONGEST_PAUSE_S:
            found.append(f"{floor.name}: stands still for {1e3 * seen.longest_pause_s:.1f} ms with more to send")
        if seen.share < floor.least:
            found.append(
                f"{floor.name}: {100 * seen.share:.1f} % of its bytes are input codes, {100 * floor.least:.0f} must be"
            )
    try:
        times_s = answers_s(LineFaults(loss=ANSWER_LOSS, bytes_per_s=BYTES_PER_S))
    except ProtocolError as error:
        return [*found, f"answers: {type(error).__name__}: {error}"]
    for which, took_s, most_s in zip(("first", "next"), times_s, (FIRST_ANSWER_S, NEXT_ANSWER_S), strict=True):
        if took_s > most_s:
            found.append(f"{which} answers come after {took_s:.2f} s, {most_s} at most where one frame of five is lost")
    return found
