"""ResNet-20 beside the networks of a search, trained and evaluated as they were: one JSON line.

    hil search run --data cifar10-jpeg --chip lab-128 --out runs/cifar10
    python benchmarks/search_resnet20.py runs/cifar10 [--epochs 20]

ResNet-20 (option B, W4A8, converters of 8 bits) has the teacher, training images, errors and evaluation of the
search; ``--epochs`` are those of the search otherwise. ``edp_ratio`` is the least EDP of a searched network whose
mean accuracy is no lower than ResNet-20's, over ResNet-20's EDP; null where there is none. Accuracies are fractions
of the test images on simulated chips. Killed, it goes on from the last whole epoch; ``resnet20`` in the folder of the
search holds the network.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from search_baselines import resnet20

from hil.searching.budget import SearchPlan
from hil.searching.folder import open_folder
from hil.searching.inputs import load_inputs
from hil.searching.networks import network_job, read_evaluation, train_and_evaluate
from hil.searching.work import SearchRun
from hil.watch import Watch
from search.evaluator import Evaluation
from search.train.training import EpochRecord


def row(found: Evaluation) -> dict[str, Any]:
    return {
        "accuracy_mean": round(found.accuracy_mean, 4),
        "accuracy_worst": round(found.accuracy_worst, 4),
        "edp_mj_ms": round(found.edp_mj_ms, 5),
    }


def progress(record: EpochRecord) -> None:
    print(f"epoch {record.epoch + 1}: {record.score:.2f} %, {record.seconds:.0f} s", flush=True)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", type=Path)
    ask.add_argument("--epochs", type=int)
    given = ask.parse_args()
    folder, settings = open_folder(given.run)
    settings = replace(settings, epochs=given.epochs or settings.epochs)
    watch = Watch()
    inputs = load_inputs(folder, settings, watch)
    run = SearchRun(folder, settings, inputs, SearchPlan(folder.plan, 0.0, watch), watch)
    place = given.run / "resnet20"
    if not (place / "evaluation.json").exists():
        job = network_job(run, *resnet20(), place)
        train_and_evaluate(job, inputs.train, inputs.kept, inputs.test, progress)
    fixed = read_evaluation(place)
    if not isinstance(fixed, Evaluation):
        raise SystemExit(f"ResNet-20 does not fit {inputs.target.name}: {fixed}")
    searched = {p.name: read_evaluation(p) for p in sorted(folder.networks.iterdir())}
    trained = {name: found for name, found in searched.items() if isinstance(found, Evaluation)}
    equal = [e.edp_mj_ms for e in trained.values() if e.accuracy_mean >= fixed.accuracy_mean]
    print(json.dumps({
        "benchmark": "search_resnet20", "space": inputs.space.name, "target": inputs.target.name,
        "epochs": settings.epochs, "chips": fixed.chips, "images": fixed.images, "resnet20": row(fixed),
        "networks": {name: row(found) for name, found in trained.items()},
        "edp_ratio": round(min(equal) / fixed.edp_mj_ms, 3) if equal else None,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
