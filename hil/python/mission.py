"""A payload in orbit from Python: ``mission``, its budgets beside what a network needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.pages.summary import Summary
from hil.payload.budget import MissionBudget
from hil.payload.budget_text import budget_summary
from hil.payload.check import check_subject, planned_check
from hil.payload.requirements import load_mission
from hil.payload.subject import AS_STORED, Subject, open_subject, recipe_of_program
from hil.python.files import Known
from hil.python.networks import CompiledNetwork
from hil.python.progress import progress
from hil.python.runs import record_of
from hil.python.samples import Samples, samples_of
from hil.python.shown import Shown, needed
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram

if TYPE_CHECKING:
    from pandas import DataFrame

FEW = DeployOptions(samples=500)


@dataclass(frozen=True)
class Mission(Shown, MissionBudget):
    """The limits of a mission beside what a network needs: ``lines``, of which some are ``broken`` or ``open``.

    Example:
        >>> mission.mission, len(mission.broken)
        ('scene-classifier', 0)
    """

    def to_frame(self) -> DataFrame:
        """A row for each limit: value, limit, unit, margin (a share of the limit), and whether it is kept.

        Returns:
            a frame by the names of the limits.

        Raises:
            hil.UsageError: pandas is not installed.

        Example:
            >>> set(mission.to_frame()["status"]) <= {"kept", "broken", "open"}
            True
        """
        rows = {line.name: (line.value, line.limit, line.unit, line.margin, str(line.status)) for line in self.lines}
        columns = ["value", "limit", "unit", "margin", "status"]
        frame: DataFrame = needed("pandas").DataFrame.from_dict(rows, orient="index", columns=columns)
        return frame

    def summary_shown(self) -> Summary:
        """What ``hil mission check`` prints."""
        return budget_summary(self)


def mission(
    network: CompiledNetwork | ConductanceProgram | str | Path,
    plan: str | Path,
    data: Samples | None = None,
    *,
    record: Known = None,
    options: DeployOptions = FEW,
    treated: TechniqueOptions = AS_STORED,
    watch: Watch | None = None,
) -> Mission:
    """Set every limit of a mission beside what a network needs, as ``hil mission check`` does.

    Args:
        network: what ``hil.compile`` gave, a program, a file, or the folder of a run, whose accuracy then counts.
        plan: mission.toml.
        data: samples to simulate the accuracy on; None: it is not simulated.
        record: to simulate from; None: the models of the chip file.
        options: of the simulation.
        treated: to change the recipe of the network or the run by.
        watch: hears stages and progress; None: nobody does.

    Returns:
        every limit with value, margin and source.

    Raises:
        hil.UsageError: the mission names no limit. hil.FileError: a folder that is no run, or a broken file.

    Example:
        >>> mission = hil.mission(program, "mission.toml")
        >>> mission.mission, len(mission.broken)
        ('scene-classifier', 0)
    """
    wanted, measured = load_mission(plan), record_of(record)
    images = None if data is None else samples_of(data)
    with progress(watch) as observer:
        observer.plan(planned_check(images, measured, options))
        if isinstance(network, CompiledNetwork):
            found = Subject(network.program, network.name, recipe_of_program(network.program, treated))
        elif isinstance(network, ConductanceProgram):
            found = Subject(network, "program", recipe_of_program(network, treated))
        else:
            found = open_subject(Path(network), NetworkOptions(), observer, techniques=treated)
        budget = check_subject(found, wanted, images, measured, options, observer)
    return Mission(**{f.name: getattr(budget, f.name) for f in fields(budget)})
