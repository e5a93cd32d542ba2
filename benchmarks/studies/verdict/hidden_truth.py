"""Does calibration find the hidden truth? Twenty emulated chips from wide priors, through the in-process wire.

Every chip has parameters of its own, drawn from ``PRIORS`` with the seed of its row; cells wander as
measured cells do (emulated relaxation resamples measured Levy Tech C traces). It is calibrated
like any chip, and each scalar of the record is held against the truth, which only this judge may
look up: is it inside the record's own 95 % interval? The second table asks whether the prediction
interval of virtual chips, programmed again from the record alone, covers what the chip scores.

    python benchmarks/studies.py hidden-truth --parameters          # complete the first table
    python benchmarks/studies.py hidden-truth --predictions         # complete the second
    python benchmarks/studies.py hidden-truth --parameters --seeds 0-1
    python benchmarks/studies.py hidden-truth                       # the summary alone

Rows that are there are not measured again. Seeds 0-19 are fixed; nothing was tuned on them.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from record_scalars import scalar_estimates

from cim.chip.converters import code_limits

RESULTS = Path(__file__).parents[2] / "results"
PARAMETERS = RESULTS / "hidden_truth.csv"
PREDICTIONS = RESULTS / "hidden_truth_predictions.csv"
SEEDS = range(20)
MACROS = 2  # calibrated for the first table
POPULATION = 8  # macros of another chip of the same kind that tell the truth about a spread of cells
HEAT_C, HEAT_AFTER_S = 60.0, 20000.0
CHIPS = 100  # virtual chips of a prediction
IMAGES = 500  # one look: a run of more images may end earlier
PREDICTED_MACROS = 16
MODE = "fast"
FIRST_FIELDS = ("seed", "parameter", "truth", "estimate", "se", "low", "high", "inside", "pooled", "pooled_inside")
SECOND_FIELDS = ("seed", "network", "images", "ideal", "measured", "low", "high", "mean", "inside")
NETWORKS = {"bundled": None, "fashion_small": Path(__file__).parents[3] / "examples/networks/fashion_small.pt"}

PRIORS: dict[str, tuple[str, float, float]] = {
    "stuck_low_share": ("log", 0.005, 0.05),
    "stuck_high_share": ("log", 0.0005, 0.01),
    "unreached_share": ("log", 0.001, 0.01),
    "column_gain_sigma": ("log", 0.01, 0.1),
    "adc_offset_codes": ("even", 0.2, 4.0),
    "inl_lsb": ("even", 0.1, 1.5),
    "read_variance_us2": ("log", 0.5, 4.0),
    "relaxation": ("even", 0.4, 1.5),
    "wire_ohm": ("even", 0.2, 2.0),
    "verify_noise_us": ("even", 0.0, 0.6),
    "pulse_step_us": ("log", 0.8, 3.0),
    "pulse_sigma": ("even", 0.3, 0.7),
    "sense_gain_sigma": ("log", 0.002, 0.01),
    "conductance_per_k": ("even", 2e-4, 1.5e-3),
}


def drawn(seed: int) -> dict[str, float]:
    """The parameters of a chip of this study."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x71D3]))
    values = {}
    for name, (kind, low, high) in PRIORS.items():
        lot = rng.random()
        value = low * (high / low) ** lot if kind == "log" else low + lot * (high - low)
        values[name] = float(f"{value:.4g}")
    return values


def address(seed: int, macros: int, chip_seed: int | None = None, **more: float) -> str:
    values = {**drawn(seed), **more}
    text = "&".join(f"{name}={value:g}" for name, value in values.items())
    return f"emulated:lab-128?seed={1000 + seed if chip_seed is None else chip_seed}&macros={macros}&{text}"


# --- the first table -------------------------------------------------------------------------


