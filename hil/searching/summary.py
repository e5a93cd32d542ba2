"""What a search found, at a glance: the best networks of its front, their costs, and what to do with one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cim.chip.file import is_cost_model
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.searching.settings import SearchSettings

PUBLISHED_EDP = {"fashion-mnist": 0.16, "cifar10": 0.16}  # of NAS4CIM's abstract
MOST_TOLD, MOST_ROWS = 3, 12  # networks whose run on a chip has a line; of a measured front
Row = Mapping[str, Any]


def search_summary(table: Mapping[str, Any], settings: SearchSettings, root: str, page: str = "") -> Summary:
    """Summary of a search in the folder ``root``, from its table (``hil.searching.table.table_json``)."""
    rows = table["networks"]
    best = max(filter(_accuracy, rows), key=lambda row: _accuracy(row) or 0.0, default=None)
    knee = next((row for row in rows if row["name"] == table["knee"]), rows[0])
    best = knee if settings.pruned else best  # written for the highest price
    shown = rows
    if settings.pruned:
        front = [row for row in rows if not row["network"]]
        shown = [*(row for row in rows if row["network"]), *front[:: max(1, -(-len(front) // MOST_ROWS))]]
    return Summary(
        f"pruned networks for {settings.data}" if settings.pruned else f"search for {settings.data} on {settings.chip}",
        "SIMULATED" if not any(row.get("measured") for row in rows) else "",
        _headline(rows, best, knee),
        (front_table(shown, table), *_facts(table, settings), *([Fact("page", page)] if page else [])),
        _steps(settings, root, best or knee),
    )


def _headline(rows: list[Row], best: Row | None, knee: Row) -> Headline:
    if best is None:
        text = f"predicted {knee['predicted']:.1f} %; none of them is trained yet"
        return Headline(Tone.OPEN, f"{len(rows)} NETWORKS", text)
    found = best.get("evaluated")
    worst = f", worst chip {100 * found['accuracy_worst']:.1f} %" if found else ", of training images held out"
    accuracy = _accuracy(best)
    return Headline(Tone.GOOD, f"{accuracy:.1f} %" if accuracy else "written", f"{best['name']}{worst}, {_cost(best)}")


def _accuracy(row: Row) -> float | None:
    """Percent right that a network is judged by: on virtual chips, or of a pruned one else without their errors."""
    if row.get("evaluated"):
        return 100 * float(row["evaluated"]["accuracy_mean"])
    found = row.get("right") if row.get("on_chips") is None else row["on_chips"]
    return None if found is None else float(found)


def _cost(row: Row) -> str:
    energy, latency = row["energy_pj"] / 1e6, row["latency_ns"] / 1e6
    return f"{energy:.3g} µJ, {latency:.3g} ms, {row['macros']} of {row['macros_available']} macros"


def _share(key: str, of: str) -> Callable[[Row], str | None]:
    """Accuracy of an evaluation; None where a kind of network has none."""
    return lambda row: None if of not in row else f"{100 * row[of][key]:.1f} %" if row[of] else "—"


def _percent(name: str, digits: int) -> Callable[[Row], str | None]:
    return lambda row: None if row.get(name) is None else f"{row[name]:.{digits}f} %"


def _more(row: Row) -> str:
    return ", ".join([*row.get("modes", ()), *(["too large"] if row["macros"] > row["macros_available"] else [])])


COLUMNS: tuple[tuple[str, Callable[[Row], str | None]], ...] = (
    ("network", lambda row: str(row["name"])),
    ("predicted", _percent("predicted", 1)),
    ("quantised", _percent("right", 2)),
    ("on virtual chips", _percent("on_chips", 2)),
    ("divergence", lambda row: f"{row['divergence']:.4f}" if "divergence" in row else None),
    ("simulated", _share("accuracy_mean", "evaluated")),
    ("worst", _share("accuracy_worst", "evaluated")),
    ("on a chip", lambda row: _share("accuracy_mean", "measured")(row) if row.get("measured") else None),
    ("EDP, mJ·ms", lambda row: f"{row['edp_mj_ms']:.3g}"),
    ("energy, µJ", lambda row: f"{row['energy_pj'] / 1e6:.3g}"),
    ("latency, µs", lambda row: f"{row['latency_ns'] / 1e3:.4g}"),
    ("macros", lambda row: f"{row['macros']}"),
    ("mode", _more),
    ("choices", lambda row: str(row["choices"])),
)
ON_A_PAGE = ("latency, µs", "choices")  # of columns


def front_table(rows: Sequence[Row], table: Mapping[str, Any], title: str = "Front", *, whole: bool = False) -> Table:
    """The networks of a table; ``whole``: with all that a page has room for. What none of them has is left out."""
    asked = [(name, get) for name, get in COLUMNS if whole or name not in ON_A_PAGE]
    filled = [(name, get) for name, get in asked if any(map(get, rows))]
    cells = tuple(tuple(get(row) or ("" if get is _more else "—") for _, get in filled) for row in rows)
    return Table(title, tuple(name for name, _ in filled), cells, table.get("basis") or bases(table["networks"]))


def bases(rows: Sequence[Row]) -> str:
    """The images and chips behind the accuracies of a table, as text."""
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


def _facts(table: Mapping[str, Any], settings: SearchSettings) -> list[Fact]:
    searched = f"{table['method']}, {table['simulations']} networks simulated whole, seed {table['seed']}"
    facts = [Fact(name, text) for name, text in table.get("facts", {"Searched": searched}).items()]
    trained = [row["evaluated"]["source"] for row in table["networks"] if row.get("evaluated")]
    if trained:
        facts.append(Fact("Simulated", "; ".join(dict.fromkeys(trained))))
    measured = [row for row in table["networks"] if row.get("measured")]
    facts += [Fact(f"{row['name']} on a chip", row["measured"]["source"]) for row in measured[:MOST_TOLD]]
    if len(measured) > MOST_TOLD:
        facts.append(Fact("On a chip", f"{len(measured) - MOST_TOLD} more networks, on the page"))
    for row in table["networks"]:
        if row.get("failed"):
            facts.append(Fact(row["name"], row["failed"].splitlines()[0]))
    facts.append(Fact("Costs", f"{table['costs']}, one image, {table['costs_of']}", aside="estimated"))
    if is_cost_model(table["costs"]) and settings.data in PUBLISHED_EDP and not settings.pruned:
        edp = f"EDP {PUBLISHED_EDP[settings.data]:g} in efficiency mode (doi 10.11999/JEIT250978)"
        facts.append(Fact("Paper", f"{edp}; unit, networks and settings are not in its abstract"))
    facts += [Fact("Mind", text) for text in table["notes"]]
    return facts


def _steps(settings: SearchSettings, root: str, best: Row) -> tuple[NextStep, ...]:
    folder, data = shlex.quote(root), shlex.quote(settings.data)
    network = shlex.quote(f"{root}/{best['network']}")
    if settings.pruned:
        taught = shlex.quote(f"{root}/teacher.pt")
        return (
            NextStep(f"hil simulate {network} --data {data}", "what virtual chips make of it"),
            NextStep(f"hil finetune {network} --teacher {taught} --data DATA -o tuned.pt", "trains it"),
        )
    explained = NextStep(f"hil search explain {folder} {best['name']}", "why these operators")
    if not best["network"]:
        return (NextStep(f"hil search train {folder} {best['name']}", "trains and evaluates it"), explained)
    deployed = f"hil deploy {network} --data {data} --emulated --chip {shlex.quote(settings.chip)}"
    return (NextStep(deployed, "what a chip makes of it"), explained)
