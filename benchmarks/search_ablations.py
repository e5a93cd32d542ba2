"""What each part of a search is worth: one JSON line a part, from a finished search.

    python benchmarks/search_ablations.py runs/search [--parts measure,additive,macros,bits,training,estimator]

measure    Top-k frequency, lift and ridge as hardware significance, and the Pareto search, same simulations: volume
additive   a search whose costs are sums over choices, its front priced again as a whole: volume, R², rank
macros     a search that does not know how many macros there are: how much of its front fits
bits       the same bits everywhere, where the space gives each stage or position its own
training   the knee of the front trained again without a teacher, without errors, without both: simulated chips
estimator  alpha against path, as ranks of networks that were trained (truth.jsonl of benchmarks/search_rank.py)

*Volume* is the share of (lower bound of the accuracy, ln EDP) that a front covers, in the box of ``hil search
compare``. Accuracies of the first four parts are predicted, by one model for all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from search_baselines import top_k_search
from search_compare import EDP_MARGIN, FLOOR_MARGIN

from cim.chip.file import load_chip
from hil.datasets.image_set import Dataset
from hil.deployment.options import DeployOptions
from hil.searching.evaluator import SimulatedEvaluator
from hil.searching.folder import SearchFolder, open_folder
from hil.searching.front import simulations
from hil.searching.inputs import SearchInputs, load_inputs
from hil.searching.networks import sampled_accuracy
from hil.searching.settings import SearchSettings
from hil.searching.work import schedule
from hil.watch import Watch
from search.choice.accuracy import Accuracy
from search.choice.additive import kendall_tau
from search.choice.candidate_costs import Simulator
from search.choice.front import Front, front_of, read_front
from search.choice.hardware_significance import Measure, cost_models, draw_candidates
from search.choice.pareto import pareto_search
from search.errors import SearchError
from search.space.architecture import Architecture
from search.space.candidate import CandidateCost
from search.space.significance import Floats, Genomes, Significance
from search.space.target import ChipTarget
from search.stage.rating import StageJob, train_stage
from search.stage.scores import read_scores, task_significance
from search.stage.task import Estimator, StageSettings
from search.train.retrain import RetrainJob, RetrainSettings, retrain
from search.train.training import Machine, Precision
from search.train.workers import side_by_side, workers

FITTED = 256  # whole networks that additive costs are fitted to
CHIPS, IMAGES = 20, 2000


@dataclass(frozen=True)
class Run:
    folder: SearchFolder
    settings: SearchSettings
    inputs: SearchInputs
    task: Significance
    accuracy: Accuracy
    epochs: int
    subset: int

    @property
    def machine(self) -> Machine:
        return Machine(self.settings.device, 1, cast(Precision, self.settings.precision))

    @property
    def budget(self) -> int:
        return simulations(self.inputs.space, self.settings)


def volumes(fronts: dict[str, Front]) -> dict[str, float]:
    members = [m for front in fronts.values() for m in front.members]
    floor = max(min(m.accuracy_low for m in members) - FLOOR_MARGIN, 0.0)
    edp = [m.cost.edp_mj_ms for m in members]
    return {name: round(f.hypervolume(floor, min(edp), EDP_MARGIN * max(edp)), 3) for name, f in fronts.items()}


def measure(run: Run) -> dict[str, Any]:
    space, simulate = run.inputs.space, Simulator(run.inputs.space, run.inputs.target)
    asked: dict[str, Any] = {"budget": run.budget, "seed": run.settings.seed}
    fronts = {"pareto": pareto_search(space, run.accuracy, simulate, **asked)}
    for kind in Measure:
        for by_gene in (True, False):
            name = f"{kind.value}, {'each gene' if by_gene else 'all genes'} scaled"
            try:
                fronts[name] = top_k_search(space, run.accuracy, simulate, measure=kind, by_gene=by_gene, **asked)
            except SearchError:
                continue  # none of its networks fits
    return {"simulations": run.budget, "volume": volumes(fronts)}


def additive(run: Run) -> dict[str, Any]:
    space, simulate = run.inputs.space, Simulator(run.inputs.space, run.inputs.target)
    genomes = draw_candidates(space, None, 2 * FITTED, np.random.default_rng(1))
    found = simulate([space.decode(g) for g in genomes])
    half = cost_models(space.choices, genomes[:FITTED], found[:FITTED])
    room = found[0].macros_available
    edp = np.log([cost.edp_mj_ms for cost in found[FITTED:]])
    summed = half.predict(genomes[FITTED:])[:, :2].sum(1)

    def sums(architectures: Sequence[Architecture]) -> list[CandidateCost]:
        rows = np.exp(half.predict(np.array([space.encode(a) for a in architectures])))
        return [CandidateCost(float(r[0]), float(r[1]), max(round(float(r[2])), 1), room) for r in rows]

    whole = pareto_search(space, run.accuracy, simulate, budget=run.budget, seed=run.settings.seed)
    blind = pareto_search(space, run.accuracy, sums, budget=run.budget, seed=run.settings.seed)
    costs = simulate([m.architecture for m in blind.members])
    priced = [replace(m, cost=cost) for m, cost in zip(blind.members, costs, strict=True)]
    again = front_of(priced, target="", method="additive", seed=0, simulations=FITTED)
    return {
        "simulations": {"whole": run.budget, "additive": FITTED},
        "r2": round(explained_sum(edp, summed), 3),
        "tau": round(kendall_tau(edp, summed), 3),
        "residual_of_edp": round(float(np.exp(np.std(edp - summed)) - 1), 3),
        "too_large_for_the_chip": sum(not cost.feasible for cost in costs),
        "of": len(costs),
        "volume": volumes({"whole": whole, "additive": again}),
    }


def explained_sum(truth: np.ndarray, found: np.ndarray) -> float:
    """R² after the shift that a fit on latency and energy apart leaves."""
    rest = (truth - truth.mean()) - (found - found.mean())
    return 1.0 - float(rest @ rest) / float(((truth - truth.mean()) ** 2).sum())


def macros(run: Run) -> dict[str, Any]:
    space = run.inputs.space
    rows = {}
    for count in (run.inputs.target.macros, run.inputs.target.macros // 4):
        simulate = Simulator(space, ChipTarget(load_chip(run.settings.chip, macros=count)))
        free = Simulator(space, ChipTarget(load_chip(run.settings.chip, macros=100 * count)))
        asked: dict[str, Any] = {"budget": run.budget, "seed": run.settings.seed}
        blind = pareto_search(space, run.accuracy, free, **asked)
        costs = simulate([m.architecture for m in blind.members])
        priced = [replace(m, cost=cost) for m, cost in zip(blind.members, costs, strict=True)]
        row: dict[str, Any] = {"fits": sum(cost.feasible for cost in costs), "of": len(costs)}
        known = pareto_search(space, run.accuracy, simulate, **asked)
        left = front_of(priced, target="", method="blind", seed=0, simulations=run.budget)
        fronts = {"with": known} | ({"without": left} if left.members else {})
        rows[str(count)] = row | {"volume": volumes(fronts)}
    return {"macros": rows}


@dataclass(frozen=True)
class Alike:
    """Accuracies of networks whose bits are the same everywhere, which have one gene of weights and one of codes.

    ``first``: place of the first gene of bits; ``groups``: how many there are of each in the whole space.
    """

    whole: Accuracy
    first: int
    groups: int

    def spread(self, genomes: Genomes) -> Genomes:
        found = np.asarray(genomes)
        weights, codes = (np.repeat(found[:, [self.first + i]], self.groups, 1) for i in (0, 1))
        return np.concatenate([found[:, : self.first], weights, codes, found[:, self.first + 2 :]], 1)

    def predict(self, genomes: Genomes) -> Floats:
        return self.whole.predict(self.spread(genomes))

    def lower(self, genomes: Genomes, kappa: float = 1.0) -> Floats:
        return self.whole.lower(self.spread(genomes), kappa)

    @property
    def significance(self) -> Significance:
        values, a, n = self.whole.significance.values, self.first, self.groups
        shared = (np.sum(values[a : a + n], 0), np.sum(values[a + n : a + 2 * n], 0))
        return Significance((*values[:a], *shared, *values[a + 2 * n :]))


def bits(run: Run) -> dict[str, Any]:
    space = run.inputs.space
    if space.bits_per == "network":
        return {"bits_per": space.bits_per}  # nothing to compare
    one = replace(space, bits_per="network")
    alike = Alike(run.accuracy, len(space.positions) + len(space.stages), len(space.bit_groups))
    asked: dict[str, Any] = {"budget": run.budget, "seed": run.settings.seed}
    fronts = {
        space.bits_per: pareto_search(space, run.accuracy, Simulator(space, run.inputs.target), **asked),
        "alike everywhere": pareto_search(one, alike, Simulator(one, run.inputs.target), **asked),
    }
    return {"bits_per": space.bits_per, "simulations": run.budget, "volume": volumes(fronts)}


def training(run: Run) -> dict[str, Any]:
    inputs, chosen = run.inputs, read_front(run.folder.front).knee.architecture
    images = inputs.train.part(np.arange(min(run.subset, len(inputs.train))))
    asked = schedule(run.settings, run.epochs)
    kept = Dataset(
        inputs.test.name, inputs.kept.pixels, inputs.kept.labels, inputs.test.classes, "", inputs.kept.digest
    )
    options = DeployOptions(samples=min(IMAGES, len(kept.labels)), virtual_chips=CHIPS, age_s=run.settings.age_s)
    with tempfile.TemporaryDirectory() as place, workers(count=2) as client:
        cases = {
            f"{'teacher' if taught else 'labels alone'}, {'errors' if noisy else 'no errors'}": RetrainJob(
                inputs.space, chosen, RetrainSettings(asked), run.folder.teacher.absolute() if taught else None,
                inputs.noise if noisy else None, Path(place) / f"{taught}{noisy}", inputs.test.classes,
                inputs.test.name, run.machine,
            )
            for taught in (True, False) for noisy in (True, False)
        }  # fmt: skip
        found = side_by_side(client, retrain, list(cases.values()), images, inputs.kept)
        evaluator = SimulatedEvaluator(inputs.chip, kept, inputs.record, options, "fast")
        rows = {}
        for name, trained in zip(cases, found, strict=True):
            on_chips = evaluator.evaluate(trained.path)
            rows[name] = {"exact": round(trained.ideal, 2), "chips_mean": round(100 * on_chips.accuracy_mean, 2),
                          "worst": round(100 * on_chips.accuracy_worst, 2)}  # fmt: skip
    return {"network": str(chosen), "epochs": run.epochs, "images": len(images), "percent": rows}


def estimator(run: Run) -> dict[str, Any]:
    space, store = run.inputs.space, run.folder.root / "truth.jsonl"
    lines = [json.loads(line) for line in store.read_text("utf-8").splitlines()]
    genomes, truth = np.array([line["genome"] for line in lines]), np.array([line["accuracy"] for line in lines])
    images = run.inputs.train.part(np.arange(min(run.subset, len(run.inputs.train))))
    asked = schedule(run.settings, 1, average=False)
    rows = {}
    for kind in Estimator:
        settings = StageSettings(asked, kind)
        folder = run.folder.root / f"ablation-{kind.value}"
        jobs = [
            StageJob(space, i, settings, run.folder.teacher.absolute(), run.inputs.noise, folder.absolute(),
                     machine=run.machine)
            for i in range(len(space.stages))
        ]  # fmt: skip
        with workers(count=2) as client:
            scores = side_by_side(client, train_stage, jobs, images)
        for noisy in (True, False) if kind is Estimator.PATH else (True,):
            task = task_significance(space, scores, noisy=noisy)
            name = kind.value + ("" if noisy else ", rated without errors")
            rows[name] = {"tau": round(kendall_tau(task.score(genomes), truth), 3),
                          "seconds": round(sum(sum(s.seconds) for s in scores))}  # fmt: skip
    return {"networks": len(truth), "images": len(images), "epochs": 1, "estimators": rows}


PARTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "measure": measure, "additive": additive, "macros": macros, "bits": bits,
    "training": training, "estimator": estimator,
}  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", type=Path)
    ask.add_argument("--parts", default=",".join(PARTS))
    ask.add_argument("--epochs", type=int, default=3)
    ask.add_argument("--subset", type=int, default=24000)
    given = ask.parse_args()
    folder, settings = open_folder(given.run)
    inputs = load_inputs(folder, settings, Watch())
    scores = [read_scores(folder.stages / f"stage-{i + 1}.json") for i in range(len(inputs.space.stages))]
    task = task_significance(inputs.space, scores)
    accuracy = sampled_accuracy(inputs.space, folder.samples, task)
    run = Run(folder, settings, inputs, task, accuracy, given.epochs, given.subset)
    for name in given.parts.split(","):
        print(json.dumps({"benchmark": "search_ablations", "part": name, **PARTS[name](run)}), flush=True)


if __name__ == "__main__":
    main()