def parameter_rows(seed: int) -> Iterator[dict[str, object]]:
    """One chip calibrated, up to a second temperature; a row for each scalar."""
    from hil.calibration.procedure import calibrate
    from hil.driver.open_chip import connect
    from hil.emulator.address import chip_from_address
    from hil.transports.in_process import InProcessTransport

    where = address(seed, MACROS, heat_to_c=HEAT_C, heat_after_s=HEAT_AFTER_S)
    chip = chip_from_address(where)
    with connect(InProcessTransport(chip, where), chip=chip.spec) as driver:
        record = calibrate(driver, tuple(range(MACROS)), second_temperature_c=HEAT_C)
    truth = true_values(seed, chip, record)
    for name, found in scalar_estimates(record).items():
        yield row(seed, name, truth[name], found.value, found.se, found.low, found.high)
    yield from column_rows(seed, chip, record)


def row(seed: int, name: str, truth: float, value: float, se: float, low: float, high: float) -> dict[str, object]:
    numbers = {"truth": truth, "estimate": value, "se": se, "low": low, "high": high}
    return {
        "seed": seed,
        "parameter": name,
        **{key: f"{number:.6g}" for key, number in numbers.items()},
        "inside": int(low <= truth <= high),
        "pooled": "",
        "pooled_inside": "",
    }


def column_rows(seed: int, chip: Any, record: Any) -> Iterator[dict[str, object]]:
    """Offset and gain: the first column of the first macro is the row; all of them are pooled beside it."""
    for name in ("column_offset_codes", "column_gain"):
        far, first = [], None
        for macro, found in record.macros.items():
            hidden = chip._sample.macros[macro]
            if name == "column_gain":
                true, value, error = hidden.gain / hidden.sense_gain, found.gain, found.gain_se
            else:
                true = (hidden.offset_codes + converter_curves(chip, macro, hidden.offset_codes))[found.adc]
                value, error = found.offset_codes, found.offset_se
            far.append(np.abs(value - true) / error)
            if first is None:
                low, high = value[0] - 1.96 * error[0], value[0] + 1.96 * error[0]
                first = row(seed, name, true[0], value[0], error[0], low, high)
        assert first is not None
        z = np.concatenate(far)
        yield {**first, "pooled": len(z), "pooled_inside": int((z < 1.96).sum())}


def true_values(seed: int, chip: Any, record: Any) -> dict[str, float]:
    """What the record's scalars should be. Shares, sigmas and coefficients are the chip's parameters;
    where a scalar is a statistic of cells, it is taken without noise from many more cells of
    another chip of the same parameters."""
    p = drawn(seed)
    shift, half_iqr, missed = population(seed, record.age_s)
    sense2 = float(np.mean([chip._sample.macros[m].sense_gain ** 2 for m in record.macros]))  # readings hold it
    return {
        "stuck_low_share": p["stuck_low_share"],
        "stuck_high_share": p["stuck_high_share"],
        "unreached_share": missed,
        "column_gain_sigma": p["column_gain_sigma"],
        "inl_rms_codes": inl_rms(chip, record),
        "read_variance_us2": p["read_variance_us2"] * sense2,
        "shift_us": shift,
        "half_iqr_us": half_iqr,
        "wire_ohm": p["wire_ohm"],
        "conductance_per_k": p["conductance_per_k"],
    }


