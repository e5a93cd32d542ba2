"""Hosts that end while outputs are on, and how long these stayed on, measured at the instrument; by whom they went off.

Hosts before frames, a VISA station, a digital board, a B1500A and an ArC TWO are killed, lose their lines, end by an
exception or by Ctrl-C, at random instants behind the event that outputs went on; those that found them off again are
counted by themselves, and others take their places. ``--silence`` adds hosts that stand still. Exit code 1 where
outputs stayed on longer than ``--within``.

    python benchmarks/studies.py ended-hosts [--times 50] [--kinds row-board,b1500a] [--ends kill] [--silence]
"""

from __future__ import annotations

import argparse
import collections
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.hil.bench.ended_hosts import ENDS, KINDS, SILENCE, end_a_host, standing_in

OFF_WITHIN_S = 0.51  # of the board's timer, and its switches
MOST_TRIES = 8  # hosts for each that is to find outputs on
LINE = "{:<13} {:<11} {:>8} {:>11} {:>4} {:>9} {:>10}  {}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=50, help="hosts of each kind of end before each bench")
    options.add_argument("--kinds", default=",".join(KINDS))
    options.add_argument("--ends", default=",".join(ENDS), help="ways to end")
    options.add_argument("--silence", action="store_true", help="hosts that stand still, too")
    options.add_argument("--within", type=float, default=OFF_WITHIN_S, help="s that outputs may stay on")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    late = 0
    print(
        LINE.format("before", "end", "found on", "found off", "off", "median s", "longest s", "switched off by"),
        flush=True,
    )
    for kind in asked.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder, standing_in(kind, Path(folder)) as standing:
            ends = [*asked.ends.split(","), *[SILENCE] * (asked.silence and kind == "row-board")]
            for how in ends:
                rng = random.Random(f"{asked.seed} {kind} {how}")
                found, others = [], 0
                while len(found) < asked.times and others < MOST_TRIES * asked.times:
                    one = end_a_host(standing, how, rng)
                    found += [one] * one.were_on
                    others += not one.were_on
                stayed_s = [one.stayed_on_s for one in found]
                late += sum(s > asked.within for s in stayed_s)
                by = collections.Counter(one.by for one in found)
                said = ", ".join(f"{who} {n}" for who, n in by.most_common())
                times = f"{statistics.median(stayed_s or [0.0]):.3f}", f"{max(stayed_s, default=0.0):.3f}"
                print(LINE.format(kind, how, len(found), others, len(found), *times, said), flush=True)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
