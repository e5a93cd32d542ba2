"""Commands that print reports, techniques, the glossary, examples, and the state of this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.help_groups import group
from hil.cli.options import Json, Net, Watch, print_result
from hil.cli.settings_options import Given, Only, Told
from hil.deployment.options import NetworkOptions
from hil.errors import ExitCode, OutputError, UsageError
from hil.pages.summary import Fact, Tone
from hil.pages.tables import Table
from hil.report.terminal.answers import Answer, show_answer
from hil.report.terminal.completion import example_names, one_of
from hil.report.terminal.lines import print_json, print_line
from mapping.recipe.registry import techniques as installed
from mapping.recipe.technique import Technique, settings_of
from mapping.settings import short

if TYPE_CHECKING:
    from hil.cost.plan import DeploymentPlan
import re

from hil.pages.account import Account


def show(
    run_folder: Annotated[
        Path | None,
        typer.Argument(
            help="run folder, its report.json, folder of runs, or record of forming; default: the newest run in runs/",
            show_default=False,
        ),
    ] = None,
    other: Annotated[Path | None, typer.Argument(help="second run to compare with", show_default=False)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="print all tables: verdict, causes, layers, cells, time, provenance")
    ] = False,
    as_json: Json = False,
) -> int:
    """Print the report of an earlier run, two runs side by side, or a table of all runs in a folder."""
    from hil.calibration.forming import account_of as account_of_forming
    from hil.calibration.forming import read_record
    from hil.report.account import account_of
    from hil.verdict.agreement import AgreementReport

    if run_folder is None:
        made = sorted(Path("runs").glob("*/report.json"), key=lambda path: path.stat().st_mtime)
        run_folder = made[-1].parent if made else Path("runs")
    if other is not None:
        return show_both(run_folder, other, as_json)
    if run_folder.is_file() and (formed := read_record(run_folder)):
        print_result(account_of_forming(formed, maps=everything), formed, as_json)
        return ExitCode.DONE
    if run_folder.is_dir() and not (run_folder / "report.json").exists() and any(run_folder.glob("*/report.json")):
        return show_runs(run_folder, as_json)
    report = AgreementReport.read(run_folder)
    if as_json:
        print_json(report.to_json())
    else:
        account = account_of(report)
        show_answer(account if everything else account.first)
    return int(report.exit_code)


def show_both(one: Path, other: Path, as_json: bool) -> int:
    """Print two runs side by side."""
    from hil.report.account import account_of
    from hil.verdict.agreement import AgreementReport
    from hil.verdict.baseline import compare_reports

    names, reports = (str(one), str(other)), (AgreementReport.read(one), AgreementReport.read(other))
    first, second = map(account_of, reports)
    change, tables, apart = compare_reports(*reports), side_by_side(names, first, second), warnings(first, second)
    told: list[Answer] = [change.text, *(Fact("Not alike", text, tone=Tone.BAD) for text in apart)]
    for table in tables:
        told += ["", table.title, table]
    record: dict[str, Any] = {
        "change": asdict(change),
        "warnings": list(apart),
        "tables": [asdict(table) for table in tables],
    }
    print_result(told, record, as_json)
    return ExitCode.DONE


def show_runs(folder: Path, as_json: bool) -> int:
    """Print one line for each run of a folder."""
    from hil.report.run_index import read_runs

    index = read_runs(folder)
    print_result([index.table()], index.to_json(), as_json)
    return ExitCode.DONE


def glossary(
    word: Annotated[
        str | None, typer.Argument(help="word or part of a word; default: all words", show_default=False)
    ] = None,
) -> int:
    """Print the meaning of a word of screens and pages; other words are looked up in the meanings."""
    from hil.pages.glossary import find_terms, nearest_terms

    found = find_terms(word)
    if not found:
        near = ", ".join(nearest_terms(word or ""))
        raise UsageError(
            f"the glossary has no {word!r}",
            likely=f"meant was {near}" if near else "",
            hint="hil help glossary prints all words",
        )
    show_answer(Table("Words", ("", ""), tuple(found.items())))
    return ExitCode.DONE


def techniques(
    network: Net = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros")],
    watch: Watch,
) -> Told:
    """List techniques for networks on chips, their settings, and their costs on the chip that you name."""
    from hil.deployment.price_list import price_table, prices_of

    rows, found, source = [], [], of.upon(NetworkOptions())
    prices: dict[str, DeploymentPlan | str] = {}
    for name, kind in installed().items():
        rows.append((name, _when(kind), kind.words))
        rows += [("", "", line) for line in _setting_lines(kind)]
        rest = [*(f"excludes {other}" for other in kind.excludes), *(f"builds on {other}" for other in kind.needs)]
        rows += [("", "", ", ".join(rest))] if rest else []
        found.append(_to_json(name, kind))
    if network or source != NetworkOptions():
        with watch.stage("pricing"):
            prices = prices_of(network, source, watch)
    return Told(
        [
            Table("Techniques", ("technique", "used", "what it does"), tuple(rows)),
            "",
            price_table(prices, f"{network or 'the bundled network'} and {source.chip}"),
        ],
        {"techniques": found, "prices": {n: p if isinstance(p, str) else p.to_json() for n, p in prices.items()}},
    )


def _when(kind: type[Technique]) -> str:
    least = None if kind.excludes else min((offer.effort for offer in kind.offers), default=None)
    return "by name" if least is None else "by default" if least == 1 else f"effort {least}"


def _setting_lines(kind: type[Technique]) -> list[str]:
    return [
        f"{short(f)}={f.default:g}{'s' if f.metadata['unit'] == 's' else ''}: {f.metadata['words']}"
        for f in settings_of(kind)
    ]


def _to_json(name: str, kind: type[Technique]) -> dict[str, Any]:
    settings = [
        {"name": short(f), "default": f.default, **{k: f.metadata[k] for k in ("words", "unit", "low", "high")}}
        for f in settings_of(kind)
    ]
    return {
        "name": name,
        "words": kind.words,
        "effort": min((offer.effort for offer in kind.offers), default=None),
        "gave": [asdict(gave) for gave in kind.gave],
        "settings": settings,
        "excludes": list(kind.excludes),
        "needs": list(kind.needs),
    }


def examples(
    action: Annotated[
        str | None, typer.Argument(help="copy", show_default=False, autocompletion=one_of(("copy",)))
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="name of an example", show_default=False, autocompletion=example_names)
    ] = None,
    to: Annotated[
        Path | None, typer.Argument(help="folder to write; default: examples/NAME", show_default=False)
    ] = None,
) -> int:
    """List the examples of the documents, or copy an example: hil help examples copy NAME."""
    from hil.pages.examples import copy_example
    from hil.pages.examples import examples as known

    if action is None:
        rows = tuple(known().items())
        show_answer(Table("Examples", ("", ""), rows))
        return ExitCode.DONE
    if action != "copy" or name is None:
        raise UsageError(
            "hil help examples copy needs the name of an example", hint="hil help examples lists the names"
        )
    try:
        copied = copy_example(name, to)
    except KeyError:
        raise UsageError(f"no example {name!r}", hint=f"hil help examples lists them: {', '.join(known())}") from None
    except FileExistsError as error:
        raise OutputError(f"{error} is there already", hint="name another place, or remove that one") from None
    except OSError as error:
        raise OutputError(f"the example cannot be written: {error}", hint="name another place") from error
    print_line(f"{copied}: a copy of your own")
    return ExitCode.DONE


def doctor(
    download: Annotated[
        str | None,
        typer.Option(help="download this data set by torchvision, and check its checksum", show_default=False),
    ] = None,
) -> Told:
    """Check this machine: versions, ports and permissions, data sets, disk space for results."""
    from hil.cli.doctor import checks
    from hil.datasets.image_set import fetch_dataset

    if download is not None:
        fetch_dataset(download)
    found = checks()
    table = Table("Checks", ("", "", ""), tuple((c.word, c.name, c.text) for c in found))
    return Told([table], {c.name: {"ok": c.ok, "text": c.text} for c in found})


help = group("Techniques, words and examples.", techniques, glossary, examples)


NOTHING = "—"
NUMBER = re.compile(r"([−+]?[\d,]+(?:\.\d+)?) ?([^\s\d]*)")  # a whole cell: a number and its unit


def side_by_side(names: tuple[str, str], one: Account, other: Account) -> tuple[Table, ...]:
    """One table for each that differs between two accounts; a row that only one of them has is beside a dash."""
    first, second = ({_title(table): _rows(table) for table in account.tables} for account in (one, other))
    found = []
    for title in dict.fromkeys((*first, *second)):
        a, b = first.get(title, {}), second.get(title, {})
        pairs = [(label, a.get(label, NOTHING), b.get(label, NOTHING)) for label in dict.fromkeys((*a, *b))]
        rows = tuple((*row, difference(*row[1:])) for row in pairs if row[1] != row[2])
        same = len(pairs) - len(rows)
        note = f"{NOTHING}: only one of them has it. " if any(NOTHING in row[1:3] for row in rows) else ""
        if rows:
            found.append(Table(title, ("", *names, "difference"), rows, f"{note}Rows that are the same: {same}."))
    return tuple(found)


def warnings(one: Account, other: Account) -> tuple[str, ...]:
    """Why numbers of the two must not be compared as they stand: "age: 1 h beside 30 d, …"."""
    pairs = zip(one.basis, other.basis, strict=True)
    return tuple(f"{label}: {a} beside {b}, {apart}" for (label, a, apart), (_, b, _) in pairs if a != b)


def difference(one: str, other: str) -> str:
    """Difference of two cells that are numbers of one unit, with sign and unit; else "differs"."""
    if NOTHING in (one, other):
        return NOTHING
    a, b = NUMBER.fullmatch(one), NUMBER.fullmatch(other)
    if a is None or b is None or a[2] != b[2]:
        return "differs"
    before, after = (float(found[1].replace(",", "").replace("−", "-")) for found in (a, b))
    digits = max(len(found[1].partition(".")[2]) for found in (a, b))
    return f"{after - before:+,.{digits}f} {a[2].replace('%', 'points')}".replace("-", "−").strip()


def _title(table: Table) -> str:
    return f"{table.title}: {table.compared}" if table.compared else table.title


def _rows(table: Table) -> dict[str, str]:
    """Values of the compared column of a table, by the first cell of each row."""
    at = table.header.index(table.compared) if table.compared in table.header[1:] else 1
    return {row[0]: row[at] for row in reversed(table.rows)}
