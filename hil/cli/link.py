"""Commands of benches of instruments and of wire logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import Json, output_file, print_result
from hil.cli.terminal.lines import print_line
from hil.errors import ExitCode, UsageError

trace = typer.Typer(help="Wire logs: print one message by message.", no_args_is_help=True, rich_markup_mode=None)
bench = typer.Typer(help="Benches of instruments.", no_args_is_help=True, rich_markup_mode=None)


@trace.callback()
def trace_root() -> None:
    """Options of ``hil trace`` itself."""


@trace.command("decode")
def decode(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        print_line(line)
    return ExitCode.DONE


@bench.callback()
def bench_root() -> None:
    """Options of ``hil bench`` itself."""


@bench.command("check")
def bench_check(
    bench_file: Annotated[Path, typer.Argument(help="bench file: instruments, roles, wiring, safety")],
    as_json: Json = False,
) -> int:
    """Check a bench file and its instruments: who they are, limits, outputs, and the rate of row reads."""
    from hil.server.bench.check import check_bench

    found = check_bench(bench_file)
    print_result(found.lines(), found.to_json(), as_json)
    return ExitCode.DONE


@bench.command("export")
def bench_export(
    model: Annotated[str, typer.Argument(help="model of an instrument: a name of ours, or the path of its file")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="file for pyvisa-sim to write", callback=output_file, show_default=False)
    ],
    as_json: Json = False,
) -> int:
    """Write a model of an instrument for pyvisa-sim, to test programs of others without a bench."""
    from hil.atomic import write_text
    from hil.server.bench.model_file import load_model
    from hil.server.bench.sim_export import RESOURCE, sim_devices

    found = load_model(model, Path())
    try:
        text = sim_devices(found)
    except ValueError as error:
        raise UsageError(str(error), hint="hil emulate --bench is a stand-in for these") from error
    write_text(out, text)
    lines = [f"{out}: {found.name} at {RESOURCE}", f'then          pyvisa.ResourceManager("{out}@sim")']
    print_result(lines, {"file": str(out), "model": found.name}, as_json)
    return ExitCode.DONE
