"""JSON files of a search, read with their format and version checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cim.files import read_text
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
