"""Result of a search for programs: the table of its front, and an explanation of one of its networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cim.chip.file import is_cost_model
from hil.atomic import write_text
from hil.errors import FileError, UsageError
from hil.pages.summary import Fact
from hil.pages.tables import Table
from hil.searching.budget import SearchPlan
from hil.searching.evaluator import Evaluation
from hil.searching.folder import SearchFolder
from hil.searching.front import Findings, modes_of, read_findings
from hil.searching.networks import MEASURED, SIMULATED, member_named, network_name, read_evaluation
from hil.searching.settings import SearchSettings
from hil.watch import Watch
from mapping.recipe.idle_copies import IdleCopies
from search.choice.front import Front, Member, read_front
from search.choice.hardware_significance import MODES
from search.files import read_json
from search.space.architecture import to_json
from search.space.candidate import CandidateCost, workload
from search.space.target import load_target

FORMAT, VERSION = "hil.search-table", "1.0"
Row = dict[str, Any]
OWN = "own"  # what stands beside a network that is not the search's


def laid_out(settings: SearchSettings) -> str:
    """How networks were laid out for their costs, in words."""
    if settings.costs and is_cost_model(settings.costs):
        return f"as MNSIM 2.0 lays networks out, each layer once; errors of cells are those of {settings.chip}"
    if settings.asked.get(IdleCopies) is None:
        return (
            "each layer once; hil deploy also writes copies on idle cells, whose EDP is higher (--without copies: none)"
        )
    return "with the copies on idle cells that hil deploy writes"


def front_of_folder(folder: SearchFolder) -> Front:
    """Raises ``FileError`` for a search that has none yet."""
    if not folder.front.exists():
        raise _no_front(folder)
    return read_front(folder.front)


def _no_front(folder: SearchFolder) -> FileError:
    return FileError(f"the search in {folder.root} has no front yet", hint="the hil search that began it resumes it")


def own_members(folder: SearchFolder) -> tuple[Member, ...]:
    """Networks that a user named beside the front."""
    return read_front(folder.own).members if folder.own.exists() else ()


def members_of(folder: SearchFolder) -> list[Member]:
    """Networks of the front and those that a user named, by rising EDP."""
    found = {m.architecture: m for m in (*own_members(folder), *front_of_folder(folder).members)}
    return sorted(found.values(), key=lambda m: m.cost.edp_mj_ms)


def folder_notes(folder: SearchFolder) -> list[str]:
    """Notes on what was cut short, and whether the search is finished."""
    notes = SearchPlan(folder.plan, 0.0, Watch()).words()
    return notes if folder.table.exists() else [*notes, "not finished: the hil search that began it resumes it"]


def table_json(folder: SearchFolder, notes: Sequence[str] = (), costs: str | None = None) -> Row:
    """The front and own networks by rising EDP: accuracy (predicted; simulated where trained), costs, choices.

    ``costs``: another chip, or a configuration of MNSIM 2.0, that prices the same networks. Of a search over pruned
    networks it is the table that its loop left: the measured front, with accuracies of held-out training images.
    """
    if folder.known_settings.pruned:
        if costs:
            raise UsageError("a front of pruned networks is shown as it was measured", hint="hil search show FOLDER")
        if not folder.table.exists():
            raise _no_front(folder)
        return read_json(folder.table, FORMAT, 1)
    front, members = front_of_folder(folder), members_of(folder)
    prices = [m.cost for m in members] if costs is None else other_costs(folder, members, costs)
    modes = _modes(folder, front)
    rows = [_row(folder, member, cost, modes) for member, cost in zip(members, prices, strict=True)]
    return {
        "format": FORMAT,
        "version": VERSION,
        "costs": costs or front.target,
        "costs_of": laid_out(folder.known_settings),
        "method": front.method,
        "seed": front.seed,
        "simulations": front.simulations,
        "knee": network_name(front.knee.architecture),
        "notes": list(notes),
        "networks": rows,
    }


def other_costs(folder: SearchFolder, members: Sequence[Member], name: str) -> list[CandidateCost]:
    """Costs of the networks of a search on another target; one that is too large counts with the macros it needs."""
    space, target = folder.load_space(), load_target(name, recipe=folder.known_settings.asked)
    return [target.cost(workload(space, a)) for a in (m.architecture for m in members)]


def write_table(folder: SearchFolder, notes: Sequence[str]) -> None:
    """Leave ``table.json``."""
    write_text(folder.table, json.dumps(table_json(folder, notes), indent=1) + "\n")


def _modes(folder: SearchFolder, front: Front) -> dict[str, list[str]]:
    """Name of a network -> the modes that it stands for: the paper's, or the ends and the knee of a front; or "own"."""
    of_front = {m.architecture for m in front.members}
    modes = {network_name(m.architecture): [OWN] for m in own_members(folder) if m.architecture not in of_front}
    if front.method == "paper":
        found = read_findings(folder)
        return modes | {network_name(m.architecture): modes_of(found, m.architecture) for m in front.members}
    for mode, member in zip(MODES, (front.most_accurate, front.knee, front.most_efficient), strict=True):
        modes.setdefault(network_name(member.architecture), []).append(mode)
    return modes


