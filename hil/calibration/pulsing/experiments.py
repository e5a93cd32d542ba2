"""Experiments on cells: pulses, readings and pauses, in order.

An experiment is a frozen dataclass of its settings whose ``actions`` follow from them and from the chip file: voltages
and widths that are not said are those of its write recipe. The limits of the chip file are checked before the first.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hil.errors import UsageError
from mapping.settings import check_limits, setting

if TYPE_CHECKING:
    from cim.chip.spec import ChipSpec


class Act(enum.StrEnum):
    """One thing that happens to a cell."""

    SET = "set"
    RESET = "reset"
    READ = "read"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Action:
    """A pulse of ``volts_v`` and ``seconds``, a reading, or a pause of ``seconds``."""

    act: Act
    volts_v: float = 0.0
    seconds: float = 0.0


READ = Action(Act.READ)


@dataclass(frozen=True, slots=True)
class Experiment:
    """Settings that all experiments share. ``over_time``: cells are only read; ``hil chip fit`` uses their ages."""

    name: ClassVar[str] = ""
    over_time: ClassVar[bool] = False

    width_s: float = setting(0.0, "length of a pulse: 100ns, 1us", low=0, high=1e3, unit="s",
                             unset=True)  # fmt: skip
    interval_s: float = setting(0.0, "pause before each pulse and reading", low=0, high=1e9, unit="s")
    reads: int = setting(1, "raw readings that are averaged into one reading", low=1, high=65535)

    def __post_init__(self) -> None:
        check_limits(self, UsageError)

    def actions(self, spec: ChipSpec) -> Iterator[Action]:
        raise NotImplementedError

    def check(self, spec: ChipSpec) -> int:
        """The number of actions, once each is known to keep the limits of the chip file."""
        limits, count, pulses = spec.limits, 0, 0
        most = {Act.SET: limits.set_v, Act.RESET: limits.reset_v}
        for one in self.actions(spec):
            count += 1
            limit = most.get(one.act)
            if limit is not None and not 0 < one.volts_v <= limit:
                raise UsageError(
                    f"a {one.act.upper()} pulse of {one.volts_v:g} V; {spec.name} takes above 0 to {limit:g} V",
                    hint=f"hil chip show {spec.source} has the limits",
                )
            if limit is not None and not 1 <= round(one.seconds * 1e9) <= limits.pulse_width_ns:
                raise UsageError(
                    f"a pulse of {one.seconds:g} s; {spec.name} takes 1 ns to {limits.pulse_width_ns * 1e-9:g} s"
                )
            pulses += limit is not None
        if pulses > (life := spec.life_pulses or pulses):
            raise UsageError(
                f"{pulses:,} pulses to each cell; {spec.name} allows a cell {life:,} in its life",
                hint=f"fewer of them, or another cost.endurance_cycles in: hil chip copy {spec.name} my.toml",
            )
        return count

    def _pulse(self, act: Act, volts_v: float, spec: ChipSpec) -> Iterator[Action]:
        yield from self._pause()
        yield Action(act, volts_v, self.width_s or spec.write.pulse_width_ns * 1e-9)

    def _pause(self) -> Iterator[Action]:
        if self.interval_s:
            yield Action(Act.WAIT, seconds=self.interval_s)


def _stairs(start_v: float, stop_v: float, step_v: float) -> list[float]:
    """Voltages from start to stop, both included: 1.2, 1.5 by 0.1 gives 1.2, 1.3, 1.4, 1.5."""
    count = math.floor(abs(stop_v - start_v) / step_v + 1e-9)
    return [round(start_v + number * math.copysign(step_v, stop_v - start_v), 9) for number in range(count + 1)]


def _voltage(words: str) -> float:
    return setting(0.0, words, low=0, high=1e3, unset=True)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Staircase(Experiment):
    """Pulses of one polarity whose voltage grows, a reading after each."""

    name: ClassVar[str] = "staircase"

    way: str = setting("set", "polarity of the pulses", choices=("set", "reset"))
    start_v: float = _voltage("first voltage")
    stop_v: float = _voltage("last voltage")
    step_v: float = _voltage("step from one voltage to the next")
    count: int = setting(1, "pulses at each voltage", low=1, high=1_000_000)

    def actions(self, spec: ChipSpec) -> Iterator[Action]:
        act, recipe = Act(self.way), spec.write
        usual = (
            (recipe.set_start_v, recipe.set_stop_v, recipe.set_step_v)
            if act is Act.SET
            else (recipe.reset_start_v, recipe.reset_stop_v, recipe.reset_step_v)
        )
        asked = (self.start_v, self.stop_v, self.step_v)
        yield READ
        for volts_v in _stairs(*(a or u for a, u in zip(asked, usual, strict=True))):
            for _ in range(self.count):
                yield from self._pulse(act, volts_v, spec)
                yield READ


@dataclass(frozen=True, slots=True)
class BipolarSweep(Experiment):
    """SET pulses up to a voltage and back, then RESET pulses likewise, each followed by a reading, in cycles."""

    name: ClassVar[str] = "sweep"

    set_v: float = _voltage("highest SET voltage")
    reset_v: float = _voltage("highest RESET voltage")
    step_v: float = _voltage("step from one voltage to the next")
    count: int = setting(1, "cycles of SET and RESET sweeps", low=1, high=1_000_000)

    def actions(self, spec: ChipSpec) -> Iterator[Action]:
        recipe = spec.write
        yield READ
        for _ in range(self.count):
            for act, top_v, step_v in (
                (Act.SET, self.set_v or recipe.set_stop_v, self.step_v or recipe.set_step_v),
                (Act.RESET, self.reset_v or recipe.reset_stop_v, self.step_v or recipe.reset_step_v),
            ):
                up = _stairs(step_v, top_v, step_v)
                for volts_v in (*up, *up[-2::-1]):
                    yield from self._pulse(act, volts_v, spec)
                    yield READ


@dataclass(frozen=True, slots=True)
class Endurance(Experiment):
    """A SET and a RESET pulse in turn, read after both in some cycles."""

    name: ClassVar[str] = "endurance"

    set_v: float = _voltage("SET voltage")
    reset_v: float = _voltage("RESET voltage")
    count: int = setting(1000, "cycles of SET and RESET", low=1, high=1_000_000_000)
    per_decade: int = setting(10, "cycles per decade whose cells are read, evenly in log(cycle)", low=1, high=1_000_000)

    def actions(self, spec: ChipSpec) -> Iterator[Action]:
        recipe, read = spec.write, _decades(self.count, self.per_decade)
        for cycle in range(1, self.count + 1):
            for act, volts_v in (
                (Act.SET, self.set_v or recipe.set_stop_v), (Act.RESET, self.reset_v or recipe.reset_stop_v),
            ):  # fmt: skip
                yield from self._pulse(act, volts_v, spec)
                if cycle in read:
                    yield READ


@dataclass(frozen=True, slots=True)
class Retention(Experiment):
    """Readings of cells that get no pulse, at times spaced evenly on a logarithmic axis."""

    name: ClassVar[str] = "retention"
    over_time: ClassVar[bool] = True

    first_s: float = setting(1.0, "time of the second reading after the first", low=1e-6, high=1e9, unit="s")
    last_s: float = setting(3600.0, "time of the last reading", low=1e-6, high=1e10, unit="s")
    per_decade: int = setting(5, "readings per decade of time", low=1, high=1000)

    def actions(self, spec: ChipSpec) -> Iterator[Action]:
        decades = math.log10(max(self.last_s / self.first_s, 1.0))
        before_s = 0.0
        yield READ
        for number in range(math.floor(decades * self.per_decade + 1e-9) + 1):
            time_s = self.first_s * 10 ** (number / self.per_decade)
            yield Action(Act.WAIT, seconds=time_s - before_s)
            yield READ
            before_s = time_s


@dataclass(frozen=True, slots=True)
class Noise(Experiment):
    """Readings of cells that get no pulse, one interval apart."""

    name: ClassVar[str] = "noise"
    over_time: ClassVar[bool] = True

    count: int = setting(100, "readings of each cell", low=2, high=1_000_000)

    def actions(self, spec: ChipSpec) -> Iterator[Action]:
        yield READ
        for _ in range(self.count - 1):
            yield from self._pause()
            yield READ


def _decades(count: int, per_decade: int) -> set[int]:
    """Numbers from 1 to ``count``, about ``per_decade`` of each decade."""
    places = range(math.floor(math.log10(count) * per_decade + 1e-9) + 1)
    return {round(10 ** (place / per_decade)) for place in places} | {count}
