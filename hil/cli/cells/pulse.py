"""The commands for single cells by address: ``hil pulse staircase``, ``sweep``, ``endurance``, ``retention`` and
``noise``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from hil.calibration.pulsing.experiments import BipolarSweep, Endurance, Experiment, Noise, Retention, Staircase
from hil.cli.help_groups import GroupedCommand
from hil.cli.options import (
    Baud,
    ChipOptions,
    Emulated,
    Json,
    Macros,
    Port,
    chip_address,
    output_file,
    print_result,
    screen,
)
from hil.cli.settings_options import Given, from_settings
from hil.errors import ExitCode, UsageError
from hil.transports import DEFAULT_BAUD

if TYPE_CHECKING:
    from hil.calibration.pulsing.run import Series

pulse = typer.Typer(help="Pulses and readings of single cells by address.", no_args_is_help=True, rich_markup_mode=None)
Cells = Annotated[list[str], typer.Option("--cell", help="ROW,COLUMN or MACRO:ROW-ROW,COLUMN-COLUMN; may be repeated")]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="CSV; beside it a page of that name",
        callback=output_file,
    ),
]


def _command(kind: type[Experiment]) -> Callable[..., int]:
    """The command of an experiment: its options are its settings."""

    def command(
        cell: Cells,
        out: Out,
        port: Port = None,
        emulated: Emulated = False,
        chip: ChipOptions = None,
        macros: Macros = None,
        *,
        asked: Given[Experiment],
        baud: Baud = DEFAULT_BAUD,
        as_json: Json = False,
    ) -> int:
        address = chip_address(port, emulated, chip, macros)
        return _run(asked.upon(kind()), cell, out, Named(address, chip, macros, baud), as_json)

    command.__annotations__["asked"], command.__doc__ = Given[kind], kind.__doc__  # type: ignore[valid-type]
    return from_settings(command)


for kind in (Staircase, BipolarSweep, Endurance, Retention, Noise):
    pulse.command(kind.name, cls=GroupedCommand)(_command(kind))


class Named(NamedTuple):
    """The chip that was named, and by which rate."""

    address: str
    chip: str | None
    macros: int | None
    baud: int


def _run(experiment: Experiment, cells: list[str], out: Path, at: Named, as_json: bool) -> int:
    from hil.atomic import write_text
    from hil.calibration.pulsing.page import PAGE_SUFFIX, pulse_page
    from hil.calibration.pulsing.run import Series, cells_named, run_experiment, series_csv
    from hil.driver.open_chip import open_chip

    if out.suffix.lower() != ".csv":
        raise UsageError(f"{out} does not end in .csv", hint="-o readings.csv")
    page = out.with_suffix(PAGE_SUFFIX)
    with screen(quiet=as_json) as watch, open_chip(at.address, chip=at.chip, macros=at.macros, baud=at.baud) as driver:
        named = cells_named(cells, driver.spec)
        series = Series(experiment, driver.spec, named, driver.description.kind)
        watch.note(f"readings, one by one: {page}")
        try:
            run_experiment(
                driver, series, watch=watch, shown=lambda so_far: write_text(page, pulse_page(so_far, running=True))
            )
        finally:  # what was read stays, whatever ended it
            if series.readings:
                write_text(out, series_csv(series))
                write_text(page, pulse_page(series, running=False))
    print_result(_lines(series, out, page), {"files": [str(out)], "page": str(page), **_record(series)}, as_json)
    return ExitCode.DONE


def _record(series: Series) -> dict[str, object]:
    pulses = max((r.pulses for r in series.readings), default=0)
    return {
        "experiment": series.experiment.name,
        "cells": len(series.cells),
        "readings": len(series.readings),
        "pulses": pulses,
    }


def _lines(series: Series, out: Path, page: Path) -> list[str]:
    found = _record(series)
    lines = [
        f"experiment     {found['experiment']}, {found['cells']} cells of {series.kind} {series.spec.name}",
        f"readings       {found['readings']}, {found['pulses']} pulses a cell",
        f"page           {page}",
        f"file           {out}",
    ]
    if series.experiment.over_time:
        lines.append(f"then           hil fit {out} -o cells-record.h5")
    return lines
