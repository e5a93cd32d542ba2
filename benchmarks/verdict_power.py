"""How often is the verdict right? Two hundred runs with an effect nobody models, and two hundred without.

Each row of ``results/verdict_power.csv`` is one whole deployment of the small network of the examples:
calibration, programming, virtual chips, verdict, through the in-process wire. The unmodelled
effect is column crosstalk of the emulated chip, scaled on seeds 900-909 (``--scale``) to a mean
loss of 3 points before any row was run; seeds 0-199 are fixed. Promised: "disagree" in 95 % of the
runs with it, and in 5 % at most of the runs without.

    python benchmarks/verdict_power.py --scale 0.15        # mean loss of a crosstalk; writes the scale file
    python benchmarks/verdict_power.py                     # complete the table, print the summary
    python benchmarks/verdict_power.py --seeds 0-9 --workers 2
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "verdict_power.csv"
SCALE = RESULTS / "verdict_power_scale.json"
NETWORK = Path(__file__).parent.parent / "examples" / "networks" / "fashion_small.pt"
MACROS = 8
SEEDS = range(200)
SCALE_SEEDS = range(900, 910)
FIELDS = (
    "seed",
    "column_crosstalk",
    "verdict",
    "images",
    "ideal",
    "simulated",
    "measured",
    "difference",
    "low90",
    "high90",
)


def crosstalk() -> float:
    """The effect, as ``--scale`` found it.

    Raises:
        SystemExit: it was not scaled yet.
    """
    if not SCALE.exists():
        raise SystemExit("scale the effect first: python benchmarks/verdict_power.py --scale 0.15")
    return float(json.loads(SCALE.read_text("utf-8"))["column_crosstalk"])


def deploy_once(seed: int, effect: float) -> dict[str, object]:
    """One deployment as a row."""
    import tempfile

    from hil.deployment import DeployOptions, deploy

    address = f"emulated:lab-128?seed={seed}&macros={MACROS}&column_crosstalk={effect:g}"
    with tempfile.TemporaryDirectory() as folder:
        options = DeployOptions(seed=seed, causes=False)
        report = deploy(NETWORK, address, macros=MACROS, out=Path(folder) / "run", options=options)
    j = report.decisive
    return {
        "seed": seed,
        "column_crosstalk": effect,
        "verdict": j.verdict.value,
        "images": j.n,
        "ideal": round(j.ideal.mean, 5),
        "simulated": round(j.simulated.mean, 5),
        "measured": round(j.measured.mean, 5),
        "difference": round(j.difference, 5),
        "low90": round(j.interval90[0], 5),
        "high90": round(j.interval90[1], 5),
    }


def read_table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def append(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            file.write("# python benchmarks/verdict_power.py   (emulated chips, NOT SILICON)\n")
            writer.writeheader()
        writer.writerow(row)


def run_all(jobs: list[tuple[int, float]], workers: int) -> Iterator[dict[str, object]]:
    with ProcessPoolExecutor(workers) as pool:
        for done in as_completed([pool.submit(deploy_once, *job) for job in jobs]):
            yield done.result()


def summary(rows: list[dict[str, str]]) -> dict[str, object]:
    """Shares of "disagree" with the effect and without."""
    plain = [r for r in rows if float(r["column_crosstalk"]) == 0]
    hit = [r for r in rows if float(r["column_crosstalk"]) > 0]
    return {
        "benchmark": "verdict_power",
        "without": {"runs": len(plain), "disagree": sum(r["verdict"] == "disagree" for r in plain)},
        "with": {"runs": len(hit), "disagree": sum(r["verdict"] == "disagree" for r in hit)},
        "mean_difference_with": sum(float(r["difference"]) for r in hit) / max(1, len(hit)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0-199")
    parser.add_argument("--scale", type=float)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.scale is not None:
        jobs = [(seed, options.scale) for seed in SCALE_SEEDS]
        rows = sorted(run_all(jobs, options.workers), key=lambda r: int(str(r["seed"])))
        losses = [-float(str(r["difference"])) for r in rows]
        answer = {
            "command": f"python benchmarks/verdict_power.py --scale {options.scale}",
            "column_crosstalk": options.scale,
            "mean_loss": round(sum(losses) / len(losses), 5),
            "losses": losses,
        }
        SCALE.write_text(json.dumps(answer) + "\n", "utf-8")
        print(json.dumps(answer))
        return
    first, _, last = options.seeds.partition("-")
    there = {(int(r["seed"]), float(r["column_crosstalk"])) for r in read_table(TABLE)}
    wanted = [(seed, e) for seed in range(int(first), int(last or first) + 1) for e in (0.0, crosstalk())]
    for row in run_all([job for job in wanted if job not in there], options.workers):
        append(TABLE, row)
        print(json.dumps(row), flush=True)
    print(json.dumps(summary(read_table(TABLE))))


if __name__ == "__main__":
    main()
