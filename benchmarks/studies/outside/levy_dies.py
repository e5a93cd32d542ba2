"""Dies 13 and 14 of Levy: resistance in the ten seconds after a write, as one law of time, level, spread and window.

A cell that is written into a window [a, a + w] lands at L and is read t later as R(t) = L · exp D.

* L: exponential from the edge from which writing comes, cut at the other one: density ∝ exp(−(L − a) / s(a)), where
  s / a is a line between knots of log a.
* D: three normal parts (cells that rest, that diffuse, that jump); the place, spread and weight of each are lines
  between knots of log L and of log t. 224 numbers a die, fitted to the cells whose write succeeded, at true times.

Die 14 from die 13 alone takes D from the logs of die 13 that are nearest in date, of July and August 2022.

    python benchmarks/studies.py levy-dies validate [--from-13] [--law copied] DATA  # leaves each scheme out in turn
    python benchmarks/studies.py levy-dies predict [--from-13] DATA RECORD DRAFT  # then: studies.py predictions lock
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
PROBABILITIES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
TIMES_S = np.array([0.0194, 0.120, 0.228, 0.540, 1.052, 2.064, 5.075, 10.086])  # medians of the log, of both dies
AFTER = {"outside_1s": 4, "outside_10s": 7}
LANDING_KNOTS = np.log([7800.0, 9000.0, 11000.0, 15000.0, 24000.0, 42000.0])  # of a, ohm
LEVEL_KNOTS = np.log([7900.0, 9000.0, 10500.0, 13000.0, 17000.0, 24000.0, 40000.0])  # of L, ohm
TIME_KNOTS = np.log([0.0194, 0.2, 1.05, 10.09])  # s
PARTS, LANDINGS = 3, 25
PLACES_OF_D = np.concatenate([-np.geomspace(0.9, 1e-4, 20), [0.0], np.geomspace(1e-4, 1.6, 24)])


@dataclass(frozen=True, slots=True)
class Range:
    """A write window and, where it is open, the readings of the cells whose write succeeded."""

    name: str
    scheme: int
    die: int
    aside: bool
    write: Array
    window: Array
    landed: Array  # (cells,) ohm
    read: Array  # (cells, 8) ohm
    read_s: Array

    @property
    def middle(self) -> float:
        return float(self.write.mean())


def ranges_of(path: Path, group: str = "") -> list[Range]:
    """Open ranges of the file, or with ``group="held/"`` those to predict, without readings."""
    with h5py.File(path) as file:
        table = {k: file[f"{group}range/{k}"][()] for k in ("id", "scheme", "write_ohm", "read_ohm")}
        scheme = {k: v[()] for k, v in file[f"{group}scheme"].items()}
        cells = {} if group else {k: v[()] for k, v in file["cell"].items()}
    found = []
    for i, (name, s) in enumerate(zip(table["id"], table["scheme"], strict=True)):
        mine = (cells["range"] == i) & (cells["write_ok"] == 1) if cells else slice(0)
        landed, read, read_s = (
            cells[k][mine].astype(float) if cells else np.empty(0) for k in ("written_ohm", "read_ohm", "read_s")
        )
        aside = bool(scheme["aside"][s]) if "aside" in scheme else False
        write, window = table["write_ohm"][i].astype(float), table["read_ohm"][i].astype(float)
        found.append(Range(name.decode(), int(s), int(scheme["die"][s]), aside, write, window, landed, read, read_s))
    return found


def between(x: Array, knots: Array) -> Array:
    """Weights (values, knots) of a line between knots."""
    return np.stack([np.interp(x, knots, row) for row in np.eye(len(knots))], axis=-1)


# --- where writing ends ----------------------------------------------------------------------


def fitted_landing(ranges: list[Range], stiff: float = 0.3) -> Array:
    """log(a / s) at the knots."""
    a, w = np.array([r.write[0] for r in ranges]), np.array([np.ptp(r.write) for r in ranges])
    place = np.array([np.clip((r.landed - r.write[0]) / np.ptp(r.write), 0, 1).mean() for r in ranges])
    cells, weights = np.array([len(r.landed) for r in ranges]), between(np.log(a), LANDING_KNOTS)

    def loss(theta: Array) -> float:
        k = np.maximum(np.exp(weights @ theta) * w / a, 1e-4)
        likelihood = cells * (np.log(k / -np.expm1(-k)) - k * place)
        return float(-likelihood.sum() + stiff * (np.diff(theta, 2) ** 2).sum())

    return np.asarray(minimize(loss, np.full(len(LANDING_KNOTS), 2.0), method="BFGS").x)


def landings(r: Range, theta: Array) -> Array:
    a, w = r.write[0], np.ptp(r.write)
    k = max(1e-4, float(np.exp(between(np.log(a), LANDING_KNOTS) @ theta) * w / a))
    share = (np.arange(LANDINGS) + 0.5) / LANDINGS
    return np.asarray(a - w * np.log1p(share * np.expm1(-k)) / k)


# --- what happens afterwards -----------------------------------------------------------------


def weights_of(log_level: Array, log_time: Array) -> torch.Tensor:
    both = between(log_level, LEVEL_KNOTS)[:, :, None] * between(log_time, TIME_KNOTS)[:, None, :]
    return torch.tensor(both.reshape(len(log_level), -1))


def first_guess() -> Array:
    rest = np.interp(LEVEL_KNOTS, np.log([7900, 10500, 17000, 40000]), np.log([0.003, 0.005, 0.02, 0.05]))
    spread = np.add.outer(rest, [-0.3, 0.0, 0.3, 0.5])
    of_parts = [
        value
        for place, wider in ((0.1, -0.5), (0.1, 0.5), (0.3, 1.5))
        for value in (np.full_like(spread, place), spread + wider)
    ]
    return np.stack([*of_parts, np.zeros_like(spread), np.full_like(spread, -1.5)])


def parts_of(weights: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Place over spread, log spread and log share (parts, values) of the normal parts."""
    rows = theta.reshape(len(theta), -1) @ weights.T
    return rows[0:6:2], rows[1:6:2], torch.log_softmax(torch.cat([torch.zeros_like(rows[:1]), rows[6:]]), 0)


