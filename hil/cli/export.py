"""The command that writes a record's cells as a noise model of another simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Chip, Json, output_file, print_result, seconds
from hil.errors import ExitCode, UsageError


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
