"""Commands on networks of a search: train further networks, prune one, show and explain the front."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Workers, need, output_file, output_folder, writing
from hil.cli.settings_options import Given, Only, Told
from hil.deployment.options import NetworkOptions, TechniqueOptions
from hil.report.terminal.completion import chips
from hil.searching.settings import SearchSettings
from hil.watch import PlannedStage, Watch
from mapping.settings import as_options
from search.pruned.limits import MOST_PLANS

Folder = Annotated[Path, typer.Argument(help="folder of a search")]
FilledFolder = Annotated[Path, typer.Argument(help="folder of a search", callback=output_folder)]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="run Python operators of the space file; only for files you trust"),
]
SEARCHING = ("pymoo", "hil search", "search")  # the package of these commands, and what installs it


def train(
    folder: FilledFolder,
    networks: Annotated[
        list[str],
        typer.Argument(
            help="names of networks on the front, or their first letters; or .json files of other networks",
            show_default=False,
        ),
    ],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="epochs for each network; default: the search's", show_default=False)
    ] = None,
    workers: Workers = None,
    allow_code: AllowCode = False,
    *,
    watch: Watch,
) -> Told:
    """Train and evaluate named networks, with more epochs if wanted."""
    need(*SEARCHING)
    from hil.searching.folder import open_folder
    from hil.searching.run import train_named
    from hil.searching.summary import search_summary
    from hil.searching.table import folder_notes, table_json

    opened, settings = open_folder(folder, allow_code=allow_code)
    scheduler = workers if isinstance(workers, str) else None
    jobs = workers if isinstance(workers, int) else settings.workers
    settings = replace(settings, epochs=epochs or settings.epochs, workers=jobs)
    train_named(opened, settings, networks, watch, scheduler=scheduler)
    table = table_json(opened, folder_notes(opened))
    return Told([search_summary(table, settings, str(opened.root))], table)


def prune(
    network: Annotated[Path, typer.Argument(help="net.pt to prune")],
    out: Annotated[Path, typer.Option("--out", "-o", help="pruned net.pt to write", callback=output_file)],
    costs: Annotated[str, typer.Option(help="cost model: mnsim-default, lab-128, or a .toml file of an array")],
    *,
    edp: Annotated[float, typer.Option(min=1e-9, help="limit of energy × latency of an image on the array, mJ·ms")],
    asked: Annotated[
        Given[SearchSettings],
        Only("activation_bits", "subset", weight_bits="3-6", candidates=MOST_PLANS),
    ],
    chip: Annotated[
        str,
        typer.Option(
            help="chip file whose cell and converter errors act while weights are fitted and plans chosen; "
            "default: no errors",
            show_default=False,
            autocompletion=chips,
        ),
    ] = "",
    of: Annotated[Given[NetworkOptions], Only("macros")],
    data: Annotated[
        str | None,
        typer.Option(help="data set with training images; default: the images stored in net.pt", show_default=False),
    ] = None,
    treated: Annotated[Given[TechniqueOptions], Only("having", "without")],
    watch: Watch,
) -> Told:
    """Prune channels, blocks and bits of a network to a price on an array; weights are refitted in closed form.

    No network is trained. Training images fit the weights and select plans; they never score a result.
    """
    from hil.pages.summary import NextStep
    from hil.searching.pruning import prune as run

    source, techniques = of.upon(NetworkOptions(), data=data), treated.upon(TechniqueOptions())
    with writing(out):
        watch.plan([PlannedStage("loading", 3.0), PlannedStage("pruning", 150.0)])
        result = run(
            network,
            out,
            edp=edp,
            data=data,
            costs=costs,
            chip=chip,
            macros=source.macros,
            treated=techniques,
            watch=watch,
            **asked.values,
        )
    named = as_options(source) + as_options(techniques)
    place, taught = shlex.quote(str(out)), shlex.quote(str(network))
    steps = (
        NextStep(f"hil finetune {place} --teacher {taught} --data DATA -o tuned.pt", "for the errors of a chip"),
        NextStep(f"hil simulate {place}{named}", "what virtual chips make of it"),
    )
    return Told([result.summary(network.stem, steps)], result.to_json())


def show(
    folder: Folder,
    costs: Annotated[
        str | None,
        typer.Option(help="price networks on another chip or cost model: mnsim-default", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="HTML page to write: the front", show_default=False, callback=output_file)
    ] = None,
    allow_code: AllowCode = False,
) -> Told:
    """Show the front: accuracy (predicted, and on simulated chips), EDP, latency, energy, macros."""
    need(*SEARCHING)
    from hil.atomic import write_text
    from hil.searching.folder import open_folder
    from hil.searching.front import findings_of
    from hil.searching.page import search_page
    from hil.searching.summary import search_summary
    from hil.searching.table import folder_notes, table_json

    found, settings = open_folder(folder, allow_code=allow_code, pruned_too=True)
    table = table_json(found, folder_notes(found), costs)
    summary = search_summary(table, settings, str(found.root), str(plot or ""))
    if plot:
        with writing(plot):
            write_text(plot, search_page(table, summary, findings_of(found)))
    return Told([summary], table)


def explain(
    folder: Folder,
    network: Annotated[
        str | None, typer.Argument(help="network's name or first letters; default: the knee", show_default=False)
    ] = None,
) -> Told:
    """Explain the operators, widths and bits of a network: significances and ranks by position."""
    need(*SEARCHING)
    from hil.searching.folder import open_folder
    from hil.searching.table import explain_json, explain_tables

    found = explain_json(open_folder(folder)[0], network)
    return Told(explain_tables(found), found)
