"""Hosts of a bench ended at random instants, and how long its outputs stayed on, measured at the instrument.

The stand-in of the digital board is a process of its own and notes each switching of its outputs. A host is killed,
interrupted, ends by an exception, or falls silent (stopped, as with a cable pulled). Exit code 1 where outputs stayed
on longer than the bench file allows, and ``--late`` beyond.

    python benchmarks/studies.py ended-hosts [--times 200] [--late 0.1] [--without-timer]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from hil.server.bench.bench_file import load_bench
from tests.hil.bench.benches import write_bench
from tests.hil.bench.ended_hosts import ENDS, end_a_host, standing_in
from tests.hil.bench.test_ended_hosts import write_timerless


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=200, help="hosts of each kind of end")
    options.add_argument("--late", type=float, default=0.1, help="s beyond the time of the bench file")
    options.add_argument("--without-timer", action="store_true", help="a board whose guard is a process; kills only")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    late = 0
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        bench = write_timerless(where) if asked.without_timer else write_bench(where, port=str(where / "board"))
        file = load_bench(bench)
        within_s = file.off_within_s + file.instruments["board"].model.settle_s
        with standing_in(bench) as log:
            for how in ("kill", "interrupt", "exception") if asked.without_timer else ENDS:
                rng = random.Random(f"{asked.seed} {how}")
                found = [end_a_host(bench, log, how, rng) for _ in range(asked.times)]
                stayed_s = [one.stayed_on_s for one in found]
                beyond = sum(s > within_s + asked.late for s in stayed_s)
                late += beyond
                by = ", ".join(f"{sum(one.why == why for one in found)} by {why}" for why in ("order", "timer"))
                print(
                    f"{how:<10} {len(found)} hosts: outputs off in all, {by}; stayed on median "
                    f"{statistics.median(stayed_s):.3f} s, longest {max(stayed_s):.3f} s, allowed {within_s:.3f} s; "
                    f"{beyond} later",
                    flush=True,
                )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
