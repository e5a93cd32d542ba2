"""The network of a mission command: a network file, a compiled program, or the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.datasets.image_set import Dataset
from hil.deployment.adaptation import refuse_residual
from hil.deployment.deployment import PROGRAM_FILE
from hil.deployment.network_source import program_of
from hil.deployment.options import USUAL_RECIPE, DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import FileError
from hil.payload.budget import KnownAccuracy
from hil.prediction.predict import predict
from hil.verdict.baseline import read_baseline
from hil.watch import Watch
from mapping.program.conductance import ConductanceProgram
from mapping.recipe.recipe import Recipe

AS_STORED = TechniqueOptions()
LOW_SHARE = 5.0  # percentile of virtual chips that is counted on


@dataclass(frozen=True, slots=True)
class Subject:
    """A program, its name, its recipe on a chip, and the accuracy measured by its run (None: no run)."""

    program: ConductanceProgram
    name: str
    recipe: Recipe = USUAL_RECIPE
    accuracy: KnownAccuracy | None = None


def recipe_of_program(program: ConductanceProgram, asked: TechniqueOptions, run: Recipe | None = None) -> Recipe:
    """The recipe of the effort, else of the run, else of the program, else the usual one, with the user's changes."""
    if asked.effort is not None:
        return asked.recipe()
    stored = Recipe.of_text(program.recipe) if program.recipe else USUAL_RECIPE
    return (run or stored).changed(asked.having, asked.without)


def open_subject(
    path: Path,
    source: NetworkOptions,
    watch: Watch,
    *,
    network: Path | None = None,
    techniques: TechniqueOptions = AS_STORED,
) -> Subject:
    """Open the network, program or run folder of a command.

    Args:
        network: net.pt or program.h5 of a run folder that holds no program.
        techniques: the user's changes to the recipe of file or run.

    Raises:
        FileError: the folder is not a run, or the program of the run is missing.
    """
    if not path.is_dir():
        with watch.stage("compiling"):
            recipe = techniques.recipe(path)
            program, _ = program_of(path, source, watch, recipe=recipe)
        refuse_residual(program, "missions and campaigns")
        return Subject(program, path.stem, recipe)
    report = read_baseline(path)
    file = network or (path / PROGRAM_FILE if (path / PROGRAM_FILE).exists() else None)
    if file is None:
        raise FileError(
            f"{path} holds no {PROGRAM_FILE}", where=str(path), hint="name the network too: --network net.pt"
        )
    with watch.stage("compiling"):
        program, _ = program_of(file, source, watch)
    refuse_residual(program, "missions and campaigns")
    known = report.digests.get("network")
    if known is not None and known != program.network_digest:
        raise FileError(
            f"{file} is another network than that of the run",
            where=f"{program.network_digest[:12]}… against {known[:12]}…",
            hint="name the network that was deployed",
        )
    known_from = (
        f"{report.backend_words}: lower end of the run's interval, {report.data.images} images of {report.data.name}"
    )
    accuracy = KnownAccuracy(report.decisive.measured.low, known_from)
    ran = None if report.plan is None else Recipe.of_words(report.plan.recipe)
    return Subject(program, report.network.name, recipe_of_program(program, techniques, ran), accuracy)


def simulated_accuracy(
    program: ConductanceProgram, data: Dataset, record: CalibrationRecord | None, options: DeployOptions, watch: Watch
) -> KnownAccuracy:
    """Fifth percentile of the accuracy of virtual chips on a data set, fast mode."""
    found = predict(program, data, record, options, watch, mode=SimulationMode.FAST)
    low = float(np.percentile(found.chips, LOW_SHARE))
    return KnownAccuracy(
        low, f"simulated: 5 % of {len(found.chips)} virtual chips, {found.images} images; {found.source}"
    )
