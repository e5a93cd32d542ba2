"""The suite of checks: their groups, how they are run, and their results."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cim.chip.spec import ChipSpec
from firmware_protocols.errors import LinkFailed, ProtocolError
from hil.driver.keys import HostKey, find_key
from hil.driver.selftest import (
    address_checks,
    digital_checks,
    frame_checks,
    limit_checks,
    message_checks,
    nonvolatile_checks,
    physics_checks,
    power_checks,
    safety_checks,
)
from hil.driver.selftest.line import UNJUDGED_S, Bench, CheckFailed, NotThere, NotTried
from hil.errors import HilError, LinkError, PortError
from hil.pages.tables import Table
from hil.transports import line_opener
from hil.watch import Watch

SCHEMA = "hil.selftest/1.2"  # 1.1: an outcome "not there"; 1.2: "not tried" in place of "skipped", interrupted


class CheckOutcome(enum.StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_THERE = "not there"  # the chip lacks what the check needs, and may
    NOT_TRIED = "not tried"  # here, or today; the text says what it takes


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check on one chip; ``text``: the observation, or why the check failed or was not made."""

    group: str
    name: str
    outcome: CheckOutcome
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All results of one chip."""

    address: str
    firmware: str
    results: tuple[CheckResult, ...]
    interrupted: bool = False  # some checks were not tried because somebody ended it
    out_of_time: bool = False  # or because the time was up

    @property
    def passed(self) -> bool:
        return all(r.outcome is not CheckOutcome.FAILED for r in self.results)

    def lines(self) -> list[str | Table]:
        rows = tuple((str(r.outcome), r.group, r.name, r.text) for r in self.results)
        count = {o: sum(r.outcome is o for r in self.results) for o in CheckOutcome}
        said = ", ".join(f"{n} {o}" for o, n in count.items())
        return [f"chip      {self.firmware} at {self.address}", Table("Checks", ("", "", "", ""), rows), said]

    def to_json(self) -> dict[str, Any]:
        checks = [
            {"group": r.group, "name": r.name, "outcome": r.outcome.value, "text": r.text, "seconds": r.seconds}
            for r in self.results
        ]
        return {
            "selftest": SCHEMA,
            "address": self.address,
            "firmware": self.firmware,
            "interrupted": self.interrupted,
            "checks": checks,
        }


Check = Callable[[Bench], str]
"""Gives what it saw; raises ``CheckFailed`` or ``NotTried``. Its docstring is its name."""

GROUPS: dict[str, tuple[Check, ...]] = {
    "frames": frame_checks.CHECKS,
    "messages": message_checks.CHECKS,
    "limits": limit_checks.LIMITS,
    "addresses": address_checks.ADDRESSES,
    "digital": digital_checks.DIGITAL,
    "physics": physics_checks.PHYSICS,
    "safety": safety_checks.SAFETY,
    "journal": nonvolatile_checks.JOURNAL,
    "authority": nonvolatile_checks.AUTHORITY,
    "silence": safety_checks.SILENCE,
    "power": power_checks.POWER,
}
WITHIN_S = 900.0  # all of it
OUT_OF_TIME = "the time was up"
DEAD_AFTER = 3  # checks in a row that find nobody: the others are not tried


def run_suite(
    address: str,
    spec: ChipSpec | None = None,
    *,
    groups: Iterable[str] = tuple(GROUPS),
    key: HostKey | None = None,
    cut_power: Callable[[], None] | None = None,
    within_s: float = WITHIN_S,
    watch: Watch | None = None,
) -> SelfTest:
    """Run the checks of some groups on the chip at ``address``; cells of some macros are overwritten.

    Args:
        key: key of a chip with authority; None: that of the environment, if any.
        cut_power: cuts and restores the chip's power; None: checks that need it are not made.
        within_s: checks that have not begun by then are not made.
        watch: told the progress.

    Raises:
        HilError: the chip cannot be opened at all.
    """
    key = key or find_key()
    bench = Bench(address, line_opener(address), spec, key, cut_power)
    with bench.driver() as driver:
        spec = driver.spec
    return run_on(replace(bench, known=spec), groups, within_s=within_s, watch=watch)


def run_on(
    bench: Bench, groups: Iterable[str] = tuple(GROUPS), *, within_s: float = WITHIN_S, watch: Watch | None = None
) -> SelfTest:
    """Run the checks on a chip whose line and description are known; Ctrl-C ends them and keeps the findings."""
    with bench.driver(silence_s=UNJUDGED_S) as driver:
        firmware = driver.description.firmware
    checks = [(group, check) for group in GROUPS if group in set(groups) for check in GROUPS[group]]
    results, interrupted, late = list[CheckResult](), False, False
    watch = watch or Watch()
    try:
        with watch.stage("checks"):
            for result in _results(bench, checks, time.monotonic() + within_s):
                results.append(result)
                late |= result.text == OUT_OF_TIME
                watch.step(len(results), len(checks), result.name)
    except KeyboardInterrupt:
        interrupted = True
        results += [_not_tried(*left, "interrupted") for left in checks[len(results) :]]
    return SelfTest(bench.address, firmware, tuple(results), interrupted, late)


def check_name(check: Check) -> str:
    return (check.__doc__ or check.__name__).strip().rstrip(".")


def _not_tried(group: str, check: Check, why: str) -> CheckResult:
    return CheckResult(group, check_name(check), CheckOutcome.NOT_TRIED, why, 0.0)


def _results(bench: Bench, checks: list[tuple[str, Check]], until_s: float) -> Iterator[CheckResult]:
    nobody = 0
    for group, check in checks:
        if time.monotonic() > until_s:
            yield _not_tried(group, check, OUT_OF_TIME)
        elif nobody >= DEAD_AFTER:
            yield _not_tried(group, check, f"nobody answered {DEAD_AFTER} checks before")
        else:
            result, found = _run(group, check, bench)
            nobody = 0 if found else nobody + 1
            yield result


def _run(group: str, check: Check, bench: Bench) -> tuple[CheckResult, bool]:
    """Run one check: its result, and whether the chip still answered."""
    start_s, there = time.monotonic(), True
    try:
        outcome, text = CheckOutcome.PASSED, check(bench)
    except NotThere as reason:
        outcome, text = CheckOutcome.NOT_THERE, str(reason)
    except NotTried as reason:
        outcome, text = CheckOutcome.NOT_TRIED, str(reason)
    except (CheckFailed, HilError, ProtocolError, TimeoutError, OSError) as error:
        outcome, text = CheckOutcome.FAILED, str(error).splitlines()[0][:300]
        there = not isinstance(error, LinkError | PortError | LinkFailed | TimeoutError | OSError)
    return CheckResult(group, check_name(check), outcome, text, time.monotonic() - start_s), there
