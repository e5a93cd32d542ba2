"""Commands of calibration: calibrate, and those that show, compare and draw its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.calibration.settings import CalibrationOptions
from hil.cli.options import (
    Baud,
    ChipOptions,
    Emulated,
    Json,
    Macros,
    Port,
    Restart,
    chip_address,
    numbers,
    output_file,
    print_result,
    screen,
    writing,
)
from hil.cli.settings_options import Given, from_settings
from hil.errors import ExitCode
from hil.transports import DEFAULT_BAUD


@from_settings
def calibrate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="the record to write", callback=output_file),
    ],
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipOptions = None,
    macros: Macros = None,
    only: Annotated[str, typer.Option(help="macros to measure: 0-3,7; default all", show_default=False)] = "",
    *,
    asked: Given[CalibrationOptions],
    restart: Restart = False,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Measure a chip through the driver: stuck cells, writing, relaxation, read noise, columns, wires.

    The same command resumes after an interruption.
    """
    from cim.record.file import save_record
    from hil.calibration.account import first_of
    from hil.calibration.plan import Budget
    from hil.calibration.procedure import calibrate
    from hil.calibration.store import partial_folder
    from hil.driver.open_chip import open_chip
    from hil.report.work_folder import discard

    settings = asked.upon(CalibrationOptions())
    address = chip_address(port, emulated, chip, macros)
    told = screen(quiet=as_json, phases={"calibrate": ("calibrating",)})
    with told as watch, open_chip(address, chip=chip, macros=macros, baud=baud) as driver:
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
    discard(partial_folder(out))
    print_result([first_of(record)], {"record": str(out), "serial": record.serial, "macros": list(chosen)}, as_json)
    return ExitCode.DONE


calibration = typer.Typer(
    help="Calibration records: show one, compare two, plot one.", no_args_is_help=True, rich_markup_mode=None
)


@calibration.command("show")
def show_record(
    record: Annotated[Path, typer.Argument(help="record.h5 of hil calibrate or hil fit")], as_json: Json = False
) -> int:
    """Show the content of a record, with standard errors and goodness of fit."""
    from cim.record.file import load_record
    from hil.calibration.account import account_of, record_json

    loaded = load_record(record)
    print_result([account_of(loaded)], record_json(loaded), as_json)
    return ExitCode.DONE


@calibration.command("diff")
def diff_records(
    first: Annotated[Path, typer.Argument(help="record.h5")],
    second: Annotated[Path, typer.Argument(help="record.h5")],
    as_json: Json = False,
) -> int:
    """Compare two records: changes beyond their errors end in exit code 1."""
    from cim.record.file import load_record
    from hil.calibration.record_changes import diff_records

    found = diff_records(load_record(first), load_record(second))
    print_result(found.lines(), found.to_json(), as_json)
    return ExitCode.OUTSIDE_TOLERANCE if found.changed else ExitCode.DONE


@calibration.command("plot")
def plot_record(
    record: Annotated[Path, typer.Argument(help="record.h5")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="page to write; default: beside the record", show_default=False, callback=output_file
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Write what a record holds as a self-contained page: its law, gains and stuck cells drawn, and every table."""
    from cim.record.file import load_record
    from hil.atomic import write_text
    from hil.calibration.account import account_of
    from hil.pages.shell import page

    place = out or record.with_suffix(".html")
    output_file(place)
    write_text(place, page(account_of(load_record(record))))
    print_result([f"page           {place}"], {"page": str(place)}, as_json)
    return ExitCode.DONE
