"""The command line ``hil``: text for people, and exit codes for scripts.

Each command parses its options, calls one function of another package, and prints the result.
torch and the other packages are imported inside the commands, so that ``hil --help`` answers
at once. Each command is in the file of its name (``hil emulate`` is in ``bench``); ``failures``
holds the exit codes and JSON of errors.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, NoReturn

import typer
from typer.main import get_command, get_command_name
from typer.models import CommandInfo

from cim.plug_ins import BrokenPlugIn, load
from hil.cli import (
    bench,
    board,
    calibrate,
    chip,
    compile,
    deploy,
    estimate,
    finetune,
    improve,
    judge,
    search,
    show,
    simulate,
    tune,
)
from hil.cli.failures import code_of, interrupted_summary, report_failure, with_whole_commands
from hil.cli.help_groups import GroupedCommand
from hil.cli.settings_options import as_command
from hil.driver.deferred_interrupts import ASKS_TO_END, end_soon
from hil.errors import ExitCode, Interrupted
from hil.report.terminal.lines import complain, print_line, spell_out


def commandless() -> typer.Typer:
    """The Typer application ``hil`` with its general help, before commands are added."""
    return typer.Typer(
        help="Deploy neural networks on RRAM compute-in-memory chips, and compare measured with simulated accuracy.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


app = commandless()


def print_version(asked: bool) -> None:
    if asked:
        import hil

        print_line(f"hil {hil.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and stop", is_eager=True, callback=print_version)
    ] = False,
    key_file: Annotated[
        str | None,
        typer.Option(
            help="file with the chip's secret key (default: HIL_KEY or HIL_KEY_FILE)",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Options of ``hil`` itself."""
    if key_file is not None:
        from hil.driver.keys import KEY, KEY_FILE

        os.environ.pop(KEY, None)  # the file was named on the command line, which goes first
        os.environ[KEY_FILE] = key_file


for command in (
    deploy.deploy,
    calibrate.calibrate,
    compile.compile,
    tune.tune,
    improve.improve,
    simulate.simulate,
    judge.judge,
    estimate.estimate,
    finetune.finetune,
    bench.emulate,
    show.doctor,
    show.show,
):
    app.command(cls=GroupedCommand)(as_command(command))
app.command("import", cls=GroupedCommand)(as_command(compile.import_))
for name, found in (
    ("chip", chip.chip),
    ("board", board.board),
    ("bench", bench.bench),
    ("search", search.search),
    ("help", show.help),
):
    app.add_typer(found, name=name)


def add_command(app: typer.Typer, point: EntryPoint) -> None:
    """Add a command by its entry point of ``hil.commands``; a command that fails to load is reported and skipped."""
    try:
        command = load(point)
    except BrokenPlugIn as error:  # all other commands stay
        complain(f"note: command {error} is left out")
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=point.name)
    else:
        app.command(point.name, cls=GroupedCommand)(as_command(command))


for point in entry_points(group="hil.commands"):
    add_command(app, point)


def app_of(arguments: list[str]) -> typer.Typer:
    """The application with only the command that the arguments name: building all commands would delay short runs."""
    if not arguments:
        return app
    one = commandless()
    one.callback()(root)
    one.registered_commands = [c for c in app.registered_commands if _name(c) == arguments[0]]
    one.registered_groups = [g for g in app.registered_groups if g.name == arguments[0]]
    return one if one.registered_commands or one.registered_groups else app


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")


GARBAGE = 50_000  # new objects between two looks for garbage: imports make many and leave none
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # the system cannot write


def main() -> None:
    """Entry point of the ``hil`` script: runs a command and leaves with its exit code."""
    gc.set_threshold(GARBAGE)
    spell_out()
    for asks in ASKS_TO_END:  # service managers, batch systems and closed terminals stop as Ctrl-C does
        if signal.getsignal(asks) is not signal.SIG_IGN:  # as a shell has it for & and nohup
            signal.signal(asks, end_soon)
    code = run(sys.argv[1:])
    for late in ASKS_TO_END:
        signal.signal(late, signal.SIG_IGN)  # the answer stands; a late Ctrl-C must not change its code
    leave(code)


def leave(code: int) -> NoReturn:
    """End the process with an exit code at once, without waiting for threads that still compute after an error.

    A compiled function that returns to a closed interpreter would abort the process with another exit code.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line and give its exit code; every error becomes a message on stderr."""
    surroundings = dict(os.environ)
    if arguments[:1] and any(arguments[0] == _name(found) for found in show.help.registered_commands):
        arguments = ["help", *arguments]  # the group of a page of help need not be typed
    try:
        code = int(app_of(arguments)(arguments, standalone_mode=False, prog_name="hil") or 0)
        if code == ExitCode.CTRL_C:  # Typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        return code
    except (typer.Abort, KeyboardInterrupt) as error:
        complain("interrupted; nothing half-written was left")
        report_failure(arguments, ExitCode.CTRL_C, error, "interrupted; nothing half-written was left")
        return ExitCode.CTRL_C
    except Exception as error:
        code = ExitCode(failed(error, arguments))
        report_failure(arguments, code, error, getattr(error, "message", ""))
        return code
    finally:
        if os.environ != surroundings:
            os.environ.clear()
            os.environ.update(surroundings)


def failed(error: Exception, arguments: Sequence[str] = ()) -> int:
    """Print the message of an error on stderr and give its exit code."""
    if hasattr(error, "show") and hasattr(error, "format_message"):  # a usage error of the parser
        if type(error).__name__ == "NoArgsIsHelpError":  # help is the answer
            print_line(error.format_message())
            return ExitCode.DONE
        error.show()
        return ExitCode.USAGE
    known = code_of(error)
    if isinstance(error, Interrupted):
        from hil.report.terminal.answers import show_answer

        show_answer(interrupted_summary(error, arguments), stream=sys.stderr)
        return ExitCode.INTERRUPTED
    if known is not None:
        complain(f"error: {with_whole_commands(error, arguments, get_command(app_of(list(arguments))))}")
        return known
    if isinstance(error, OSError) and error.errno in FULL:
        complain(f"error: cannot write: {error.strerror}\n  where   {error.filename}\n  try     free some space")
        return ExitCode.CANNOT_WRITE
    return bug(error)


def bug(error: Exception) -> int:
    traceback.print_exc()
    complain(f"error: this is a bug of hil: {type(error).__name__}: {error}\n  try     report it with the lines above")
    return ExitCode.BUG
