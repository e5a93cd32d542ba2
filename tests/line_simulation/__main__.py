"""Bad lines and failing boards in virtual time, for whoever works on the protocol.

    python -m tests.line_simulation --seed N --minutes M --cover

The chip's end is the Python role or the C firmware, the host's end the driver (``hil.driver``) or a host that asks all
that the protocol allows. Exit code 1 where something did not hold, and with ``--cover`` also where a day of line,
10,000 requests, 1,000 faults of a kind or 20 of what else is to be met (runs resumed, keys proved, …) were not reached
in three times as long (a slow machine goes on until they are), or a transfer fell below its floor of throughput
(70,000 frames each way among them, whose numbers wrap).
``--episode K`` replays one episode of the seed and prints its events.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.line_simulation.ends import Ends
from tests.line_simulation.firmware_floor import below_firmware_floor
from tests.line_simulation.floors import below_floors
from tests.line_simulation.seen import Met
from tests.line_simulation.simulation import SimulationResult, run_episode, run_simulation, source_digest

COMMAND = "python -m tests.line_simulation"
TO_COVER = 3  # times the minutes that were asked for, on a slow machine


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that happens")
    parser.add_argument("--minutes", type=float, default=1.0, help="CPU time of the simulation, minutes")
    parser.add_argument("--episode", type=int, help="replay this episode of the seed, with its events")
    parser.add_argument("--ends", choices=[pair.name.lower() for pair in Ends], help="host and chip role; else in turn")
    parser.add_argument(
        "--cover", action="store_true", help="exit code 1 also where less is covered than a minute covers"
    )
    asked = parser.parse_args(arguments)
    ends = tuple(Ends) if asked.ends is None else (Ends[asked.ends.upper()],)
    if asked.episode is not None:
        broken = run_episode(asked.seed, asked.episode, print, ends=ends).broken
        print(broken or "all held")
        return int(bool(broken))
    if not asked.minutes > 0:
        parser.error(f"--minutes {asked.minutes:g} is not more than 0")
    slow = [*below_floors(), *below_firmware_floor()] if asked.cover else []
    most = TO_COVER if asked.cover else 1
    found = run_simulation(asked.seed, 60.0 * asked.minutes, clock=time.process_time, ends=ends, to_cover=most)
    print("\n".join([*slow, *_lines(found)]))
    return int(bool(slow or found.failed or (asked.cover and found.short)))


def _lines(found: SimulationResult) -> list[str]:
    lines = [
        f"seed {found.seed}, sources {source_digest()}: {found.episodes} episodes, {found.cpu_s:.0f} s of CPU time",
        f"{found.open_s / 86400:.2f} days of line with a request open, {found.requests:,} requests, "
        f"{found.steps:,} steps",
        *(f"  {kind.value}: {times:,}" for kind, times in found.faults.items()),
        *(f"  {what.value}: {found.met[what]:,}" for what in Met),
        f"chip reset in {len(found.resets)} of {len(found.states)} states of both ends; one end held "
        f"{found.most_held_bytes:,} bytes at most",
        *(f"a full minute covers more: {text}" for text in found.short),
    ]
    for number, text in found.failed:
        of = f" --ends {found.ends[0].name.lower()}" if len(found.ends) == 1 else ""
        lines += [f"episode {number}: {text}", f"  replay  {COMMAND} --seed {found.seed} --episode {number}{of}"]
    return lines if found.failed else [*lines, "all held"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
