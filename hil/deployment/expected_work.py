"""The stages of a deployment before the first of them, and about how long each takes: what progress is told by.

Work is in seconds of one core with an emulated chip; the pace of a run corrects it on the way (``hil.watch``).
"""

from __future__ import annotations

from cim.simulator.modes import SimulationMode
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

# Seconds of one core by unit of work: the lines of hil deploy --emulated --recalibrate, over what the stages did.
WRITE_CELL_S, READ_CELL_S, CORRECT_CELL_S = 2.2e-5, 1e-8, 2e-6
MEASURE_CONVERSION_S, IDEAL_CONVERSION_S = 1.4e-8, 1e-9
SIMULATE_CONVERSION_S = {SimulationMode.FAST: 1.2e-9, SimulationMode.EXACT: 3.2e-9}
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
REPORT_S, LEAST_S = 1.0, 0.05


def expected_stages(
    driver: ChipDriver, program: ConductanceProgram, options: DeployOptions, looks: tuple[int, ...], *, calibrate: bool
) -> tuple[PlannedStage, ...]:
    """Stages of a deployment on the chip behind ``driver``, to the report; what may not be needed counts by its chance.

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

    def simulated(images: float, chips: float, mode: SimulationMode = SimulationMode.EXACT) -> float:
        return images * chips * SIMULATE_CONVERSION_S[mode] * conversions

    stages: list[PlannedStage] = []

    if calibrate:
        sets = usual_sets(driver, program.macros, PLANS[Budget.DEFAULT], options.age_s, False)
        stages.append(PlannedStage("calibrating", sum(s.weight for s in sets), driver.lasting_s(options.age_s)))
    share = 1.0 / program.rounds
    for counted in count_recipe(program, options.recipe_of(program)).rounds:
        for stage in counted:
            work_s = slow * (stage.written * WRITE_CELL_S + stage.readings * READ_CELL_S)
            work_s += share * CORRECT_CELL_S * all_cells if stage.name == "correcting" else 0.0
            if stage.images:
                stages.append(PlannedStage("without the tune", share * measured(untuned)))
                work_s += share * measured(stage.images)
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
        images, first = chance * (until - first), until
        chance *= FURTHER_LOOK
        stages.append(PlannedStage("ideal", images * IDEAL_CONVERSION_S * conversions + LEAST_S))
        meanwhile = 0.0  # of the simulation, which runs while the chip measures
        if program.rounds == 1:
            meanwhile = measured(options.repeats * images)
            stages.append(PlannedStage("measuring", meanwhile))
        left = simulated(images, 2 * options.virtual_chips, mode) - meanwhile
        stages.append(PlannedStage("simulating", max(left, LEAST_S)))
    if program.rounds == 1:
        stages += [layers, reading]
    stages.append(PlannedStage("layers", simulated(options.layer_images + tune_images, LAYER_CHIPS)))
    if untuned:
        stages.append(PlannedStage("without the tune", simulated(untuned, UNTUNED_CHIPS)))
        stages.append(PlannedStage("comparing tunes", simulated(tune_images, options.virtual_chips)))
    if options.causes:
        stages.append(PlannedStage("finding causes", CAUSES * simulated(options.cause_images, COALITIONS, mode)))
    return (*stages, PlannedStage("reporting", REPORT_S))
