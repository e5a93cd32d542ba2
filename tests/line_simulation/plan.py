"""What an episode of a simulation is made of, drawn from its seed: line, limits, work, faults and their times."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from firmware_protocols.connection import LinkLimits
from tests.line_simulation.faults import LineFault, LineFaults

BAUDS = (9600, 57600, 115200, 921600, 921600, 3_000_000)
MAX_MESSAGE = 1 << 16
GHOST_S = 5.0
WITHOUT_KEY = 0.4  # share of the chips with a memory
FORGED = (0.3, 0.8)  # share of the challenges that are answered with a forged counter
EVENTS = (LineFault.BURST, LineFault.STALL, LineFault.UNPLUG, LineFault.RESET, LineFault.POWER, LineFault.KILL)
USUALLY_EVERY_S = (12.0, 90.0)  # shortest and longest mean time between two events of a kind
EVERY_S = {LineFault.POWER: (3.0, 30.0)}  # it waits for a write


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """One life of a line, from clean to quiet again.

    Attributes:
        seed: of everything below and of what happens.
        faults: of both directions while the line is bad.
        host, chip: limits of both ends.
        requests: how many are asked.
        ahead: how many of them before the first is answered.
        every_s: mean time between two events of a kind, s; kinds that do not happen are left out.
        soon: share of events that come soon after one of their kind, as of a plug that is loose.
        off_every_s: mean time between two orders to switch the outputs off, s; 0: none.
        commanded: share of these orders that are RESET.
        trip_every_s: mean time between two requests that the chip fails, s; 0: none.
        trouble: chance that the host is killed, or the line disturbed, soon after the chip restarted.
        state_resets: chance that the chip is reset when both ends together get into a state for the first time.
        tile_share: share of requests that write a tile, which takes from 1 s to a minute.
        refused_share: share of requests that the chip cannot do and refuses at once, before those that wait.
        slots: of the chip's journal, 0: it has no memory.
        images: some tiles come in program images.
        keyed: the chip wants a key, and somebody forges counters on the line.
        clock_stops: the clock of the board begins anew when the chip restarts.
        bad_s: longest time that the line is bad.
    """

    seed: str
    faults: LineFaults
    host: LinkLimits
    chip: LinkLimits
    requests: int
    ahead: int
    every_s: dict[LineFault, float]
    soon: float
    off_every_s: float
    trip_every_s: float
    trouble: float
    state_resets: float
    tile_share: float
    refused_share: float
    slots: int
    images: bool
    clock_stops: bool
    keyed: bool
    bad_s: float
    commanded: float


def plan_of(seed: str) -> EpisodePlan:
    """The plan of a seed: of each kind of fault none, few or many."""
    rng = random.Random(seed)

    def some(few: float, many: float, share: float = 0.5) -> float:
        return log_uniform(rng, few, many) if rng.random() < share else 0.0

    delay_s = log_uniform(rng, 2e-4, 0.25) if rng.random() < 0.95 else rng.uniform(0.25, 1.5)
    faults = LineFaults(
        loss=some(1e-3, 0.2),
        duplicate=some(1e-2, 0.3),
        corrupt=some(1e-2, 0.1, 0.6),
        truncate=some(1e-2, 0.1),
        reorder=some(1e-2, 0.3),
        late=some(1e-2, 0.1),
        bit_errors=some(1e-6, 3e-4),
        drop=some(1e-4, 1e-3),
        insert=some(1e-5, 3e-4),
        delay_s=delay_s,
        bytes_per_s=rng.choice(BAUDS) / 10,
    )
    payloads, windows = (64, 128, 512, 512, 4096), (1, 4, 16, 32, 32)
    host = LinkLimits(rng.choice(payloads), rng.choice(windows), silence_s=rng.choice((2.0, 10.0)))
    silence_s = random.Random(f"{seed}/silence").choice((3.0, 10.0))  # the first ends before the dead man's
    chip = LinkLimits(rng.choice(payloads), rng.choice(windows), MAX_MESSAGE, silence_s)
    every_s = {kind: log_uniform(rng, *EVERY_S.get(kind, USUALLY_EVERY_S)) for kind in EVENTS if rng.random() < 0.6}
    state_resets = rng.choice((0.0, 0.0, 0.3))
    resets = bool(state_resets or every_s.keys() & {LineFault.RESET, LineFault.POWER})
    slots = rng.choice((0, 0, 2, 3, 17)) if resets else 0
    if not (
        state_resets or every_s.keys() & {LineFault.RESET, LineFault.POWER}
    ):  # a chip that restarted knows no old hello from a new one
        faults = replace(faults, ghost_s=rng.choice((0.0, GHOST_S)))
    plan = EpisodePlan(
        seed,
        faults,
        host,
        chip,
        requests=rng.randint(60, 300),
        ahead=min(rng.choice((1, 4, 8, 20, 20)), slots - 1 if slots else 20),
        every_s=every_s,
        soon=rng.choice((0.0, 0.2, 0.8)),
        off_every_s=some(5.0, 300.0, 0.3),
        trip_every_s=log_uniform(random.Random(f"{seed}/trips"), 20.0, 300.0),
        trouble=random.Random(f"{seed}/trouble").choice((0.0, 0.0, 0.3)),
        state_resets=state_resets,
        tile_share=rng.choice((0.0, 0.02, 0.05, 0.3)),
        refused_share=rng.choice((0.0, 0.02, 0.3)),
        slots=slots,
        images=slots > 0 and rng.random() < 0.7,
        clock_stops=slots > 0 and rng.random() < 0.5,
        keyed=False,
        bad_s=3600.0,
        commanded=random.Random(f"{seed}/commanded").choice((0.0, 0.3, 1.0)) if resets else 0.0,
    )
    if not slots or rng.random() < WITHOUT_KEY:
        return plan
    return replace(plan, keyed=True, faults=replace(faults, forge=rng.choice(FORGED)))


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
