"""Commands of a chip on a wire: ``hil board``. Ports, identity, first measurements, single cells, firmware, logs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.help_groups import group
from hil.cli.options import (
    Chip,
    ChipOnWire,
    Json,
    Macros,
    output_file,
    print_result,
    screen,
)
from hil.cli.pulse import pulse
from hil.cli.settings_options import Given
from hil.errors import ExitCode, UsageError
from hil.pages.tables import Table
from hil.report.terminal.lines import complain, print_line
from hil.report.terminal.quantities import seconds


def ports(as_json: Json = False) -> int:
    """List serial ports, likely boards first."""
    from hil.transports.ports import list_ports

    found = list_ports()
    table = Table("Ports", ("", ""), tuple((p.device, p.description) for p in found))
    print_result(
        [table if found else "no serial port found; hil deploy --emulated needs none"],
        {"ports": [{"device": p.device, "description": p.description} for p in found]},
        as_json,
    )
    return ExitCode.DONE


def info(
    on: Given[ChipOnWire],
    as_json: Json = False,
) -> int:
    """Show a chip's identity, capabilities and state."""
    from hil.driver.chip_text import info_record, info_table

    with on.upon(ChipOnWire()).opened() as driver:
        status = driver.known_status()
        print_result([info_table(driver, status)], info_record(driver, status), as_json)
    return ExitCode.DONE


def selftest(
    on: Given[ChipOnWire],
    only: Annotated[str | None, typer.Option(help="groups of checks, as frames,safety", show_default=False)] = None,
    power_cycle: Annotated[
        str | None,
        typer.Option(help="ask, or a command that takes the chip's power and gives it back", show_default=False),
    ] = None,
    within: Annotated[str, typer.Option(help="time for all of it; what is left then is not tried")] = "15m",
    as_json: Json = False,
) -> int:
    """Check that a chip keeps the wire protocol and its limits; cells of up to three macros are overwritten."""
    from cim.chip.file import load_chip
    from hil.driver.selftest.power_checks import power_cut
    from hil.driver.selftest.suite import GROUPS, run_suite

    groups = only.split(",") if only else list(GROUPS)
    if not set(groups) <= set(GROUPS):
        raise UsageError(f"--only {only!r} names no groups", hint=f"some of {','.join(GROUPS)}")
    wire = on.upon(ChipOnWire())
    spec = load_chip(wire.chip, macros=wire.macros) if wire.chip else None
    cut = None if power_cycle is None else power_cut(power_cycle, _ask)
    with screen(quiet=as_json) as watch:
        found = run_suite(
            wire.address, spec,
            groups=groups, cut_power=cut, within_s=seconds(within), watch=watch,
        )  # fmt: skip
    print_result(found.lines(), found.to_json(), as_json)
    if found.interrupted:
        return ExitCode.CTRL_C
    return ExitCode.DONE if found.passed and not found.out_of_time else ExitCode.OUTSIDE_TOLERANCE


def _ask(text: str) -> None:
    """Show a text and wait until a person presses Enter."""
    complain(text)
    if not sys.stdin.readline():
        raise UsageError("nobody is there to answer", hint="hil board selftest --power-cycle ask")


def mvm(
    on: Given[ChipOnWire],
    macro: Annotated[int, typer.Option(help="number of the macro")] = 0,
    rows: Annotated[int, typer.Option(help="logical rows driven, from row 0")] = 16,
    level: Annotated[int | None, typer.Option(help="program this level everywhere first", show_default=False)] = None,
    code: Annotated[
        int | None, typer.Option(help="input code on every row; default the largest", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option(help="reads")] = 4,
    as_json: Json = False,
) -> int:
    """Multiply one vector by one tile, several times: the first measurement on a bench."""
    from hil.driver.bench import FIRST_OUTPUTS, first_mvm

    with on.upon(ChipOnWire()).opened() as driver:
        result = first_mvm(
            driver,
            macro=macro,
            rows=rows,
            outputs=min(FIRST_OUTPUTS, driver.spec.macro.outputs),
            level=level,
            code=code,
            repeat=repeat,
        )
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


def cells(
    on: Given[ChipOnWire],
    macro: Annotated[int, typer.Option(help="number of the macro")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV of all readings to write, µS", show_default=False, callback=output_file),
    ] = None,
    as_json: Json = False,
) -> int:
    """Read every cell of a macro."""
    from hil.driver.bench import READS, cell_map

    with on.upon(ChipOnWire()).opened() as driver:
        result = cell_map(driver, macro=macro, reads=READS)
    if out:
        result.write_csv(out)
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


def firmware(
    folder: Annotated[Path, typer.Argument(help="to be made; its last name is that of the board")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    start: Annotated[str, typer.Option("--from", help="template (stubs), qemu, virt or nucleo-h743zi")] = "template",
) -> int:
    """Copy the reference firmware to port it: sources, a board to start from, chip_config.h, CMake, Zephyr."""
    from cim.chip.file import load_chip
    from hil.server.firmware_copy import new_board

    for line in new_board(folder, load_chip(chip, macros=macros), start):
        print_line(line)
    return ExitCode.DONE


def trace(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        print_line(line)
    return ExitCode.DONE


board = group(
    "Chips on a wire: ports, identity, self-test, first products, cells, pulses, firmware.",
    ports, info, selftest, mvm, cells, pulse, trace, firmware,
)  # fmt: skip
