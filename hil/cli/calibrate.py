"""The command that measures a chip: ``hil calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.calibration.settings import CalibrationOptions
from hil.cli.options import (
    ChipOnWire,
    Json,
    Restart,
    numbers,
    output_file,
    print_result,
    screen,
    writing,
)
from hil.cli.settings_options import Given
from hil.errors import ExitCode


def calibrate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="calibration record to write (.h5)", callback=output_file),
    ],
    on: Given[ChipOnWire],
    only: Annotated[str, typer.Option(help="macros to measure: 0-3,7; default: all", show_default=False)] = "",
    *,
    asked: Given[CalibrationOptions],
    restart: Restart = False,
    as_json: Json = False,
) -> int:
    """Measure a chip: stuck cells, write errors, relaxation, read noise, column gains and offsets, wires.

    The same command resumes after an interruption.
    """
    from cim.record.file import save_record
    from hil.calibration.account import first_of
    from hil.calibration.plan import Budget
    from hil.calibration.procedure import calibrate
    from hil.calibration.store import partial_folder
    from hil.report.work_folder import discard
    from hil.transports.dies import Happened, note

    settings = asked.upon(CalibrationOptions())
    wire = on.upon(ChipOnWire())
    _ = wire.address  # refused before anything is shown
    told = screen(quiet=as_json, phases={"calibrate": ("calibrating",)})
    with told as watch, wire.opened() as driver:
        chosen = numbers(only, driver.spec.macros) if only else tuple(range(driver.spec.macros))
        if restart:
            discard(partial_folder(out))
        record = calibrate(
            driver,
            chosen,
            seed=settings.seed,
            age_s=settings.age_s,
            budget=Budget.QUICK if settings.quick else Budget.FULL if settings.full else Budget.DEFAULT,
            second_temperature_c=settings.second_temperature_c,
            partial=partial_folder(out),
            watch=watch,
        )
    with writing(out):
        save_record(record, out)
    if driver.description.kind == "silicon" and record.serial:
        note(record.serial, Happened.RECORD, str(out.resolve()))
    discard(partial_folder(out))
    print_result([first_of(record)], {"record": str(out), "serial": record.serial, "macros": list(chosen)}, as_json)
    return ExitCode.DONE
