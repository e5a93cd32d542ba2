"""Commands of wire logs: trace decode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.options import say
from hil.errors import ExitCode

trace = typer.Typer(help="Wire logs: print one message by message.", no_args_is_help=True, rich_markup_mode=None)


@trace.command("decode")
def decode(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        say(line)
    return ExitCode.DONE


@trace.callback()
def root() -> None:
    """Options of ``hil trace`` itself."""
