"""How well the device model says cells that it has not seen: real RRAM, held out, extrapolated, another chip.

    python benchmarks/studies.py device-fit --data $HIL_DATA               # one JSON line per question
    python benchmarks/studies.py device-fit --data $HIL_DATA --only memory

Distances are Kolmogorov-Smirnov over all cells of an age, each put at its probability under the law
of its own level (0.0150 is the 95 % point of a perfect law on 8,200 cells). ``seconds`` is CPU time.

* held-out: Levy Tech C, fitted to even addresses, tested on odd ones; beside Student's t fitted in
  bins of level and time, a Gaussian in such bins, and the published polynomial (Wan 2022)
* memory: correlation of the shifts at two ages, measured and of a simulated array
* extrapolation: fitted up to 1000 s, tested later; the Gaussian goes on in log time too
* transfer: EMBER chip 1 to chip 2, as it is and after a recalibration on some cells
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from public_sets import SETS, read_cells
from scipy.optimize import minimize
from scipy.special import gammaln, ndtr, stdtr

from cim.cells.history import CellHistory
from cim.cells.programming_law import MAX_SKEW, ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.fit.aged_readings import Readings
from cim.fit.cells import MIN_CELLS, nearest_level
from cim.fit.goodness_of_fit import distance, published_sigma, score
from cim.fit.law_likelihood import Fit, LawReadings
from cim.fit.programming import fit_programming, programming_distance
from cim.record.calibration import CellState
from hil.device_fit.measured_tables import by_age, split

UNTIL_S = 1.5e3  # the extrapolation has seen readings up to here
BINS = 16
LEVEL_NODES = 12
RECALIBRATION = (200, 800)  # cells
FULL_SCALE_C_US = 40.0
Floats = NDArray[np.float64]


def choose_levels(targets_us: NDArray[np.floating], count: int = LEVEL_NODES) -> Floats:
    """Nodes for targets that lie anywhere: evenly spaced in √G, since cells change fastest near zero.

    From the 0.5 % to the 99.5 % quantile; a node with fewer than 30 cells nearest to it is left out.
    """
    targets = np.asarray(targets_us, np.float64)
    low, high = np.quantile(targets[np.isfinite(targets)], [0.005, 0.995])
    nodes = np.linspace(np.sqrt(max(low, 0.0)), np.sqrt(max(high, 0.0)), count) ** 2
    while len(nodes) > 1:
        cells = np.bincount(nearest_level(targets[np.isfinite(targets)], nodes), minlength=len(nodes))
        if cells.min() >= MIN_CELLS:
            break
        nodes = np.delete(nodes, cells.argmin())
    return np.unique(nodes)


def fit_at(law: ProgrammingLaw) -> Fit:
    """A law that is there, to ask how likely cells are under it."""
    share = np.clip(law.wide_share, 1e-9, 1.0 - 1e-9)
    tables = [law.loc_us, np.log(law.scale_us), law.skew, np.log(law.df), np.log(share / (1.0 - share))]
    at = np.append(np.stack(tables).ravel(), np.log(law.wide_ratio))
    return Fit(law.ages_s, law.levels_us, law.tail, at, np.zeros((0, 0)))


def recalibrate(
    law: ProgrammingLaw,
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    *,
    ages_s: Sequence[float],
    reads: Sequence[int],
    read_noise: ReadNoise,
    rounding_us: float = 0.0,
) -> ProgrammingLaw:
    """The law of another chip of the same kind, from a few of its cells: six numbers are fitted anew.

        loc' = a + b · d + c · loc,   scale' = exp(e + f · d) · scale,   skew' = skew + g

    with d the decades from the first age of the law. Degrees of freedom, shares, memory and the
    course over the levels stay. Maximum likelihood with a weak pull towards the law as it was.

    Args:
        targets_us, readings_us: as for ``fit_programming``, of some hundred good cells.
    """
    targets, readings = np.asarray(targets_us, np.float64), np.asarray(readings_us, np.float64)
    noise = np.sqrt(read_noise.at(targets)) / np.sqrt(np.asarray(reads, np.float64))[:, None]
    cells = LawReadings(targets, readings - targets, noise, np.asarray(ages_s, np.float64), rounding_us).grouped()
    decades = np.log10(law.ages_s / law.ages_s[0])[:, None]
    size = float(np.median(law.scale_us))
    pull = 1.0 / float(cells.weights.sum())  # one cell's worth

    def changed(p: Floats) -> ProgrammingLaw:
        return replace(
            law,
            loc_us=size * (p[0] + p[1] * decades) + (1.0 + p[2]) * law.loc_us,
            scale_us=np.exp(p[3] + p[4] * decades) * law.scale_us,
            skew=np.clip(law.skew + p[5], -MAX_SKEW, MAX_SKEW),
            covariance=np.zeros((0, 0)),
        )

    def loss(p: Floats) -> float:
        return -fit_at(changed(p)).likelihood(cells) + pull * float(p @ p)

    best = minimize(loss, np.zeros(6), method="L-BFGS-B", bounds=[(-3.0, 3.0)] * 6)
    return changed(np.asarray(best.x, np.float64))


def measured(name: str, data: str) -> Readings:
    return by_age(read_cells(name, data))


def fitted(cells: Readings) -> ProgrammingLaw:
    """The law of single readings: the noise of one read stays in it."""
    levels = choose_levels(cells.targets_us)
    quiet = ReadNoise(levels, np.zeros(len(levels)), np.zeros(len(levels)))
    return fit_programming(
        cells.targets_us,
        cells.readings_us,
        np.full(len(cells.targets_us), CellState.GOOD),
        ages_s=cells.ages_s.tolist(),
        reads=[1] * len(cells.ages_s),
        levels_us=levels,
        read_noise=quiet,
        rounding_us=cells.step,
    )


def ks(law: ProgrammingLaw, cells: Readings, age: int) -> float:
    read = np.isfinite(cells.readings_us[age])
    quiet = ReadNoise(law.levels_us, 0.0 * law.levels_us, 0.0 * law.levels_us)
    return programming_distance(
        law,
        cells.targets_us[read],
        cells.readings_us[age, read],
        age_s=float(cells.ages_s[age]),
        reads=1,
        read_noise=quiet,
        rounding_us=cells.step,
    )


def by_age_of(numbers: dict[float, float]) -> dict[str, float]:
    return {f"{age:.3g}": round(float(value), 4) for age, value in numbers.items()}


def bins(cells: Readings, others: Readings) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Bin of equal width of each cell, of those fitted and those tested."""
    low, high = np.quantile(cells.targets_us, [0.0, 0.995])
    edges = np.linspace(low, high, BINS + 1)[1:-1]
    return np.searchsorted(edges, cells.targets_us), np.searchsorted(edges, others.targets_us)


