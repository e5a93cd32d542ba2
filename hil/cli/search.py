"""Commands that search for networks which suit a chip: ``hil search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hil.cli.help_groups import group
from hil.cli.options import (
    ChipOnWire,
    Record,
    Restart,
    TrainingData,
    Workers,
    need,
    output_folder,
)
from hil.cli.search_results import SEARCHING, AllowCode, explain, prune, show, train
from hil.cli.settings_options import Given, Only, Told
from hil.deployment.options import NetworkOptions, TechniqueOptions
from hil.errors import UsageError
from hil.searching.settings import SearchSettings
from hil.watch import Watch

if TYPE_CHECKING:  # torch is imported when a command runs
    from hil.searching.loop import Loop

InTheLoop = Annotated[
    bool, typer.Option("--in-the-loop", help="deploy trained networks on a chip (--port or --emulated) and re-rank")
]


class RunByDefault(TyperGroup):
    """``hil search --data …`` is ``hil search run --data …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ("-h", "--help")
        return super().parse_args(ctx, ["run", *args] if options else args)


def run_(
    data: TrainingData,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the search", callback=output_folder)],
    space: Annotated[
        str | None,
        typer.Option(help="search space: a shipped one or a .toml file; default: by data set", show_default=False),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="net.pt of the teacher; default: train a teacher", show_default=False)
    ] = None,
    calibration: Record = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="trained net.pt whose pruned networks are searched, without training",
            show_default=False,
        ),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(
            help="cost model of networks: mnsim-default, or another chip; default: --chip", show_default=False
        ),
    ] = None,
    *,
    of: Annotated[Given[NetworkOptions], Only("chip", "macros")],
    searched: Given[SearchSettings],
    treated: Given[TechniqueOptions],
    workers: Workers = None,
    in_the_loop: InTheLoop = False,
    on: Annotated[Given[ChipOnWire], Only("port", "emulated")],
    restart: Restart = False,
    allow_code: AllowCode = False,
    watch: Watch,
) -> Told:
    """Search for networks: operator significance, a Pareto front, and its best networks trained and evaluated."""
    need(*SEARCHING)
    from hil.searching.begin import begin_search, finished, named_place, refused_goes, usual_settings
    from hil.searching.run import run_search

    source, scheduler = of.upon(NetworkOptions()), workers if isinstance(workers, str) else None
    searched = Given({**searched.values, **({"workers": workers} if isinstance(workers, int) else {})})
    pruned = from_ is not None
    also = {"--space": space, "--teacher": teacher, "--in-the-loop": in_the_loop}
    if pruned and (more := [name for name, value in also.items() if value]):
        raise UsageError(f"{', '.join(more)}: --from searches pruned networks of its network", hint="leave it out")
    loop = _loop(in_the_loop, on.upon(ChipOnWire(), chip=source.chip, macros=source.macros))
    on_a_chip = not pruned or costs is None or source.chip != NetworkOptions().chip
    settings = searched.upon(
        usual_settings(data, searched.values["device"], teacher=teacher is not None, pruned=pruned),
        data=named_place(data),
        chip=named_place(source.chip) if on_a_chip else "",
        costs=named_place(costs) if costs else "",
        macros=source.macros or 0,
        calibration=str(calibration.absolute()) if calibration else "",
        recipe=str(treated.upon(TechniqueOptions()).recipe()),
    )
    folder = begin_search(out, settings, space=space, teacher=from_ or teacher, allow_code=allow_code, restart=restart)
    with refused_goes(folder):
        run_search(folder, settings, watch, scheduler=scheduler, loop=loop)
    found = finished(folder, settings)
    return Told([found.summary], {"folder": str(folder.root), **found.table})


def _loop(asked: bool, wire: ChipOnWire) -> Loop | None:
    if not asked:
        if wire.named:
            raise UsageError("a chip is named, and nothing to do with it", hint="--in-the-loop asks it")
        return None
    from hil.searching.loop import Loop

    return Loop(wire.address)


search = group(
    "Search for networks that suit a chip: run, show, explain, train, prune.",
    *(run_, train, prune, show, explain),
    cls=RunByDefault,
)
