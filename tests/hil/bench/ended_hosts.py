"""Hosts of a bench that end at random instants, and when its outputs went off, measured at the instrument.

Stand-ins and hosts are processes of their own; ``time.monotonic_ns`` is one clock for all of this machine.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENDS = ("kill", "interrupt", "exception", "silence")
HOST = Path(__file__).with_name("working_host.py")
_WAIT_S = 60.0


@dataclass(frozen=True)
class EndedHost:
    """How long outputs stayed on behind the end of a host, s; 0 where they were off already."""

    how: str
    stayed_on_s: float
    why: str  # what turned them off, as the instrument says


@contextlib.contextmanager
def standing_in(bench: Path) -> Iterator[Path]:
    """``hil emulate --bench`` of a file; gives the log of its outputs."""
    log = bench.with_name("outputs.csv")
    command = [sys.executable, "-m", "hil", "emulate", "--bench", str(bench), "--outputs-log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_WAIT_S)


def end_a_host(bench: Path, log: Path, how: str, rng: random.Random) -> EndedHost:
    """Start a host, end it at a random instant of its work, and wait until the instrument's outputs are off."""
    after_s = rng.uniform(0.05, 0.6)
    asked = f"exception:{after_s}" if how == "exception" else how
    host = subprocess.Popen(
        [sys.executable, str(HOST), str(bench), asked], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert host.stdout is not None
    assert host.stdout.readline().strip() == "working"
    if how == "exception":
        host.wait(_WAIT_S)
        ended_ns = time.monotonic_ns()
    else:
        time.sleep(after_s)
        ended_ns = time.monotonic_ns()
        # A host that is stopped sends no byte more, and nobody is told: as with a cable pulled.
        host.send_signal({"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "silence": signal.SIGSTOP}[how])
        if how != "silence":
            host.wait(_WAIT_S)
    at_ns, why = _off(log)
    if how == "silence":
        host.kill()
        host.wait(_WAIT_S)
    return EndedHost(how, max(0.0, (at_ns - ended_ns) / 1e9), why)


def _off(log: Path) -> tuple[int, str]:
    """When the outputs went off last, and why; waits until they are."""
    until_s = time.monotonic() + _WAIT_S
    while True:
        lines = log.read_text().splitlines()
        last = lines[-1].split(",") if lines else ["0", "", "off", "never on"]
        if len(last) == 4 and last[2] == "off":
            time.sleep(0.05)
            if log.read_text().splitlines() == lines:
                return int(last[0]), last[3]
        if time.monotonic() > until_s:
            raise TimeoutError(f"outputs are on after {_WAIT_S:g} s: {lines[-3:]}")
        time.sleep(0.01)