def fitted_change(ranges: list[Range], stiff: float = 1.6, steps: int = 60) -> Array:
    """Parameters (8, levels, times) of D, by maximum likelihood with a small price on kinks at knots."""
    level = np.concatenate([np.log(r.landed) for r in ranges]).repeat(len(TIMES_S))
    time = np.log(np.clip(np.concatenate([r.read_s for r in ranges]).ravel(), TIMES_S[0], TIMES_S[-1]))
    change = torch.tensor(np.concatenate([np.log(r.read / r.landed[:, None]) for r in ranges]).ravel())
    weights, theta = weights_of(level, time), torch.tensor(first_guess(), requires_grad=True)
    price = torch.ones(len(theta), 1, 1, dtype=torch.float64)
    price[0:6:2] = 3.0
    search = torch.optim.LBFGS(
        [theta],
        max_iter=steps,
        max_eval=2 * steps,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_change=1e-7,
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        place, spread, share = parts_of(weights, theta)
        density = share - 0.5 * (change * torch.exp(-spread) - place) ** 2 - spread
        kinks = (theta.diff(2, dim=1) * price).pow(2).sum() + (theta.diff(2, dim=2) * price).pow(2).sum()
        value = -torch.logsumexp(density, 0).mean() + stiff * kinks / len(change)
        value.backward()
        return value

    search.step(loss)
    return theta.detach().numpy()


@dataclass(frozen=True, slots=True)
class Law:
    """Landing and change of one die."""

    landing: Array
    change: Array

    def distribution(self, r: Range, time_s: float) -> tuple[Array, Array]:
        """Resistances, rising, and the share of cells at or below each."""
        log_l = np.log(landings(r, self.landing))
        places = np.sort((log_l[:, None] + PLACES_OF_D).ravel())[::3]
        place, spread, share = parts_of(
            weights_of(log_l, np.full(len(log_l), np.log(time_s))), torch.tensor(self.change)
        )
        z = torch.tensor(places - log_l[:, None]) * torch.exp(-spread)[..., None] - place[..., None]
        below = (share.exp()[..., None] * torch.special.ndtr(z)).sum(0).mean(0).numpy()
        return np.exp(places), below


def fitted(ranges: list[Range]) -> Law:
    return Law(fitted_landing(ranges), fitted_change(ranges))


@dataclass(frozen=True, slots=True)
class Copied:
    """The bar: readings of the three open ranges whose targets are nearest, scaled by the target."""

    ranges: list[Range]

    def distribution(self, r: Range, time_s: float) -> tuple[Array, Array]:
        near = sorted(self.ranges, key=lambda h: abs(np.log(h.middle / r.middle)))[:3]
        t = int(np.argmin(np.abs(TIMES_S - time_s)))
        values = np.sort(np.concatenate([h.read[:, t] / h.middle for h in near])) * r.middle
        return values, np.linspace(0.0, 1.0, len(values))


def predicted(r: Range, law: Law | Copied) -> dict[str, Any]:
    """One range in the form of the pack's README."""
    found = [law.distribution(r, t) for t in TIMES_S]
    row: dict[str, Any] = {"quantiles_ohm": [np.interp(PROBABILITIES, p, x).round(1).tolist() for x, p in found]}
    for name, t in AFTER.items():
        x, p = found[t]
        low, high = (float(np.interp(edge, x, p, left=0.0, right=1.0)) for edge in r.window)
        row[name] = round(low + 1.0 - high, 4)
    return row


# --- scores ----------------------------------------------------------------------------------


def scores(rows: dict[str, dict[str, Any]], ranges: list[Range]) -> dict[str, Any]:
    """Means over ranges and times: coverage, largest distance at the five quantiles, pinball loss; shares outside."""
    inside, middle, distance, pinball, off, shares = [], [], [], [], [], []
    for r in ranges:
        q = np.array(rows[r.name]["quantiles_ohm"])  # (times, quantiles)
        x = r.read[:, :, None]
        inside.append(((x >= q[:, :1]) & (x <= q[:, 4:])).mean())
        middle.append(((x >= q[:, 1:2]) & (x <= q[:, 3:4])).mean())
        distance.append(np.abs((x <= q).mean(0) - PROBABILITIES).max(1).mean())
        missed = (x - q) / r.middle
        pinball.append(np.maximum(PROBABILITIES * missed, (PROBABILITIES - 1) * missed).mean())
        out = ((r.read < r.window[0]) | (r.read >= r.window[1])).mean(0)
        shares.append([(rows[r.name][name], out[t]) for name, t in AFTER.items()])
    told, was = np.array(shares).transpose(2, 1, 0)
    off = 100 * np.abs(told - was).mean(1)
    ranks = [float(np.corrcoef(told[i].argsort().argsort(), was[i].argsort().argsort())[0, 1]) for i in range(2)]
    means = {"coverage_90": inside, "coverage_50": middle, "distance": distance, "pinball": pinball}
    return {
        "ranges": len(ranges),
        **{name: round(float(np.mean(v)), 4) for name, v in means.items()},
        "share_off_points": off.round(2).tolist(),
        "share_rank": np.round(ranks, 3).tolist(),
    }


def by_die(rows: dict[str, dict[str, Any]], ranges: list[Range]) -> dict[str, Any]:
    return {str(d): scores(rows, [r for r in ranges if r.die == d]) for d in sorted({r.die for r in ranges})}


def score(prediction: dict[str, Any], truth: Path) -> dict[str, Any]:
    """Scores against a file of the pack's form that holds the readings of the predicted ranges."""
    found = [r for r in ranges_of(truth) if r.name in prediction["ranges"]]
    if missing := prediction["ranges"].keys() - {r.name for r in found}:
        raise SystemExit(f"{truth} lacks {len(missing)} of {len(prediction['ranges'])} ranges, first {min(missing)}")
    return by_die(prediction["ranges"], found)


def training(ranges: list[Range], die: int) -> list[Range]:
    """Ranges of a die's law: die 13 without what stands aside (most of its writes fail), die 14 with it."""
    return [r for r in ranges if r.die == die and not (die == 13 and r.aside)]


def fitted_to_13(ranges: list[Range]) -> Law:
    """The law of die 14 from die 13 alone."""
    mine = [r for r in ranges if r.die == 13]
    return Law(fitted_landing(mine), fitted_change([r for r in mine if r.aside]))


def validated(ranges: list[Range], from_13: bool, copied: bool) -> dict[str, Any]:
    """Each scheme of the open half predicted from the others of its die, or die 14 from die 13."""
    rows: dict[str, dict[str, Any]] = {}
    make = Copied if copied else fitted
    other: Law | Copied | None = None
    if from_13:
        other = Copied(training(ranges, 13)) if copied else fitted_to_13(ranges)
    for s in sorted({r.scheme for r in ranges if not r.aside and not (from_13 and r.die == 13)}):
        mine = [r for r in ranges if r.scheme == s]
        law = other or make([r for r in training(ranges, mine[0].die) if r.scheme != s])
        rows |= {r.name: predicted(r, law) for r in mine}
    return by_die(rows, [r for r in ranges if r.name in rows])


def predict(data: Path, from_13: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record of the laws and the predictions of the held ranges."""
    ranges, held = ranges_of(data), ranges_of(data, "held/")
    laws = {14: fitted_to_13(ranges)} if from_13 else {die: fitted(training(ranges, die)) for die in (13, 14)}
    record = {
        str(d): {"landing": w.landing.round(5).tolist(), "change": w.change.round(5).tolist()} for d, w in laws.items()
    }
    read = {d: Law(np.array(w["landing"]), np.array(w["change"])) for d, w in record.items()}
    rows = {r.name: predicted(r, read[str(r.die)]) for r in held if str(r.die) in read}
    return record, {"ranges": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("validate", "predict"))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", nargs="*", type=Path, help="RECORD DRAFT")
    parser.add_argument("--from-13", action="store_true", help="die 14 from die 13 alone")
    parser.add_argument("--law", choices=("fitted", "copied"), default="fitted")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "validate":
        for die, row in validated(ranges_of(given.data), given.from_13, given.law == "copied").items():
            print(json.dumps({"die": int(die), **row}))
        return
    for path, found in zip(given.out, predict(given.data, given.from_13), strict=True):
        path.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