def population(seed: int, age_s: float) -> tuple[float, float, float]:
    """Median shift and half interquartile range at an age, means over levels but the lowest, and the
    share of healthy cells that miss their window, of a chip of other cells."""
    from hil.calibration.patterns import pattern_levels, pattern_targets_us
    from hil.driver.open_chip import connect
    from hil.emulator.address import chip_from_address
    from hil.emulator.sample import STUCK_HIGH, STUCK_LOW
    from hil.transports.in_process import InProcessTransport

    where = address(seed, POPULATION, chip_seed=5000 + seed, temperature_c=25.0)
    chip = chip_from_address(where)
    spec = chip.spec.macro
    errors: list[list[np.ndarray]] = [[] for _ in spec.levels_us]
    healthy = missed = 0
    with connect(InProcessTransport(chip, where), chip=chip.spec) as driver:
        for macro in range(POPULATION):
            targets = pattern_targets_us(spec, pattern_levels(spec, np.random.default_rng([seed, macro])))
            for number, level in enumerate((spec.levels_us[-1], spec.levels_us[0])):  # cells come from below
                driver.program_cells(macro, np.full_like(targets, level), sample=100 + 2 * macro + number)
            outcome = driver.program_cells(macro, targets, sample=macro)
            driver.wait(age_s)
            hidden = chip._sample.macros[macro]
            well = ~np.isin(hidden.kind, (STUCK_LOW, STUCK_HIGH))
            healthy += int(well.sum())
            missed += int((well & ~outcome.reached).sum())
            g = chip._cells[macro].conductance_us(chip.chip_time_ns) * hidden.sense_gain
            for k, level in enumerate(spec.levels_us):
                here = well & outcome.reached & (np.abs(targets - level) < 0.01)
                errors[k].append((g - targets)[here])
    quantiles = np.array([np.quantile(np.concatenate(e), [0.25, 0.5, 0.75]) for e in errors[1:]])
    half = (quantiles[:, 2] - quantiles[:, 0]) / 2.0
    return float(quantiles[:, 1].mean()), float(half.mean()), missed / healthy


def inl_rms(chip: Any, record: Any) -> float:
    """Rms over the scale of the curves of the calibrated macros as a record has them: at the resolution of
    its nodes, without slope, about their means."""
    curves = []
    for macro, found in record.macros.items():
        low, high = code_limits(chip.spec.macro.adc.bits, chip.spec.macro.adc_signed)
        nodes = found.inl_codes.shape[1]
        place = np.linspace(0.0, nodes - 1.0, 16 * (nodes - 1) + 1)
        y = low + place[:, None] / (nodes - 1) * (high - low)
        hats = np.maximum(1.0 - np.abs(place[:, None] - np.arange(nodes)), 0.0)
        curve = np.linalg.lstsq(hats, converter_curves(chip, macro, y), rcond=None)[0]
        k = np.arange(nodes) - (nodes - 1) / 2.0
        curves.append(curve - curve.mean(0) - k[:, None] * (k @ curve) / (k @ k))
    return float(np.sqrt(np.mean(np.concatenate(curves, axis=1) ** 2)))


def converter_curves(chip: Any, macro: int, y: np.ndarray) -> np.ndarray:
    """What each converter of a macro adds at codes ``y`` (..., adcs)."""
    low, high = code_limits(chip.spec.macro.adc.bits, chip.spec.macro.adc_signed)
    a, b, c, d, e, f = (x.astype(np.float64) for x in chip._sample.macros[macro].inl)
    t = np.clip((y - (low + high + 1) / 2.0) * 2.0 / (high + 1 - low), -1.0, 1.0)
    steps = e * (t > 0) + f * ((t > 0.5).astype(float) + (t > -0.5))
    return np.asarray(a + t * (b + t * (c + t * d)) + steps)


# --- the second table ------------------------------------------------------------------------


