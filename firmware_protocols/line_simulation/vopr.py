"""Deterministic simulation of the link: episodes of bad lines and failing boards, each from its seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from firmware_protocols.line_simulation.episode import Episode, EpisodeResult
from firmware_protocols.line_simulation.faults import Counts, LineFault
from firmware_protocols.line_simulation.invariants import LinkStates
from firmware_protocols.line_simulation.plan import plan_of

DAY_S = 86_400.0
A_MINUTE_REQUESTS, A_MINUTE_FAULTS = 10_000, 1_000  # that a minute of simulation must cover, faults of each kind


@dataclass(slots=True)
class VoprResult:
    """Sums of all episodes; ``failed`` holds those in which something did not hold."""

    seed: int
    episodes: int = 0
    cpu_s: float = 0.0
    open_s: float = 0.0
    requests: int = 0
    steps: int = 0
    most_held_bytes: int = 0
    commanded: int = 0  # resets that hosts asked for
    digest: str = ""
    faults: Counts = field(default_factory=lambda: dict.fromkeys(LineFault, 0))
    states: Counter[LinkStates] = field(default_factory=Counter)
    resets: Counter[LinkStates] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, episode: EpisodeResult) -> None:
        self.episodes += 1
        self.open_s += episode.open_s
        self.requests += episode.requests
        self.steps += episode.steps
        self.commanded += episode.commanded
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
        wanted += [(kind.value, times, A_MINUTE_FAULTS) for kind, times in self.faults.items()]
        return [f"{name}: {has:,.0f} of {least:,.0f}" for name, has, least in wanted if has < least]


def run_episode(seed: int, number: int, tell: Callable[[str], None] = lambda text: None) -> EpisodeResult:
    """One episode of a run; the same bits each time."""
    return Episode(plan_of(f"{seed}/{number}"), tell).run()


def run_vopr(
    seed: int,
    cpu_s: float,
    *,
    clock: Callable[[], float],
    most_failures: int = 1,
    watch: Callable[[VoprResult], None] = lambda result: None,
) -> VoprResult:
    """Run episodes for ``cpu_s`` seconds of ``clock`` (``time.process_time``), or until ``most_failures`` failed."""
    result, start_s = VoprResult(seed), clock()
    while result.cpu_s < cpu_s and len(result.failed) < most_failures:
        result.add(result.episodes, run_episode(seed, result.episodes))
        result.cpu_s = clock() - start_s
        watch(result)
    return result


def source_digest() -> str:
    """Which code ran: SHA-256 of the sources of ``firmware_protocols``, first 12 digits."""
    found = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]
