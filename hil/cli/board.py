"""Commands for a connected chip, ``hil board``: ports, identity, first measurements, single cells, firmware, logs."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.help_groups import group
from hil.cli.options import (
    Chip,
    ChipOnWire,
    Json,
    Macros,
    Watch,
    numbers,
    output_file,
    print_result,
    screen,
)
from hil.cli.pulse import pulse
from hil.cli.settings_options import Only, Told
from hil.errors import DeviceError, ExitCode, Interrupted, MismatchError, UsageError
from hil.pages.tables import Table
from hil.report.terminal.lines import complain, print_line
from hil.report.terminal.quantities import seconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cim.chip.spec import ChipSpec

POWER_S = 120.0  # that a command may take to cut the power


def ports() -> Told:
    """List serial ports, likely boards first."""
    from hil.transports.ports import list_ports

    found = list_ports()
    table = Table("Ports", ("", ""), tuple((p.device, p.description) for p in found))
    return Told(
        [table if found else "no serial port found; hil deploy --emulated needs none"],
        {"ports": [{"device": p.device, "description": p.description} for p in found]},
    )


def info(
    on: ChipOnWire,
) -> Told:
    """Show a chip's identity, capabilities and state."""
    from hil.driver.chip_text import info_record, info_table

    with on.opened() as driver:
        status = driver.known_status()
        return Told([info_table(driver, status)], info_record(driver, status))


def selftest(
    on: ChipOnWire,
    only: Annotated[str | None, typer.Option(help="groups of checks to run: frames,safety", show_default=False)] = None,
    power_cycle: Annotated[
        str | None,
        typer.Option(help="ask (you do it), or a command that switches power off and on", show_default=False),
    ] = None,
    within: Annotated[str, typer.Option(help="time limit of the self-test; later checks are skipped")] = "15m",
    *,
    watch: Watch,
) -> Told:
    """Check that a chip follows the wire protocol and its limits; cells of up to three macros are overwritten."""
    from cim.chip.file import load_chip
    from hil.driver.selftest.suite import GROUPS, run_suite

    groups = only.split(",") if only else list(GROUPS)
    if not set(groups) <= set(GROUPS):
        raise UsageError(f"--only {only!r} names no groups", hint=f"some of {','.join(GROUPS)}")
    spec = load_chip(on.chip, macros=on.macros) if on.chip else None
    cut = None if power_cycle is None else _power_cut(power_cycle)
    found = run_suite(
        on.address, spec,
        groups=groups, cut_power=cut, within_s=seconds(within), watch=watch,
    )  # fmt: skip
    code = ExitCode.DONE if found.passed and not found.out_of_time else ExitCode.OUTSIDE_TOLERANCE
    return Told(found.lines(), found.to_json(), ExitCode.CTRL_C if found.interrupted else code)


def _power_cut(text: str) -> Callable[[], None]:
    """What cuts the power: a person who presses Enter, or the command that ``text`` is."""
    hint = "hil board selftest --power-cycle ask"
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not words:
        raise UsageError(f"{text!r} is not a command that cuts the power", hint=hint)

    def ask() -> None:
        complain("take the power from the chip, give it back, then press Enter")
        if not sys.stdin.readline():
            raise UsageError("nobody is there to answer", hint=hint)

    def run() -> None:
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=POWER_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"the power was not cut: {text}: {error}", hint=hint) from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
            raise DeviceError(f"the power was not cut: {text} ended with {done.returncode}: {last}")

    return ask if text == "ask" else run


