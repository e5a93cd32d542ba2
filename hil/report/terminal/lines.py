"""Lines of a command on stdout and stderr: no control characters, every character in some form, numbers whole.

A character that the encoding of the stream lacks is spelled in ASCII: "−0.5 µS, σ" as "-0.5 uS, sigma". On a terminal
a line that is too long goes on below, behind its label, and never between a number and its unit.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Mapping
from typing import Any, TextIO

MOST_COMPLAINT = 8000  # characters of an error
SPELLING = "hil.spelled"  # error handler of streams
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # all but tab and new line
_ASCII = {
    "−": "-", "⁻": "-", "₋": "-", "–": "-", "—": "-", "…": "...", "·": ".", "′": "'", "×": "x", "µ": "u", "°": "deg ",
    "±": "+/-", "½": "1/2", "√": "sqrt ", "∞": "inf", "≥": ">=", "≤": "<=", "≈": "~", "≠": "!=", "→": "->", "←": "<-",
    "λ": "lambda", "Ω": "Ohm", "█": "#", "✔": "+", "✘": "x", "◆": "*", "●": "o", "├": "|", "┤": "|", "─": "-",
}  # fmt: skip
_LABEL = re.compile(r"\s*\S.*?\s{2,}(?=\S)")
_TOGETHER = re.compile(  # spaces beside a number: before its unit, around the signs of a range, a product, a share
    r"(?<=\d) (?=[^\W\d]|[%°(×…±/–→])|(?<=[×…±/–→<>=≈≤≥]) (?=[+−-]?\d)|(?<=\bx) (?=\d)|(?<=\bof) (?=\d)| (?=±\d)"
)
_KEPT = "\xa0"


def spell_out() -> None:
    """Let stdout and stderr take every character, whatever their encoding."""
    codecs.register_error(SPELLING, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELLING)


def complain(text: str) -> None:
    """An error or a remark, on stderr; commands to try stay on one line, to be copied."""
    shown = printable(text[:MOST_COMPLAINT])
    lines = [line if line.startswith("  try ") else fitted(line, sys.stderr) for line in shown.split("\n")]
    print("\n".join(lines), file=sys.stderr)


def print_line(text: str = "") -> None:
    """A line of the answer, on stdout."""
    print(fitted(printable(text), sys.stdout))


def print_json(record: Mapping[str, Any]) -> None:
    """The answer as one line of JSON for programs, on stdout."""
    print(json.dumps(record, default=str).replace("\x7f", "\\u007f"))


def printable(text: str) -> str:
    """Text from files and chips as a terminal may show it: control characters are written out."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def held_together(text: str, blank: str = _KEPT) -> str:
    """Text whose numbers stay with their units and ranges: the blanks between them are ``blank``."""
    return _TOGETHER.sub(blank, text)


def fitted(text: str, stream: TextIO) -> str:
    """Text as lines that a terminal has room for; in a pipe or a file as it is."""
    if not stream.isatty():
        return text
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    return "\n".join(below for line in text.split("\n") for below in wrapped(line, width))


def wrapped(line: str, width: int) -> list[str]:
    """A line in parts of at most ``width`` characters, if it can be; the later ones stand behind its label.

    Example:
        >>> wrapped("programming  220,720 cells   3,111 not reached", 30)
        ['programming  220,720 cells', '             3,111 not reached']
    """
    if len(line) <= width or width < 1:
        return [line]
    kept = held_together(line)
    label = _LABEL.match(line)
    indent, longest = label.end() if label else 0, max(map(len, kept.split(" ")))
    if indent + longest > width or 2 * indent > width:
        indent = 2
    parts = textwrap.wrap(
        kept, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        expand_tabs=False, replace_whitespace=False,
    )  # fmt: skip
    return [part.replace(_KEPT, " ") for part in parts]


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Error handler of an encoder: characters that it lacks in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, raised = "", False
    for character in error.object[error.start : error.end]:
        above = unicodedata.decomposition(character).startswith("<super>")
        text += ("^" if above and not raised else "") + _in_ascii(character)
        raised = above
    return text, error.end


def _in_ascii(character: str) -> str:
    if character in _ASCII:
        return _ASCII[character]
    name = unicodedata.name(character, "").split()
    if name[:1] == ["GREEK"]:
        return name[-1].capitalize() if "CAPITAL" in name else name[-1].lower()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or character.encode("ascii", "backslashreplace").decode()
