"""Commands of cells without a board: the device model fitted to tables of readings, and a record's cells for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import (
    Chip,
    Json,
    celsius,
    output_file,
    print_result,
    screen,
    seconds,
    writing,
)
from hil.errors import ExitCode, UsageError


def fit(
    table: Annotated[Path, typer.Argument(help="cell readings (.csv, .tsv, .gz, .h5)", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="the record to write", show_default=False, callback=output_file)
    ] = None,
    hold_out: Annotated[str, typer.Option(help="cells held out to test the fit: odd or quarter")] = "quarter",
    ages_to: Annotated[
        str | None, typer.Option(help="fit up to this age only, and test on later ages", show_default=False)
    ] = None,
    test_on: Annotated[Path | None, typer.Option(help="another table to test the law on", show_default=False)] = None,
    base: Annotated[
        Path | None, typer.Option(help="record for the parts that a table does not determine", show_default=False)
    ] = None,
    temperature: Annotated[str, typer.Option(help="temperature of the readings")] = "25C",
    as_json: Json = False,
) -> int:
    """Fit the device model to a table of cell readings, without a board, and test it on other cells."""
    from hil.device_fit.result import fit_source

    with screen(quiet=as_json) as watch:
        result = fit_source(
            table,
            hold_out=hold_out,
            ages_to_s=None if ages_to is None else seconds(ages_to),
            test_on=test_on,
            base=base,
            temperature_c=celsius(temperature),
            watch=watch,
        )
    lines, found = result.lines(), {"record": str(out) if out else None, **result.to_json()}
    if out is not None:
        from cim.record.file import save_record

        with writing(out):
            save_record(result.record, out)
        lines += ["", f"record         {out}"]
    print_result(lines, found, as_json)
    return ExitCode.DONE


def export(
    record: Annotated[Path, typer.Argument(help="record of a chip (hil calibrate) or of cells (hil fit)")],
    to: Annotated[str, typer.Option("--to", help="aihwkit or crosssim", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Python file to write", show_default=False, callback=output_file)
    ],
    age: Annotated[str, typer.Option(help="time after programming")] = "1h",
    chip: Chip = "lab-128",
    as_json: Json = False,
) -> int:
    """Write the cells of a calibration record as a noise model of AIHWKit or CrossSim: one Python file."""
    from cim.chip.file import load_chip
    from cim.record.file import load_record
    from hil.atomic import write_text
    from hil.device_fit.noise_export import Peer, noise_model

    if to not in tuple(Peer):
        raise UsageError(f"--to {to:.40}, not one of {', '.join(Peer)}")
    if out.suffix != ".py":
        raise UsageError(f"{out} does not end in .py", hint="-o my_cells.py")
    made = f"hil export {record.name} --to {to} --age {age} --chip {Path(chip).name}"
    found = load_record(record)
    source = f"{found.kind} record of {found.chip_name} ({found.date})"
    text = noise_model(found, load_chip(chip), Peer(to), seconds(age), module=out.stem, made=made, source=source)
    write_text(out, text)
    lines = [f"{out}: class MeasuredCells for {to}, cells of {found.chip_name} {age} after programming"]
    print_result(lines, {"file": str(out), "to": to, "age_s": seconds(age)}, as_json)
    return ExitCode.DONE
