"""Exit codes of errors by class, and the output of a failed command for ``--json`` and JUnit files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import cim.errors as cim
import firmware_protocols.errors as protocol
import mapping.errors as mapping
import search.errors as search
from hil.errors import ExitCode, HilError, Interrupted
from hil.pages.summary import Headline, NextStep, Summary, Tone
from hil.report.terminal.lines import complain, print_json

FORMAT = "hil.error/1.0"
NAMES = {code: code.name.lower().replace("_", " ") for code in ExitCode} | {
    ExitCode.OUTSIDE_TOLERANCE: "nothing to answer with",
    ExitCode.CTRL_C: "interrupted",
}

# The first kind that an error is one of decides: a newer file is a mismatch before it is a bad file.
EXIT_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (cim.CimMismatch, ExitCode.MISMATCH),
    (cim.CimFileError, ExitCode.BAD_FILE),
    (cim.CimUsageError, ExitCode.USAGE),
    (cim.CannotExpress, ExitCode.CANNOT_MAP),
    (cim.CimMeasurementError, ExitCode.DEVICE),
    (mapping.MappingMismatch, ExitCode.MISMATCH),
    (mapping.MappingFileError, ExitCode.BAD_FILE),
    (mapping.MappingUsageError, ExitCode.USAGE),
    (mapping.NotMappable, ExitCode.CANNOT_MAP),
    (search.SearchMismatch, ExitCode.MISMATCH),
    (search.SearchFileError, ExitCode.BAD_FILE),
    (search.SearchError, ExitCode.CANNOT_MAP),
    (protocol.VersionMismatch, ExitCode.MISMATCH),
    (protocol.ChipProblem, ExitCode.DEVICE),
    (protocol.RemoteProtocolError, ExitCode.LINK),
    (protocol.LinkFailed, ExitCode.LINK),
)


def interrupted_summary(error: Interrupted, arguments: Sequence[str]) -> Summary:
    """Summary of a run that Ctrl-C ended: the results it keeps, and the command that resumes it."""
    again = [word for word in arguments if word != "--restart"]
    step = NextStep(shlex.join(["hil", *again]), error.hint)
    text = error.what.removeprefix("interrupted; ")
    return Summary(f"hil {' '.join(arguments[:1])}", "", Headline(Tone.OPEN, "INTERRUPTED", text), (), (step,))


def code_of(error: Exception) -> ExitCode | None:
    """The exit code of an error that this project raises by design; None for a bug."""
    if isinstance(error, HilError):
        return None if error.exit_code is ExitCode.BUG else error.exit_code
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), None)


def with_whole_commands(error: Exception, typed: Sequence[str], hil: Any) -> Exception:
    """The error with complete commands in its ``try`` lines: the typed command plus the suggested option.

    ``hil`` is the Typer application. ``hil compile`` in a line stands for any command that compiles. Lines of other
    commands, and options that the typed command lacks, are kept. A suggested ``--chip`` removes ``--macros``.

    Example: ``--macros 98`` after ``hil simulate net.pt --macros 4`` is ``hil simulate net.pt --macros 98``.
    """
    path: list[str] = []
    while len(path) < len(typed) and (inner := getattr(hil, "commands", {}).get(typed[len(path)])) is not None:
        path, hil = [*path, typed[len(path)]], inner
    takes = {name: parameter for parameter in hil.params for name in parameter.opts}

    def whole(line: re.Match[str]) -> str:
        verb, option, value, rest = line.groups()
        if not path or verb not in (None, "compile", " ".join(path)) or option not in takes:
            return line[0]
        from hil.report.step_words import grouped  # late: it knows verdicts, whose statistics are large

        if takes[option].is_flag:
            value, rest = "", f" {value}{rest}"
        replaced = set() if takes[option].multiple else {option, "--macros"} if option == "--chip" else {option}
        kept = [word for group in grouped(typed) if group[0] not in replaced for word in group]
        return f"  try     {shlex.join(['hil', *kept, option, *filter(None, [value])])}{rest}"

    named = re.compile(r"^  try     (?:hil ([a-z ]+) )?(--[a-z-]+) ?([^\s,;:()]*)(.*)$", re.MULTILINE)
    if isinstance(error, HilError):
        error.hint = named.sub(whole, f"  try     {error.hint}").removeprefix("  try     ")
    elif error.args:
        error.args = (named.sub(whole, str(error)), *error.args[1:])
    return error


def report_failure(arguments: Sequence[str], code: ExitCode, error: BaseException, what: str = "") -> None:
    """Write the JSON and JUnit output of a failed command, if its arguments ask for these outputs."""
    answer = _answer(arguments, code, error, what)
    if "--json" in arguments:
        print_json(answer)
    place = _junit(arguments)
    if place is not None:
        try:
            place.write_text(_suite(answer), encoding="utf-8")
        except OSError as problem:  # the error itself was said
            complain(f"note: {place} was not written: {problem.strerror}")


def _answer(arguments: Sequence[str], code: ExitCode, error: BaseException, what: str) -> dict[str, object]:
    known = error if isinstance(error, HilError) else None
    return {
        "schema": FORMAT,
        "command": " ".join(["hil", *(word for word in arguments[:1] if not word.startswith("-"))]),
        "exit_code": int(code),
        "kind": NAMES[code],
        "error": what or (known.what if known else str(error)) or type(error).__name__,
        "where": known.where if known else "",
        "likely": known.likely if known else "",
        "try": known.hint if known else "",
    }


def _junit(arguments: Sequence[str]) -> Path | None:
    for number, word in enumerate(arguments):
        if word.startswith("--junit="):
            return Path(word.partition("=")[2])
        if word == "--junit" and number + 1 < len(arguments):
            return Path(arguments[number + 1])
    return None


def _suite(answer: dict[str, object]) -> str:
    """A JUnit suite of one test with an error, which a CI server shows as an error and not as a verdict."""
    counts = {"tests": "1", "errors": "1", "failures": "0", "skipped": "0"}
    suite = xml.Element("testsuite", {"name": str(answer["command"]), **counts})
    case = xml.SubElement(suite, "testcase", classname="hil", name=str(answer["command"]))
    problem = xml.SubElement(case, "error", message=_xml_text(answer["error"]), type=str(answer["kind"]))
    problem.text = "\n".join(
        f"{name}: {_xml_text(answer[name])}" for name in ("where", "likely", "try") if answer[name]
    )
    xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"


def _xml_text(value: object) -> str:
    """Text without the control characters that XML does not allow."""
    return "".join(c for c in str(value) if c in "\t\n" or c >= " ")
