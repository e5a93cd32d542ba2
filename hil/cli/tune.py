"""The command that refits gains and biases of a programmed chip: ``hil tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import ChipOnWire, Json, output_file, print_result, screen, writing
from hil.cli.settings_options import Given, Only
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.errors import ExitCode
from hil.report.terminal.quantities import duration, seconds
from mapping.recipe.tune import TunedChannels

USUAL = DeployOptions()


def tune(
    network: Annotated[Path, typer.Argument(help="net.pt or program.h5 that the chip holds")],
    calibration: Annotated[Path, typer.Option(help="record of this chip (hil calibrate)")],
    *,
    on: Annotated[Given[ChipOnWire], Only("port", "emulated")],
    of: Annotated[Given[NetworkOptions], Only("chip", "macros", "trust")],
    images: Annotated[
        int, typer.Option(min=2, help="largest number of stored training images to use")
    ] = TunedChannels().images,
    age: Annotated[str, typer.Option(help="age for which cells were written (hil deploy --age)")] = duration(
        USUAL.age_s
    ),
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="tuned program to write (.h5)", show_default=False, callback=output_file),
    ] = None,
    as_json: Json = False,
) -> int:
    """Fit gains and biases of a programmed chip to its present outputs; needs no labels and writes no cell."""
    from cim.record.file import load_record
    from hil.deployment.network_source import program_of
    from hil.driver.open_chip import open_chip
    from hil.improvement.retune import retune
    from hil.watch import PlannedStage
    from mapping.program.file import save_program

    source = of.upon(NetworkOptions())
    address = on.upon(ChipOnWire(), chip=source.chip, macros=source.macros).address
    record = load_record(calibration)
    with screen(quiet=False) as watch:
        stages = {"compiling": 2.0, "reading back": 1.0, "correcting": 2.0, "tuning": 1.0, "measuring": 1.0}
        watch.plan([PlannedStage(name, work_s) for name, work_s in stages.items()])
        with watch.stage("compiling"):
            program, _ = program_of(network, source, watch)
        with open_chip(address, chip=program.spec) as driver:
            tuned, report = retune(driver, program, record, images=images, age_s=seconds(age), watch=watch)
            driver.outputs_off()
    lines = report.lines()
    if report.harmful:
        out = None
        lines.append("program        not written: hil calibrate, or more stored images (hil import --images)")
    if out is not None:
        with writing(out):
            save_program(tuned.program, out)
        lines.append(f"program        {out}: gains and biases of this chip in it")
    print_result(lines, {**report.to_json(), "program": None if out is None else str(out)}, as_json)
    return ExitCode.OUTSIDE_TOLERANCE if report.harmful else ExitCode.DONE
