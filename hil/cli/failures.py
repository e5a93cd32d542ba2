"""Errors of a command for programs: the JSON of ``--json`` and the JUnit file of ``--junit``, for every exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as xml

from hil.cli.terminal.lines import complain, say_json
from hil.errors import ExitCode, HilError

FORMAT = "hil.error/1.0"
NAMES = {
    ExitCode.OUTSIDE_TOLERANCE: "nothing to answer with",
    ExitCode.USAGE: "usage",
    ExitCode.PORT: "port",
    ExitCode.LINK: "link",
    ExitCode.DEVICE: "device",
    ExitCode.CANNOT_MAP: "cannot map",
    ExitCode.BAD_FILE: "bad file",
    ExitCode.MISMATCH: "mismatch",
    ExitCode.NOT_AUTHORISED: "not authorised",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.CANNOT_WRITE: "cannot write",
    ExitCode.BUG: "bug",
    ExitCode.CTRL_C: "interrupted",
}


def tell_programs(arguments: Sequence[str], code: ExitCode, error: BaseException, what: str = "") -> None:
    """What a command that failed owes to programs, as far as its arguments ask for it."""
    answer = _answer(arguments, code, error, what)
    if "--json" in arguments:
        say_json(answer)
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
    """One test that had an error, so that a CI server shows it as such and not as a verdict."""
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
    """Text without the control characters that XML has no place for."""
    return "".join(c for c in str(value) if c in "\t\n" or c >= " ")
