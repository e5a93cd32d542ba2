"""NeuRRAM retrodicted: the loss of its ResNet-20 from software to chip, from published facts alone.

COPY is a copy of ``weierwan/Neurram_48core``, which has no licence: nothing of it is in this tree. The belief is
``benchmarks/studies/outside/neurram.toml``. Virtual chips are drawn from it as ``hil simulate`` draws them, in the fast
mode; columns are corrected from their read-back, and slope and intercept of each channel fitted as the authors did.
Simulated, not measured; what was measured by others stands in MEASURED.

    HIL_DATA=… python benchmarks/studies.py neurram run COPY WORK [--chips 24]  # 12 CPU s a chip; resumes
    python benchmarks/studies.py neurram report WORK  # shares, sensitivities, intervals: one JSON line
    HIL_DATA=… python benchmarks/studies.py neurram columns COPY WORK  # residuals about lines of columns
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cached_rows import made_by
from neurram_networks import WRITTEN, network_of, revision_of
from numpy.typing import NDArray
from scipy.special import stdtrit

from cim.chip.file import load_chip
from cim.intervals import one_more_half_width
from cim.record.ignorance import BeliefPoints
from cim.record.published import nominal_record
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import load_dataset
from hil.deployment.options import DeployOptions
from hil.prediction.predict import VirtualRow, points_of
from hil.prediction.shares import shares
from hil.simulation.virtual_chip import TUNE_IMAGES
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.graph import Preprocess
from mapping.operators.integer.scales import requantise_by
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, Multiply, apply, input_codes, run
from mapping.program.file import load_program, program_digest, save_program
from mapping.program.partial_run import PartialRun
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule

BELIEF = Path(__file__).with_name("neurram.toml")
MEASURED = {"all": 87.82 - 83.52, "part": 87.82 - 84.72}  # points lost by the chip, of 10,000 images
SOFT_FROM = "blocks.6.short.conv"  # of "part": this shortcut and all behind blocks.6.second were run in software
LAST_ON_CHIP = "blocks.6.second.conv"
AGE_S = 86400.0
CODES_A_UNIT = 6.0  # of the layers whose slopes are printed: 4.5 to 9.1, 5.9 and 6.2 on average
IMAGES, TRAINING_IMAGES, FITTED_IMAGES = 1000, 512, 128
RESIDUAL_IMAGES = 48
PRINTED_RESIDUALS = {"blocks.1.second.conv": 0.13, "blocks.6.second.conv": 0.13}  # means of the columns of one segment
RESIDUAL_DOUBT = 0.1  # share by which a layer's mean may differ from that of the few columns that are printed
LEAST_SLOPE = 0.1  # a channel that hardly answers keeps its line


def program_of(copy: Path, work: Path) -> ConductanceProgram:
    """The network that was written, compiled once: one scale a layer, ends of activations as they were trained."""
    path = work / "program.h5"
    if not path.exists():
        graph = capture(
            network_of(copy, WRITTEN),
            torch.zeros(1, 3, 32, 32),
            preprocess=Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            classes=tuple("0123456789"),
        )
        images = load_dataset("cifar10", "train", limit=TRAINING_IMAGES).images
        compiled = compile_network(NetworkFile(graph, 8, 4, images), load_chip(str(BELIEF)), scale_rule=ScaleRule.LAYER)
        save_program(with_their_slopes(compiled), path)
    return load_program(path)


def codes_a_unit(program: ConductanceProgram, step: MatrixStep, range_code: int) -> float:
    """Codes of the converter that one unit of a layer's output makes."""
    macro, rule = program.spec.macro, step.requantise
    by_level = program.scales[step.name] * float(np.median(rule.multiplier / 2.0**rule.shift))
    return macro.level_step_us / macro.lsb_us(range_code) / by_level


def with_their_slopes(program: ConductanceProgram) -> ConductanceProgram:
    """Each layer at the converter range nearest to the slopes of the test software, instead of the best one."""

    def at_range(step: MatrixStep) -> MatrixStep:
        ranges = range(len(program.spec.macro.adc.full_scales_us))
        off = [abs(np.log(codes_a_unit(program, step, code) / CODES_A_UNIT)) for code in ranges]
        return replace(step, group=replace(step.group, range_code=int(np.argmin(off))))

    steps = tuple(at_range(step) if isinstance(step, MatrixStep) else step for step in program.steps)
    changed = replace(program, steps=steps, digest="")
    return replace(changed, digest=program_digest(changed))