def _row(folder: SearchFolder, member: Member, cost: CandidateCost, modes: dict[str, list[str]]) -> Row:
    name = network_name(member.architecture)
    found, measured = (read_evaluation(folder.networks / name, kind) for kind in (SIMULATED, MEASURED))
    file = folder.networks / name / "net.pt"
    return {
        "name": name,
        "choices": str(member.architecture),
        "architecture": to_json(member.architecture),
        "predicted": member.accuracy,
        "predicted_low": member.accuracy_low,
        "modes": modes.get(name, []),
        "evaluated": asdict(found) if isinstance(found, Evaluation) else None,
        "measured": asdict(measured) if isinstance(measured, Evaluation) else None,
        "failed": found if isinstance(found, str) else None,
        "network": str(file.relative_to(folder.root)) if found is not None else None,
        "edp_mj_ms": cost.edp_mj_ms,
        **asdict(cost),
    }


def explain_json(folder: SearchFolder, name: str | None) -> dict[str, Any]:
    """All choices of each position, width and bits of a network, with T, H and A, and their ranks from 1.

    Without a name it is the knee. Raises ``UsageError`` for a name that is none or several of the search's.
    """
    front, found = front_of_folder(folder), read_findings(folder)
    member = front.knee if name is None else member_named(members_of(folder), name)
    chosen = member.architecture.choices
    genes = [_gene(found, i, value) for i, value in enumerate(chosen)]
    return {"network": network_name(member.architecture), "choices": str(member.architecture),
            "measure": found.measure, "genes": genes}  # fmt: skip


def explain_tables(explained: dict[str, Any]) -> list[Table | Fact]:
    """The same for people: a table for each place with a choice."""
    facts: list[Table | Fact] = [
        Fact("network", f"{explained['network']}: {explained['choices']}"),
        Fact("T", "task significance (phase A): minus the loss of the stage under the errors of the chip"),
        Fact("H", f"hardware significance (phase B), measure {explained['measure']}; higher is cheaper"),
        Fact("A", "weight in the predicted accuracy, from phase A and the sample networks; higher is better"),
        Fact("ranks", "from 1, the best, among the choices of one place; * is this network's"),
    ]
    for gene in explained["genes"]:
        if len(gene["choices"]) > 1:
            header = (gene["gene"], "T", "rank", "H", "rank", "A", "rank")
            rows = tuple(
                (
                    f"{'*' if choice['chosen'] else ' '} {choice['choice']!s}",
                    *(
                        w
                        for k in ("task", "hardware", "accuracy")
                        for w in (f"{choice[k] + 0.0:.3g}", str(choice[k + "_rank"]))
                    ),
                )
                for choice in gene["choices"]
            )
            facts.append(Table(gene["gene"], header, rows))
    return facts


def _gene(found: Findings, index: int, value: str | float | int) -> dict[str, Any]:
    gene = found.genes[index]
    columns = {name: getattr(found, name).values[index] for name in ("task", "hardware", "accuracy")}
    ranks = {
        name: np.argsort(np.argsort(-column, kind="stable"), kind="stable") + 1 for name, column in columns.items()
    }
    rows = []
    for i, choice in enumerate(gene.choices):
        row: dict[str, Any] = {"choice": choice, "chosen": choice == value}
        for name, column in columns.items():
            row |= {name: float(column[i]), f"{name}_rank": int(ranks[name][i])}
        rows.append(row)
    return {"gene": gene.name, "choices": rows}
