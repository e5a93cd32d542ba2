"""Date and commit of every row of docs/benchmarks.md: those of the commit that first held its result in a document.

python benchmarks/studies.py row-dates        # a line a row: date, commit, result; half a minute
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
NUMBER = re.compile(r"\d")


def results(text: str) -> Iterator[str]:
    """The cell of each row that holds its result: the second, as in most tables, else the first with a number."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        numbers = [cell for cell in cells[1:] if NUMBER.search(cell)]
        if numbers:
            yield numbers[0]


def first_commit(result: str) -> str:
    """Date and short hash of the oldest commit whose documents hold the text."""
    words = ["git", "log", "--reverse", "--format=%ad %h", "--date=short", f"-S{result}", "--", "docs", "README.md"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return found[0] if found else "not committed"


def main() -> None:
    for result in results((ROOT / "docs/benchmarks.md").read_text("utf-8")):
        print(f"{first_commit(result)}  {result:.100}", flush=True)


if __name__ == "__main__":
    main()
