"""JSON files of a search: objects with their format and version checked, and lines that are only added to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cim.files import read_text, write_text
from cim.json_text import parse_json
from search.errors import NewerFile, SearchFileError

MAX_FILE_BYTES = 1 << 26


def read_json(path: Path, form: str, major: int) -> dict[str, Any]:
    """A JSON object with ``format`` and ``version``, both checked."""
    try:
        data = parse_json(read_text(path, MAX_FILE_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise SearchFileError(str(path), 0, "", f"cannot be read ({error})") from error
    except ValueError as error:
        raise SearchFileError(str(path), getattr(error, "lineno", 0), "json", str(error)) from error
    check_head(data, str(path), form, major)
    return dict(data)


def check_head(data: Any, origin: str, form: str, major: int) -> None:
    """Raises ``SearchFileError`` unless ``data`` is an object of that format and major version."""
    if not isinstance(data, dict) or data.get("format") != form:
        found = data.get("format") if isinstance(data, dict) else data
        raise SearchFileError(origin, 1, "format", f"is {found!r:.60}, not {form!r}")
    number, dot, minor = str(data.get("version")).partition(".")
    if not (number.isdigit() and dot and minor.isdigit()):
        raise SearchFileError(origin, 1, "version", f"{data.get('version')!r:.60} is not major.minor")
    if int(number) > major:
        raise NewerFile(origin, 1, "version", f"{data['version']}; this program reads {major}.x")


class Lines:
    """A file of JSON objects, one a line, that only grows; a last line that was cut off is dropped.

    Args:
        head: first line of a new file; empty: none.
    """

    def __init__(self, path: Path, head: Mapping[str, Any] | None = None) -> None:
        self.path = path
        if head and not path.exists():
            write_text(path, json.dumps(head) + "\n")

    def read(self) -> list[tuple[int, str]]:
        """Numbers and texts of the lines that are whole.

        Raises:
            SearchFileError: the file cannot be read.
        """
        if not self.path.exists():
            return []
        try:
            text = read_text(self.path, MAX_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise SearchFileError(str(self.path), 0, "", f"cannot be read ({error})") from error
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):  # the run that wrote it was stopped here
            write_text(self.path, "".join(lines[:-1]))
            del lines[-1]
        return list(enumerate(lines, 1))

    def add(self, *rows: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    @staticmethod
    def values(text: str) -> dict[str, Any]:
        """Raises ``ValueError`` for a line that is no JSON object."""
        found = parse_json(text)
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found