class PartOnChip:
    """Products of the first layers from a chip, the others exact."""

    def __init__(self, chip: Multiply, exact: Multiply, soft: frozenset[str]) -> None:
        self.chip, self.exact, self.soft = chip, exact, soft

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return (self.exact if step.name in self.soft else self.chip).sums(step, codes, sample)


def soft_layers(program: ConductanceProgram) -> frozenset[str]:
    names = [step.name for step in program.matrices]
    behind = names[max(names.index(SOFT_FROM), names.index(LAST_ON_CHIP)) + 1 :]
    return frozenset({SOFT_FROM, *behind})


def with_fitted_lines(
    program: ConductanceProgram, chip: Multiply, values: dict[str, NDArray[Any]], first: int = 0, until: str = ""
) -> ConductanceProgram:
    """The program with slope and intercept of each channel as the test software fits them: layer after layer, the
    chip's sums of its own inputs against the products that those inputs should give, on stored training images.

    Args:
        values: codes of these images by result, as they are before step ``first``; those behind it are added.
        until: last step to fit; the last of all where none is named.
    """
    exact, steps = IdealMultiply(program), list(program.steps)
    for number, step in enumerate(steps[first:], first):
        if isinstance(step, MatrixStep):
            codes = values[step.inputs[0]]
            seen, wanted = (by.sums(step, codes, TUNE_IMAGES).astype(float) for by in (chip, exact))
            places = (0, *range(2, seen.ndim))
            away = wanted - wanted.mean(places, keepdims=True)
            slope = (away * seen).sum(places) / np.maximum((away**2).sum(places), 1.0)
            slope = np.where(slope > LEAST_SLOPE, slope, 1.0)
            intercept = seen.mean(places) - slope * wanted.mean(places)
            rule = step.requantise
            scale = rule.multiplier / 2.0**rule.shift / slope
            bias = np.rint(step.bias * slope - intercept).astype(np.int32)
            steps[number] = step = replace(step, bias=bias, requantise=requantise_by(scale, rule.low, rule.high))
        values[step.name] = apply(step, values, chip, TUNE_IMAGES, layers=program.layers)
        if step.name == until:
            break
    return replace(program, steps=tuple(steps))


def row_of(program: ConductanceProgram, chips: int) -> VirtualRow:
    """Virtual chips of the belief, and the program as it is written to them."""
    options = DeployOptions(samples=IMAGES, virtual_chips=chips, age_s=AGE_S, all_images=True)
    points = points_of(program.spec, options)
    if points is None:
        raise ValueError(f"{BELIEF} has no ranges")
    record = nominal_record(program.spec, program.macros)
    program = replace(options.recipe_of(program), age_s=AGE_S).prepared(program, record, Watch())
    return VirtualRow(program, record, program.macros, (AGE_S,), 25.0, options, SimulationMode.FAST, points=points)


def run_chips(copy: Path, work: Path, chips: int, first: int) -> None:
    """Every virtual chip's answers, one file each; what is there is not done again."""
    work.mkdir(parents=True, exist_ok=True)
    made = {"belief": hashlib.sha256(BELIEF.read_bytes()).hexdigest(), "commit": made_by()["commit"]}
    data = load_dataset("cifar10", "test", limit=IMAGES)
    images, labels = data.images, data.labels
    program = program_of(copy, work)
    head = work / "software.npz"
    if not head.exists():
        with torch.no_grad():
            pixels = torch.tensor(images).permute(0, 3, 1, 2).float() / 255.0
            software = network_of(copy, WRITTEN)(pixels).argmax(1).numpy() == labels
        ideal = run(program, images, IdealMultiply(program)).argmax(1) == labels
        np.savez(head, software=software, ideal=ideal, revision=revision_of(copy))
        print(f"software {software.mean():.3f}, ideal {ideal.mean():.3f}", flush=True)
    row = row_of(program, chips)
    program, points = row.program, row.points
    assert points is not None
    inputs, soft, exact = training_inputs(program), soft_layers(program), IdealMultiply(program)
    before = program.steps[[s.name for s in program.steps].index(SOFT_FROM) - 1].name
    last = program.steps[-1].name
    for number in range(first, chips):
        path = work / f"chip-{number:03d}.npz"
        if path.exists():
            continue
        started = time.process_time()
        ((_, chip),) = row.ready(number, inputs)
        codes = input_codes(program.calibration_images[:FITTED_IMAGES], program.input)
        tuned = with_fitted_lines(program, chip, {"input": codes})
        begun = PartialRun({"input": input_codes(images, tuned.input)})
        begun.go_on(tuned, before, chip)
        whole = PartialRun(begun.values, begun.done)
        whole.go_on(tuned, last, chip)
        steps = {step.name: step for step in program.steps}
        mixed = replace(tuned, steps=tuple(steps[s.name] if s.name in soft else s for s in tuned.steps))
        part = PartialRun(begun.values, begun.done)
        part.go_on(mixed, last, PartOnChip(chip, exact, soft))
        right = {name: done.values[last].argmax(1) == labels for name, done in (("all", whole), ("part", part))}
        np.savez(path, **right, names=np.array(points.names), point=points.values[number], **made)
        words = ", ".join(f"{name} {found.mean():.3f}" for name, found in right.items())
        print(f"chip {number}: {words}, {time.process_time() - started:.0f} CPU s", flush=True)


