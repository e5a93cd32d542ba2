"""The command that makes a network smaller for the price of an array."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Json, output_file, print_result, screen, writing
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import NetworkAsked, TechniquesAsked
from hil.errors import ExitCode
from hil.searching.prune_settings import PruneSettings


@from_settings
def prune(
    network: Annotated[Path, typer.Argument(help="net.pt")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the smaller net.pt to write", callback=output_file)],
    costs: Annotated[str, typer.Option(help="array whose price counts: mnsim-default, lab-128, or a .toml file")],
    *,
    asked: Given[PruneSettings],
    of: Annotated[Given[NetworkAsked], Only("macros", "data", "data_dir")],
    treated: Given[TechniquesAsked],
    as_json: Json = False,
) -> int:
    """Make a network smaller for the price of an array: channels, blocks and bits, weights in closed form.

    Nothing is trained. Training images find the weights and choose among heirs, and never score.
    """
    from hil.pages.summary import NextStep
    from hil.searching.pruning import prune as run
    from hil.watch import PlannedStage

    settings, source = asked.upon(PruneSettings()), of.upon(NetworkAsked())
    with screen(quiet=as_json) as watch, writing(out):
        watch.plan([PlannedStage("loading", 3.0), PlannedStage("heirs", 150.0)])
        result = run(
            network,
            out,
            data=source.data,
            data_dir=source.data_dir,
            costs=costs,
            macros=source.macros,
            settings=settings,
            treated=treated.upon(TechniquesAsked()),
            watch=watch,
        )
    named = f" --data {shlex.quote(source.data)}" if source.data else ""
    place, taught = shlex.quote(str(out)), shlex.quote(str(network))
    steps = (
        NextStep(f"hil finetune {place} --teacher {taught} --data DATA -o tuned.pt", "for the errors of a chip"),
        NextStep(f"hil simulate {place}{named}", "what virtual chips make of it"),
    )
    print_result([result.summary(network.stem, steps)], result.to_json(), as_json)
    return ExitCode.DONE
