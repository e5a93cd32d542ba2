"""Commands that search for networks that suit a chip."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hil.cli.help_groups import GroupedCommand
from hil.cli.options import (
    Baud,
    Emulated,
    Json,
    Port,
    Restart,
    chip_address,
    need,
    output_folder,
    print_result,
    screen,
)
from hil.cli.search_results import SEARCHING, AllowCode, Scheduler, explain, heir, prune, show, train
from hil.cli.settings_options import Given, Only, from_settings
from hil.deployment.options import NetworkAsked, TechniquesAsked
from hil.errors import ExitCode, FileError, Interrupted, UsageError
from hil.searching.settings import SearchSettings
from hil.transports import DEFAULT_BAUD

if TYPE_CHECKING:  # torch is imported when a command runs
    from hil.searching.folder import SearchFolder
    from hil.searching.loop import Loop

USUAL = SearchSettings(data="", chip="")

InTheLoop = Annotated[
    bool, typer.Option("--in-the-loop", help="deploy trained networks on a chip (--port or --emulated) and rank again")
]
Rounds = Annotated[int, typer.Option(min=1, help="rounds of training, measuring and ranking again (--in-the-loop)")]


class RunByDefault(TyperGroup):
    """``hil search --data …`` is ``hil search run --data …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ("-h", "--help")
        return super().parse_args(ctx, ["run", *args] if options else args)


search = typer.Typer(
    cls=RunByDefault,
    help="Search for networks that suit a chip: run, show, explain, train, prune.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@search.command("run", cls=GroupedCommand)
@from_settings
def run_(
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10, eurosat, or a path with training images")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the search", callback=output_folder)],
    space: Annotated[
        str | None,
        typer.Option(help="a shipped space or a .toml file; default: the one of the data set", show_default=False),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="net.pt of the teacher; default: one is trained", show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="record whose errors are trained with; default: the models of the chip file", show_default=False
        ),
    ] = None,
    *,
    of: Annotated[Given[NetworkAsked], Only("chip", "macros", "data_dir")],
    searched: Given[SearchSettings],
    treated: Given[TechniquesAsked],
    scheduler: Scheduler = None,
    in_the_loop: InTheLoop = False,
    port: Port = None,
    emulated: Emulated = False,
    rounds: Rounds = 3,
    baud: Baud = DEFAULT_BAUD,
    restart: Restart = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> int:
    """Search: significance of operators, a front of networks, and the best of them trained and evaluated."""
    need(*SEARCHING)
    from hil.datasets.augmentation import augmentation
    from hil.searching.folder import begin_folder, discard_unbegun
    from hil.searching.inputs import space_of_data
    from search.space.file import load_space, space_names, space_text

    source = of.upon(NetworkAsked())
    loop = _loop(in_the_loop, port, emulated, source.chip, source.macros, rounds, baud)
    for path, what in ((teacher, "teacher"), (calibration, "record")):
        if path is not None and not path.is_file():
            raise FileError(f"no {what} {path}", hint="name an existing file")
    usual_shift, usual_symmetry = augmentation(data)
    on_cpu = searched.values["device"] == "cpu"
    usual = replace(
        USUAL,
        shift=usual_shift,
        symmetry=usual_symmetry,
        teacher_epochs=0 if teacher else USUAL.teacher_epochs,
        workers=os.cpu_count() or 1 if on_cpu else 0,
        precision=USUAL.precision if on_cpu else "bf16-mixed",
    )
    settings = searched.upon(
        usual,
        data=_absolute(data),
        chip=_absolute(source.chip),
        macros=source.macros or 0,
        calibration=str(calibration.absolute()) if calibration else "",
        data_dir=str(source.data_dir.absolute()) if source.data_dir else "",
        recipe=str(treated.upon(TechniquesAsked()).recipe()),
    )
    named = space or space_of_data(data, space_names())
    load_space(named, allow_code=allow_code)  # its errors name the user's file, not the copy in the folder
    folder = begin_folder(out, settings, space_text(named), teacher, allow_code=allow_code, restart=restart)
    try:
        return _go_on(folder, settings, scheduler, loop, as_json)
    except Interrupted:
        raise
    except Exception:
        discard_unbegun(folder)
        raise


search.command("train")(train)
search.command("heir")(heir)
search.command("prune", cls=GroupedCommand)(prune)
search.command("show")(show)
search.command("explain")(explain)


def _loop(
    asked: bool, port: str | None, emulated: bool, chip: str, macros: int | None, rounds: int, baud: int
) -> Loop | None:
    if not asked:
        if port or emulated:
            raise UsageError("a chip is named, and nothing to do with it", hint="--in-the-loop asks it")
        return None
    from hil.searching.loop import Loop

    return Loop(chip_address(port, emulated, chip, macros), rounds, baud)


def _go_on(
    folder: SearchFolder, settings: SearchSettings, scheduler: str | None, loop: Loop | None, as_json: bool
) -> int:
    from hil.atomic import write_text
    from hil.searching.front import read_findings
    from hil.searching.page import search_page
    from hil.searching.run import run_search
    from hil.searching.summary import search_summary
    from hil.searching.table import folder_notes, table_json

    with screen(quiet=as_json) as watch:
        run_search(folder, settings, watch, scheduler=scheduler, loop=loop)
    table = table_json(folder, folder_notes(folder))
    root = str(folder.root)
    summary = search_summary(table, settings, root, str(folder.page))
    write_text(folder.page, search_page(table, summary, read_findings(folder)))
    print_result([summary], {"folder": root, **table}, as_json)
    return ExitCode.DONE


def _absolute(name_or_path: str) -> str:
    """A path made absolute, so that the search goes on from anywhere; a name stays."""
    path = Path(name_or_path).expanduser()
    return str(path.absolute()) if path.exists() and ("/" in name_or_path or path.suffix) else name_or_path
