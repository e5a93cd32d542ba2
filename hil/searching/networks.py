"""Networks that a search trains: briefly, to learn accuracies, and the chosen ones, to be used."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hil.datasets.image_set import Dataset
from hil.deployment.options import DeployOptions
from hil.errors import UsageError
from hil.searching.evaluator import Evaluation, SimulatedEvaluator
from hil.searching.folder import SearchFolder, write_record
from hil.searching.work import SearchRun
from mapping.errors import CannotMap
from search.choice.accuracy import AdditiveAccuracy, fit_accuracy
from search.choice.front import Member, read_front
from search.choice.hardware_significance import draw_candidates
from search.choice.macs import macs_column
from search.files import read_json
from search.space.architecture import Architecture, from_json, to_json, write_architecture
from search.space.genes import Space
from search.space.significance import Floats, Genomes, Significance
from search.train.images import Images
from search.train.retrain import Retrained, RetrainJob, RetrainSettings, retrain
from search.train.training import ProgressCallback
from search.train.workers import side_by_side

SAMPLE = "hil.search-sample"
SIMULATED, MEASURED = "evaluation", "measured"  # files of a trained network: of virtual chips, and of a chip
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
        asked, together = len(genomes), min(run.side_by_side, len(genomes))
        start = time.monotonic()
        _train_samples(run, genomes, range(together))
        each = (time.monotonic() - start) / together
        count = run.plan.count("sample networks", asked, max(min(4, asked), together), lambda: each)
        _train_samples(run, genomes, range(together, count))
    run.plan.save()
    return sampled_accuracy(space, run.folder.samples, task)


def sampled_accuracy(space: Space, samples: Path, task: Significance) -> AdditiveAccuracy:
    """The model of accuracies that the sample networks of a folder give; percent, on simulated chips."""
    return fit_accuracy(space.choices, *samples_of(space, samples), task, space.kinds, macs_column(space))


def samples_of(space: Space, samples: Path) -> tuple[Genomes, Floats]:
    """Genomes of the sample networks and their accuracies, percent."""
    found = [read_json(path, SAMPLE, 1) for path in sorted(samples.glob("*.json"))]
    genomes = [space.encode(from_json(data["architecture"], str(samples))) for data in found]
    return np.array(genomes), np.array([float(data["accuracy"]) for data in found])


def train_networks(run: SearchRun) -> None:
    """Phase C: train networks of the front and evaluate them on simulated chips with test images."""
    if not run.settings.networks:
        return
    with run.watch.stage("networks"):
        train_members(run, shortlist(run))
    run.plan.save()


def train_members(run: SearchRun, members: Sequence[Member]) -> None:
    """Train those of the given networks that are not trained yet."""
    longest_first = sorted(members, key=lambda m: m.cost.edp_mj_ms, reverse=True)
    places = {member: network_folder(run.folder, member.architecture) for member in longest_first}
    left = {m: place for m, place in places.items() if not (place / "evaluation.json").exists()}
    jobs = [network_job(run, run.inputs.space, m.architecture, place) for m, place in left.items()]
    progress = run.report_jobs(run.settings.epochs, "networks", len(jobs))
    data = run.inputs.train, run.inputs.kept, run.inputs.test
    found = side_by_side(run.client, train_and_evaluate, jobs, *data, progress=progress)
    for text in filter(None, found):
        run.watch.note(text)


def shortlist(run: SearchRun) -> tuple[Member, ...]:
    """Networks of the front that are trained, as many as time is left for."""
    front = read_front(run.folder.front)
    asked = min(run.settings.networks, len(front.members))
    return front.shortlist(run.plan.count("trained networks", asked, 1, lambda: _network_s(run)))


def network_name(architecture: Architecture) -> str:
    """Folder of a network, and how commands name it."""
    return architecture.digest[:8]


def network_folder(folder: SearchFolder, architecture: Architecture) -> Path:
    return folder.networks / network_name(architecture)


def member_named(members: Sequence[Member], name: str) -> Member:
    """The network whose name begins so. Raises ``UsageError`` for a name that is none or several of theirs."""
    names = [network_name(m.architecture) for m in members]
    found = [m for m, own in zip(members, names, strict=True) if name and own.startswith(name)]
    if len(found) != 1:
        raise UsageError(
            f"{name!r} is {len(found) or 'none'} of the search's networks", hint=f"one of {', '.join(names)}"
        )
    return found[0]


def read_evaluation(folder: Path, kind: str) -> Evaluation | str | None:
    """What ``keep_evaluation`` left in the folder of a network, why that failed, or None where it was not called."""
    path = folder / f"{kind}.json"
    if not path.exists():
        return None
    data = read_json(path, f"hil.search-{kind}", 1)
    return str(data["failed"]) if "failed" in data else Evaluation(**data["evaluation"])


def keep_evaluation(folder: Path, kind: str, evaluate: Callable[[Path], Evaluation]) -> str:
    """Evaluate the network of a folder; gives why it cannot be compiled, or nothing."""
    failed = ""
    try:
        data: dict[str, object] = {"evaluation": asdict(evaluate(folder / "net.pt"))}
    except CannotMap as error:
        failed = str(error)
        data = {"failed": failed}
    write_record(folder / f"{kind}.json", f"hil.search-{kind}", data)
    return failed


def _train_samples(run: SearchRun, genomes: Genomes, numbers: range) -> None:
    """Train the networks of these numbers that were not trained yet, and store their accuracies."""
    settings, images = run.settings, len(run.inputs.kept)
    left = [n for n in numbers if not _sample_file(run, n).exists()]
    architectures = [run.inputs.space.decode(genomes[n]) for n in left]
    jobs = [
        _job(run, run.inputs.space, architecture, run.folder.samples / f"{n:03d}", settings.sample_epochs)
        for n, architecture in zip(left, architectures, strict=True)
    ]

    def done(number: int, trained: Retrained) -> None:
        accuracy = imperfect(trained.noisy, images)
        seconds = sum(record.seconds for record in trained.epochs)
        data = {"architecture": to_json(architectures[number]), "accuracy": accuracy, "seconds": seconds}
        write_record(_sample_file(run, left[number]), SAMPLE, data)
        shutil.rmtree(jobs[number].folder, ignore_errors=True)
        run.watch.step(left[number] + 1, len(genomes), "sample networks")

    side_by_side(run.client, retrain, jobs, run.inputs.brief, run.inputs.kept, done=done)


def imperfect(percent: float, images: int) -> float:
    """Percent right for a model of accuracies: k of n count as (k + ½) / (n + 1), so that no network is perfect."""
    return 100 * (percent * images / 100 + 0.5) / (images + 1)


def _sample_file(run: SearchRun, number: int) -> Path:
    return run.folder.samples / f"{number:03d}.json"


def _network_s(run: SearchRun) -> float:
    """Expected training time of a network of the front, from the sample networks, as many side by side."""
    seconds = [float(read_json(path, SAMPLE, 1)["seconds"]) for path in run.folder.samples.glob("*.json")]
    more = len(run.inputs.train) / len(run.inputs.brief) * run.settings.epochs / run.settings.sample_epochs
    return float(np.mean(seconds)) * more / run.side_by_side


def _job(run: SearchRun, space: Space, architecture: Architecture, place: Path, epochs: int) -> RetrainJob:
    inputs, settings = run.inputs, run.settings
    schedule = run.schedule(epochs, crop=settings.crop)
    return RetrainJob(
        space,
        architecture,
        RetrainSettings(schedule, asked_once=settings.asked_once),
        run.folder.teacher.absolute(),
        inputs.noise,
        place.absolute(),
        inputs.test.classes,
        f"{inputs.test.name}, {len(inputs.train)} training images",
        run.machine,
    )


@dataclass(frozen=True, slots=True)
class NetworkJob:
    """One network that is trained in full; ``evaluator`` lacks its ``data``."""

    training: RetrainJob
    evaluator: Callable[..., SimulatedEvaluator]


def network_job(run: SearchRun, space: Space, architecture: Architecture, place: Path) -> NetworkJob:
    """A network, also of a space that is not the search's, with the teacher and settings of the search."""
    settings, inputs = run.settings, run.inputs
    options = DeployOptions(
        samples=settings.images, seed=settings.seed, virtual_chips=settings.chips, age_s=settings.age_s,
        recipe=settings.asked,
    )  # fmt: skip
    evaluator = partial(
        SimulatedEvaluator, inputs.chip, record=inputs.record, options=options, mode=settings.engine,
        target=inputs.target if settings.costs else None,
    )  # fmt: skip
    return NetworkJob(_job(run, space, architecture, place, settings.epochs), evaluator)


def train_and_evaluate(job: NetworkJob, images: Images, kept: Images, test: Dataset, progress: ProgressCallback) -> str:
    """Leave ``net.pt``, ``architecture.json`` and ``evaluation.json``; gives what went wrong, or nothing."""
    place = retrain(job.training, images, kept, progress).path.parent
    write_architecture(place / "architecture.json", job.training.architecture)
    failed = keep_evaluation(place, SIMULATED, job.evaluator(data=test).evaluate)
    (place / "retrain.checkpoint").unlink(missing_ok=True)
    return f"network {place.name} cannot be compiled: {failed.splitlines()[0]}" if failed else ""
