"""The command line: words for people, and exit codes for machines.

Each command parses, calls one function of a room below, and prints. Nothing here is worth a
test of its own beyond the words; torch and the rooms are imported inside the commands, so that
``hil --help`` answers at once. The commands are in ``deploying``, ``believing``, ``estimating``,
``searching`` and ``bench``.
"""

from __future__ import annotations

import errno
import signal
import sys
import traceback

import typer

from hil.cli import believing, bench, deploying, estimating, searching
from hil.cli.words import complain
from hil.errors import ExitCode, HilError

app = typer.Typer(
    help="Deploy neural networks on RRAM compute-in-memory chips, and compare measured with simulated accuracy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    deploying.deploy,
    believing.calibrate,
    believing.fit,
    deploying.compile,
    believing.simulate,
    estimating.estimate,
    bench.emulate,
    bench.chips,
    bench.ports,
    bench.info,
    bench.selftest,
    bench.doctor,
    bench.mvm,
    bench.cells,
    deploying.show,
):
    app.command()(command)
app.command("import")(deploying.import_)
app.add_typer(believing.calibration, name="calibration")
app.add_typer(searching.search, name="search")

# Errors of the rooms below that know no exit codes: qualified name -> code.
EXIT_CODES = {
    "cim.chipfile.NewerChipFile": ExitCode.MISMATCH,
    "cim.chipfile.ChipFileError": ExitCode.BAD_FILE,
    "cim.calibration_file.NewerRecord": ExitCode.MISMATCH,
    "cim.calibration_file.RecordFileError": ExitCode.BAD_FILE,
    "cim.calibration.NotCalibrated": ExitCode.MISMATCH,
    "cim.fit_cells.TooFewCells": ExitCode.DEVICE,
    "cim.fit.TooFewVectors": ExitCode.DEVICE,
    "cim.cost.NoCostModel": ExitCode.BAD_FILE,
    "cim.mnsim.config.MnsimError": ExitCode.CANNOT_MAP,
    "mapping.errors.CannotMap": ExitCode.CANNOT_MAP,
    "mapping.errors.NewerVersion": ExitCode.MISMATCH,
    "mapping.errors.ProgramFileError": ExitCode.BAD_FILE,
    "mapping.netcheck.NewerVersionError": ExitCode.MISMATCH,
    "mapping.netcheck.NetworkFileError": ExitCode.BAD_FILE,
    "mapping.capture.UnsupportedOperation": ExitCode.CANNOT_MAP,
    "mapping.onnx_import.MissingExtra": ExitCode.USAGE,
    "mapping.graph.GraphError": ExitCode.BAD_FILE,
    "search.errors.NewerFile": ExitCode.MISMATCH,
    "search.errors.FileError": ExitCode.BAD_FILE,
    "search.teacher.TeacherError": ExitCode.MISMATCH,
    "search.training.ResumeError": ExitCode.MISMATCH,
    "search.errors.SearchError": ExitCode.CANNOT_MAP,
}


def main() -> None:
    """Entry point of the ``hil`` script: runs a command and leaves with its exit code."""
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the answer stands; a late Ctrl-C must not change its code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line and give its exit code; every error becomes words on stderr."""
    try:
        code = int(app(arguments, standalone_mode=False, prog_name="hil") or 0)
        if code == ExitCode.CTRL_C:  # Typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        return code
    except (typer.Abort, KeyboardInterrupt):
        complain("interrupted; nothing half-written was left")
        return ExitCode.CTRL_C
    except HilError as error:
        complain(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            complain(f"error: cannot write: {error.strerror}\n  where   {error.filename}\n  try     free some space")
            return ExitCode.CANNOT_WRITE
        return bug(error)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "format_message"):  # a usage error of the parser
            error.show()
            return ExitCode.USAGE
        known = code_of(error)
        if known is None:
            return bug(error)
        complain(f"error: {error}")
        return known


def code_of(error: Exception) -> ExitCode | None:
    for kind in type(error).__mro__:
        code = EXIT_CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None


def bug(error: Exception) -> int:
    traceback.print_exc()
    complain(f"error: this is a bug of hil: {type(error).__name__}: {error}\n  try     report it with the lines above")
    return ExitCode.BUG
