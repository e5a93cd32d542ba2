"""Deterministic simulation of the link: episodes of bad lines and failing boards, each from its seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import firmware_protocols
from tests.line_simulation.ends import Ends, episode_of
from tests.line_simulation.episode import EpisodeResult
from tests.line_simulation.faults import Counts, LineFault
from tests.line_simulation.invariants import LinkStates
from tests.line_simulation.plan import plan_of
from tests.line_simulation.seen import Met

DAY_S = 86_400.0
A_MINUTE_REQUESTS, A_MINUTE_FAULTS = 10_000, 1_000  # that a minute of simulation must cover, faults of each kind
A_MINUTE_MET = 20  # of each of ``Met``


@dataclass(slots=True)
class SimulationResult:
    """Sums of all episodes; ``failed`` holds those in which something did not hold."""

    seed: int
    ends: tuple[Ends, ...] = tuple(Ends)
    episodes: int = 0
    cpu_s: float = 0.0
    open_s: float = 0.0
    requests: int = 0
    steps: int = 0
    most_held_bytes: int = 0
    digest: str = ""
    faults: Counts = field(default_factory=lambda: dict.fromkeys(LineFault, 0))
    states: Counter[LinkStates] = field(default_factory=Counter)
    resets: Counter[LinkStates] = field(default_factory=Counter)
    met: Counter[Met] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, episode: EpisodeResult) -> None:
        self.episodes += 1
        self.open_s += episode.open_s
        self.requests += episode.requests
        self.steps += episode.steps
        self.met += episode.met
        self.most_held_bytes = max(self.most_held_bytes, episode.most_held_bytes)
        self.digest = hashlib.sha256(f"{self.digest}{episode.digest}".encode()).hexdigest()
        for kind, times in episode.faults.items():
            self.faults[kind] += times
        self.states += episode.states
        self.resets += episode.resets
        if episode.broken:
            self.failed.append((number, episode.broken))

    @property
    def short(self) -> list[str]:
        """What a minute of simulation must cover and this one did not; empty when it did."""
        wanted = [("seconds of line time", self.open_s, DAY_S), ("requests", self.requests, A_MINUTE_REQUESTS)]
        if set(self.ends) == set(Ends):
            wanted += [(what.value, self.met[what], A_MINUTE_MET) for what in Met]
        wanted += [(kind.value, times, A_MINUTE_FAULTS) for kind, times in self.faults.items()]
        return [f"{name}: {has:,.0f} of {least:,.0f}" for name, has, least in wanted if has < least]


def run_episode(
    seed: int, number: int, tell: Callable[[str], None] = lambda text: None, *, ends: Sequence[Ends] = tuple(Ends)
) -> EpisodeResult:
    """One episode of a run, in which ``ends`` take turns; the same bits each time."""
    return episode_of(plan_of(f"{seed}/{number}"), ends[number % len(ends)], tell)


def run_simulation(
    seed: int,
    cpu_s: float,
    *,
    clock: Callable[[], float],
    ends: Sequence[Ends] = tuple(Ends),
    to_cover: float = 1.0,
    most_failures: int = 1,
    watch: Callable[[SimulationResult], None] = lambda result: None,
) -> SimulationResult:
    """Run episodes for ``cpu_s`` seconds of ``clock`` (``time.process_time``), or until ``most_failures`` failed.

    Where what a minute covers is not met by then, they go on for at most ``to_cover`` times as long.
    """
    result, start_s = SimulationResult(seed, ends=tuple(ends)), clock()
    while len(result.failed) < most_failures and (
        result.cpu_s < cpu_s or (result.cpu_s < to_cover * cpu_s and result.short)
    ):
        result.add(result.episodes, run_episode(seed, result.episodes, ends=ends))
        result.cpu_s = clock() - start_s
        watch(result)
    return result


def source_digest() -> str:
    """Which code ran: SHA-256 of the sources of ``firmware_protocols``, first 12 digits."""
    found = hashlib.sha256()
    root = Path(firmware_protocols.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]
