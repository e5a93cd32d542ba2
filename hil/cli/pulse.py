"""The command for single cells by address: ``hil board pulse``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.calibration.pulsing.experiments import GROUP, BipolarSweep, Endurance, Experiment, Noise, Retention, Staircase
from hil.cli.options import (
    ChipOnWire,
    Json,
    output_file,
    print_result,
    screen,
)
from hil.cli.settings_options import Given
from hil.errors import ExitCode, UsageError
from hil.report.terminal.completion import one_of
from mapping.settings import option_of, setting

if TYPE_CHECKING:
    from hil.calibration.pulsing.run import Series

KINDS: dict[str, type[Experiment]] = {
    kind.name: kind for kind in (Staircase, BipolarSweep, Endurance, Retention, Noise)
}


def _together() -> type[Any]:
    """The settings of all experiments as one class; the words of each say which experiment takes it."""
    found: dict[str, dict[str, dataclasses.Field[Any]]] = {}
    for name, kind in KINDS.items():
        for field in dataclasses.fields(kind):
            found.setdefault(field.name, {})[name] = field
    return dataclasses.make_dataclass(
        "PulseOptions", [(name, next(iter(of.values())).type, _option(of)) for name, of in found.items()]
    )


def _option(of: dict[str, dataclasses.Field[Any]]) -> Any:
    """The command-line option of one setting, from its field in each experiment that has it."""
    by_words: dict[str, list[str]] = {}
    for name, field in of.items():
        about = field.metadata
        usual = "" if about["unset"] else f" [{field.default:g}]" if about["unit"] else f" [{field.default}]"
        by_words.setdefault(about["words"] + usual, []).append(name)
    everywhere = len(by_words) == 1 and len(of) == len(KINDS)
    words = "; ".join(words if everywhere else f"{', '.join(names)}: {words}" for words, names in by_words.items())
    about = next(iter(of.values())).metadata
    return setting(None, words, unit=about["unit"], choices=about["choices"], group=GROUP, unset=True)


PulseOptions = _together()


def pulse(
    experiment: Annotated[str, typer.Argument(help=", ".join(KINDS), autocompletion=one_of(tuple(KINDS)))],
    cell: Annotated[
        list[str], typer.Option("--cell", help="ROW,COLUMN or MACRO:ROW-ROW,COLUMN-COLUMN; may be repeated")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="CSV; beside it a page of that name", callback=output_file),
    ],
    *,
    on: Given[ChipOnWire],
    asked: Given[PulseOptions],  # type: ignore[valid-type]
    as_json: Json = False,
) -> int:
    """Apply pulses to single cells by address, and read them."""
    kind = KINDS.get(experiment)
    if kind is None:
        raise UsageError(f"{experiment!r} is not an experiment", hint=f"one of {', '.join(KINDS)}")
    settings = {field.name: field for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(PulseOptions):
        if field.name in asked.values and field.name not in settings:
            raise UsageError(
                f"{experiment} has no {option_of(field)}", hint="hil board pulse -h names the options of each"
            )
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
        series = Series(kind(**asked.values), driver.spec, named, driver.description.kind)
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
