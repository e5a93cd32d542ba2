"""False alarms and detections of the warning that a tune is not one that virtual chips get, and what a tune absorbs.

    python benchmarks/tune_plausibility.py [--record FILE] [--chips 200] [--out FILE]
    python benchmarks/tune_plausibility.py --table FILE

Virtual chips of the bundled network are drawn from a record of ``lab-128`` (default: calibrated here from one emulated
chip), programmed again, fast simulation, each tuned to its own answers to 64 stored training images. Each chip's lines
are compared with those of the 20 chips drawn before it: as it is, for false alarms, and with an effect in its level
sums that the simulator does not know, for detections. One JSON line a chip; those that --out has are left out.
``--table`` prints shares of a file.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

import hil
from cim.intervals import wilson
from cim.record.calibration import CalibrationRecord
from cim.record.file import load_record
from hil.calibration.procedure import calibrate
from hil.deployment.deploy import program_of
from hil.simulation.virtual_chip import TUNE_IMAGES, VirtualChip
from hil.simulation.virtual_chips import VirtualChips
from hil.verdict.tuning import summarise_tune
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe
from mapping.tune.channel_affine import TuneTargets, tune_channels, tune_targets

AGE_S, SEED, OTHERS, IMAGES, CHIP_SEED = 3600.0, 11, 20, 64, 301
Sums = NDArray[np.float64]


def gain_of_all(y: Sums, size: float, rng: np.random.Generator) -> Sums:
    return y * (1.0 - size)


def gain_of_each(y: Sums, size: float, rng: np.random.Generator) -> Sums:
    return y * (1.0 + size * rng.standard_normal((1, y.shape[1], 1)))


def offset_of_each(y: Sums, size: float, rng: np.random.Generator) -> Sums:
    return y + size * float(y.std()) * rng.standard_normal((1, y.shape[1], 1))


def loss_along_outputs(y: Sums, size: float, rng: np.random.Generator) -> Sums:
    return y * (1.0 - size * np.linspace(0.0, 1.0, y.shape[1])[None, :, None])


def compression(y: Sums, size: float, rng: np.random.Generator) -> Sums:
    return y * (1.0 - size * np.abs(y) / max(float(np.abs(y).max()), 1e-9))


EFFECTS: dict[str, tuple[Callable[[Sums, float, np.random.Generator], Sums], tuple[float, ...]]] = {
    "gain of all outputs": (gain_of_all, (0.05, 0.2)),
    "gain of each output": (gain_of_each, (0.05, 0.2)),
    "offset of each output": (offset_of_each, (0.05, 0.2)),
    "loss along the outputs": (loss_along_outputs, (0.05, 0.2)),
    "compression": (compression, (0.2,)),
}


class Changed:
    """A virtual chip whose level sums an effect changes, the same one in every read; satisfies ``Multiply``."""

    def __init__(self, chip: VirtualChip, effect: str, size: float) -> None:
        self._chip, self._effect, self._size = chip, EFFECTS[effect][0], size

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        sums = self._chip.sums(step, codes, sample)
        rng = np.random.default_rng([self._chip.number, list(self._chip.layers).index(step.name)])
        flat = sums.reshape(*sums.shape[:2], -1).astype(np.float64)
        return np.rint(self._effect(flat, self._size, rng)).reshape(sums.shape).astype(np.int32)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--record", type=Path)
    ask.add_argument("--chips", type=int, default=200)
    ask.add_argument("--out", type=Path, default=Path("tune_plausibility.jsonl"))
    ask.add_argument("--table", type=Path)
    given = ask.parse_args()
    if given.table:
        print(table(given.table))
        return
    program, _ = program_of(None, chip="lab-128", macros=None, trust=False, watch=Watch())
    record = record_of(program, given.record)
    targets = tune_targets(program, program.calibration_images[:IMAGES])
    stored = given.out.read_text("utf-8").splitlines() if given.out.exists() else []
    first = max((json.loads(line)["chip"] + 1 for line in stored), default=OTHERS)
    row = VirtualChips(
        program, record, Recipe(age_s=AGE_S), given.chips + OTHERS, SEED, inputs=training_inputs(program), mode="fast"
    )
    before: deque[Any] = deque(maxlen=OTHERS)
    for number in range(first - OTHERS, given.chips + OTHERS):
        chip = row.chip(number)

        def lines(source: Any) -> list[Any]:
            return list(tune_channels(program, targets, source, sample=TUNE_IMAGES).fits)

        own = lines(chip)
        if number >= first:
            found = {"none": said(own, before, targets)}
            for effect, (_, sizes) in EFFECTS.items():
                for size in sizes:
                    found[f"{effect} {100 * size:g} %"] = said(lines(Changed(chip, effect, size)), before, targets)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"chip": number, "effects": found}) + "\n")
        before.append(own)


def record_of(program: ConductanceProgram, path: Path | None) -> CalibrationRecord:
    if path is not None:
        return load_record(path)
    with hil.open_chip(f"emulated:lab-128?seed={CHIP_SEED}", spec=program.spec) as chip:
        return calibrate(chip, program.macros, age_s=AGE_S)


def said(own: list[Any], others: deque[Any], targets: TuneTargets) -> dict[str, Any]:
    """Whether a tune is warned of, its farthest layer, and errors of the sums without and with the lines, by layer."""
    found = summarise_tune(own, list(others), targets)
    return {
        "warned": bool(found.warnings),
        "effect": round(max(layer.effect or 0.0 for layer in found.layers), 4),
        "farthest": round(max(layer.distance or 0.0 for layer in found.layers), 2),
        "before": round(float(np.mean([layer.before for layer in found.layers])), 4),
        "after": round(float(np.mean([layer.after for layer in found.layers])), 4),
    }


def table(path: Path) -> str:
    """Shares of chips that were warned of, with 95 % intervals, and errors that lines leave."""
    rows = [json.loads(line)["effects"] for line in path.read_text("utf-8").splitlines()]
    lines = [f"{len(rows)} chips"]
    for effect in rows[0]:
        every = [row[effect] for row in rows]
        warned = sum(one["warned"] for one in every)
        low, high = wilson(warned, len(every))
        without, within = (100.0 * float(np.mean([one[k] for one in every])) for k in ("before", "after"))
        lines.append(
            f"{effect:<30} warned {100 * warned / len(every):5.1f} % ({100 * low:.1f} … {100 * high:.1f})"
            f"   error of the sums {without:.1f} → {within:.1f} %"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
