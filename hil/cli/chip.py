"""Commands for chip files and calibration records, ``hil chip``: list, show, copy, check, fit and export."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.help_groups import group
from hil.cli.options import (
    Chip,
    Macros,
    output_file,
    pairs,
    screen,
    writing,
)
from hil.cli.settings_options import Told
from hil.errors import ExitCode, UsageError
from hil.pages.tables import labelled
from hil.report.terminal.completion import chips
from hil.report.terminal.lines import print_line
from hil.report.terminal.quantities import celsius, seconds
from hil.watch import Watch

Name = Annotated[str, typer.Argument(help="name or path of a chip file", autocompletion=chips)]


def list_() -> Told:
    """List chip files, each with a measured value."""
    from cim.chip.file import chip_names, load_chip
    from hil.driver.chip_text import gallery_record, gallery_rows

    specs = [load_chip(name) for name in chip_names()]
    rows = [row for spec in specs for row in gallery_rows(spec)]
    record = {"chips": [spec.name for spec in specs], "gallery": [gallery_record(spec) for spec in specs]}
    return Told([labelled("Chips", *rows)], record)


def show(name: Name, macros: Macros = None) -> Told:
    """Show a chip file with its digest."""
    from cim.chip.file import description, load_chip
    from hil.driver.chip_text import chip_tables

    spec = load_chip(name, macros=macros)
    record = {**description(spec), "digest": spec.digest, "provenance": spec.provenance}
    return Told(chip_tables(spec), record)


def copy(name: Name, to: Annotated[Path, typer.Argument(help="file to write, which ends in .toml")]) -> int:
    """Copy a chip file as the start of your own: hil chip copy NAME my-chip.toml."""
    from cim.gallery import own_copy

    _write_own(to, lambda: own_copy(name, to.stem), f"hil chip copy {name} my-chip.toml")
    print_line(f"{to}: a chip file of your own, begun as {name}\nthen          hil chip show ./{to}")
    return ExitCode.DONE


def _write_own(to: Path, text: Callable[[], str], command: str) -> None:
    """Write the user's chip file, never over an existing file; errors suggest ``command``, the correct command line."""
    from hil.atomic import write_text

    if to.suffix != ".toml":
        raise UsageError(f"{to} does not end in .toml", hint=command)
    if to.exists():
        raise UsageError(f"{to} is there already", hint="name another file, or remove that one")
    output_file(to)
    write_text(to, text())


def check(name: Name) -> Told:
    """Check a chip file: rules between keys, units, noises, and the sources of its values.

    Unlikely values end in exit code 1.
    """
    from cim.chip.doubts import beliefs
    from cim.chip.file import load_chip
    from cim.chip.sourced_values import SOURCES
    from cim.gallery import of_source
    from hil.driver.chip_text import chip_words, unlikely

    spec = load_chip(name)
    found, known = unlikely(spec), beliefs(spec)
    counts = {word: sum(n for n, _ in of_source(spec, word).values()) for word in SOURCES}
    rows = (
        (spec.name, chip_words(spec)),
        ("values", ", ".join(f"{word} {n}" for word, n in counts.items())),
        *((label, ", ".join(keys)) for label, keys in known.items() if keys),
    )
    return Told(
        [labelled("Chip", *rows), "", labelled("Unlikely values", *(found or [("", "no unlikely value")]))],
        {"name": spec.name, "doubts": [list(pair) for pair in found], "sources": counts, "beliefs": known},
        ExitCode.OUTSIDE_TOLERANCE if found else ExitCode.DONE,
    )


