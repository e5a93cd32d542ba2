"""The one word list of help and documents: docs/nomenclature.md, which a wheel holds beside this file."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

NAME = "nomenclature.md"


@functools.cache
def glossary() -> Mapping[str, str]:
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


def find_terms(asked: str | None) -> dict[str, str]:
    """Words with their meanings: equal to ``asked``, contained in it (a line of a screen), or explained with it.

    Example: ``find_terms("read-back − target")`` gives read-back; ``find_terms("Shapley")`` the words that it explains.
    """
    every = glossary()
    if asked is None or not asked.strip():
        return dict(every)
    text = _folded(asked)
    named = {name: meaning for name, meaning in every.items() if text == _folded(name)}
    within = {name: meaning for name, meaning in every.items() if re.search(rf"\b{re.escape(text)}", _folded(name))}
    inside = {n: m for n, m in every.items() if re.search(rf"(?<!\w){re.escape(_folded(n))}(?!\w)", text)}
    return named | within | inside or {n: m for n, m in every.items() if text in _folded(m)}


def nearest_terms(asked: str) -> list[str]:
    """Words of the list that are spelled nearly so."""
    names = {_folded(name): name for name in glossary()}
    return [names[found] for found in difflib.get_close_matches(_folded(asked), names, 3)]


def _folded(text: str) -> str:
    """Text in lower case and singular, so that a word is found in any form: virtual chips -> virtual chip."""
    words = (w if w.endswith("ss") else w.removesuffix("s") for w in text.lower().split())
    return " ".join(words)
