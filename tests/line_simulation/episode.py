"""One episode: a line is bad for a while, then quiet; what must hold is checked at every step."""

from __future__ import annotations

import heapq
import math
import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.line_simulation.asking import AskingHost
from tests.line_simulation.board import VirtualBoard
from tests.line_simulation.faults import Counts, LineFault, LineFaults
from tests.line_simulation.invariants import Invariants, LinkStates
from tests.line_simulation.line import VirtualLine
from tests.line_simulation.plan import EpisodePlan
from tests.line_simulation.seen import Met, SeenHost
from tests.line_simulation.sent_requests import EpisodeRequests

QUIET_S = 1200.0  # beside the work that is left: all is answered on a good line within it
DOWN_S, STALL_S, BOOT_S = (0.1, 30.0), (0.05, 40.0), (0.01, 0.5)
SOON_S = (0.05, 3.0)  # between events of which one follows the other
WITHOUT_JOURNAL = 0.2  # share of processes that go on with a chip but without what the one before knew
LONG_BURST, LONG_BURST_BYTES = 0.1, 400_000  # share of bursts that no end may hold whole


@dataclass(slots=True)
class EpisodeResult:
    """What an episode saw. ``broken``: the invariant that did not hold, with the time and the last events."""

    seed: str
    open_s: float = 0.0  # of the line, with a request open
    requests: int = 0
    steps: int = 0
    faults: Counts = field(default_factory=dict)
    states: Counter[LinkStates] = field(default_factory=Counter)  # steps in each
    resets: Counter[LinkStates] = field(default_factory=Counter)  # resets in each
    most_held_bytes: int = 0  # by both ends
    digest: int = 0  # of all bytes and times
    met: Counter[Met] = field(default_factory=Counter)
    broken: str = ""


class EpisodeBroken(BaseException):
    """Ends an episode at once, from whichever end ran last, since an invariant did not hold."""


HostMaker = Callable[[EpisodePlan, VirtualBoard, Callable[[], float], Callable[[str], None]], SeenHost]


def asking_host(
    plan: EpisodePlan, board: VirtualBoard, clock: Callable[[], float], broken: Callable[[str], None]
) -> AskingHost:
    """A host that asks all that the protocol allows, also what the driver never does."""
    return AskingHost(
        EpisodeRequests(plan),
        plan.requests,
        limits=plan.host,
        rng=random.Random(f"{plan.seed}/host"),
        ahead=plan.ahead,
        in_turn=plan.slots > 0,
        asks_again=board.chip.allow_again,
        switched_off=lambda: board.chip.switched_off,
        broken=broken,
    )