def new(
    to: Annotated[Path, typer.Argument(help="file to write, which ends in .toml")],
    answers: Annotated[
        list[str] | None,
        typer.Argument(
            help="KEY=VALUE: rows, columns, encoding, levels, converter, inputs, read_v, window, reading, interface; "
            "readings=CSV of cells; source=TEXT on where the values come from; without any KEY, you are asked",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Write a chip file from the known facts of an array; unknown values become ranges from other chips."""
    from cim.chip.doubts import few_cells
    from cim.chip.file import load_chip
    from cim.new_chip import NEXT, QUESTIONS, new_chip
    from hil.datasets.demos import name_of
    from hil.deployment.network_source import SMALLER, fits
    from hil.deployment.options import USUAL_RECIPE
    from hil.device_fit.result import fit_source
    from mapping.network.file import load_network

    given = pairs(answers or ())
    if not given and not sys.stdin.isatty():
        raise UsageError("hil chip new needs KEY=VALUE", hint=f"hil chip new {to} rows=25 columns=25 levels=8:2:40")
    for key, one in () if given else QUESTIONS.items():
        if (answer := typer.prompt(one.words, one.usual)) != one.usual:  # what is only confirmed is not stated
            given[key] = answer
    readings, source = given.pop("readings", None), given.pop("source", "assumed: stated by its lab")

    def text() -> str:
        with screen(quiet=False) as watch:
            cells = fit_source(Path(readings), watch=watch).record if readings else None
        return new_chip(to.stem, given, source, cells)

    _write_own(to, text, "hil chip new my-chip.toml rows=25 columns=25")
    spec = load_chip(str(to))
    holds = fits(load_network(SMALLER[-1]), spec, USUAL_RECIPE) and not few_cells(spec)
    small = f"hil simulate {name_of(str(SMALLER[-1]))} --chip ./{to} --with rounds"
    print_line(
        f"{to}: {len(given)} answers; what they do not say is a range, borrowed or assumed\n"
        f"check          hil chip check ./{to}\n"
        f"without chip   {f'hil deploy --emulated --chip ./{to}' if holds else small}\n"
        f"then           {NEXT[given.get('interface', 'board')][0]} --chip ./{to}"
    )
    return ExitCode.DONE


def calibration(
    record: Annotated[Path, typer.Argument(help="record.h5 of hil calibrate or hil chip fit")],
    plot: Annotated[
        Path | None, typer.Option(help="page to write, with its figures", show_default=False, callback=output_file)
    ] = None,
) -> Told:
    """Show a calibration record, with standard errors and goodness of fit."""
    from cim.record.file import load_record
    from hil.calibration.account import account_of, record_json

    loaded = load_record(record)
    if plot is not None:
        from hil.atomic import write_text
        from hil.pages.shell import page

        write_text(plot, page(account_of(loaded)))
    drawn = [] if plot is None else ["", f"page           {plot}"]
    return Told([account_of(loaded), *drawn], {**record_json(loaded), "page": plot and str(plot)})


def fit(
    table: Annotated[Path, typer.Argument(help="cell readings (.csv, .tsv, .gz, .h5)", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="record.h5 to write", show_default=False, callback=output_file)
    ] = None,
    hold_out: Annotated[str, typer.Option(help="cells held out to test the fit: odd or quarter")] = "quarter",
    ages_to: Annotated[
        str | None, typer.Option(help="fit readings up to this age, and test on later readings", show_default=False)
    ] = None,
    test_on: Annotated[Path | None, typer.Option(help="other readings to test the law on", show_default=False)] = None,
    base: Annotated[
        Path | None, typer.Option(help="record for parameters that a table does not determine", show_default=False)
    ] = None,
    temperature: Annotated[str, typer.Option(help="temperature of the readings")] = "25C",
    *,
    watch: Watch,
) -> Told:
    """Fit the device model to a table of cell readings, without a board, and test it on other cells."""
    from hil.device_fit.result import fit_source

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
    return Told(lines, found)


def export(
    record: Annotated[Path, typer.Argument(help="record of a chip (hil calibrate) or of cells (hil chip fit)")],
    to: Annotated[str, typer.Option("--to", help="aihwkit or crosssim", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Python file to write", show_default=False, callback=output_file)
    ],
    age: Annotated[str, typer.Option(help="age of the cells, after programming")] = "1h",
    chip: Chip = "lab-128",
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
    made = f"hil chip export {record.name} --to {to} --age {age} --chip {Path(chip).name}"
    found = load_record(record)
    source = f"{found.kind} record of {found.chip_name} ({found.date})"
    text = noise_model(found, load_chip(chip), Peer(to), seconds(age), module=out.stem, made=made, source=source)
    write_text(out, text)
    print_line(f"{out}: class MeasuredCells for {to}, cells of {found.chip_name} {age} after programming")
    return ExitCode.DONE


chip = group(
    "Chip files, cells fitted to tables, and calibration records.",
    list_,
    show,
    check,
    new,
    copy,
    fit,
    export,
    calibration,
)
