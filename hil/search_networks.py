"""Networks that a search trains: briefly, to learn accuracies, and the chosen ones, to be used."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hil.atomic import write_text
from hil.evaluator import SimulatedEvaluator
from hil.job import DeployOptions
from hil.search_work import SearchRun
from mapping.errors import CannotMap
from search.accuracy import AdditiveAccuracy, fit_accuracy
from search.architecture import Architecture, from_json, to_json, write_architecture
from search.evaluator import Evaluation
from search.files import read_json
from search.front import read_front
from search.hardware import draw_candidates
from search.retrain import Retrained, RetrainJob, RetrainSettings, retrain
from search.significance import Genomes, Significance
from search.space import Space
from search.training import Told

SAMPLE = "hil.search-sample"
EVALUATION = "hil.search-evaluation"
SAMPLES = 0x5A3B1E  # purpose tag of a seed


def accuracy_model(run: SearchRun, task: Significance) -> AdditiveAccuracy:
    """Train sample networks briefly and learn from them how accurate all others will be.

    Half of them are drawn by the task ranking, half uniformly.
    """
    space, settings = run.inputs.space, run.settings
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, SAMPLES]))
    genomes = rng.permutation(draw_candidates(space, task, settings.samples, rng))
    run.folder.samples.mkdir(exist_ok=True)
    with run.watch.stage("sample networks"):
        took = _sample(run, 0, genomes[0])
        count = run.plan.count("sample networks", len(genomes), min(4, len(genomes)), lambda: took)
        for number in range(1, count):
            run.watch.step(number, count, "sample networks")
            _sample(run, number, genomes[number])
    run.plan.save()
    return sampled_accuracy(space, run.folder.samples, task)


def sampled_accuracy(space: Space, samples: Path, task: Significance) -> AdditiveAccuracy:
    """The model of accuracies that the sample networks of a folder give; percent, on simulated chips."""
    found = [read_json(path, SAMPLE, 1) for path in sorted(samples.glob("*.json"))]
    genomes = [space.encode(from_json(data["architecture"], str(samples))) for data in found]
    return fit_accuracy(space.choices, np.array(genomes), np.array([float(d["accuracy"]) for d in found]), task)


def train_networks(run: SearchRun) -> None:
    """Phase C: train networks of the front and evaluate them on simulated chips with test images."""
    settings, front = run.settings, read_front(run.folder.front)
    if not settings.networks:
        return
    with run.watch.stage("networks"):
        asked = min(settings.networks, len(front.members))
        count = run.plan.count("trained networks", asked, 1, lambda: _network_s(run))
        for number, member in enumerate(front.shortlist(count), 1):
            place = run.folder.networks / network_name(member.architecture)
            what = f"epochs of network {number} of {count}"
            if not (place / "evaluation.json").exists():
                trained = _retrain(run, member.architecture, place, settings.epochs, run.told(settings.epochs, what))
                write_architecture(place / "architecture.json", member.architecture)
                _evaluate(run, trained, place)
    run.plan.save()


def network_name(architecture: Architecture) -> str:
    """Folder of a network, and how commands name it."""
    return architecture.digest[:8]


def read_evaluation(folder: Path) -> Evaluation | str | None:
    """What simulated chips said of a trained network, why they could not, or None where it was not trained."""
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    data = read_json(path, EVALUATION, 1)
    return str(data["failed"]) if "failed" in data else Evaluation(**data["evaluation"])


def _sample(run: SearchRun, number: int, genome: Genomes) -> float:
    """Train a sample network, if it was not; gives the seconds that it took.

    ``right`` of n validation images count as (right + ½) / (n + 1), so that no network is perfect.
    """
    path, place = run.folder.samples / f"{number:03d}.json", run.folder.samples / f"{number:03d}"
    if not path.exists():
        start, architecture = time.monotonic(), run.inputs.space.decode(genome)
        trained = _retrain(run, architecture, place, run.settings.sample_epochs, None)
        images = len(run.inputs.kept)
        accuracy = 100 * (trained.noisy * images / 100 + 0.5) / (images + 1)
        data = {"architecture": to_json(architecture), "accuracy": accuracy, "seconds": time.monotonic() - start}
        write_text(path, json.dumps({"format": SAMPLE, "version": "1.0", **data}, indent=1) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    return float(read_json(path, SAMPLE, 1)["seconds"])


def _network_s(run: SearchRun) -> float:
    """How long a network of the front will take to train, from the sample networks."""
    seconds = [float(read_json(path, SAMPLE, 1)["seconds"]) for path in run.folder.samples.glob("*.json")]
    return float(np.mean(seconds)) * run.settings.epochs / run.settings.sample_epochs


def _retrain(run: SearchRun, architecture: Architecture, place: Path, epochs: int, told: Told | None) -> Retrained:
    inputs = run.inputs
    job = RetrainJob(
        inputs.space,
        architecture,
        RetrainSettings(run.schedule(epochs)),
        run.folder.teacher,
        inputs.noise,
        place,
        inputs.test.classes,
        f"{inputs.test.name}, {len(inputs.train)} training images",
        run.machine,
    )
    return retrain(job, inputs.train, inputs.kept, told)


def _evaluate(run: SearchRun, trained: Retrained, place: Path) -> None:
    settings, inputs = run.settings, run.inputs
    options = DeployOptions(
        samples=settings.images, seed=settings.seed, virtual_chips=settings.chips, age_s=settings.age_s,
        device=settings.device,
    )  # fmt: skip
    evaluator = SimulatedEvaluator(inputs.chip, inputs.test, inputs.record, options, settings.engine)
    data: dict[str, object] = {"format": EVALUATION, "version": "1.0"}
    try:
        data["evaluation"] = asdict(evaluator.evaluate(trained.path))
    except CannotMap as error:
        data["failed"] = str(error)
        run.watch.note(f"network {place.name} cannot be compiled: {str(error).splitlines()[0]}")
    write_text(place / "evaluation.json", json.dumps(data, indent=1) + "\n")
    (place / "retrain.checkpoint").unlink(missing_ok=True)