class Episode:
    """A plan carried out; ``run`` gives its result and never raises for what the ends do.

    ``board`` makes the chip's end; ``host`` the other one, given the plan, the chip's end, the clock and who is told
    what must not happen.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        tell: Callable[[str], None] = lambda text: None,
        *,
        board: Callable[..., VirtualBoard] = VirtualBoard,
        host: HostMaker = asking_host,
    ) -> None:
        self.plan, self._tell = plan, tell
        self.result = EpisodeResult(plan.seed)
        self._rng = random.Random(f"{plan.seed}/events")
        self._broken: list[str] = []
        self.board = board(
            plan.chip,
            self._broken.append,
            slots=plan.slots,
            keyed=plan.keyed,
            clock_stops=plan.clock_stops,
            failed=self._power_failed,
        )
        self.host = host(plan, self.board, lambda: self.line.now_s, self._broken.append)
        self.line = VirtualLine(
            self.host,
            self.board,
            plan.faults,
            random.Random(f"{plan.seed}/line"),
            worked_s=self.board.chip.take_worked_s,
            counts=self.result.faults,
        )
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._quiet, self._quiet_s = False, math.inf
        self._invariants = Invariants(self.line, self.host, self.board, self._broken.append)

    def run(self) -> EpisodeResult:
        result, line = self.result, self.line
        for kind in self.plan.every_s:
            self._later(self._wait_s(kind), self._event, kind)
        if self.plan.off_every_s:
            self._later(self._rng.expovariate(1.0 / self.plan.off_every_s), self._off)
        if self.plan.trip_every_s:
            self._later(self._rng.expovariate(1.0 / self.plan.trip_every_s), self._trip)
        try:
            self._run()
        except EpisodeBroken:
            pass
        except Exception:
            self._broken.append(f"an end raised:\n{traceback.format_exc(limit=-6)}")
        result.requests = self.host.answered
        result.most_held_bytes = self._invariants.most_held_bytes
        result.digest = self._invariants.digest
        result.met = self.host.met + Counter({Met.RESET: self.board.commanded})
        if self._broken:
            result.broken = f"at {line.now_s - 100.0:.6f} s: {self._broken[0]}"
        return result

    def _run(self) -> None:
        self._quiet_s = self.line.now_s + self.plan.bad_s
        while not self.host.done and not self._broken:
            self.host.go_on(self._advance)
        self._invariants.finish()

    def _advance(self, until_s: float) -> None:
        """One step. Raises ``EpisodeBroken`` when something did not hold, in it or before."""
        result, line, host = self.result, self.line, self.host
        event_s = self._events[0][0] if self._events else self._quiet_s
        before_s, is_open = line.now_s, bool(host.unanswered)
        line.step(min(event_s, self._quiet_s, until_s))
        result.steps += 1
        if is_open:
            result.open_s += line.now_s - before_s
        self._look(self._invariants.check())
        while self._events and self._events[0][0] <= line.now_s:
            heapq.heappop(self._events)[2]()
        if line.now_s >= self._quiet_s and not host.done:
            if self._quiet:
                self._broken.append(f"{host.count - host.answered} requests have no answer on a quiet line")
            self._quiet_s = line.now_s + self._fall_quiet()
        if self._broken:
            raise EpisodeBroken

    def _look(self, states: LinkStates) -> None:
        """A reset where both ends get into a state for the first time, by chance."""
        seen = self.result.states
        if states not in seen and not self._quiet and self._rng.random() < self.plan.state_resets:
            self._reset()
        seen[states] += 1

    def _fall_quiet(self) -> float:
        """No more faults; gives how long all that is left may take, s."""
        self._tell(f"{self.line.now_s:12.6f} quiet")
        self._quiet = True
        self._events = [event for event in self._events if event[2] == self._plug]
        clean = LineFaults(delay_s=self.plan.faults.delay_s, bytes_per_s=self.plan.faults.bytes_per_s)
        self.line.to_chip.change(clean)
        self.line.to_host.change(clean)
        left = {*self.host.unanswered, *range(self.host.answered, self.host.count)}
        return QUIET_S + sum(self.host.requests[place].longest_s(self.plan) for place in left)

    # --- events -------------------------------------------------------------------------------

    def _later(self, in_s: float, what: Callable[..., None], *of: LineFault) -> None:
        self._order += 1
        act = (lambda: what(*of)) if of else what
        heapq.heappush(self._events, (self.line.now_s + in_s, self._order, act))

    def _wait_s(self, kind: LineFault) -> float:
        if self._rng.random() < self.plan.soon:
            return self._rng.uniform(*SOON_S)
        return self._rng.expovariate(1.0 / self.plan.every_s[kind])

    def _event(self, kind: LineFault) -> None:
        self._later(self._wait_s(kind), self._event, kind)
        self._tell(f"{self.line.now_s:12.6f} {kind.value}")
        match kind:
            case LineFault.BURST:
                self._burst()
            case LineFault.STALL:
                self._stall()
            case LineFault.UNPLUG:
                self._unplug()
            case LineFault.KILL:
                self._kill()
            case LineFault.RESET:
                self._reset()
            case LineFault.POWER:  # after some slices of a tile, or some bytes of a record
                self.board.power.steps_left = self._rng.randrange(self._rng.choice((8, 400, 3000)))

    def _off(self) -> None:
        self._later(self._rng.expovariate(1.0 / self.plan.off_every_s), self._off)
        self.host.outputs_off(reset=self.plan.commanded > 0.0 and self._rng.random() < self.plan.commanded)

    def _trip(self) -> None:
        self._later(self._rng.expovariate(1.0 / self.plan.trip_every_s), self._trip)
        self.board.chip.trips = 1

    def _count(self, kind: LineFault) -> None:
        self.result.faults[kind] = self.result.faults.get(kind, 0) + 1

    def _burst(self) -> None:
        rng = self._rng
        length = LONG_BURST_BYTES if rng.random() < LONG_BURST else rng.randint(1, 64)
        data = rng.randbytes(length)
        if rng.random() < 0.5:  # without a zero nothing ends
            data = data.replace(b"\0", b"\1")
        (self.line.to_chip if rng.random() < 0.5 else self.line.to_host).stray(data, self.line.now_s)

    def _stall(self) -> None:
        rng, now_s = self._rng, self.line.now_s
        self._count(LineFault.STALL)
        until_s = now_s + rng.uniform(*STALL_S) ** (1 if rng.random() < 0.3 else 0.3)
        deaf, ways = rng.random() < 0.5, rng.choice(((1, 1), (1, 0), (0, 1)))
        for way, stalled in zip((self.line.to_chip, self.line.to_host), ways, strict=True):
            if stalled:
                way.stall(until_s, deaf=deaf)

    def _kill(self) -> None:
        """Kill the host's process; another resumes the run, now and then without the journal of the one before."""
        self._count(LineFault.KILL)
        begins_s = self.line.now_s + self._rng.uniform(0.0, 1.0)
        if self.plan.slots and self._rng.random() < WITHOUT_JOURNAL:
            self.host.begin_anew(begins_s)
        else:
            self.host.kill(begins_s)

    def _unplug(self) -> None:
        if self.line.cut:
            return
        self._count(LineFault.UNPLUG)
        self.line.cut = True
        self.line.to_chip.cut()
        self.line.to_host.cut()
        self.host.unplug()
        self._invariants.unplugged()
        self._later(self._rng.uniform(*DOWN_S), self._plug)

    def _plug(self) -> None:
        self.line.cut = False
        self.host.plug(self.line.now_s)

    def _reset(self) -> None:
        self._count(LineFault.RESET)
        self.result.resets[self._invariants.states()] += 1
        self.board.boot()
        self._disturb()
        self.line.chip_free_s = self.line.now_s + self._rng.uniform(*BOOT_S)

    def _power_failed(self) -> None:
        self._count(LineFault.POWER)
        self._disturb()

    def _disturb(self) -> None:
        """What made the chip restart may trouble its host and the line too: soon, while both find together again."""
        if not self._quiet and self._rng.random() < self.plan.trouble:
            self._later(self._rng.uniform(*SOON_S), self._rng.choice((self._kill, self._stall, self._unplug)))
