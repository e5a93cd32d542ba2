"""Rows of studies that take long: one JSON line each in a file, written as soon as it is there, so that the next run of
the study goes on behind the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def cached_rows(path: Path) -> list[Row]:
    """All rows of a file, in the order in which they were made; none where there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def cache_row(path: Path, row: Row) -> None:
    """Append a row to the file and print it."""
    line = json.dumps(row)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)