def student(errors: Floats) -> tuple[float, float, float]:
    """df, location and scale of Student's t at the maximum of the likelihood."""

    def loss(p: Floats) -> float:
        df, u = np.exp(p[2]), (errors - p[0]) / np.exp(p[1])
        constant = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi) - p[1]
        return -float(np.mean(constant - (df + 1) / 2 * np.log1p(u * u / df)))

    middle = float(np.median(errors))
    start = [middle, np.log(np.median(np.abs(errors - middle))), np.log(2.0)]
    best = minimize(loss, start, method="Nelder-Mead").x
    return float(np.exp(best[2])), float(best[0]), float(np.exp(best[1]))


def student_bins(cells: Readings, test: Readings, age: int) -> float:
    """Student's t, fitted bin by bin at this age alone."""
    here, there = bins(cells, test)
    errors, held = cells.readings_us[age] - cells.targets_us, test.readings_us[age] - test.targets_us
    places = []
    for k in range(BINS):
        seen = errors[(here == k) & np.isfinite(errors)]
        df, loc, scale = student(seen)
        judged = held[(there == k) & np.isfinite(held)]
        places.append(stdtr(df, (judged - loc) / scale))
    return distance(np.concatenate(places))


def gaussian_bins(cells: Readings, test: Readings, age: int, seen: int | None = None) -> float:
    """Mean and variance bin by bin: of this age, or on their least-squares lines in log time through ``seen`` ages."""
    here, there = bins(cells, test)
    errors = cells.readings_us - cells.targets_us
    rows = [age] if seen is None else list(range(seen))
    mean = np.array([[np.nanmean(errors[a, here == k]) for k in range(BINS)] for a in rows])
    variance = np.array([[np.nanvar(errors[a, here == k]) for k in range(BINS)] for a in rows])
    if seen is not None:
        logs, now = np.log(cells.ages_s[:seen]), np.log(test.ages_s[age])
        mean = np.polynomial.polynomial.polyval(now, np.polynomial.polynomial.polyfit(logs, mean, 1))[None]
        variance = np.polynomial.polynomial.polyval(now, np.polynomial.polynomial.polyfit(logs, variance, 1))[None]
    sigma = np.sqrt(np.maximum(variance[0], 1e-6))
    held = test.readings_us[age] - test.targets_us
    read = np.isfinite(held)
    at = there[read]
    return score(lambda e: ndtr((e - mean[0][at]) / sigma[at]), held[read], test.step)


