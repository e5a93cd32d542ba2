"""Untrusted TOML: parsed within limits, each key with its line, for chip files, spaces and cost models.

Texts that crash Python's own parser or keep it busy for minutes (thousands of digits, deep nesting, keys of thousands
of parts) are refused before it reads them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cim.errors import CimFileError

MOST_BYTES = 1 << 20
MOST_DEPTH = 32  # arrays and tables within each other, and parts of a dotted key
MOST_DIGITS = 400  # of one number: the largest double has 309

Fail = Callable[[str, str], Exception]
"""Gives the error to raise for a dotted field and a reason."""

_OPAQUE = re.compile(  # strings and comments; an open end is the parser's to complain about
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*",
    re.DOTALL,
)
_TOKEN = re.compile(rf"[\[{{\]}}\n]|[0-9](?:_?[0-9]){{{MOST_DIGITS},}}|[\w-]+(?:[ \t]*\.[ \t]*[\w-]+){{{MOST_DEPTH},}}")


class TomlError(CimFileError, ValueError):
    """A text is no TOML, or beyond the limits; fields ``line`` and ``text``."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line, self.text = line, text


@dataclass(frozen=True, slots=True)
class TomlFile:
    """Content of a TOML text; ``lines`` holds the line of each section and dotted field."""

    data: dict[str, Any]
    lines: Mapping[str, int]

    def line(self, field: str) -> int:
        """Line of a field; where the file lacks it, line of its section; else the first line."""
        while field and field not in self.lines:
            field = field.rpartition(".")[0]
        return self.lines.get(field, 1)


def parse_toml(text: str) -> TomlFile:
    """Parse a text of at most ``MOST_BYTES``.

    Raises:
        TomlError: no TOML, or numbers, nesting or keys beyond the limits.
    """
    if len(text) > MOST_BYTES:
        raise TomlError(1, f"{len(text)} characters; at most {MOST_BYTES} are read")
    _check_limits(text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise TomlError(int(line[1]) if line else len(text.splitlines()) or 1, str(error)) from error
    except (ValueError, RecursionError, OverflowError) as error:  # dates out of range and the like
        raise TomlError(1, f"a value cannot be read: {error}") from error
    return TomlFile(data, _lines(text))


def major_version(given: Any, fail: Fail) -> int:
    """The major number of a ``version`` that must be ``major.minor``."""
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", str(given)[:20])
    if match is None:
        raise fail("version", f"{given!r:.60} is not major.minor")
    return int(match[1])


def _check_limits(text: str) -> None:
    # Strings keep their line breaks, so that lines are counted right, and become one key part.
    plain = _OPAQUE.sub(lambda found: "s" + "\n" * found[0].count("\n") if found[0][0] != "#" else "", text)
    depth, line = 0, 1
    for token in _TOKEN.finditer(plain):
        match token[0][0]:
            case "\n":
                line += 1
            case "[" | "{":
                depth += 1
                if depth > MOST_DEPTH:
                    raise TomlError(line, f"more than {MOST_DEPTH} arrays and tables within each other")
            case "]" | "}":
                depth = max(depth - 1, 0)
            case _ if "." in token[0]:
                raise TomlError(line, f"a key of more than {MOST_DEPTH} parts")
            case _:
                raise TomlError(line, f"a number of more than {MOST_DIGITS} digits")


def _lines(text: str) -> dict[str, int]:
    """Line of each section and dotted field; the n-th [[stage]] is ``stage.n``."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if many := re.match(r"\s*\[\[\s*([\w.-]+)\s*\]\]", line):
            counts[many[1]] = counts.get(many[1], 0) + 1
            section = f"{many[1]}.{counts[many[1]]}"
            lines.setdefault(many[1], number)
            lines.setdefault(section, number)
        elif header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            section = header[1]
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w-]+)\s*=", line):
            lines.setdefault(f"{section}.{key[1]}" if section else key[1], number)
    return lines
