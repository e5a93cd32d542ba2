"""Pulses, read noise, cell currents and published models against measurements: JSON lines.

    HIL_DATA=... python benchmarks/device_writing.py

Each line is one comparison, named by ``study``. Data: single-pulse sweeps, read voltage sweep and
noise traces of open sets (MIT); see docs/explanation/device_model.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cim.array.cell_iv import CellCurrent, VoltageSweep, fit_cell_current, fit_cells
from cim.fit.read_noise import detect_telegraph, fit_spectrum
from cim.record.published import PUBLISHED
from hil.device_fit.inputs import BenchResult, voltage_sweep
from hil.device_fit.public_sets import read_bench


def writing(data: Path) -> Iterator[dict[str, object]]:
    """What one pulse does, by word-line voltage."""
    steps = BenchResult.of(read_bench(data.parent)).steps
    at = np.array([0.5, 0.7, 1.0, 1.5, 2.5])
    yield {
        "study": "steps",
        "wl_v": at.tolist(),
        "set_us": np.interp(at, steps.wl_v, steps.set_median_us).round(1).tolist(),
        "sigma_us": np.interp(at, steps.wl_v, steps.set_sigma_us).round(1).tolist(),
        "per_decade_of_width": round(steps.width_per_decade, 4),
        "reset_share": round(float(steps.reset_share[-1]), 3),
        "reset_us": round(steps.land_median_us, 1),
        "full_reset_us": round(steps.erase_median_us, 1),
    }


def reading(data: Path) -> Iterator[dict[str, object]]:
    """Spectrum of each measured trace."""
    traces = np.loadtxt(data / "levy_rram_relaxation" / "techA_tsdata.min.tsv.gz")[:, 2:] * 1e6
    for trace in traces:
        seen = fit_spectrum(trace, 400.0)
        wide = fit_spectrum(trace, 400.0, (0.1, 100.0))
        two = detect_telegraph(trace[::20, None])
        yield {
            "study": "read noise",
            "mean_us": round(seen.mean_us, 1),
            "slope": round(seen.slope, 2),
            "slope_0.1_to_100_hz": round(wide.slope, 2),
            "a_over_g2": float(f"{seen.relative:.2g}"),
            "sigma_us": round(float(trace.std()), 2),
            "two_levels": bool(two.found[0]),
            "step_us": round(float(two.step_us[0]), 2),
        }


def currents(data: Path) -> Iterator[dict[str, object]]:
    """k by conductance on every other cell, and what it leaves on the rest."""
    sweep = voltage_sweep(read_bench(data.parent).iv)
    train, test = (VoltageSweep(sweep.volts, sweep.amps[i::2]) for i in (0, 1))
    law, full = fit_cell_current(train), fit_cell_current(sweep)
    g, _ = fit_cells(test.volts, test.amps)
    line, cubic = current_residual(test, None), current_residual(test, law)
    edges = (5, 20, 40, 60, 100, 200)
    for i in range(len(edges) - 1):
        here = (g >= edges[i]) & (g < edges[i + 1])
        yield {
            "study": "cell current",
            "class_us": [edges[i], edges[i + 1]],
            "k_per_v2": round(float(full.k_per_v2[i]), 3),
            "se": round(float(full.se_per_v2[i]), 3),
            "held_out_cells": int(here.sum()),
            "median_residual_line": round(float(np.median(line[here])), 4),
            "median_residual_cubic": round(float(np.median(cubic[here])), 4),
        }


def current_residual(sweep: VoltageSweep, current: CellCurrent | None) -> np.ndarray:
    """Residual of the law at the highest voltages, (cells,), relative to the current there.

    Each cell's I₀ and G come from its lower half of voltages; the mean of the measured
    currents over the top quarter is compared with the law's. None: a straight line.
    """
    v = sweep.volts
    low, top = v <= v.max() / 2.0, v >= 0.75 * v.max()
    k = np.zeros(len(sweep.amps))
    for _ in range(2):  # k depends on G, and G a little on k
        shape = v + k[:, None] * v**3  # (cells, steps)
        centred = shape[:, low] - shape[:, low].mean(1, keepdims=True)
        g = (centred * sweep.amps[:, low]).sum(1) / (centred**2).sum(1)
        offset = sweep.amps[:, low].mean(1) - g * shape[:, low].mean(1)
        k = current.k_at(g * 1e6) if current is not None else k
    predicted = (g[:, None] * (v + k[:, None] * v**3))[:, top].mean(1)
    return np.asarray(((sweep.amps[:, top].mean(1) - offset) - predicted) / predicted)


def models() -> Iterator[dict[str, object]]:
    """Mean and sigma of each published model at the middle of its window."""
    for name, model in PUBLISHED.items():
        level = float(np.mean(model.window_us))
        law = model.programming([level])
        for age, loc, scale in zip(law.ages_s, law.loc_us[:, 0], law.scale_us[:, 0], strict=True):
            yield {
                "study": "published",
                "model": name,
                "doi": model.doi,
                "level_us": level,
                "age_s": float(age),
                "mean_us": round(float(loc), 3),
                "sigma_us": round(float(scale), 3),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HIL_DATA"), help="folder with device/ in it")
    folder = parser.parse_args().data
    if folder is None:
        parser.error("no data: set HIL_DATA or give --data")
    device = Path(folder) / "device"
    for lines in (writing(device), reading(device), currents(device), models()):
        for line in lines:
            print(json.dumps(line))


if __name__ == "__main__":
    main()
