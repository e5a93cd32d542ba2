"""How often the verdict of each task's metric is right, on synthetic chips.

Every sample has ideal outputs; a chip has errors of its own, the same in every read, and noise in each read. One chip
of a pool is the real one, others are its virtual chips: the belief is correct. In the other half of the runs the real
chip has a further error, sized once beforehand on other chips so that it costs three tolerances. Outputs, targets and
scores go through ``hil.verdict.tasks`` as those of a real run do.

    python benchmarks/studies.py task-verdicts              # every metric, prints rows of docs/nomenclature.md
    python benchmarks/studies.py task-verdicts --runs 5 --metrics iou,squared-error
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.files import write_text
from hil.verdict.statistics import planned_looks
from hil.verdict.tasks.task import Task
from hil.verdict.verdict import Mode, Verdict, judge
from mapping.network.graph import Output
from mapping.network.task import TaskKind

RESULTS = Path(__file__).parents[2] / "results" / "task_verdicts.json"
CHIPS, REPEATS, VIRTUAL = 24, 3, 20
SAMPLES, LARGEST = 1600, 1000  # of the population; of one run
OWN, READ = 0.12, 0.08  # standard deviations of a chip's own error and of one read
SIDE = 8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A metric on made-up samples: ideal outputs (samples, width) and targets."""

    task: Task
    outputs: Floats
    targets: NDArray[np.generic]
    tolerance: float


def task(kind: TaskKind, metric: str, *shapes: tuple[int, ...]) -> Task:
    outputs = [Output(f"o{n}", shape) for n, shape in enumerate(shapes)]
    return Task.of(kind, metric=metric, image=(1, SIDE, SIDE), outputs=outputs)


