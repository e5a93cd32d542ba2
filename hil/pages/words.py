"""The one word list of help, documents and pages: docs/nomenclature.md, which a wheel holds beside this file."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

NAME = "nomenclature.md"


@functools.cache
def word_list() -> Mapping[str, str]:
    """Every word with its meaning, as plain text, in the order of the list: "read noise" -> "new at every read"."""
    found: dict[str, str] = {}
    columns: list[str] = []
    for line in _text().splitlines():
        cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] if line.startswith("|") else []
        if not cells:
            columns = []
        elif not columns:
            columns = cells
        elif len(cells) == len(columns) and columns[0] == "word" and not set(cells[0]) <= {"-"}:
            about = [c for name, c in zip(columns[1:], cells[1:], strict=True) if name not in ("symbol", "") and c]
            for word in cells[0].split(", "):
                found[re.sub(r" ?\(.*\)", "", word)] = "; ".join(about)
    return found


def _plain(cell: str) -> str:
    return cell.strip().replace("`", "").replace("\\|", "|")


def _text() -> str:
    beside = resources.files("hil.pages").joinpath(NAME)
    if beside.is_file():
        return beside.read_text("utf-8")
    return (Path(__file__).parents[2] / "docs" / NAME).read_text("utf-8")
