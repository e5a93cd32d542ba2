"""Do predicted accuracies rank networks as training does? One JSON line.

    hil search run --data fashion-mnist --chip lab-128 --networks 0 --out runs/search
    python benchmarks/search_rank.py runs/search [--networks 48] [--epochs 2] [--subset 24000]

Trains networks drawn uniformly from the space of a search, none of them one of its samples, under the errors of its
chip and with another seed than its own, and compares their accuracies on virtual chips (validation images) with what
the search predicted. ``tau`` is Kendall's, with the 95 % interval of 2,000 bootstrap draws of the networks. Beside
it: task significance alone (phase A, without and with errors), multiplications and weights of a network. Killed, it
goes on with the networks that are left; ``truth.jsonl`` in the folder of the search holds those that are done.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

import numpy as np

from hil.searching.folder import open_folder
from hil.searching.inputs import load_inputs
from hil.searching.networks import sampled_accuracy, samples_of
from hil.searching.work import schedule
from hil.watch import Watch
from search.choice.accuracy import fit_accuracy
from search.choice.additive import kendall_tau
from search.choice.hardware_significance import draw_candidates
from search.space.candidate import workload
from search.space.genes import Space
from search.space.significance import Floats, Genomes
from search.stage.scores import read_scores, task_significance
from search.train.retrain import Retrained, RetrainJob, RetrainSettings, retrain
from search.train.training import Machine, Precision
from search.train.workers import side_by_side, workers

BOOTSTRAP = 2000
OTHER_SEED = 7919


def interval(score: Floats, truth: Floats) -> list[float]:
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(truth), (BOOTSTRAP, len(truth)))
    return [round(float(q), 3) for q in np.quantile([kendall_tau(score[p], truth[p]) for p in picks], (0.025, 0.975))]


def genomes_of(space: Space, count: int, known: Genomes) -> Genomes:
    """Uniform ones that the accuracy model has not seen."""
    seen = {tuple(g) for g in known.tolist()}
    drawn = draw_candidates(space, None, count + len(seen), np.random.default_rng(OTHER_SEED))
    return np.array([g for g in drawn.tolist() if tuple(g) not in seen][:count])


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", type=Path)
    ask.add_argument("--networks", type=int, default=48)
    ask.add_argument("--epochs", type=int, default=2)
    ask.add_argument("--subset", type=int, default=24000)
    ask.add_argument("--workers", type=int, default=2)
    given = ask.parse_args()
    folder, settings = open_folder(given.run)
    inputs = load_inputs(folder, settings, Watch())
    space = inputs.space
    scores = [read_scores(folder.stages / f"stage-{i + 1}.json") for i in range(len(space.stages))]
    task = task_significance(space, scores)
    samples = samples_of(space, folder.samples)
    genomes = genomes_of(space, given.networks, samples[0])

    store = given.run / "truth.jsonl"
    lines = [json.loads(line) for line in store.read_text("utf-8").splitlines()] if store.exists() else []
    known = {
        tuple(line["genome"]): line
        for line in lines
        if (line["epochs"], line["subset"]) == (given.epochs, given.subset)
    }
    left = [g for g in genomes.tolist() if tuple(g) not in known]
    asked = schedule(settings, given.epochs, seed=OTHER_SEED)
    jobs = [
        RetrainJob(
            space, space.decode(genome), RetrainSettings(asked), folder.teacher.absolute(), inputs.noise,
            (given.run / "truth" / f"{i:03d}").absolute(), inputs.test.classes, inputs.test.name,
            Machine(settings.device, 1, cast(Precision, settings.precision)),
        )
        for i, genome in enumerate(left)
    ]  # fmt: skip
    images = inputs.train.part(np.arange(min(given.subset, len(inputs.train))))

    def done(number: int, found: Retrained) -> None:
        line = {"genome": left[number], "epochs": given.epochs, "subset": given.subset, "accuracy": found.noisy,
                "exact": found.ideal, "seconds": sum(r.seconds for r in found.epochs)}  # fmt: skip
        known[tuple(left[number])] = line
        with store.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    with workers(count=given.workers) as client:
        side_by_side(client, retrain, jobs, images, inputs.kept, done=done)

    truth = np.array([known[tuple(g)]["accuracy"] for g in genomes.tolist()])
    works = [workload(space, space.decode(g)) for g in genomes]
    clean = task_significance(space, scores, noisy=False)
    ranked = {
        "predicted": sampled_accuracy(space, folder.samples, task).predict(genomes),
        "predicted without multiplications": fit_accuracy(space.choices, *samples, task, space.kinds).predict(genomes),
        "samples alone": sampled_accuracy(space, folder.samples, None).predict(genomes),
        "samples alone, without multiplications": fit_accuracy(space.choices, *samples, None, space.kinds).predict(
            genomes
        ),
        "task significance": task.score(genomes),
        "task significance without errors": clean.score(genomes),
        "multiplications": np.array([float(w.macs) for w in works]),
        "weights": np.array([float(sum(layer.weights for layer in w.layers if layer.kind.on_cells)) for w in works]),
    }
    print(json.dumps({
        "benchmark": "search_rank", "space": space.name, "target": inputs.target.name, "networks": len(genomes),
        "epochs": given.epochs, "images": len(images),
        "samples": settings.samples, "sample_epochs": settings.sample_epochs,
        "accuracy": [round(float(q), 2) for q in np.quantile(truth, (0, 0.5, 1))],
        "tau": {name: round(kendall_tau(score, truth), 3) for name, score in ranked.items()},
        "interval": {name: interval(score, truth) for name, score in ranked.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
