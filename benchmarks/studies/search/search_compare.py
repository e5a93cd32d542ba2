"""A search beside its baselines on the same chip: random search, evolution, Top-k frequency, and ResNet-20.

    hil search run --out runs/search
    python benchmarks/studies.py search-compare runs/search [--supernet-epochs 3] [--json]

All have the space, accuracy model, seed and number of simulations of the search, so only the choice differs.
Accuracies are predicted. DARTS-like and ProxylessNAS-like search train a supernet here, where epochs are given for it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from search_baselines import evolution, random_search, resnet20, top_k_search, volume
from search_gradients import Relaxation, RelaxedJob, RelaxedSettings, relaxed_search

from cim.chip.file import load_chip
from hil.errors import FileError
from hil.searching.budget import SearchPlan
from hil.searching.folder import SearchFolder, open_folder
from hil.searching.front import caps_of, simulations
from hil.searching.inputs import load_inputs
from hil.searching.networks import sampled_accuracy
from hil.searching.settings import SearchSettings
from hil.searching.table import front_of_folder, laid_out
from hil.searching.work import SearchRun
from hil.watch import Watch
from mapping.layout.lay_out import LayoutOptions
from search.choice.accuracy import Accuracy
from search.choice.candidate_costs import Simulator
from search.choice.front import Front
from search.choice.hardware_significance import draw_candidates, edp_model
from search.choice.pareto import Search
from search.errors import SearchError
from search.space.candidate import CandidateCost, workload
from search.space.file import load_space
from search.space.genes import Space
from search.space.prune import fitted
from search.space.significance import Significance
from search.space.target import ChipTarget
from search.stage.scores import read_scores, task_significance

BASELINES = {"random": random_search, "evolution": evolution, "top-k frequency": top_k_search}
FLOOR_MARGIN, EDP_MARGIN = 1.0, 1.1  # of the box of the hypervolume: points below the least, times the most


@dataclass(frozen=True, slots=True)
class Compared:
    """One method: its front, or why it has none."""

    method: str
    front: Front | None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class SearchComparison:
    """``fixed`` is ResNet-20 as the chip prices it, None where the space is not of its images."""

    target: str
    costs_of: str
    methods: tuple[Compared, ...]
    fixed: CandidateCost | None
    floor: float
    least_edp: float
    most_edp: float

    def volume(self, front: Front) -> float:
        return volume(
            [(m.accuracy_low, m.cost.edp_mj_ms) for m in front.members], self.floor, self.least_edp, self.most_edp
        )


def compare_search(
    folder: SearchFolder, settings: SearchSettings, watch: Watch, supernet_epochs: int = 0
) -> SearchComparison:
    """Run the baselines of a finished search.

    Args:
        supernet_epochs: of the search by gradients, DARTS-like and ProxylessNAS-like; 0 leaves both out.

    Raises:
        FileError: the search has no front yet.
        search.errors.SearchFileError: the chip changed since; its costs are of another one.
    """
    own = front_of_folder(folder)
    chip, asked = load_chip(settings.chip, macros=settings.macros or None), settings.asked
    target = ChipTarget(chip, asked.laid_out(LayoutOptions()), asked.tune_plan.rank)
    space, _ = fitted(folder.load_space(), target, least_share=settings.least_share)
    scores = [read_scores(folder.stages / f"stage-{i + 1}.json") for i in range(len(space.stages))]
    accuracy = sampled_accuracy(space, folder.samples, task_significance(space, scores))
    simulate = Simulator(space, target, store=folder.candidates)
    budget, caps = simulations(space, settings), caps_of(settings, accuracy)
    methods = [Compared(f"this search ({own.method})", own)]
    with watch.stage("baselines"):
        for name, method in BASELINES.items():
            try:
                found = method(
                    space, accuracy, simulate, budget=budget, seed=settings.seed, target=target.name, caps=caps,
                    progress=lambda done, total, _, name=name: watch.step(done, total, name),  # type: ignore[misc]
                )  # fmt: skip
                methods.append(Compared(name, found))
            except SearchError as error:
                methods.append(Compared(name, None, str(error).splitlines()[0]))
    if supernet_epochs:
        methods += _by_gradients(folder, settings, watch, supernet_epochs, accuracy, simulate)
    members = [m for c in methods if c.front for m in c.front.members]
    if not members:
        raise FileError(f"the front of {folder.root} is empty", where=str(folder.front))
    edp = [m.cost.edp_mj_ms for m in members]
    floor = max(min(m.accuracy_low for m in members) - FLOOR_MARGIN, 0.0)
    return SearchComparison(
        target.name,
        laid_out(settings),
        tuple(methods),
        _resnet20(space, target),
        floor,
        min(edp),
        EDP_MARGIN * max(edp),
    )


def _by_gradients(
    folder: SearchFolder, settings: SearchSettings, watch: Watch, epochs: int, accuracy: Accuracy, simulate: Simulator
) -> list[Compared]:
    """One network each, priced as the others are; ln EDP of an operator is that of the first candidates."""
    with watch.stage("loading"):
        run = SearchRun(
            folder, settings, load_inputs(folder, settings, watch), SearchPlan(folder.plan, 0.0, watch), watch
        )
    space, inputs, found = run.inputs.space, run.inputs, []
    rng = np.random.default_rng(settings.seed)
    genomes = draw_candidates(space, accuracy.significance, max(simulations(space, settings) // 4, 2), rng)
    costs = simulate([space.decode(g) for g in genomes])
    edp = Significance.of(space.choices, edp_model(space.choices, genomes, costs).weights)
    for relaxation in Relaxation:
        relaxed = RelaxedSettings(run.schedule(epochs, average=False), relaxation)
        checkpoint = folder.root / f"{relaxation.name.lower()}-{epochs}.checkpoint"
        job = RelaxedJob(space, relaxed, edp, inputs.noise, checkpoint, run.machine)
        with watch.stage(relaxation.value):
            chosen = relaxed_search(job, inputs.brief, run.report(epochs))
        alone = Search(space, accuracy, simulate, 1, 1.0, caps_of(settings, accuracy), None)
        alone.add(np.array([space.encode(chosen)]))
        name = f"{relaxation.value}, {epochs} epochs"
        try:
            found.append(Compared(name, alone.front(relaxation.value, inputs.target.name, settings.seed)))
        except SearchError as error:
            found.append(Compared(name, None, str(error).splitlines()[0]))
    return found


def comparison_json(found: SearchComparison) -> dict[str, Any]:
    rows = []
    for compared in found.methods:
        row: dict[str, Any] = {"method": compared.method, "failed": compared.failed or None}
        if compared.front is not None:
            front = compared.front
            row |= {
                "networks": len(front.members),
                "simulations": front.simulations,
                "most_accurate": front.most_accurate.accuracy,
                "least_edp_mj_ms": front.most_efficient.cost.edp_mj_ms,
                "knee_accuracy": front.knee.accuracy,
                "knee_edp_mj_ms": front.knee.cost.edp_mj_ms,
                "knee_macros": front.knee.cost.macros,
                "hypervolume": found.volume(front),
            }
        rows.append(row)
    fixed = None
    if found.fixed is not None:
        fixed = {"edp_mj_ms": found.fixed.edp_mj_ms, "macros": found.fixed.macros,
                 "macros_available": found.fixed.macros_available}  # fmt: skip
    box = {"accuracy_floor": found.floor, "least_edp_mj_ms": found.least_edp, "most_edp_mj_ms": found.most_edp}
    return {"target": found.target, "costs_of": found.costs_of, "methods": rows, "resnet20": fixed, "box": box}


def comparison_lines(found: SearchComparison) -> list[str]:
    lines = [
        f"compare  on {found.target}; accuracies are predicted, costs simulated, one image",
        f"costs    {found.costs_of}",
        f"volume   of (lower bound of the accuracy, ln EDP) from {found.floor:.1f} to 100 % and "
        f"{found.least_edp:.3g} to {found.most_edp:.3g} mJ·ms",
        "",
        f"{'method':<24}{'networks':>9}{'simulated':>10}{'volume':>8}{'best %':>8}{'least EDP':>11}"
        f"{'knee %':>8}{'knee EDP':>10}{'macros':>8}",
    ]
    for compared in found.methods:
        front = compared.front
        if front is None:
            lines.append(f"{compared.method:<24}  {compared.failed}")
            continue
        knee = front.knee
        lines.append(
            f"{compared.method:<24}{len(front.members):>9}{front.simulations:>10}{found.volume(front):>8.3f}"
            f"{front.most_accurate.accuracy:>8.1f}{front.most_efficient.cost.edp_mj_ms:>11.3g}"
            f"{knee.accuracy:>8.1f}{knee.cost.edp_mj_ms:>10.3g}{knee.cost.macros:>8}"
        )
    if found.fixed is None:
        lines.append(f"{'ResNet-20':<24}  is for 3 x 32 x 32 images of 10 classes, this space is not")
    else:
        fits = "" if found.fixed.feasible else f" of {found.fixed.macros_available}: does not fit"
        lines.append(
            f"{'ResNet-20':<24}{'1':>9}{'1':>10}{'–':>8}{'–':>8}{found.fixed.edp_mj_ms:>11.3g}{'–':>8}{'–':>10}"
            f"{found.fixed.macros:>8}{fits}"
        )
    return lines


def _resnet20(space: Space, target: ChipTarget) -> CandidateCost | None:
    shape = load_space("resnet20")
    if (shape.input_shape, shape.classes) != (space.input_shape, space.classes):
        return None
    fixed, chosen = resnet20(adc_bits=target.adc_bits)
    return target.cost(workload(fixed, chosen))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path, help="of hil search run")
    ask.add_argument("--supernet-epochs", type=int, default=0, help="of search by gradients; 0 leaves it out")
    ask.add_argument("--json", action="store_true")
    given = ask.parse_args()
    found = compare_search(*open_folder(given.folder), Watch(), given.supernet_epochs)
    print(json.dumps(comparison_json(found)) if given.json else "\n".join(comparison_lines(found)))


if __name__ == "__main__":
    main()