def prediction_rows(seed: int, networks: list[str]) -> Iterator[dict[str, object]]:
    """One chip: the 95 % interval of virtual chips of its record alone (``hil simulate``), and what the chip
    scores once a network is on it (``hil deploy``), on the same images."""
    from scipy import stats

    from hil.calibration.procedure import calibrate
    from hil.datasets.image_set import load_dataset
    from hil.deployment.deploy import DeployOptions, deploy_on
    from hil.deployment.network_source import BUNDLED_DATA, program_of
    from hil.deployment.options import NetworkOptions, usual_recipe
    from hil.driver.open_chip import connect
    from hil.emulator.address import chip_from_address
    from hil.prediction.predict import predict
    from hil.transports.in_process import InProcessTransport
    from hil.watch import Watch
    from mapping.quantise.weight_scales import ScaleRule
    from mapping.recipe.recipe import Recipe

    where, data = address(seed, PREDICTED_MACROS), load_dataset(BUNDLED_DATA, "test")
    options = DeployOptions(
        samples=IMAGES, virtual_chips=2, seed=seed, causes=False, recipe=usual_recipe(without=["aims", "tune"])
    )
    how = NetworkOptions(macros=PREDICTED_MACROS), Watch()
    chosen = {n: program_of(NETWORKS[n], *how, scales=ScaleRule.ROUNDING, recipe=Recipe()) for n in networks}
    chip = chip_from_address(where)
    with connect(InProcessTransport(chip, where), chip=chip.spec) as driver:
        used = sorted(set().union(*(program.macros for program, _ in chosen.values())))
        record = calibrate(driver, tuple(used), seed=seed, age_s=options.age_s)
    for network, (program, graph) in chosen.items():
        many = dataclasses.replace(options, virtual_chips=CHIPS)
        found = predict(program, data, record, many, Watch(), mode=MODE)
        chips = found.accuracies[0]
        half = stats.t.ppf(0.975, CHIPS - 1) * chips.std(ddof=1) * np.sqrt(1.0 + 1.0 / CHIPS)
        low, high = float(chips.mean() - half), float(chips.mean() + half)
        chip = chip_from_address(where)
        with connect(InProcessTransport(chip, where), chip=chip.spec) as driver:
            report, _ = deploy_on(driver, program, data, graph=graph, record=record, options=options)
        assert report.decisive.n == found.images
        measured = report.decisive.measured.mean
        yield {
            "seed": seed,
            "network": network,
            "images": found.images,
            "ideal": round(found.ideal, 5),
            "measured": round(measured, 5),
            "low": round(low, 5),
            "high": round(high, 5),
            "mean": round(float(chips.mean()), 5),
            "inside": int(low <= measured <= high),
        }


# --- tables ----------------------------------------------------------------------------------


def read_table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def append(path: Path, fields: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            file.write("# python benchmarks/studies.py hidden-truth   (emulated chips, NOT SILICON)\n")
            file.write("# chips made from real cells: their relaxation resamples measured Levy Tech C traces\n")
            writer.writeheader()
        writer.writerows(rows)


def summary() -> dict[str, object]:
    """Chips whose interval holds the truth, by parameter; all pooled; and predictions."""
    first, second = read_table(PARAMETERS), read_table(PREDICTIONS)
    names = sorted({r["parameter"] for r in first})
    inside = {n: sum(int(r["inside"]) for r in first if r["parameter"] == n) for n in names}
    pooled = [(int(r["pooled_inside"]), int(r["pooled"])) for r in first if r["pooled"]]
    return {
        "benchmark": "hidden_truth",
        "chips": len({r["seed"] for r in first}),
        "inside": inside,
        "pooled_share": round(sum(inside.values()) / max(1, len(first)), 4),
        "columns_share": round(sum(p for p, _ in pooled) / max(1, sum(n for _, n in pooled)), 4),
        "predictions": len(second),
        "predictions_inside": sum(int(r["inside"]) for r in second),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", action="store_true")
    parser.add_argument("--predictions", action="store_true")
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if options.parameters:
        there = {int(r["seed"]) for r in read_table(PARAMETERS)}
        for seed in (s for s in seeds if s not in there):
            rows = list(parameter_rows(seed))
            append(PARAMETERS, FIRST_FIELDS, rows)
            print(json.dumps({"seed": seed, "outside": [r["parameter"] for r in rows if not r["inside"]]}), flush=True)
    if options.predictions:
        done = {(int(r["seed"]), r["network"]) for r in read_table(PREDICTIONS)}
        for seed in seeds:
            left = [n for n in options.networks.split(",") if (seed, n) not in done]
            for answer in prediction_rows(seed, left) if left else ():
                append(PREDICTIONS, SECOND_FIELDS, [answer])
                print(json.dumps(answer), flush=True)
    print(json.dumps(summary()))


if __name__ == "__main__":
    main()
