"""The stages of a deployment and about how long each takes, known before the first begins: progress goes by them.

Work is counted in seconds of the machine on which its units were measured and scaled to this one by a piece of
work of some milliseconds (``machine_pace``); the pace of a run corrects it on the way (``hil.watch``).
"""

from __future__ import annotations

import functools
import os
import timeit
from dataclasses import replace

import numpy as np

from cim.simulator.modes import SimulationMode
from firmware_protocols.messages import Capability
from hil.calibration.dry_run import SLOW_LINE, usual_sets
from hil.calibration.plan import PLANS, Budget
from hil.deployment.build_report import LAYER_CHIPS
from hil.deployment.deployment import mode_of
from hil.deployment.options import DeployOptions
from hil.deployment.targets.counted import count_recipe
from hil.deployment.without_tune import UNTUNED_CHIPS
from hil.driver.chip_driver import ChipDriver
from hil.transports import is_serial
from hil.watch import PlannedStage
from mapping.program.conductance import ConductanceProgram
from mapping.program.counts import tile_counts, total

# Seconds of one core by unit of work: stages of benchmarks/studies/networks/forecasts.py, over what they did.
WRITE_CELL_S, READ_CELL_S, CORRECT_CELL_S = 7e-6, 1e-8, 5e-7
MEASURE_CONVERSION_S, TUNE_CONVERSION_S, IDEAL_CONVERSION_S = 1.4e-8, 2.5e-8, 1e-9
SIMULATE_CONVERSION_S = {SimulationMode.FAST: 2e-10, SimulationMode.EXACT: 1.1e-9}
DRAW_CELL_S = 4e-7  # a cell of a virtual chip
# What a deployment is told by: its phases, each with its stages, the one that it is named for first.
PHASES = {
    "compile": ("compiling",),
    "calibrate": ("calibrating",),
    "write": ("programming", "reading back", "correcting", "waiting"),
    "tune": ("tuning", "without the tune"),
    "measure": ("measuring", "ideal", "simulating"),
    "compare": ("layers", "comparing tunes"),
    "explain": ("finding causes", "reporting"),
}
COALITIONS = 60.0  # virtual chips of all causes together, beside those of the verdict
FURTHER_LOOK, CAUSES = 0.25, 0.3  # chances that a look does not decide, and that a loss is seen whose causes are sought
REPORT_S, LEAST_S, KERNELS_S = 0.4, 0.05, 1.4
SHORT_WORK_S = 2.6e-3  # what machine_pace repeats, on the machine of the units above: machine_s / 20, not timed there


@functools.cache
def machine_pace() -> float:
    """Time of this machine for what took 1 s where the units of work were measured: the best of nine short works."""

    def work() -> None:
        counts: dict[int, int] = {}
        for number in range(20_000):
            counts[number % 977] = counts.get(number % 977, 0) + number
        values = np.arange(20_000.0)
        for _ in range(20):
            values = np.sqrt(values * 1.000_1 + 1.0)

    return min(timeit.repeat(work, repeat=9, number=1)) / SHORT_WORK_S


def _on_this_machine(stages: list[PlannedStage]) -> tuple[PlannedStage, ...]:
    return tuple(replace(stage, work_s=stage.work_s * machine_pace()) for stage in stages)


def simulation_s(
    program: ConductanceProgram,
    images: float,
    chips: float,
    mode: SimulationMode = SimulationMode.EXACT,
    tune_images: int = 0,
) -> float:
    """Time that virtual chips take on all cores to be drawn, tuned and run, s."""
    cells = len(program.slots) * program.spec.macro.rows * program.spec.macro.columns
    by_mode = tune_images * SIMULATE_CONVERSION_S[SimulationMode.EXACT] + images * SIMULATE_CONVERSION_S[mode]
    each_s = DRAW_CELL_S * cells + by_mode * total(tile_counts(program)).conversions
    return chips * each_s / max(min(os.cpu_count() or 1, chips), 1)


def expected_prediction(
    program: ConductanceProgram, options: DeployOptions, ages: int, mode: SimulationMode
) -> tuple[PlannedStage, ...]:
    """Stages of a prediction of a compiled network, without a chip."""
    tune_images = len(options.recipe_of(program).tune_images(program))
    work_s = ages * simulation_s(program, options.samples, options.virtual_chips, mode, tune_images)
    return _on_this_machine([PlannedStage("simulating", KERNELS_S + work_s)])


