"""The suite: which checks there are, how they are run, what they leave."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cim.chip.spec import ChipSpec
from firmware_protocols.errors import ProtocolError
from hil.driver.keys import HostKey, find_key
from hil.driver.selftest import chip_checks, frame_checks, kept_checks, message_checks
from hil.driver.selftest.bench import Bench, CheckFailed, CheckSkipped, NotThere
from hil.errors import HilError
from hil.transports import DEFAULT_BAUD, line_opener

SCHEMA = "hil.selftest/1.1"  # 1.1: an outcome "not there"


class CheckOutcome(enum.StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_THERE = "not there"  # the chip lacks what the check needs, and may
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check on one chip; ``text`` says what was seen, or why it failed or was left out."""

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

    @property
    def passed(self) -> bool:
        return all(r.outcome is not CheckOutcome.FAILED for r in self.results)

    def lines(self) -> list[str]:
        rows = [f"{r.outcome:<9} {r.group:<9} {r.name:<58} {r.text}" for r in self.results]
        count = {o: sum(r.outcome is o for r in self.results) for o in CheckOutcome}
        said = ", ".join(f"{n} {o}" for o, n in count.items())
        return [f"chip      {self.firmware} at {self.address}", *rows, f"{said}"]

    def to_json(self) -> dict[str, Any]:
        checks = [
            {"group": r.group, "name": r.name, "outcome": r.outcome.value, "text": r.text, "seconds": r.seconds}
            for r in self.results
        ]
        return {"selftest": SCHEMA, "address": self.address, "firmware": self.firmware, "checks": checks}


Check = Callable[[Bench], str]
"""Gives what it saw; raises ``CheckFailed`` or ``CheckSkipped``. Its docstring is its name."""

GROUPS: dict[str, tuple[Check, ...]] = {
    "frames": frame_checks.CHECKS,
    "messages": message_checks.CHECKS,
    "journal": kept_checks.JOURNAL,
    "authority": kept_checks.AUTHORITY,
    "limits": chip_checks.LIMITS,
    "digital": chip_checks.DIGITAL,
    "physics": chip_checks.PHYSICS,
}


def run_suite(
    address: str,
    spec: ChipSpec | None = None,
    *,
    groups: Iterable[str] = tuple(GROUPS),
    baud: int = DEFAULT_BAUD,
    key: HostKey | None = None,
) -> SelfTest:
    """Run the checks of some groups on the chip at ``address``; cells of macro 0 are overwritten.

    ``key``: of a chip that wants one; None takes that of the environment, if any.

    Raises:
        HilError: the chip cannot be opened at all.
    """
    key = key or find_key()
    bench = Bench(address, line_opener(address, baud=baud), spec, key)
    with bench.driver() as driver:
        spec = driver.spec
    return run_on(Bench(address, bench.open, spec, key), groups)


def run_on(bench: Bench, groups: Iterable[str] = tuple(GROUPS)) -> SelfTest:
    """The same on a chip whose line and description are known."""
    with bench.driver() as driver:
        firmware = driver.description.firmware
    return SelfTest(bench.address, firmware, tuple(_results(bench, groups)))


def check_name(check: Check) -> str:
    return (check.__doc__ or check.__name__).strip().rstrip(".")


def _results(bench: Bench, groups: Iterable[str]) -> Iterator[CheckResult]:
    for group in groups:
        for check in GROUPS[group]:
            yield run_check(group, check, bench)


def run_check(group: str, check: Check, bench: Bench) -> CheckResult:
    start_s = time.monotonic()
    try:
        outcome, text = CheckOutcome.PASSED, check(bench)
    except NotThere as reason:
        outcome, text = CheckOutcome.NOT_THERE, str(reason)
    except CheckSkipped as reason:
        outcome, text = CheckOutcome.SKIPPED, str(reason)
    except (CheckFailed, HilError, ProtocolError, TimeoutError) as error:
        outcome, text = CheckOutcome.FAILED, str(error).splitlines()[0][:300]
    return CheckResult(group, check_name(check), outcome, text, time.monotonic() - start_s)