def held_out(data: str) -> dict[str, object]:
    cells = measured("levy-tech-c", data)
    odd = split(cells.cells, SETS["levy-tech-c"].held_out)
    seen, test = cells.of(~odd), cells.of(odd)
    start = time.process_time()
    law = fitted(seen)
    seconds = time.process_time() - start
    ages = range(len(cells.ages_s))

    def table(one: Callable[[int], float]) -> dict[str, float]:
        return by_age_of({float(cells.ages_s[a]): one(a) for a in ages})

    published = {}
    for a in ages:
        sigma = published_sigma(test.targets_us, float(cells.ages_s[a]), FULL_SCALE_C_US)
        if sigma is not None:
            error = test.readings_us[a] - test.targets_us
            read = np.isfinite(error)
            published[float(cells.ages_s[a])] = distance(ndtr(error[read] / sigma[read]))
    return {
        "question": "held-out",
        "set": "levy-tech-c",
        "cells": [len(seen.targets_us), len(test.targets_us)],
        "tail": law.tail.name,
        "knots_s": [round(float(a), 4) for a in law.ages_s],
        "levels": len(law.levels_us),
        "ks": table(lambda a: ks(law, test, a)),
        "ks_student_in_bins": table(lambda a: student_bins(seen, test, a)),
        "ks_gaussian_in_bins": table(lambda a: gaussian_bins(seen, test, a)),
        "ks_wan_2022": by_age_of(published),
        "seconds": round(seconds, 2),
    }


def memory(data: str) -> dict[str, object]:
    cells = measured("levy-tech-c", data)
    law = fitted(cells)
    errors = cells.readings_us - cells.targets_us
    first, last = (int(np.argmin(np.abs(np.log(cells.ages_s / age)))) for age in (1.0, 1e5))
    array = CellHistory(cells.targets_us, law, np.random.default_rng(0))
    simulated = np.stack([array.read(float(age)) for age in cells.ages_s]) - cells.targets_us

    def correlation(of: Floats, a: int, b: int) -> float:
        both = np.isfinite(of[a]) & np.isfinite(of[b])
        return round(float(np.corrcoef(of[a, both], of[b, both])[0, 1]), 3)

    pairs = [(a, b) for a in range(len(cells.ages_s)) for b in range(a + 1, len(cells.ages_s))]
    off = [correlation(simulated, a, b) - correlation(errors, a, b) for a, b in pairs]
    return {
        "question": "memory",
        "set": "levy-tech-c",
        "measured_1s_1e5s": correlation(errors, first, last),
        "simulated_1s_1e5s": correlation(simulated, first, last),
        "rms_difference_all_pairs": round(float(np.sqrt(np.mean(np.square(off)))), 3),
        "pairs": len(pairs),
        "origin_s": round(law.memory_origin_s, 5),
        "power": round(law.memory_power, 3),
        "fresh_share": round(law.memory_fresh_share, 3),
    }