def column_residuals(copy: Path, work: Path, chips: int) -> list[dict[str, Any]]:
    """Residuals of columns about their line, in units of the layer's output, as the test software prints them; of a
    layer's sum here, divided by the root of its segments. One file a chip; what is there is not done again."""
    program = program_of(copy, work)
    row = row_of(program, chips)
    program = row.program
    exact, found = IdealMultiply(program), []
    values: dict[str, NDArray[Any]] = {
        "input": input_codes(program.calibration_images[:RESIDUAL_IMAGES], program.input)
    }
    for step in program.steps:
        values[step.name] = apply(step, values, exact, 0, layers=program.layers)
    for number in range(chips):
        path, rows = work / f"columns-{number:03d}.json", []
        if path.exists():
            found += json.loads(path.read_text())
            continue
        ((_, chip),) = row.ready(number, training_inputs(program))
        for step in program.matrices:
            if step.name not in PRINTED_RESIDUALS:
                continue
            codes = values[step.inputs[0]]
            seen, wanted = (by.sums(step, codes, 0).astype(float) for by in (chip, exact))
            places = (0, *range(2, seen.ndim))
            away, moved = (part - part.mean(places, keepdims=True) for part in (wanted, seen))
            slope = (away * moved).sum(places, keepdims=True) / (away**2).sum(places, keepdims=True)
            unit = (
                1.0 / codes_a_unit(program, step, 0) * program.spec.macro.level_step_us / program.spec.macro.lsb_us(0)
            )
            rest = np.sqrt(((moved - slope * away) ** 2).mean(places)) / np.abs(slope.ravel()) * unit
            rest /= np.sqrt(len(step.group.tiles))
            rows.append(
                {
                    "chip": number,
                    "layer": step.name,
                    "printed": PRINTED_RESIDUALS[step.name],
                    "residual": round(float(rest.mean()), 3),
                    "low": round(float(rest.min()), 3),
                    "high": round(float(rest.max()), 3),
                }
            )
        path.write_text(json.dumps(rows))
        found += rows
    return found


def columns_beside(work: Path) -> dict[str, Any]:
    """Residuals of columns beside the printed ones, by layer: mean, lowest and highest column, over chips."""
    rows = [row for path in sorted(work.glob("columns-*.json")) for row in json.loads(path.read_text())]
    found = {}
    for layer, printed in PRINTED_RESIDUALS.items():
        mine = [row for row in rows if row["layer"] == layer]
        if mine:
            means = np.array([row["residual"] for row in mine])
            found[layer] = {
                "chips": len(mine),
                "printed": printed,
                "mean": round(float(means.mean()), 3),
                "off": round(float(means.mean()) / printed - 1.0, 3),
                "lowest_column": round(float(np.mean([row["low"] for row in mine])), 3),
                "highest_column": round(float(np.mean([row["high"] for row in mine])), 3),
                "of_chips": [round(float(means.min()), 3), round(float(means.max()), 3)],
                "chips_within_a_quarter": int((np.abs(means / printed - 1.0) <= 0.25).sum()),
            }
    return found