def masks(metric: str) -> Case:
    """Discs in 8 x 8 pixels, two classes; logits of about the right sign."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIDE, :SIDE]
    middle, radius = rng.uniform(1, 7, (2, SAMPLES, 1, 1)), rng.uniform(1.5, 3.5, (SAMPLES, 1, 1))
    inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
    logits = 0.45 * (radius**2 - (y - middle[0]) ** 2 - (x - middle[1]) ** 2) / radius
    logits += rng.normal(0, 0.25, logits.shape)
    return Case(
        task(TaskKind.SEGMENT, metric, (1, SIDE, SIDE)), logits.reshape(SAMPLES, -1), inside.astype(np.uint8), 0.01
    )


def values(metric: str) -> Case:
    """Four numbers a sample; the network errs by 0.3."""
    rng = np.random.default_rng(2)
    targets = rng.normal(0, 1, (SAMPLES, 4))
    outputs = targets + rng.normal(0, 0.3, targets.shape)
    return Case(task(TaskKind.REGRESS, metric, (4,)), outputs, targets, {"squared-error": 0.01}.get(metric, 0.015))


def steps(metric: str) -> Case:
    """Twelve steps of four classes."""
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 4, (SAMPLES, 12))
    logits = np.eye(4)[targets] + rng.normal(0, 0.5, (SAMPLES, 12, 4))
    return Case(task(TaskKind.SEQUENCE, metric, (12, 4)), logits.reshape(SAMPLES, -1), targets, 0.01)


def odd_ones(metric: str) -> Case:
    """Samples of 64 numbers that come again; one in five is odd and comes again worse."""
    rng = np.random.default_rng(4)
    inputs, odd = rng.normal(0, 1, (SAMPLES, SIDE * SIDE)), rng.random(SAMPLES) < 0.2
    outputs = inputs + rng.normal(0, 0.3, inputs.shape) * np.where(odd, rng.uniform(0.95, 1.35, SAMPLES), 1.0)[:, None]
    return Case(
        task(TaskKind.AUTOENCODE, metric, (SIDE * SIDE,)), outputs, np.column_stack([inputs, odd.astype(float)]), 0.01
    )


def boxes(metric: str) -> Case:
    """One to three boxes of two classes in 8 x 8 pixels, six candidates."""
    rng = np.random.default_rng(5)
    targets = np.full((SAMPLES, 3, 5), -1.0)
    corners, logits = np.zeros((SAMPLES, 6, 4)), np.full((SAMPLES, 6, 2), -2.5)
    count = rng.integers(1, 4, SAMPLES)
    for n in range(3):
        here = np.flatnonzero(count > n)
        low, size = rng.uniform(0, 5, (len(here), 2)), rng.uniform(2, 3.5, (len(here), 2))
        kind = rng.integers(0, 2, len(here))
        targets[here, n] = np.column_stack([kind, low, low + size])
        corners[here, n] = targets[here, n, 1:] + rng.normal(0, 0.15, (len(here), 4))
        logits[here, n, kind] = rng.normal(0.8, 0.8, len(here))
    low = rng.uniform(0, 5, (SAMPLES, 3, 2))
    corners[:, 3:] = np.concatenate([low, low + rng.uniform(2, 3.5, low.shape)], axis=2)
    logits[:, 3:, 0] = rng.normal(-1.5, 0.8, (SAMPLES, 3))
    outputs = np.hstack([corners.reshape(SAMPLES, -1), logits.reshape(SAMPLES, -1)])
    return Case(task(TaskKind.DETECT, metric, (6, 4), (6, 2)), outputs, targets, 0.02)


CASES: dict[str, Callable[[str], Case]] = {
    "iou": masks, "pixel-accuracy": masks, "mean-iou": masks, "squared-error": values, "absolute-error": values,
    "step-accuracy": steps, "auc": odd_ones, "map50": boxes, "map": boxes,
}  # fmt: skip


def answers(case: Case, chip: int, further: float) -> NDArray[np.generic]:
    """Scores or evidence of one chip, (repeats, samples, …); ``further`` is the size of the unmodelled error.

    It has one direction in each sample: half random, half towards zero, as saturation has.
    """
    rng = np.random.default_rng([7, chip])
    own = rng.normal(0, OWN, case.outputs.shape)
    lost = further * (np.random.default_rng(8).normal(0, 1, case.outputs.shape) - 0.5 * case.outputs)
    reads = [case.outputs + own + lost + rng.normal(0, READ, case.outputs.shape) for _ in range(REPEATS)]
    return case.task.scores(np.stack(reads).astype(np.float32), case.targets)


def sized(case: Case) -> float:
    """The further error that costs three tolerances on a chip of its own, by halving."""
    sign = 1 if case.task.metric.greater else -1
    usual = float(case.task.totals(answers(case, 1000, 0.0)).mean())
    low, high = 0.0, 4.0
    for _ in range(14):
        middle = (low + high) / 2
        lost = sign * (usual - float(case.task.totals(answers(case, 1000, middle)).mean()))
        low, high = (low, middle) if lost > 3 * case.tolerance else (middle, high)
    return (low + high) / 2


def study(metric: str, runs: int, tolerance: float | None = None) -> dict[str, object]:
    """Verdicts of so many runs with a correct belief and as many with an unmodelled loss of three tolerances."""
    case = CASES[metric](metric)
    if tolerance is not None:
        case = replace(case, tolerance=tolerance / case.task.metric.factor)
    further = sized(case)
    pool = [answers(case, chip, 0.0) for chip in range(CHIPS)]
    ideal = case.task.scores(case.outputs.astype(np.float32), case.targets)
    found = {}
    for name, size in (("correct", 0.0), ("lost", further)):
        words: Counter[str] = Counter()
        used, gaps = [], []
        for run in range(runs):
            rng = np.random.default_rng([9, run])
            real, *others = rng.permutation(CHIPS)
            chip = answers(case, int(real), size) if size else pool[real]
            verdict, n, gap = judged(case, chip, [pool[k] for k in others[:VIRTUAL]], ideal, rng)
            words[verdict.value] += 1
            used.append(n)
            gaps.append(gap)
        counts = {word.value: words[word.value] for word in Verdict}
        found[name] = {**counts, "samples": round(float(np.mean(used))), "difference": float(np.mean(gaps))}
    about = case.task.metric
    return {"metric": metric, "unit": about.unit, "tolerance": case.tolerance * about.factor, "runs": runs, **found}


def judged(
    case: Case, chip: NDArray[np.generic], virtual: list[NDArray[np.generic]], ideal: NDArray[np.generic],
    rng: np.random.Generator,
) -> tuple[Verdict, int, float]:  # fmt: skip
    """The verdict after interim analyses at 500 and 1,000 samples, the samples used, and measured − simulated."""
    order = rng.permutation(SAMPLES)[:LARGEST]
    looks = planned_looks(LARGEST)
    for look, n in enumerate(looks, 1):
        seen = order[:n]
        found = judge(
            chip[:, seen], np.stack([one[0, seen] for one in virtual]), ideal[seen], mode=Mode.CONDITIONED,
            tolerance=case.tolerance, look=look, looks=looks, metric=case.task.metric, set_score=case.task.set_score,
        )  # fmt: skip
        if found.final:
            break
    return found.verdict, n, found.difference


def line(row: dict) -> str:
    """A row of the table in docs/nomenclature.md."""
    factor = 100.0 if row["unit"] == "points" else 1.0
    parts = []
    for name in ("correct", "lost"):
        part = row[name]
        gap = f"{factor * part['difference']:+.2f}" if factor == 100 else f"{part['difference']:+.4f}"
        counts = f"{part['agree']} / {part['disagree']} / {part['inconclusive']}"
        parts.append(f"{counts} | {gap.replace('-', '−')} | {part['samples']:,}")
    return f"| {row['metric']} | {row['tolerance']:g} {row['unit']} | {row['runs']} | {' | '.join(parts)} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=100, help="of each kind for scores of single samples")
    options.add_argument("--set-runs", type=int, default=40, help="the same for metrics of the set, which take longer")
    options.add_argument("--metrics", default=",".join(CASES))
    options.add_argument("--tolerance", type=float, help="in the metric's unit, in place of the study's own")
    options.add_argument("--out", type=Path, default=RESULTS, help="rows there of other metrics or tolerances stay")
    given = options.parse_args()
    rows = json.loads(given.out.read_text("utf-8")) if given.out.exists() else []
    for metric in given.metrics.split(","):
        paired = CASES[metric](metric).task.metric.paired
        found = study(metric, given.runs if paired else min(given.runs, given.set_runs), given.tolerance)
        key = (found["metric"], found["tolerance"])
        rows = [row for row in rows if (row["metric"], row["tolerance"]) != key] + [found]
        print(line(rows[-1]), flush=True)
        write_text(given.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
