"""Commands that search for networks that suit a chip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hil.cli.help_groups import GroupedCommand
from hil.cli.options import (
    Baud,
    Chip,
    DataDir,
    Effort,
    Emulated,
    Json,
    Macros,
    Port,
    Restart,
    With,
    Without,
    chip_address,
    duration,
    need,
    output_folder,
    print_result,
    screen,
    seconds,
)
from hil.cli.search_results import SEARCHING, AllowCode, Scheduler, explain, heir, show, train
from hil.deployment.options import recipe_for
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
    help="Search for networks that suit a chip: run, show, explain, train.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@search.command("run", cls=GroupedCommand)
def run_(
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10, eurosat, or a path with training images")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the search", callback=output_folder)],
    chip: Chip = "lab-128",
    macros: Macros = None,
    space: Annotated[
        str | None,
        typer.Option(help="a shipped space or a .toml file; default: the one of the data set", show_default=False),
    ] = None,
    least_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="drop operators that use less of the last of several arrays; 0 keeps all"),
    ] = USUAL.least_share,
    mode: Annotated[str, typer.Option(help="pareto (a front) or paper (accuracy, balanced, efficiency)")] = USUAL.mode,
    estimator: Annotated[
        str, typer.Option(help="estimator of phase A: path (single paths) or alpha (mixtures)")
    ] = USUAL.estimator,
    budget: Annotated[
        str | None,
        typer.Option(help="time for the whole search, 30m or 8h; phases are cut short to keep it", show_default=False),
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
    age: Annotated[str, typer.Option(help="age after programming")] = duration(USUAL.age_s),
    subset: Annotated[
        int | None, typer.Option(min=1, help="number of training images; default: all", show_default=False)
    ] = None,
    brief_images: Annotated[
        int | None,
        typer.Option(min=1, help="number of those for stages and sample networks; default: all", show_default=False),
    ] = None,
    teacher_epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"epochs of the teacher; default: {USUAL.teacher_epochs}, and 0 with --teacher",
            show_default=False,
        ),
    ] = None,
    stage_epochs: Annotated[int, typer.Option(min=1, help="epochs of each stage (phase A)")] = USUAL.stage_epochs,
    samples: Annotated[
        int, typer.Option(min=4, help="sample networks, trained briefly to predict accuracies")
    ] = USUAL.samples,
    sample_epochs: Annotated[int, typer.Option(min=1, help="epochs of each of them")] = USUAL.sample_epochs,
    simulations: Annotated[int, typer.Option(min=8, help="whole networks simulated (phase B)")] = USUAL.simulations,
    max_latency_us: Annotated[
        float | None, typer.Option(min=0, help="limit for one image, for all networks of the front", show_default=False)
    ] = None,
    max_energy_uj: Annotated[
        float | None, typer.Option(min=0, help="limit for one image, for all networks of the front", show_default=False)
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(min=0, help="most points of predicted accuracy below the best network", show_default=False),
    ] = None,
    networks: Annotated[
        int, typer.Option(min=0, help="networks of the front that are trained (phase C)")
    ] = USUAL.networks,
    epochs: Annotated[int, typer.Option(min=1, help="epochs of each of them")] = USUAL.epochs,
    batch: Annotated[int, typer.Option(min=2, help="images a training step; even")] = USUAL.batch,
    shift: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="most pixels that training images are shifted; default: cifar10 2, eurosat 4, others 1",
            show_default=False,
        ),
    ] = None,
    symmetry: Annotated[
        str | None,
        typer.Option(
            help="symmetry of training images: none, mirror (left for right) or turn (seen from above); "
            "default: eurosat turn, others mirror",
            show_default=False,
        ),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(
            min=1, help="side of the random squares that training begins on, which take less time", show_default=False
        ),
    ] = None,
    ask_once: Annotated[
        bool, typer.Option("--ask-once", help="ask the teacher once for each whole image, not for every batch")
    ] = False,
    inherit: Annotated[
        bool, typer.Option("--inherit", help="begin networks with the weights of the blocks that their teacher has too")
    ] = False,
    chips: Annotated[
        int, typer.Option(min=2, help="virtual chips that a trained network is evaluated on")
    ] = USUAL.chips,
    images: Annotated[int, typer.Option(min=2, help="test images of that evaluation")] = USUAL.images,
    engine: Annotated[str, typer.Option(help="engine of that evaluation: exact or fast")] = USUAL.engine,
    seed: Annotated[int, typer.Option(min=0, help="seed of everything random")] = USUAL.seed,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="jobs side by side, one thread each; default: one a core, on cuda none", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = USUAL.device,
    devices: Annotated[int, typer.Option(min=1, help="GPUs that train side by side")] = USUAL.devices,
    precision: Annotated[
        str | None,
        typer.Option(
            help="precision of training: 32-true, bf16-mixed or 16-mixed; default: 32-true, on cuda bf16-mixed",
            show_default=False,
        ),
    ] = None,
    effort: Effort = None,
    having: With = None,
    without: Without = None,
    data_dir: DataDir = None,
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

    loop = _loop(in_the_loop, port, emulated, chip, macros, rounds, baud)
    for path, what in ((teacher, "teacher"), (calibration, "record")):
        if path is not None and not path.is_file():
            raise FileError(f"no {what} {path}", hint="name an existing file")
    usual_shift, usual_symmetry = augmentation(data)
    settings = SearchSettings(
        data=_absolute(data),
        chip=_absolute(chip),
        mode=mode,
        estimator=estimator,
        macros=macros or 0,
        least_share=least_share,
        calibration=str(calibration.absolute()) if calibration else "",
        data_dir=str(data_dir.absolute()) if data_dir else "",
        age_s=seconds(age),
        subset=subset or 0,
        brief_images=brief_images or 0,
        budget_s=seconds(budget) if budget else 0.0,
        seed=seed,
        batch=batch,
        shift=usual_shift if shift is None else shift,
        symmetry=symmetry or usual_symmetry,
        crop=crop or 0,
        asked_once=ask_once,
        inherited=inherit,
        teacher_epochs=teacher_epochs if teacher_epochs is not None else 0 if teacher else USUAL.teacher_epochs,
        stage_epochs=stage_epochs,
        samples=samples,
        sample_epochs=sample_epochs,
        simulations=simulations,
        max_latency_us=max_latency_us or 0.0,
        max_energy_uj=max_energy_uj or 0.0,
        within=within or 0.0,
        networks=networks,
        epochs=epochs,
        chips=chips,
        images=images,
        engine=engine,
        recipe=str(recipe_for(None, having or (), without or (), effort)),
        workers=workers if workers is not None else (os.cpu_count() or 1 if device == "cpu" else 0),
        device=device,
        devices=devices,
        precision=precision or (USUAL.precision if device == "cpu" else "bf16-mixed"),
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