def extrapolation(name: str, data: str) -> dict[str, object]:
    cells = measured(name, data)
    early = cells.until(UNTIL_S)
    law, seen = fitted(early), len(early.ages_s)
    late = range(seen, len(cells.ages_s))
    return {
        "question": "extrapolation",
        "set": name,
        "fitted_up_to_s": round(float(early.ages_s[-1]), 1),
        "tail": law.tail.name,
        "ks": by_age_of({float(cells.ages_s[a]): ks(law, cells, a) for a in late}),
        "ks_gaussian_in_log_time": by_age_of(
            {float(cells.ages_s[a]): gaussian_bins(early, cells, a, seen) for a in late}
        ),
        "ks_gaussian_last_age_held": by_age_of({float(cells.ages_s[a]): _held(early, cells, a) for a in late}),
    }


def _held(early: Readings, cells: Readings, age: int) -> float:
    """The Gaussian of the last age that was seen, taken for the later one."""
    here, there = bins(early, cells)
    errors = early.readings_us[-1] - early.targets_us
    mean = np.array([np.nanmean(errors[here == k]) for k in range(BINS)])
    sigma = np.array([np.nanstd(errors[here == k]) for k in range(BINS)])
    held = cells.readings_us[age] - cells.targets_us
    read = np.isfinite(held)
    at = there[read]
    return score(lambda e: ndtr((e - mean[at]) / sigma[at]), held[read], cells.step)


def transfer(data: str) -> dict[str, object]:
    first, second = measured("ember-1", data), measured("ember-2", data)
    law = fitted(first)
    age_names = [float(a) for a in second.ages_s]
    own = fitted(second)
    result: dict[str, object] = {
        "question": "transfer",
        "set": "ember-1 to ember-2",
        "ks_as_it_is": by_age_of({age: ks(law, second, a) for a, age in enumerate(age_names)}),
        "ks_law_of_chip_2": by_age_of({age: ks(own, second, a) for a, age in enumerate(age_names)}),
    }
    quiet = ReadNoise(law.levels_us, 0.0 * law.levels_us, 0.0 * law.levels_us)
    for cells in RECALIBRATION:
        words = np.unique(second.cells // 16)
        some = np.isin(second.cells // 16, np.random.default_rng(0).choice(words, cells // 16, replace=False))
        part, rest = second.of(some).until(UNTIL_S), second.of(~some)
        moved = recalibrate(
            law,
            part.targets_us,
            part.readings_us,
            ages_s=part.ages_s.tolist(),
            reads=[1] * len(part.ages_s),
            read_noise=quiet,
            rounding_us=part.step,
        )
        result[f"ks_after_{cells}_cells_up_to_1000_s"] = by_age_of(
            {age: ks(moved, rest, a) for a, age in enumerate(age_names)}
        )
    return result


QUESTIONS: dict[str, Callable[[str], list[dict[str, object]]]] = {
    "held-out": lambda data: [held_out(data)],
    "memory": lambda data: [memory(data)],
    "extrapolation": lambda data: [extrapolation(n, data) for n in ("levy-tech-b", "ember-1", "ember-2")],
    "transfer": lambda data: [transfer(data)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HIL_DATA"), help="folder of the public sets (HIL_DATA)")
    parser.add_argument("--only", choices=list(QUESTIONS))
    options = parser.parse_args()
    if not options.data:
        parser.error("--data DIR, or set HIL_DATA")
    for name, ask in QUESTIONS.items():
        if options.only in (None, name):
            for line in ask(options.data):
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