def expected_stages(
    driver: ChipDriver, program: ConductanceProgram, options: DeployOptions, looks: tuple[int, ...], *, calibrate: bool
) -> tuple[PlannedStage, ...]:
    """Stages of a deployment on the chip behind ``driver``; one that may be skipped counts with its probability.

    Args:
        looks: image counts of the interim analyses, ascending.
        calibrate: whether the chip is calibrated first.
    """
    silicon = driver.description.kind == "silicon"
    slow = SLOW_LINE if silicon or is_serial(driver.address) else 1.0
    all_cells = len(program.slots) * program.spec.macro.rows * program.spec.macro.columns
    conversions = total(tile_counts(program)).conversions
    tune_images = len(options.recipe.tune_images(program))
    untuned = min(options.untuned_images, looks[-1]) if tune_images else 0
    reading = PlannedStage("reading back", slow * options.read_back_reads * READ_CELL_S * all_cells)
    layers = PlannedStage("layers", slow * 2 * options.layer_images * MEASURE_CONVERSION_S * conversions)

    def measured(images: float) -> float:
        return slow * images * MEASURE_CONVERSION_S * conversions

    stages: list[PlannedStage] = []

    if calibrate:
        sets = usual_sets(driver, program.macros, PLANS[Budget.DEFAULT], options.age_s, False)
        stages.append(PlannedStage("calibrating", sum(s.weight for s in sets), driver.lasting_s(options.age_s)))
    share = 1.0 / program.rounds
    by_taps = program.rounds == 1 and Capability.PLAN in driver.capabilities  # each layer from the first on
    passes = (len(program.matrices) + 1) / 2 if by_taps else share
    for counted in count_recipe(program, options.recipe_of(program)).rounds:
        for stage in counted:
            work_s = slow * (stage.written * WRITE_CELL_S + stage.readings * READ_CELL_S)
            work_s += share * CORRECT_CELL_S * all_cells if stage.name == "correcting" else 0.0
            if stage.images:
                stages.append(PlannedStage("without the tune", share * measured(untuned)))
                work_s += slow * passes * stage.images * TUNE_CONVERSION_S * conversions
            stages.append(PlannedStage(stage.name, max(work_s, LEAST_S), driver.lasting_s(stage.wait_s)))
        if program.rounds > 1:
            stages += [
                PlannedStage("measuring", share * measured(options.repeats * looks[-1])),
                PlannedStage("layers", share * layers.work_s),
                PlannedStage("reading back", share * reading.work_s),
            ]
    mode = mode_of(program, options, tuned=bool(tune_images))
    first, chance = 0, 1.0
    for until in looks if program.rounds == 1 else looks[-1:]:
        images, likely, first = chance * (until - first), chance, until
        chance *= FURTHER_LOOK
        stages.append(PlannedStage("ideal", images * IDEAL_CONVERSION_S * conversions + LEAST_S))
        meanwhile = 0.0  # of the simulation, which runs while the chip measures
        if program.rounds == 1:
            meanwhile = measured(options.repeats * images)
            stages.append(PlannedStage("measuring", meanwhile))
        others = 1.0 - 1.0 / (os.cpu_count() or 1)  # share of the cores that the chip leaves
        left = (
            likely * simulation_s(program, images / likely, 2 * options.virtual_chips, mode, tune_images)
            - others * meanwhile
        )
        stages.append(PlannedStage("simulating", max(left, LEAST_S)))
    if program.rounds == 1:
        stages += [layers, reading]
    stages.append(
        PlannedStage("layers", simulation_s(program, options.layer_images, LAYER_CHIPS, tune_images=tune_images))
    )
    if untuned:
        stages.append(PlannedStage("without the tune", simulation_s(program, untuned, UNTUNED_CHIPS)))
        stages.append(PlannedStage("comparing tunes", simulation_s(program, tune_images, options.virtual_chips)))
    if options.causes:
        stages.append(
            PlannedStage("finding causes", CAUSES * simulation_s(program, options.cause_images, COALITIONS, mode))
        )
    return _on_this_machine([*stages, PlannedStage("reporting", REPORT_S)])
