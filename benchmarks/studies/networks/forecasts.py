"""Time left, as runs at steady load say it, beside the time that they took.

Each run is a command of ``hil`` in a process and a folder of its own; whatever its screen would say of the whole is
noted at every stage and step. *At the start* is the first forecast after the stages were planned. ``wrong by`` is the
larger of forecast over truth and truth over forecast, both of the time that was left.

A machine that others use is never at steady load. So a run has one core, and its clock is its own processor time.

    python benchmarks/studies.py forecasts            # 4 CPU minutes; goes on where it stopped
    python benchmarks/studies.py forecasts --table
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cached_rows import cache_row, cached_rows, made_by

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results" / "forecasts.jsonl"
MOBILE = ROOT / "examples/networks/mobilenet_fmnist.pt"
EUROSAT = ROOT / "examples/searches/eurosat/networks/bedf875d/net.pt"
RUNS = (
    "deploy --emulated --samples 500 --repeat 2 --no-causes",
    "deploy --emulated --samples 300 --repeat 2 --no-causes --without copies",
    "deploy --emulated --samples 300 --repeat 1 --no-causes --mode fast --without copies",
    "deploy --emulated --samples 200 --repeat 3 --no-causes --without tune --without copies",
    f"deploy {EUROSAT} --emulated --macros 16 --data eurosat --samples 30 --repeat 2 --no-causes --without copies",
    "simulate --samples 500 --chips 8",
    "simulate --samples 2000 --chips 4 --mode fast --age 1h,1d",
    "simulate --samples 1000 --chips 6 --without tune",
    f"simulate {MOBILE} --data fashion-mnist --samples 60 --chips 4 --mode fast",
    f"simulate {EUROSAT} --macros 16 --data eurosat --samples 60 --chips 4",
)
POINTS = (0.0, 0.1, 0.5)  # of the time that was left at the start
RIGHT = 1.5


def followed(words: list[str]) -> None:
    """Run one command and print what was said of the time left: seconds since planning, seconds left."""
    os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
    os.cpu_count = lambda: 1  # type: ignore[assignment]

    import hil.watch
    from hil.__main__ import main as command
    from hil.report.terminal.screen import Screen

    hil.watch.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment]

    said: list[tuple[float, float | None]] = []

    def note(screen: Screen) -> None:
        if screen.job is not None:
            now = time.process_time()
            left = screen.job.left_s(screen.stages[0] if screen.stages else None, now)
            said.append((now - began[-1] if began else 0.0, left))

    began: list[float] = []
    planned = Screen.plan

    def plan(screen: Screen, stages: Any) -> None:
        planned(screen, stages)
        began[:] = began or [time.process_time()]
        note(screen)

    for name in ("begin", "moved", "end"):
        usual = getattr(Screen, name)

        def then(screen: Screen, *given: Any, usual: Any = usual) -> None:
            usual(screen, *given)
            note(screen)

        setattr(Screen, name, then)
    Screen.plan = plan  # type: ignore[method-assign]
    timings: dict[str, float] = {}
    ended = Screen.__exit__

    def leave(screen: Screen, *given: Any) -> None:
        timings.update(screen.timing_s)
        if began:
            said.append((time.process_time() - began[0], 0.0))
        ended(screen, *given)

    Screen.__exit__ = leave  # type: ignore[method-assign,assignment]
    sys.argv = ["hil", *words]
    with contextlib.suppress(SystemExit):
        command()
    print(json.dumps({"said": said, "timings": timings, "cpu_s": time.process_time()}))


def row_of(line: str) -> dict[str, Any]:
    """What one run said at the points of its time."""
    words = [sys.executable, __file__, "--one", *shlex.split(line)]
    with tempfile.TemporaryDirectory() as folder:
        got = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    try:
        told = json.loads(got.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise SystemExit(f"hil {line}:\n{got.stderr}") from None
    whole_s = told["said"][-1][0]
    row = {"run": line.replace(f"{ROOT}/", ""), "took_s": round(whole_s, 1), "cpu_s": round(told["cpu_s"], 1)}
    for point in POINTS:
        at_s, left_s = next(pair for pair in told["said"] if pair[0] >= point * whole_s)
        row[f"left_at_{point:g}"] = None if left_s is None else round(left_s, 2)
        row[f"truth_at_{point:g}"] = round(whole_s - at_s, 2)
    return {**row, "timings_s": {name: round(value, 2) for name, value in told["timings"].items()}}


def wrong_by(row: dict[str, Any], point: float) -> float | None:
    left_s, truth_s = row[f"left_at_{point:g}"], row[f"truth_at_{point:g}"]
    return None if left_s is None or min(left_s, truth_s) <= 0 else max(left_s / truth_s, truth_s / left_s)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| run | took, s | at the start | after a tenth | after half |", "| --- | ---: | ---: | ---: | ---: |"]
    factors = [[wrong_by(row, point) for point in POINTS] for row in rows]
    for row, wrong in zip(rows, factors, strict=True):
        cells = [
            "not told" if factor is None else f"{row[f'left_at_{point:g}']:.0f} s, wrong by {factor:.2f}"
            for point, factor in zip(POINTS, wrong, strict=True)
        ]
        lines.append(f"| `hil {row['run']}` | {row['took_s']} | {' | '.join(cells)} |")
    right = [sum(factor is not None and factor <= RIGHT for factor in column) for column in zip(*factors, strict=True)]
    lines.append(f"| right within {RIGHT} | | {' | '.join(f'{n} of {len(rows)}' for n in right)} |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        followed(sys.argv[2:])
        return
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, default=RESULTS)
    ask.add_argument("--table", action="store_true")
    ask.add_argument("--only", type=int, nargs="*", help="runs by their place, from 0")
    given = ask.parse_args()
    rows = cached_rows(given.out)
    done = {row["run"] for row in rows}
    for number, line in enumerate(RUNS):
        if given.table or line.replace(f"{ROOT}/", "") in done or (given.only and number not in given.only):
            continue
        rows.append({**row_of(line), **({} if os.environ.get("TRY") else made_by())})
        cache_row(given.out, rows[-1])
    print(table(rows))


if __name__ == "__main__":
    main()
