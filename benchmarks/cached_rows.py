"""Rows of studies that take long: one JSON line each in a file, written as soon as it is there, so that the next run of
the study goes on behind the last."""

from __future__ import annotations

import json
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@cache
def made_by() -> dict[str, str]:
    """Date and commit of the code that makes rows.

    Raises:
        SystemExit: tracked files differ from the commit, which then does not say what made a row.
    """

    def git(*words: str) -> str:
        root = Path(__file__).parents[1]
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    if changed := git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results"):
        raise SystemExit(f"rows need a commit, and files differ from it:\n{changed}")
    return {"date": time.strftime("%Y-%m-%d"), "commit": git("rev-parse", "HEAD")}


def cached_rows(path: Path) -> list[Row]:
    """All rows of a file, in the order in which they were made; none where there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def cache_row(path: Path, row: Row) -> None:
    """Append a row to the file and print it."""
    line = json.dumps(row)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)
