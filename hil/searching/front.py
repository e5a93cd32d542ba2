"""Phase B of a search: whole networks simulated, hardware significance, and the front."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hil.searching.folder import SearchFolder, write_record
from hil.searching.settings import SearchSettings
from hil.searching.work import SearchRun
from search.choice.accuracy import Accuracy
from search.choice.candidate_costs import Progress, Simulate, Simulator
from search.choice.feedback import CostFeedback
from search.choice.front import Front, write_front
from search.choice.hardware_significance import MODES, Measure, combinations, draw_candidates, hardware_significance
from search.choice.pareto import NO_CAPS, Caps, Search, pareto_search
from search.files import read_json
from search.space.architecture import Architecture
from search.space.genes import Gene, Space
from search.space.significance import Floats, Significance, combined

FORMAT = "hil.search-significance"


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Numbers behind a front, one a choice: task and hardware significance, and the accuracy model's weight.

    ``measure`` says how hardware significance was found; widths and bits have no task significance.
    """

    genes: tuple[Gene, ...]
    task: Significance
    hardware: Significance
    accuracy: Significance
    measure: str


def find_front(
    run: SearchRun,
    task: Significance,
    accuracy: Accuracy,
    feedback: CostFeedback | None = None,
) -> None:
    """Leave ``front.json`` and ``significance.json``. ``feedback``: of measured costs, if there are any."""
    if run.folder.front.exists() and run.folder.significance.exists():
        return
    settings, inputs, space = run.settings, run.inputs, run.inputs.space
    budget = simulations(space, settings)
    with run.watch.stage("front"):
        simulate: Simulate = Simulator(space, inputs.target, store=run.folder.candidates, client=run.client)
        if feedback is not None:
            simulate = feedback.corrected(space, simulate)
        if settings.mode == "paper":
            front, hardware = paper_search(
                space, task, accuracy, simulate, budget=budget, seed=settings.seed,
                target=inputs.target.name, progress=run.watch.step,
            )  # fmt: skip
            measure = Measure.FREQUENCY
        else:
            front = pareto_search(
                space, accuracy, simulate, budget=budget, seed=settings.seed,
                target=inputs.target.name, caps=caps_of(settings, accuracy), progress=run.watch.step,
            )  # fmt: skip
            measure = Measure.RIDGE
            rng = np.random.default_rng(settings.seed)  # the first candidates of the search: simulated already
            genomes = draw_candidates(space, accuracy.significance, max(budget // 4, 2), rng)
            costs = simulate([space.decode(g) for g in genomes])
            hardware = hardware_significance(space.choices, genomes, costs, measure)
    _write_findings(run.folder, Findings(space.genes, task, hardware, accuracy.significance, measure.value))
    write_front(run.folder.front, front)
    run.plan.save()


def simulations(space: Space, settings: SearchSettings) -> int:
    """Whole networks to simulate, at most all of the space."""
    return min(settings.simulations, space.size())


def caps_of(settings: SearchSettings, accuracy: Accuracy) -> Caps:
    """Limits of a network of the front besides the chip's macros."""
    least = 0.0
    if settings.within:
        best = np.array([accuracy.significance.best()])
        least = max(float(accuracy.lower(best)[0]) - settings.within, 0.0)
    return Caps(1e3 * settings.max_latency_us or math.inf, 1e6 * settings.max_energy_uj or math.inf, least)


def paper_search(
    space: Space, task: Significance, accuracy: Accuracy, simulate: Simulate, *, budget: int, seed: int,
    target: str = "", progress: Progress | None = None,
) -> tuple[Front, Significance]:  # fmt: skip
    """Our reading of NAS4CIM (doi 10.11999/JEIT250978): candidates combined by the task ranking are simulated,
    operators counted among those of least EDP, and one network is taken for each of the modes accuracy,
    balanced and efficiency. The front holds those of the three that fit and that no other of them beats.
    """
    run = Search(space, accuracy, simulate, budget, 1.0, NO_CAPS, progress)
    first = budget - len(MODES)
    run.add(draw_candidates(space, task, first, np.random.default_rng(seed), task_share=1.0))
    hardware = hardware_significance(space.choices, run.genomes, run.costs, Measure.FREQUENCY)
    chosen = combinations(task, hardware, tuple(MODES.values()), by_gene=True)
    run.add(chosen)
    simulated = len(run.members)
    wanted = {tuple(int(i) for i in g) for g in chosen}
    run.members = {g: m for g, m in run.members.items() if g in wanted}
    front = run.front("paper", target, seed)
    return Front(front.target, front.method, front.seed, simulated, front.members), hardware


def findings_of(folder: SearchFolder) -> Findings | None:
    """Numbers behind a front; None of pruned networks, whose front was measured."""
    return None if folder.known_settings.pruned else read_findings(folder)


def read_findings(folder: SearchFolder) -> Findings:
    """Raises ``search.errors.SearchFileError`` for a file that is missing or broken."""
    data = read_json(folder.significance, FORMAT, 1)
    genes = tuple(Gene(str(g["gene"]), tuple(g["choices"])) for g in data["genes"])

    def column(name: str) -> Significance:
        return Significance(tuple(np.array(g[name], np.float64) for g in data["genes"]))

    return Findings(genes, column("task"), column("hardware"), column("accuracy"), str(data["measure"]))


def modes_of(found: Findings, architecture: Architecture) -> list[str]:
    """The paper's modes (accuracy, balanced, efficiency) in which this network is the best."""
    best = {mode: combined(found.task, found.hardware, a, by_gene=True).best() for mode, a in MODES.items()}
    own = architecture.choices
    return [
        mode
        for mode, genome in best.items()
        if tuple(gene.choices[i] for gene, i in zip(found.genes, genome, strict=True)) == own
    ]


def _write_findings(folder: SearchFolder, found: Findings) -> None:
    def row(values: Floats) -> list[float]:
        return [float(v) for v in values]

    rows = [
        {"gene": gene.name, "choices": list(gene.choices), "task": row(t), "hardware": row(h), "accuracy": row(a)}
        for gene, t, h, a in zip(
            found.genes, found.task.values, found.hardware.values, found.accuracy.values, strict=True
        )
    ]
    write_record(folder.significance, FORMAT, {"measure": found.measure, "genes": rows})
