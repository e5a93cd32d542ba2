"""Forty arrangements of a small network on the Daffodil chip, and sixty differences, from what the pack holds.

The weights of the chip are known (-1, 0, 1); the scale of each layer and whether biases are added are not. ``belief``
trains the network by the published recipe from the published seed (its signs come back in part: correlations with the
weights of the chip stand in the record) and takes scales and biases from it, several orders of the samples. A draw of
``predict`` chooses one of these or zero biases, spreads scales and biases, and draws the noise of products, the errors
of columns, and whether runs are written anew; errors of cells are those of the maps, drawn again cell by cell. Within
a draw the arrangements differ in their cells and columns only, so that differences are sharper than levels.

    python benchmarks/studies.py daffodil belief DATA RECORD   # 4 trainings, about 50 CPU s each
    python benchmarks/studies.py daffodil predict DATA RECORD DRAFT
    python benchmarks/studies.py daffodil validate DATA RECORD  # each map left out in turn
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
LAYERS, TASKS = 3, ("task1", "task2")
OFF_US, ON_US, STEP_US = 133.0, 233.0, 100.0
ORDERS, EPOCHS, BATCH = 4, 50, 20
ASSUMED = {
    "zero_biases": 0.35,  # probability
    "scale_spread": 0.3,  # of ln, a layer
    "bias_spread": 0.2,
    "product_noise": [0.12, 0.8],  # median and spread of ln, of one weight times the root mean square of the inputs
    "column_slope": 0.04,  # columns of kernel 17: 0.85 to 1.04, spread 0.04
    "written_anew": 0.7,  # probability that each of the 100 runs is
    "by_deviation": 0.5,  # probability that the best rows are chosen; the first ones else, none being defective
}
DRAWS, RUNS = 240, 12


class Pack:
    """Data of the pack: samples, weights, errors of cells by map."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.names = [name.decode() for name in file["arrangements/id"][()]]
            self.differences = [
                (a.decode(), b.decode())
                for a, b in zip(*(file[f"differences/{k}"][()] for k in ("first", "second")), strict=True)
            ]
            self.weights = [file[f"derived/ternary_weight_layer{n}"][()].astype(float) for n in range(LAYERS)]
            self.inputs = {
                (part, task): (file[f"task/{part}_{task}_x"][()], file[f"task/{part}_{task}_class"][()].astype(int))
                for part in ("train", "test")
                for task in TASKS
            }
            self.maps = {name: self.errors_of(file["maps"][name]) for name in file["maps"]}

    def errors_of(self, group: Any) -> list[Array]:
        """Weights read less weights wanted, a layer: (copies, inputs, outputs)."""
        kernels, cells = list(group["kernel"][()]), group["conductance_uS"][()].astype(float)
        read = [np.zeros((4, *w.shape)) for w in self.weights]
        for layer, copy, sign, kernel, column, row, inputs, outputs in group["blocks"][()]:
            block = cells[kernels.index(kernel)][column : column + inputs, row : row + outputs]
            read[layer][copy] += sign * block / STEP_US
        return [r - w for r, w in zip(read, self.weights, strict=True)]


# --- belief ----------------------------------------------------------------------------------