def mvm(
    on: ChipOnWire,
    macro: Annotated[int, typer.Option(help="number of the macro")] = 0,
    rows: Annotated[int, typer.Option(help="logical rows driven, from row 0")] = 16,
    level: Annotated[int | None, typer.Option(help="program all cells to this level first", show_default=False)] = None,
    code: Annotated[
        int | None, typer.Option(help="input code on every driven row; default: the largest", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option(help="number of reads of the product")] = 4,
) -> Told:
    """Multiply one vector by one tile, several times: the first measurement on a bench."""
    from hil.driver.bench import FIRST_OUTPUTS, first_mvm

    with on.opened() as driver:
        result = first_mvm(
            driver,
            macro=macro,
            rows=rows,
            outputs=min(FIRST_OUTPUTS, driver.spec.macro.outputs),
            level=level,
            code=code,
            repeat=repeat,
        )
    return Told(result.lines(), result.to_json())


def cells(
    on: ChipOnWire,
    macro: Annotated[int, typer.Option(help="number of the macro")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV to write: every reading in µS", show_default=False, callback=output_file),
    ] = None,
) -> Told:
    """Read the conductance of every cell of a macro."""
    from hil.driver.bench import READS, cell_map

    with on.opened() as driver:
        result = cell_map(driver, macro=macro, reads=READS)
    if out:
        result.write_csv(out)
    return Told(result.lines(), result.to_json())


def form(
    record: Annotated[Path, typer.Argument(help="record to write: formed.json", callback=output_file)],
    cells: Annotated[
        list[str] | None,
        typer.Argument(help="macros and cells: 0-3, or 0:0-63,0-31; default: all of the chip", show_default=False),
    ] = None,
    *,
    on: Annotated[ChipOnWire, Only("port", "chip")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and its price, and stop")] = False,
    as_json: Json = False,
) -> int:
    """Form fresh cells by the staircase of the chip file's [form]; the same command resumes.

    The plan with its time and pulses is printed first. A cell that reads as formed is not pulsed.
    """
    from hil.calibration.forming import account_of, form_cells, plan_of, record_of, yielded
    from hil.driver.open_chip import open_chip
    from hil.report.work_folder import GO_ON, save_json
    from hil.transports.journal import Journal

    if record.exists():
        raise UsageError(f"{record} is there already", hint=f"hil show {record}, or name another file")
    kept = record.with_name(record.name + ".journal")
    with contextlib.ExitStack() as opened, screen(quiet=as_json) as watch:
        journal = None if dry_run else opened.enter_context(contextlib.closing(Journal(kept)))
        try:
            driver = opened.enter_context(open_chip(on.address, chip=on.chip, journal=journal))
            chosen = _chosen(cells or [f"0-{driver.spec.macros - 1}"], driver.spec)
            if dry_run or not as_json:
                plan = plan_of(driver.spec, chosen)
                print_result([plan], {"plan": [list(row) for row in plan.rows]}, as_json)
            if dry_run:
                return ExitCode.DONE
            date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            found = record_of(form_cells(driver, chosen, watch), driver.spec, driver.description, date)
        except MismatchError as error:
            if error.where == str(kept):
                error.hint = (
                    f"name the same cells and chip, or remove {kept}: cells that are formed are found by reading"
                )
            raise
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; what the chip answered is in {kept}", hint=GO_ON) from None
    save_json(found, record)
    kept.unlink()
    print_result(account_of(found, maps=False), {"record": str(record), **found}, as_json)
    return ExitCode.DONE if yielded(found) else ExitCode.OUTSIDE_TOLERANCE


def _chosen(texts: Sequence[str], spec: ChipSpec) -> dict[int, NDArray[np.bool_]]:
    """Masks (rows, columns) by macro, from "0-3" (whole macros) or "0:0-63,0-31" (word and bit lines of macro 0)."""
    import numpy as np

    from hil.calibration.pulsing.run import cells_of

    found: dict[int, NDArray[np.bool_]] = {}
    shape = (spec.macro.rows, spec.macro.columns)
    every = f"0-{shape[0] - 1},0-{shape[1] - 1}"
    for text in texts:
        whole = [] if "," in text else [f"{macro}:{every}" for macro in numbers(text, spec.macros)]
        for macro, rows, columns in (cells_of(part, spec) for part in whole or [text]):
            found.setdefault(macro, np.zeros(shape, np.bool_))[rows.start : rows.stop, columns.start : columns.stop] = 1
    return dict(sorted(found.items()))


def firmware(
    folder: Annotated[Path, typer.Argument(help="new folder; its last part becomes the name of the board")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    start: Annotated[str, typer.Option("--from", help="template (stubs), qemu, virt or nucleo-h743zi")] = "template",
) -> int:
    """Copy the reference firmware for porting: C sources, an example board, chip_config.h, CMake, Zephyr."""
    from cim.chip.file import load_chip
    from hil.server.firmware_copy import new_board

    for line in new_board(folder, load_chip(chip, macros=macros), start):
        print_line(line)
    return ExitCode.DONE


def list_() -> Told:
    """List the dies that this machine has driven, with dated events and records; quarantined dies are named."""
    from hil.driver.errors import shown
    from hil.transports.dies import dies, quarantine

    found = dies()
    rows = tuple((shown(serial), e.time, str(e.what), shown(e.text)) for serial, its in found.items() for e in its)
    held = [shown(serial) for serial in found if quarantine(serial) is not None]
    return Told(
        [Table("Dies", ("", "", "", ""), rows) if rows else "no die has an event", f"quarantined: {len(held)}", *held],
        {"dies": {serial: [asdict(event) for event in its] for serial, its in found.items()}, "quarantined": held},
    )


def release(
    serial: Annotated[str, typer.Argument(help="serial number of the die, as hil board list shows it")],
    reason: Annotated[str, typer.Option(help="what was inspected; stored with the events of this die")],
) -> int:
    """Let a quarantined die be driven again."""
    from hil.transports.dies import Happened, note, quarantine

    if not reason.strip() or quarantine(serial) is None:
        text = "the reason is empty" if not reason.strip() else f"no die of serial number {serial!r} is quarantined"
        raise UsageError(text, hint="hil board list")
    note(serial, Happened.RELEASED, reason)
    return ExitCode.DONE


def trace(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        print_line(line)
    return ExitCode.DONE


board = group(
    "Chips on a wire: ports, identity, self-test, first products, cells, forming, pulses, firmware, dies.",
    ports, info, selftest, mvm, cells, form, pulse, trace, firmware, list_, release,
)  # fmt: skip
