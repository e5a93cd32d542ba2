"""The loop over a chip (``--in-the-loop``): networks of the front are deployed on it, and the front is ranked again.

Each trained network is measured on training images that were kept out of training. The measured accuracies
join those of the sample networks, measured latency and energy correct the simulated ones, and the front is searched
anew; it ends when all networks of the shortlist were measured, or after so many rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hil.datasets.image_set import Dataset
from hil.deployment.options import DeployOptions
from hil.searching.evaluator import DeployedEvaluator, Evaluation
from hil.searching.folder import SearchFolder
from hil.searching.front import find_front
from hil.searching.networks import (
    MEASURED,
    imperfect,
    keep_evaluation,
    network_name,
    read_evaluation,
    samples_of,
    shortlist,
    train_networks,
)
from hil.searching.work import SearchRun
from search.choice.accuracy import Accuracy, fit_measured
from search.choice.candidate_costs import Simulator
from search.choice.feedback import CostFeedback, cost_feedback
from search.choice.macs import macs_column
from search.space.architecture import Architecture, read_architecture
from search.space.significance import Significance

LEAST = 2  # networks that were measured, before the front is ranked again


Measurements = list[tuple[Architecture, Evaluation]]


@dataclass(frozen=True, slots=True)
class Loop:
    """``address`` of the chip; ``rounds`` of training, measuring and ranking again."""

    address: str
    rounds: int = 3


def run_loop(run: SearchRun, task: Significance, loop: Loop) -> None:
    """Go round until the shortlist is measured. Fronts of earlier rounds stay as ``front-N.json``."""
    for number in range(1, loop.rounds + 1):
        earlier = run.folder.root / f"front-{number}.json"
        if earlier.exists():
            continue
        train_networks(run)
        measure_networks(run, evaluator(run, loop))
        measured = read_measurements(run)
        if len(measured) < LEAST or number == loop.rounds:
            break
        run.folder.front.rename(earlier)
        find_front(run, task, measured_accuracy(run, measured, task), _cost_feedback(run, measured))
        left = [m for m in shortlist(run) if read_measured(run.folder, network_name(m.architecture)) is None]
        run.watch.note(f"round {number}: {len(left)} networks of the new shortlist are not measured yet")
        if not left:
            break


def evaluator(run: SearchRun, loop: Loop) -> DeployedEvaluator:
    """Deploys on the chip, with the images that were kept out of training; test images are not looked at."""
    inputs, settings = run.inputs, run.settings
    kept = Dataset(
        f"{inputs.test.name}, training images kept out", inputs.kept.pixels, inputs.kept.labels, inputs.test.classes,
        inputs.source, inputs.kept.digest,
    )  # fmt: skip
    options = DeployOptions(
        samples=min(settings.images, len(inputs.kept)), seed=settings.seed, age_s=settings.age_s, repeats=1,
        causes=False,
    )  # fmt: skip
    return DeployedEvaluator(loop.address, inputs.chip, kept, inputs.record, options, run.watch)


def measure_networks(run: SearchRun, asked: DeployedEvaluator) -> None:
    """Leave ``measured.json`` beside each trained network that has none."""
    with run.watch.stage("measuring"):
        for net in sorted(run.folder.networks.glob("*/net.pt")):
            if not (net.parent / f"{MEASURED}.json").exists():
                keep_evaluation(net.parent, MEASURED, asked.evaluate)


def read_measured(folder: SearchFolder, name: str) -> Evaluation | None:
    """Measurement of a trained network; None where the chip was not asked, or could not run it."""
    found = read_evaluation(folder.networks / name, MEASURED)
    return found if isinstance(found, Evaluation) else None


def read_measurements(run: SearchRun) -> Measurements:
    """All networks that the chip ran, in order of their names."""
    names = sorted(place.name for place in run.folder.networks.iterdir())
    found = [(name, read_measured(run.folder, name)) for name in names]
    places = [(run.folder.networks / name, evaluation) for name, evaluation in found if evaluation is not None]
    return [(read_architecture(place / "architecture.json"), evaluation) for place, evaluation in places]


def measured_accuracy(run: SearchRun, measured: Measurements, task: Significance) -> Accuracy:
    """The model of accuracies, with those that were measured."""
    space = run.inputs.space
    genomes = np.array([space.encode(a) for a, _ in measured])
    values = np.array([imperfect(100 * e.accuracy_mean, e.images) for _, e in measured])
    return fit_measured(
        space.choices, samples_of(space, run.folder.samples), (genomes, values), task, space.kinds, macs_column(space)
    )


def _cost_feedback(run: SearchRun, measured: Measurements) -> CostFeedback:
    space = run.inputs.space
    networks = [a for a, _ in measured]
    simulated = Simulator(space, run.inputs.target, store=run.folder.candidates)(networks)
    return cost_feedback(
        space, networks, simulated, [e.latency_ns for _, e in measured], [e.energy_pj for _, e in measured]
    )
