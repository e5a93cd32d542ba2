"""Commands of calibration: calibrate, and those that show, compare and draw its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Baud,
    ChipAsked,
    Emulated,
    Json,
    Macros,
    Port,
    Restart,
    Seed,
    celsius,
    chip_address,
    numbers,
    output_file,
    print_result,
    screen,
    seconds,
    writing,
)
from hil.errors import ExitCode, UsageError
from hil.transports import DEFAULT_BAUD


def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", help="the record to write", callback=output_file)],
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    only: Annotated[str, typer.Option(help="macros to measure: 0-3,7; default all", show_default=False)] = "",
    age: Annotated[str, typer.Option(help="age at which cells and columns are measured")] = "1h",
    quick: Annotated[bool, typer.Option("--quick", help="fewer vectors and reads, larger errors")] = False,
    full: Annotated[bool, typer.Option("--full", help="more vectors, reads and ages, smaller errors")] = False,
    second_temperature: Annotated[
        str | None,
        typer.Option(help="measure a second time when the chip has this temperature: 60 or 60C", show_default=False),
    ] = None,
    restart: Restart = False,
    seed: Seed = 0,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Measure a chip through the driver: stuck cells, writing, relaxation, read noise, columns, wires.

    The same command goes on after an interruption.
    """
    from cim.record.file import save_record
    from hil.calibration.plan import Budget
    from hil.calibration.procedure import calibrate
    from hil.calibration.record_text import record_lines
    from hil.calibration.store import partial_folder
    from hil.driver.open_chip import open_chip
    from hil.report.work_folder import discard

    if quick and full:
        raise UsageError("--quick and --full exclude each other")
    address = chip_address(port, emulated, chip, macros)
    told = screen(quiet=as_json, phases={"calibrate": ("calibrating",)})
    with told as watch, open_chip(address, chip=chip, macros=macros, baud=baud) as driver:
        chosen = numbers(only, driver.spec.macros) if only else tuple(range(driver.spec.macros))
        record = calibrate(
            driver,
            chosen,
            seed=seed,
            age_s=seconds(age),
            budget=Budget.QUICK if quick else Budget.FULL if full else Budget.DEFAULT,
            second_temperature_c=None if second_temperature is None else celsius(second_temperature),
            partial=partial_folder(out),
            restart=restart,
            watch=watch,
        )
    with writing(out):
        save_record(record, out)
    discard(partial_folder(out))
    print_result(record_lines(record), {"record": str(out), "serial": record.serial, "macros": list(chosen)}, as_json)
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
    from hil.calibration.record_text import record_json, show_lines

    loaded = load_record(record)
    print_result(show_lines(loaded), record_json(loaded), as_json)
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
    """Write a self-contained page: law by level and age, read noise, columns, INL, stuck cells, pulses."""
    from cim.record.file import load_record
    from hil.atomic import write_text
    from hil.calibration.record_page import record_page

    page = out or record.with_suffix(".html")
    output_file(page)
    write_text(page, record_page(load_record(record)))
    print_result([f"page           {page}"], {"page": str(page)}, as_json)
    return ExitCode.DONE
