"""What a search found, at a glance: the best networks of its front, their costs, and what to do with one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cim.chip.file import is_cost_model
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.searching.settings import SearchSettings

PUBLISHED_EDP = {"fashion-mnist": 0.16, "cifar10": 0.16}  # of NAS4CIM's abstract
MOST_TOLD = 3  # networks whose run on a chip has a line
Row = Mapping[str, Any]


def search_summary(table: Mapping[str, Any], settings: SearchSettings, root: str, page: str = "") -> Summary:
    """Summary of a search in the folder ``root``, from its table (``hil.searching.table.table_json``)."""
    rows = table["networks"]
    trained = [row for row in rows if row["evaluated"]]
    best = max(trained, key=lambda row: row["evaluated"]["accuracy_mean"]) if trained else None
    knee = next((row for row in rows if row["name"] == table["knee"]), rows[0])
    return Summary(
        f"search for {settings.data} on {settings.chip}",
        "SIMULATED" if not any(row["measured"] for row in rows) else "",
        _headline(rows, best, knee),
        (front_table(table), *_facts(table, settings, trained), *([Fact("page", page)] if page else [])),
        _steps(settings, root, best or knee),
    )


def _headline(rows: list[Row], best: Row | None, knee: Row) -> Headline:
    if best is None:
        text = f"predicted {knee['predicted']:.1f} %; none of them is trained yet"
        return Headline(Tone.OPEN, f"{len(rows)} NETWORKS", text)
    found = best["evaluated"]
    text = f"{best['name']}, worst chip {100 * found['accuracy_worst']:.1f} %, {_cost(best)}"
    return Headline(Tone.GOOD, f"{100 * found['accuracy_mean']:.1f} %", text)


def _cost(row: Row) -> str:
    energy, latency = row["energy_pj"] / 1e6, row["latency_ns"] / 1e6
    return f"{energy:.3g} µJ, {latency:.3g} ms, {row['macros']} of {row['macros_available']} macros"


def front_table(table: Mapping[str, Any]) -> Table:
    """The networks of the front by rising EDP."""
    chip = any(row["measured"] for row in table["networks"])
    header = ("network", "predicted", "simulated", "worst", *(("on a chip",) if chip else ()))
    rows = []
    for row in table["networks"]:
        found = row["evaluated"]
        mean, worst = (f"{100 * found[k]:.1f} %" if found else "—" for k in ("accuracy_mean", "accuracy_worst"))
        more = [*row["modes"], *(["too large"] if row["macros"] > row["macros_available"] else [])]
        rows.append(
            (
                row["name"],
                f"{row['predicted']:.1f} %",
                mean,
                worst,
                *((_on_a_chip(row),) if chip else ()),
                f"{row['edp_mj_ms']:.3g}",
                f"{row['energy_pj'] / 1e6:.3g}",
                f"{row['macros']}",
                ", ".join(more),
            )
        )
    costs = ("EDP, mJ·ms", "energy, µJ", "macros", "")
    return Table("Front", (*header, *costs), tuple(rows), bases(table["networks"]))


def _on_a_chip(row: Row) -> str:
    return f"{100 * row['measured']['accuracy_mean']:.1f} %" if row["measured"] else "—"


def bases(rows: Sequence[Row]) -> str:
    """Which images and chips the accuracies beside each other are of."""
    known = {where: [r for r in rows if r[where]] for where in ("evaluated", "measured")}
    told = ["predicted: for brief training, of training images held out"]
    for where, words in (("evaluated", "simulated"), ("measured", "on a chip")):
        found = sorted({_basis(row[where]) for row in known[where]}, reverse=True)
        if len(found) == 1:
            told.append(f"{words}: {found[0]}")
        told += [
            f"{words}, {basis}: {', '.join(r['name'] for r in known[where] if _basis(r[where]) == basis)}"
            for basis in found
            if len(found) > 1
        ]
    return f"{'; '.join(told)}."


def _basis(found: Row) -> str:
    chips = f", {found['chips']} virtual chips" if found["chips"] > 1 else ""
    return f"{found['images']:,} {'test ' if chips else ''}images{chips}"


def _facts(table: Mapping[str, Any], settings: SearchSettings, trained: list[Row]) -> list[Fact]:
    facts = [
        Fact("Searched", f"{table['method']}, {table['simulations']} networks simulated whole, seed {table['seed']}")
    ]
    if trained:
        facts.append(Fact("Simulated", "; ".join(dict.fromkeys(row["evaluated"]["source"] for row in trained))))
    measured = [row for row in table["networks"] if row["measured"]]
    facts += [Fact(f"{row['name']} on a chip", row["measured"]["source"]) for row in measured[:MOST_TOLD]]
    if len(measured) > MOST_TOLD:
        facts.append(Fact("On a chip", f"{len(measured) - MOST_TOLD} more networks, on the page"))
    for row in table["networks"]:
        if row["failed"]:
            facts.append(Fact(row["name"], row["failed"].splitlines()[0]))
    facts.append(Fact("Costs", f"{table['costs']}, one image, {table['costs_of']}", aside="estimated"))
    if is_cost_model(table["costs"]) and settings.data in PUBLISHED_EDP:
        edp = f"EDP {PUBLISHED_EDP[settings.data]:g} in efficiency mode (doi 10.11999/JEIT250978)"
        facts.append(Fact("Paper", f"{edp}; unit, networks and settings are not in its abstract"))
    facts += [Fact("Mind", text) for text in table["notes"]]
    return facts


def _steps(settings: SearchSettings, root: str, best: Row) -> tuple[NextStep, ...]:
    folder, data = shlex.quote(root), shlex.quote(settings.data)
    explained = NextStep(f"hil search explain {folder} {best['name']}", "why these operators")
    if not best["network"]:
        return (NextStep(f"hil search train {folder} {best['name']}", "trains and evaluates it"), explained)
    network = shlex.quote(f"{root}/{best['network']}")
    place = f" --data-dir {shlex.quote(settings.data_dir)}" if settings.data_dir else ""
    deployed = f"hil deploy {network} --data {data}{place} --emulated --chip {shlex.quote(settings.chip)}"
    return (NextStep(deployed, "what a chip makes of it"), explained)
