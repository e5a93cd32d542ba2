"""The command that trains a given network on for the errors of a chip."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Baud,
    Chip,
    DataDir,
    Download,
    Emulated,
    Json,
    Macros,
    Port,
    Restart,
    chip_address,
    duration,
    output_file,
    print_result,
    screen,
    seconds,
    writing,
)
from hil.errors import ExitCode, UsageError
from hil.improvement.finetuning.settings import EPOCHS, ON_CHIP, FinetuneSettings, OnChipSettings
from hil.transports import DEFAULT_BAUD

USUAL, USUAL_ON_CHIP = FinetuneSettings(), OnChipSettings()


def on_chip(usual: float | str, there: float) -> str:
    """Words on a default that is another on a chip."""
    return f"default: {usual if isinstance(usual, str) else format(usual, 'g')}, on a chip {there:g}"


def finetune(
    network: Annotated[Path, typer.Argument(help="net.pt")],
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10-jpeg, eurosat, or a path with training images")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="the tuned net.pt to write; on a chip: its program.h5", callback=output_file),
    ],
    chip: Chip = "lab-128",
    calibration: Annotated[
        Path | None,
        typer.Option(help="record whose errors count; default: the models of the chip file", show_default=False),
    ] = None,
    age: Annotated[str, typer.Option(help="age after programming")] = duration(USUAL.age_s),
    no_aims: Annotated[
        bool, typer.Option("--no-aims", help="the chip will write cells to their levels, not beside them for that age")
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"passes over all training images; {on_chip(EPOCHS, ON_CHIP.epochs)}", show_default=False
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="as many epochs as this machine does in so long, instead", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6, help=f"learning rate at its highest; {on_chip('by trials', ON_CHIP.rate)}", show_default=False
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=2, help=f"images a training step; even; {on_chip(USUAL.batch, ON_CHIP.batch)}", show_default=False
        ),
    ] = None,
    shift: Annotated[
        int | None,
        typer.Option(min=0, help="pixels by which images move; default: what suits the data", show_default=False),
    ] = None,
    symmetry: Annotated[
        str | None,
        typer.Option(help="none, mirror or turn; default: what suits the data", show_default=False),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(min=1, help="begin on squares of this side, which take less time", show_default=False),
    ] = None,
    teacher_weight: Annotated[
        float, typer.Option(min=0, max=1, help="of the float network's answers in the loss; the rest is the labels'")
    ] = USUAL.teacher_weight,
    strength: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help=f"of the errors in training; 1: as the record says; {on_chip('by trials', ON_CHIP.strength)}",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=f"training images that only score, a tenth at most; {on_chip(USUAL.held_out, ON_CHIP.held_out)}",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="everything that is random follows from it")] = USUAL.seed,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = USUAL.device,
    devices: Annotated[int, typer.Option(min=1, help="GPUs that train side by side")] = USUAL.devices,
    precision: Annotated[
        str | None,
        typer.Option(
            help="32-true, bf16-mixed or 16-mixed; default: bf16-mixed where the processor multiplies it",
            show_default=False,
        ),
    ] = None,
    port: Port = None,
    emulated: Emulated = False,
    simulated: Annotated[
        int, typer.Option(min=0, help="go through it on so many virtual chips instead: what it would give")
    ] = 0,
    macros: Macros = None,
    groups: Annotated[
        int, typer.Option(min=2, help="groups of layers, one written after the other")
    ] = USUAL_ON_CHIP.groups,
    measure: Annotated[
        int, typer.Option(min=2, help="most training images that run through the chip")
    ] = USUAL_ON_CHIP.images,
    baud: Baud = DEFAULT_BAUD,
    restart: Restart = False,
    as_json: Json = False,
) -> int:
    """Train a network on for the errors of a chip, taught by itself as it came. The same command resumes.

    With --port or --emulated it is written to that chip meanwhile, group of layers after group, and the layers behind
    are trained on what the chip makes of the images.
    """
    from hil.improvement.finetuning.on_chip import finetune_on_chip, predict_on_chip
    from hil.improvement.finetuning.on_chip_result import OnChipPrediction, OnChipResult
    from hil.improvement.finetuning.run import finetune as run
    from hil.pages.summary import NextStep
    from hil.watch import PlannedStage

    named = f" --data {shlex.quote(data)}" + (f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else "")
    on_a_chip = bool(port or emulated or simulated)
    usual = ON_CHIP if on_a_chip and not minutes else USUAL
    settings = FinetuneSettings(
        epochs=epochs or (0 if minutes else usual.epochs),
        minutes=minutes or 0.0,
        age_s=seconds(age),
        aimed=not no_aims,
        rate=usual.rate if rate is None else rate,
        batch=batch or usual.batch,
        shift=shift,
        symmetry=symmetry or "",
        crop=crop or 0,
        teacher_weight=teacher_weight,
        strength=usual.strength if strength is None else strength,
        held_out=held_out or usual.held_out,
        seed=seed,
        device=device,
        devices=devices,
        precision=precision or "",
    )
    with screen(quiet=as_json) as watch, writing(out):
        if on_a_chip:
            asked = OnChipSettings(groups, measure, training=settings)
            found: OnChipResult | OnChipPrediction
            if simulated:
                if port or emulated:
                    raise UsageError("--simulated excludes --port and --emulated")
                found = predict_on_chip(
                    network, data, simulated, calibration, chip=chip, macros=macros, data_dir=data_dir,
                    download=download, settings=asked, watch=watch,
                )  # fmt: skip
            else:
                address = chip_address(port, emulated, chip, macros)
                if calibration is None:
                    raise UsageError("a record of the chip is needed: --calibration", hint="hil calibrate -o record.h5")
                found = finetune_on_chip(
                    network, data, out, address, calibration, chip=chip, macros=macros, data_dir=data_dir,
                    download=download, settings=asked, restart=restart, baud=baud, watch=watch,
                )  # fmt: skip
            place = f"--port {shlex.quote(port)}" if port else "--emulated"
            deployed = f"hil deploy {shlex.quote(str(out))}{named} {place}"
            steps: tuple[NextStep, ...] = (NextStep(deployed, "its verdict on this chip"),)
            if simulated:
                trained = f"hil finetune {shlex.quote(str(network))}{named} --emulated --out {shlex.quote(str(out))}"
                steps = (NextStep(trained, "the same on a chip, with its record: --calibration"),)
            print_result([found.summary(network.stem, steps)], found.to_json(), as_json)
            return ExitCode.DONE
        stages = {
            "loading": 5.0,
            "as it came": 10.0,
            "measuring the speed": 10.0,
            "training": 60.0 * settings.minutes or 600.0,
            "as deployed": 10.0,
        }
        watch.plan([PlannedStage(name, work_s) for name, work_s in stages.items()])
        result = run(
            network,
            data,
            out,
            chip=chip,
            calibration=calibration,
            data_dir=data_dir,
            download=download,
            settings=settings,
            restart=restart,
            watch=watch,
        )
    written = shlex.quote(str(out))
    record = f" --calibration {shlex.quote(str(calibration))}" if calibration else ""
    steps = (
        NextStep(f"hil simulate {written}{named}{record}", "what such chips make of it"),
        NextStep(f"hil deploy {written}{named} --emulated", "and one chip, through its frames"),
    )
    print_result([result.summary(network.stem, steps)], result.to_json(), as_json)
    return ExitCode.DONE
