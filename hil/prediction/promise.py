"""Prediction interval of one further chip's score, from virtual chips that were not used to choose anything.

    promise = promised(program, record, options, images, targets, task)

The recipe is applied to the program on chips with new random numbers. With y_ci the score of chip c on
image i, S chips, n images, A_c their means, B_i those of the images,

    half² = t(S − 1)² s_A² (1 + 1/S) + 1.96² s_B² / n

is the half of a 95 % interval for one more chip and further images like these: the first term is the spread between
chips, the second the uncertainty from the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.intervals import mean_interval, one_more_half_width
from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.deployment.options import DeployOptions
from hil.prediction.predict import OF_CELLS, VirtualRow, with_nominal_macros
from hil.simulation.chip_workers import THREADS, ChipWorkers
from hil.verdict.tasks.task import Task
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

FRESH = 0xF2E5  # purpose tag of a host's seed: chips that chose nothing


@dataclass(frozen=True, slots=True)
class Promise:
    """Score of one further chip, ``low`` to ``high`` with 95 %; fractions."""

    mean: float
    low: float
    high: float
    chips: int
    images: int

    @property
    def text(self) -> str:
        """76.9 %, one chip in 74.5 … 79.3 % (95 %)."""
        return f"{100 * self.mean:.1f} %, one chip in {100 * self.low:.1f} … {100 * self.high:.1f} % (95 %)"


def promise_of(scores: NDArray[Any]) -> Promise:
    """Prediction interval for one further chip on further images, from scores 0 to 1 (chips, images) of at least two
    chips and images."""
    scores = np.asarray(scores, np.float64)
    each = scores.mean(axis=1)
    mean = float(each.mean())
    of_chips = one_more_half_width(len(each), float(each.std(ddof=1)))
    of_images = mean - mean_interval(scores.mean(axis=0))[0]
    half = float(np.hypot(of_chips, of_images))
    return Promise(mean, max(0.0, mean - half), min(1.0, mean + half), *scores.shape)


def fresh(seed: int) -> int:
    """Seed of new chips, which take no part in any choice of a command with ``seed``."""
    return int(np.random.SeedSequence([seed, FRESH]).generate_state(1)[0])


def answers_of(
    program: ConductanceProgram,
    record: CalibrationRecord,
    options: DeployOptions,
    images: NDArray[np.uint8],
    watch: Watch,
    crew: ChipWorkers = THREADS,
) -> NDArray[np.int32]:
    """Logit codes (chips, n, width) of ``options.virtual_chips``, each treated and tuned as ``hil deploy`` does."""
    unknown = program.macros if record.kind in OF_CELLS else tuple(m for m in program.macros if m not in record.macros)
    known = with_nominal_macros(record, program.spec, program.macros)
    recipe = options.recipe_of(program)
    recipe.check(program, known)
    program = recipe.prepared(program, known, watch)
    targets = recipe.targets(program, watch)
    row = VirtualRow(
        program, known, unknown, (options.age_s,), known.temperature_c, options, SimulationMode.FAST, targets
    )
    found = []
    for number, logits in enumerate(row.run(images, crew)):
        watch.step(number + 1, options.virtual_chips, f"virtual chip {number + 1} of {options.virtual_chips}")
        found.append(logits[0])
    return np.stack(found)


def promised(
    program: ConductanceProgram,
    record: CalibrationRecord,
    options: DeployOptions,
    images: NDArray[np.uint8],
    targets: NDArray[Any],
    task: Task,
    watch: Watch,
    crew: ChipWorkers = THREADS,
) -> Promise:
    """Prediction interval for a program and its recipe, from images and chips not used for training or choices.

    For a metric of the whole set, the interval covers the spread between chips only.
    """
    options = replace(options, seed=fresh(options.seed))
    logits = answers_of(program, record, options, images, watch, crew)
    if task.metric.paired:
        return promise_of(task.scores(logits, targets))
    each = np.asarray(task.totals(task.scores(logits, targets)), np.float64)
    half = one_more_half_width(len(each), float(each.std(ddof=1)))
    mean = float(each.mean())
    return Promise(mean, max(0.0, mean - half), min(1.0, mean + half), len(each), len(images))