def trained(pack: Pack, order: int) -> nn.Sequential:
    """Task 1, then task 2 with elastic weight consolidation; the first weights are those of the published seed."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3))
    rng = torch.Generator().manual_seed(order)
    search, loss_of = torch.optim.Adam(net.parameters(), 1e-3), nn.CrossEntropyLoss()
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for task in TASKS:
        x, y = pack.inputs["train", task]
        inputs, classes = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(inputs), generator=rng).split(BATCH):
                loss = loss_of(net(inputs[batch]), classes[batch])
                for (fisher, old), now in zip(kept, net.parameters(), strict=False):
                    loss = loss + 2.0 * (fisher * (now - old) ** 2).sum()
                search.zero_grad()
                loss.backward()
                search.step()
        if not kept:
            fishers = [torch.zeros_like(p) for p in net.parameters()]
            for n in range(100):
                net.zero_grad()
                torch.log_softmax(net(inputs[n : n + 1]), 1)[0, classes[n]].backward()
                fishers = [f + p.grad**2 / 100 for f, p in zip(fishers, net.parameters(), strict=True)]
            kept = [(f, p.detach().clone()) for f, p in zip(fishers, net.parameters(), strict=True)]
    return net


def belief(pack: Pack) -> dict[str, Any]:
    rows = []
    for order in range(ORDERS):
        values = [p.detach().numpy().astype(float) for p in trained(pack, order).parameters()]
        weights = [v.T for v in values[::2]]
        pairs = list(zip(weights, pack.weights, strict=True))
        rows.append(
            {
                "scales": [round(float((w * t).sum() / (t * t).sum()), 4) for w, t in pairs],
                "biases": [b.round(4).tolist() for b in values[1::2]],
                "correlation": [round(float(np.corrcoef(w.ravel(), t.ravel())[0, 1]), 3) for w, t in pairs],
            }
        )
        print(json.dumps({"order": order, "correlation": rows[-1]["correlation"]}), flush=True)
    return {"assumed": ASSUMED, "trained": rows}


# --- virtual runs ----------------------------------------------------------------------------


class Draw:
    """What all arrangements share: scales, biases, noise, and whether runs are written anew."""

    def __init__(self, record: dict[str, Any], rng: np.random.Generator) -> None:
        told, row = record["assumed"], record["trained"][rng.integers(len(record["trained"]))]
        zero = rng.random() < told["zero_biases"]
        self.scales = np.array(row["scales"]) * np.exp(told["scale_spread"] * rng.normal(size=LAYERS))
        biases = [np.array(b) for b in row["biases"]]
        self.biases = [0.0 * b if zero else b + told["bias_spread"] * rng.normal(size=len(b)) for b in biases]
        median, spread = told["product_noise"]
        self.noise = median * np.exp(spread * rng.normal())
        self.slope = told["column_slope"]
        self.anew, self.by_deviation = rng.random() < told["written_anew"], rng.random() < told["by_deviation"]


def pooled(maps: list[list[Array]]) -> list[Array]:
    """Errors of weights (places, inputs, outputs), a layer, from several maps."""
    return [np.concatenate([m[layer] for m in maps]) for layer in range(LAYERS)]


def written(errors: list[Array], copies: int, rng: np.random.Generator) -> list[Array]:
    """Errors of ``copies`` copies: those of the maps, drawn again weight by weight within each layer."""
    return [rng.choice(e.ravel(), (copies, *e.shape[1:])) for e in errors]


def averaged(errors: list[Array], beta: int, by_deviation: bool = False) -> list[Array]:
    """Mean of the first beta rows, or of those that deviate least, output by output: (copies, inputs, outputs) to
    (inputs, outputs)."""
    found = []
    for e in errors:
        if not by_deviation:
            found.append(e[:beta].mean(axis=0))
            continue
        best = np.argsort(np.abs(e).sum(axis=1), axis=0)[:beta]  # (beta, outputs)
        found.append(np.take_along_axis(e, best[:, None, :], axis=0).mean(axis=0))
    return found


def accuracies(
    pack: Pack, draw: Draw, errors: list[Array], beta: int, slopes: list[Array], rng: np.random.Generator
) -> Array:
    """Percent right of both tasks."""
    found = []
    for task in TASKS:
        x, classes = pack.inputs["test", task]
        for layer in range(LAYERS):
            noise = draw.noise / np.sqrt(beta) * np.sqrt((x**2).mean())
            sums = x @ ((pack.weights[layer] + errors[layer]) * slopes[layer])
            x = draw.scales[layer] * (sums + noise * rng.normal(size=sums.shape)) + draw.biases[layer]
            x = np.tanh(x) if layer < LAYERS - 1 else x
        found.append(100.0 * float((x.argmax(1) == classes).mean()))
    return np.array(found)


def virtual(pack: Pack, draw: Draw, errors: list[Array], alpha: int, beta: int, rng: np.random.Generator) -> Array:
    """Runs (runs, 2) of one arrangement."""
    runs = []
    for run in range(RUNS if draw.anew else 3):
        if run == 0 or draw.anew:
            chosen = averaged(written(errors, alpha, rng), beta, draw.by_deviation)
        if run == 0:
            slopes = [1 + draw.slope / np.sqrt(beta) * rng.normal(size=w.shape[1]) for w in pack.weights]
        runs.append(accuracies(pack, draw, chosen, beta, slopes, rng))
    return np.array(runs)


def interval(values: Array) -> dict[str, float]:
    low, high = np.quantile(values, [0.05, 0.95])
    return {"mean": round(float(np.median(values)), 2), "low": round(float(low), 2), "high": round(float(high), 2)}


def predict(pack: Pack, record: dict[str, Any]) -> dict[str, Any]:
    rng, errors = np.random.default_rng(57), pooled(list(pack.maps.values()))
    means: dict[str, list[Array]] = {name: [] for name in pack.names}
    spreads: dict[str, list[float]] = {name: [] for name in pack.names}
    for _ in range(DRAWS):
        draw = Draw(record, rng)
        for name in pack.names:
            alpha, beta = (int(part[1:]) for part in name.split("-")[2:])
            runs = virtual(pack, draw, errors, alpha, beta, rng)
            means[name].append(runs.mean(axis=0))
            spreads[name].append(float(runs.mean(axis=1).std(ddof=1)))
    found = {name: np.array(rows) for name, rows in means.items()}
    both = {name: rows.mean(axis=1) for name, rows in found.items()}
    return {
        "level": 0.9,
        "arrangements": {
            name: {
                "task1": interval(rows[:, 0]),
                "task2": interval(rows[:, 1]),
                "both": interval(both[name]),
                "sd_of_runs": round(float(np.median(spreads[name])), 2),
            }
            for name, rows in found.items()
        },
        "differences": {f"{a} - {b}": interval(both[a] - both[b]) for a, b in pack.differences},
    }


def validate(pack: Pack, record: dict[str, Any], draws: int = 20, again: int = 200) -> dict[str, Any]:
    """Cells of each map, in networks of the belief without other errors: is the accuracy of its copies, and of the
    mean of all four, inside 90 % of those of cells that are drawn from the other three maps?"""
    rng, inside, away = np.random.default_rng(58), [], []
    flat = [np.ones(w.shape[1]) for w in pack.weights]
    for _ in range(draws):
        draw = Draw(record, rng)
        draw.noise = 0.0
        for left, real in pack.maps.items():
            others = pooled([m for name, m in pack.maps.items() if name != left])
            for alpha in (1, 4):
                drawn = [
                    accuracies(pack, draw, averaged(written(others, alpha, rng), alpha), alpha, flat, rng).mean()
                    for _ in range(again)
                ]
                low, high = np.quantile(drawn, [0.05, 0.95])
                for first in range(0, 4, alpha):
                    mine = averaged([e[first : first + alpha] for e in real], alpha)
                    seen = accuracies(pack, draw, mine, alpha, flat, rng).mean()
                    inside.append(low <= seen <= high)
                    away.append(seen - np.mean(drawn))
    return {
        "checks": len(inside),
        "inside": round(float(np.mean(inside)), 3),
        "mean_off": round(float(np.mean(away)), 2),
    }


# --- score -----------------------------------------------------------------------------------


def score(prediction: dict[str, Any], truth: Path) -> dict[str, Any]:
    """Intervals that hold, half-widths, errors beside the best constant; truth: JSON {arrangement: {task1, task2}}."""
    measured = json.loads(truth.read_text("utf-8"))
    both = {name: (row["task1"] + row["task2"]) / 2 for name, row in measured.items()}
    pairs = {
        part: [(row[part], measured[name][part]) for name, row in prediction["arrangements"].items()] for part in TASKS
    }
    pairs["both"] = [(row["both"], both[name]) for name, row in prediction["arrangements"].items()]
    named = [(row, *name.split(" - ")) for name, row in prediction["differences"].items()]
    pairs["differences"] = [(row, both[a] - both[b]) for row, a, b in named]
    found = {}
    for part, rows in pairs.items():
        middle, low, high = np.array([[row[k] for k in ("mean", "low", "high")] for row, _ in rows]).T
        seen = np.array([value for _, value in rows])
        ranks = np.corrcoef(middle.argsort().argsort(), seen.argsort().argsort())[0, 1]
        found[part] = {
            "hold": round(float(((low <= seen) & (seen <= high)).mean()), 3),
            "half_width": round(float(np.median(high - low) / 2), 2),
            "error": round(float(np.abs(middle - seen).mean()), 2),
            "error_of_best_constant": round(float(np.abs(np.median(seen) - seen).mean()), 2),
            "rank": round(float(ranks), 3),
            "same_sign": round(float((np.sign(middle) == np.sign(seen)).mean()), 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("belief", "predict", "validate"))
    parser.add_argument("data", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("draft", nargs="?", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pack = Pack(given.data)
    if given.what == "belief":
        given.record.write_text(json.dumps(belief(pack), indent=1) + "\n", encoding="utf-8")
        return
    record = json.loads(given.record.read_text("utf-8"))
    if given.what == "validate":
        print(json.dumps(validate(pack, record)))
    else:
        given.draft.write_text(json.dumps(predict(pack, record)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
