"""Writing, read noise, cell currents and published models against measurements: JSON lines.

    HIL_DATA=... python benchmarks/device_writing.py

Each line is one comparison, named by ``study``. Data: single-pulse sweeps, read voltage sweep and
noise traces of open sets (MIT), published write-verify counts; see docs/explanation/device_model.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cim.array.cell_iv import VoltageSweep, current_residual, fit_cell_current, fit_cells, load_voltage_sweep
from cim.cells.pulse_steps import PulseSteps, Spread, draw_traits, fit_pulse_steps, load_sweep
from cim.cells.read_noise import NoisyCells
from cim.cells.write_verify import Ramp, WriteOutcome, quick_form, write_verify
from cim.fit.read_noise import detect_telegraph, fit_spectrum, fit_trace
from cim.record.published import PUBLISHED

CELLS = 8192
SCALE = 1.45  # cells of the published counts saturate at 243 µS, those of the sweep at 167 µS
SPREAD = Spread(unrest=1.0, stuck_low_share=0.002, bounded_bottom_share=0.11, bounded_bottom_us=(12.5, 20.0))
RAMPS = {"2": Ramp(0.3, 0.03, 0.05, verify_sigma_us=0.3), "3": Ramp(0.3, 0.03, 0.3, verify_sigma_us=0.3)}
RAMPS["bottom"] = Ramp(verify_sigma_us=0.3, max_pulses=10)  # the published counts of two bits stop at 10 to 49


def writing(data: Path) -> Iterator[dict[str, object]]:
    """Pulse counts and successes by window, beside the published ones; quick form against slow form."""
    bench = data / "ni_rram_python"
    steps = fit_pulse_steps(load_sweep(bench / "set_sweep.tsv.gz"), load_sweep(bench / "reset_sweep.tsv.gz"))
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
    steps = steps.scaled(SCALE, 1.0)
    with (data / "derived" / "radar_write_verify.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        low, high = float(row["window_G_lo_uS"]), float(row["window_G_hi_uS"])
        rng = np.random.default_rng(8)
        traits = draw_traits(CELLS, SPREAD, rng)
        ramp = RAMPS["bottom"] if low == 0.0 and row["bits_per_cell"] == "2" else RAMPS[row["bits_per_cell"]]
        out = write_verify(np.full(CELLS, low), np.full(CELLS, high), steps, traits, ramp, rng)
        yield {
            "study": "write-verify",
            "window_us": [low, high if np.isfinite(high) else None],
            "bits": int(row["bits_per_cell"]),
            "algorithm": row["algorithm"],
            "model": _counts(out.pulses, float(out.reached.mean()), float(out.reading_us[out.reached].std())),
            "published": {
                "success": float(row["success_fraction"]),
                "mean": float(row["pulses_mean"]),
                "median": float(row["pulses_median"]),
                "p99": float(row["pulses_p99"]),
                "sigma_us": float(row["final_G_sd_uS"]),
            },
        }
    yield from _quick(steps)


def _counts(pulses: np.ndarray, success: float, sigma: float) -> dict[str, float]:
    return {
        "success": round(success, 4),
        "mean": round(float(pulses.mean()), 1),
        "median": float(np.median(pulses)),
        "p99": round(float(np.quantile(pulses, 0.99)), 0),
        "sigma_us": round(sigma, 2),
    }


def _quick(steps: PulseSteps) -> Iterator[dict[str, object]]:
    """KS distance of the quick form, made from one run, to another run pulse by pulse."""
    levels = np.array([60.0, 100.0, 140.0, 180.0])
    targets = np.repeat(levels, CELLS)

    def slow(seed: int) -> WriteOutcome:
        rng = np.random.default_rng(seed)
        traits = draw_traits(len(targets), SPREAD, rng)
        return write_verify(targets - 4.0, targets + 4.0, steps, traits, RAMPS["2"], rng)

    quick = quick_form(targets, slow(1), levels_us=levels, half_width_us=4.0)
    a, b = slow(2), quick.draw(targets, np.random.default_rng(3))
    for level in levels:
        here = targets == level
        yield {
            "study": "quick form",
            "level_us": float(level),
            "ks_pulses": round(_ks(a.pulses[here], b.pulses[here]), 3),
            "ks_final": round(_ks(a.final_us[here], b.final_us[here]), 3),
            "success": [round(float(o.reached[here].mean()), 4) for o in (a, b)],
        }


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    both = np.sort(np.concatenate([a, b]))
    one, two = (np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (a, b))
    return float(np.abs(one - two).max())


def reading(data: Path) -> Iterator[dict[str, object]]:
    """Spectrum of each measured trace and of the generator fitted to it."""
    traces = np.loadtxt(data / "levy_rram_relaxation" / "techA_tsdata.min.tsv.gz")[:, 2:] * 1e6
    for trace in traces:
        seen, noise = fit_spectrum(trace, 400.0), fit_trace(trace, 400.0)
        wide = fit_spectrum(trace, 400.0, (0.1, 100.0))
        cells = NoisyCells(noise, np.full(12, seen.mean_us), np.random.default_rng(11))
        again = np.stack([cells.read(i / 400) for i in range(40_000)])
        found = [fit_spectrum(again[:, i], 400.0) for i in range(12)]
        two = detect_telegraph(trace[::20, None])
        yield {
            "study": "read noise",
            "mean_us": round(seen.mean_us, 1),
            "slope": round(seen.slope, 2),
            "slope_0.1_to_100_hz": round(wide.slope, 2),
            "slope_generated": round(float(np.mean([f.slope for f in found])), 2),
            "a_over_g2": float(f"{seen.relative:.2g}"),
            "a_over_g2_generated": float(f"{np.mean([f.relative for f in found]):.2g}"),
            "sigma_us": round(float(trace.std()), 2),
            "two_levels": bool(two.found[0]),
            "step_us": round(float(two.step_us[0]), 2),
        }


def currents(data: Path) -> Iterator[dict[str, object]]:
    """k by conductance on every other cell, and what it leaves on the rest."""
    sweep = load_voltage_sweep(data / "ni_rram_python" / "read_voltage_sweep.tsv.gz")
    train, test = (VoltageSweep(sweep.volts, sweep.amps[i::2], sweep.addresses[i::2]) for i in (0, 1))
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
