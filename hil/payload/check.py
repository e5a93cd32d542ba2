"""A mission set beside what a network needs: its accuracy simulated, its temperatures, its end, then every limit."""

from __future__ import annotations

from dataclasses import replace

from cim.record.calibration import CalibrationRecord
from hil.datasets.image_set import Dataset
from hil.deployment.options import DeployOptions
from hil.payload.budget import KnownAccuracy, MissionBudget, check_budget
from hil.payload.requirements import MissionPlan
from hil.payload.subject import Subject, known_temperatures, simulated_accuracy
from hil.watch import PlannedStage, Watch


def check_subject(
    found: Subject,
    wanted: MissionPlan,
    images: Dataset | None,
    record: CalibrationRecord | None,
    options: DeployOptions,
    watch: Watch,
    *,
    at_end: KnownAccuracy | None = None,
) -> MissionBudget:
    """Every limit of a mission beside what the network needs.

    Args:
        images: to simulate its accuracy on; None: what its run measured, if it had one.
        record: to simulate from; None: the models of the chip file.
        at_end: accuracy that a campaign promises for the end of the mission.

    Raises:
        UsageError: the mission names no limit.
    """
    accuracy, temperatures = found.accuracy, None
    if images is not None:
        options = replace(options, recipe=found.recipe)
        accuracy = simulated_accuracy(found.program, images, record, options, watch)
        temperatures = known_temperatures(found.program, images, record, wanted.limits, options, watch)
    return check_budget(
        found.program,
        wanted,
        network=found.name,
        accuracy=accuracy,
        accuracy_at_end=at_end,
        temperatures_c=temperatures,
    )


def planned_check(
    images: Dataset | None, record: CalibrationRecord | None, options: DeployOptions
) -> list[PlannedStage]:
    """Stages of a check, and about how long they take."""
    looks = 0 if images is None else 1 if record is None or record.thermal is None else 3
    simulating = PlannedStage("simulating", 0.002 * options.samples * options.virtual_chips)
    return [PlannedStage("compiling", 2.0), *[simulating] * looks]