def report(work: Path) -> dict[str, Any]:
    """The loss beside the chip's, with the shares of images, chips and ignorance."""
    head = np.load(work / "software.npz")
    files = [np.load(path) for path in sorted(work.glob("chip-*.npz"))]
    points = np.stack([file["point"] for file in files])
    names = tuple(str(name) for name in files[0]["names"])
    made = {tuple(str(file[key]) for key in ("belief", "commit")) for file in files}
    if len(made) > 1:
        raise SystemExit(f"rows of {len(made)} beliefs or commits: {sorted(made)}")
    about = load_chip(str(BELIEF)).models
    if about is None:
        raise ValueError(f"{BELIEF} has no [models]")
    ends = np.array([about.ranges[name] for name in names])
    places = (points - ends[:, 0]) / (ends[:, 1] - ends[:, 0])
    belief = BeliefPoints(names, ends[:, 0], ends[:, 1], places)
    found: dict[str, Any] = {
        "outside": {"repository": "weierwan/Neurram_48core", "revision": str(head["revision"])},
        **dict(zip(("belief", "commit"), made.pop(), strict=True)),
        "date": time.strftime("%Y-%m-%d"),
        "chips": len(files),
        "images": len(head["software"]),
        "software": float(head["software"].mean()),
        "ideal": float(head["ideal"].mean()),
        "columns": columns_beside(work),
    }
    for which, measured in MEASURED.items():
        lost = 100.0 * (head["software"].astype(float) - np.stack([file[which] for file in files]))  # (chips, images)
        of_chips = lost.mean(1)
        parts = shares(belief, of_chips)
        images_sd = float(lost.mean(0).std(ddof=1) / np.sqrt(lost.shape[1]))  # of the mean over chips, by images
        sd = float(np.hypot(of_chips.std(ddof=1), images_sd))
        half = one_more_half_width(len(files), sd)
        found[which] = {
            "measured": measured,
            "retrodicted": float(of_chips.mean()),
            "low": float(of_chips.mean()) - half,
            "high": float(of_chips.mean()) + half,
            "half_width": half,
            "inside": bool(abs(of_chips.mean() - measured) <= half),
            "sd": {
                "images": images_sd,
                "chips": None if parts is None else float(parts.sd * np.sqrt(parts.chips)),
                "ignorance": None if parts is None else float(parts.sd * np.sqrt(parts.ignorance)),
            },
            "values": None if parts is None else parts.to_json()["values"],
            "over_range": over_ranges(belief, of_chips),
            "given_residual": given_residual(work, of_chips, images_sd),
            "of_chips": [round(value, 2) for value in of_chips.tolist()],
        }
    return found


def given_residual(work: Path, lost: NDArray[np.float64], images_sd: float) -> dict[str, float] | None:
    """Loss of chips whose columns have the residual that is printed: beside the prediction, which was made without it.

    lost = a + b r² over virtual chips, r the mean residual of both layers; asked at the printed r, known to a tenth.
    """
    files = [work / f"columns-{int(path.stem[-3:]):03d}.json" for path in sorted(work.glob("chip-*.npz"))]
    if not all(path.exists() for path in files):
        return None
    residuals = np.array([np.mean([row["residual"] for row in json.loads(path.read_text())]) for path in files])
    printed, n = float(np.mean(list(PRINTED_RESIDUALS.values()))), len(lost)
    columns = np.column_stack([np.ones(n), residuals**2])
    fit, squares, _, _ = np.linalg.lstsq(columns, lost, rcond=None)
    at = np.array([1.0, printed**2])
    spread = float(squares[0]) / (n - 2) * (1.0 + at @ np.linalg.inv(columns.T @ columns) @ at)
    doubt = 2.0 * fit[1] * printed * RESIDUAL_DOUBT * printed
    half = float(stdtrit(n - 2, 0.975)) * float(np.sqrt(spread + doubt**2 + images_sd**2))
    middle = float(at @ fit)
    return {
        "residual_lowest": float(residuals.min()),
        "residual_highest": float(residuals.max()),
        "correlation": float(np.corrcoef(residuals**2, lost)[0, 1]),
        "retrodicted": middle,
        "low": middle - half,
        "high": middle + half,
        "half_width": half,
    }


def over_ranges(belief: BeliefPoints, lost: NDArray[np.float64]) -> list[dict[str, Any]] | None:
    """Points lost more at the highest than at the lowest of each value, all fitted at once, and the standard error."""
    chips, count = belief.places.shape
    if chips < count + 4:
        return None
    columns = np.column_stack([np.ones(chips), belief.places - 0.5])
    fit, squares, _, _ = np.linalg.lstsq(columns, lost, rcond=None)
    error = np.sqrt(float(squares[0]) / (chips - count - 1) * np.diag(np.linalg.inv(columns.T @ columns))[1:])
    return [
        {
            "value": belief.names[i],
            "low": float(belief.low[i]),
            "high": float(belief.high[i]),
            "points": round(float(fit[i + 1]), 2),
            "standard_error": round(float(error[i]), 2),
        }
        for i in np.argsort(-np.abs(fit[1:]))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report", "columns"))
    parser.add_argument("places", nargs="+", type=Path, help="COPY WORK, or WORK of a report")
    parser.add_argument("--chips", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="chip to begin with; parts may run side by side")
    given = parser.parse_args()
    if given.what == "report":
        print(json.dumps(report(given.places[0])))
    elif given.what == "columns":
        print(json.dumps(column_residuals(*given.places, given.chips)))
    else:
        run_chips(*given.places, given.chips, given.first)


if __name__ == "__main__":
    main()
