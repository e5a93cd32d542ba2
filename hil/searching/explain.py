"""Explanation of a network of a search: significance of each choice, beside the choices that it did not take."""

from __future__ import annotations

from typing import Any

import numpy as np

from hil.pages.summary import Fact
from hil.pages.tables import Table
from hil.searching.folder import SearchFolder
from hil.searching.front import Findings, read_findings
from hil.searching.networks import member_named, network_name
from hil.searching.table import front_of_folder, members_of


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
