"""The command for single cells by address: ``hil board pulse``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.calibration.pulsing.experiments import BipolarSweep, Endurance, Experiment, Noise, Retention, Staircase
from hil.cli.options import ChipOnWire, Json, output_file, pairs, print_result, screen
from hil.cli.settings_options import Field, Given, of_text
from hil.errors import ExitCode, UsageError
from hil.report.terminal.completion import one_of
from hil.report.terminal.quantities import duration
from mapping.settings import short

if TYPE_CHECKING:
    from hil.calibration.pulsing.run import Series

KINDS: dict[str, type[Experiment]] = {
    kind.name: kind for kind in (Staircase, BipolarSweep, Endurance, Retention, Noise)
}


def _settings_words() -> str:
    """Text of the settings of each experiment, after the settings that all experiments share."""
    common = dataclasses.fields(Experiment)
    rows = [("all", common), *((n, [f for f in dataclasses.fields(k) if f not in common]) for n, k in KINDS.items())]
    return ". ".join(f"{name}: {'; '.join(map(_setting_words, fields))}" for name, fields in rows)


def _setting_words(field: Field) -> str:
    about = field.metadata
    usual: Any = field.default
    shown = "" if about["unset"] else f"={duration(usual) if about['unit'] == 's' else usual}"
    return f"{short(field)}{shown} ({about['words']})"


def _experiment(name: str, texts: Sequence[str]) -> Experiment:
    """The experiment of this name with its settings.

    Raises:
        UsageError: unknown experiment or setting, or a value that the setting does not take.
    """
    if name not in KINDS:
        raise UsageError(f"{name!r} is not an experiment", hint=f"one of {', '.join(KINDS)}")
    known = {short(field): field for field in dataclasses.fields(KINDS[name])}
    given = pairs(texts)
    if unknown := given.keys() - known.keys():
        raise UsageError(f"{name} has no setting {min(unknown)}", hint=f"its settings: {', '.join(known)}")
    return KINDS[name](**{known[key].name: of_text(known[key], text) for key, text in given.items()})


def pulse(
    experiment: Annotated[str, typer.Argument(help=", ".join(KINDS), autocompletion=one_of(tuple(KINDS)))],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"SETTING=VALUE; default widths and voltages: the chip file's. {_settings_words()}",
            show_default=False,
        ),
    ] = None,
    *,
    cell: Annotated[
        list[str], typer.Option("--cell", help="ROW,COLUMN or MACRO:ROW-ROW,COLUMN-COLUMN; may be repeated")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="CSV to write, and an HTML page of that name", callback=output_file),
    ],
    on: Given[ChipOnWire],
    as_json: Json = False,
) -> int:
    """Apply pulses to single cells by address, and read them."""
    asked = _experiment(experiment, settings or ())
    wire = on.upon(ChipOnWire())
    _ = wire.address  # refused before anything is imported
    from hil.atomic import write_text
    from hil.calibration.pulsing.page import PAGE_SUFFIX, pulse_page
    from hil.calibration.pulsing.run import Series, cells_named, run_experiment, series_csv

    if out.suffix.lower() != ".csv":
        raise UsageError(f"{out} does not end in .csv", hint="-o readings.csv")
    page = out.with_suffix(PAGE_SUFFIX)
    with screen(quiet=as_json) as watch, wire.opened() as driver:
        named = cells_named(cell, driver.spec)
        series = Series(asked, driver.spec, named, driver.description.kind)
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
        lines.append(f"then           hil chip fit {out} -o cells-record.h5")
    return lines
