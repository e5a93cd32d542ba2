"""Names in documents, docstrings and comments: every dotted name and every path of ours is there today.

Changelogs are history and are not read.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "mapping", "cim", "search", "firmware_protocols")
FOLDERS = (*ROOMS, "docs", "tests", "benchmarks", "examples", ".ci")
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
SOURCES = sorted(p for folder in (*ROOMS, "benchmarks", "examples", "tests") for p in (ROOT / folder).rglob("*.py"))
# Names of file formats and methods of records: "hil.space", "hil.fit 1.0".
FORMATS = {
    "hil.answer",
    "hil.architecture",
    "hil.bench",
    "hil.candidates",
    "hil.chip",
    "hil.cost",
    "hil.fit",
    "hil.front",
    "hil.instrument",
    "hil.prices",
    "hil.program",
    "hil.search",
    "hil.space",
    "hil.stage",
    "hil.wirelog",
}
# Files that a user of ours would have, or that a program writes.
INVENTED = {"my_operators.py"}

DOTTED = re.compile(r"(?<![\w./\-])((?:" + "|".join(ROOMS) + r")(?:\.(?!md\b)[A-Za-z_]\w*)+)")
PATH = re.compile(r"(?<![\w./\-])((?:" + "|".join(map(re.escape, FOLDERS)) + r")(?:/[\w.*\-]+)+)")
BARE_FILE = re.compile(r"`([a-z]\w*\.py)`")
IMPORT = re.compile(r"^\s*from ((?:" + "|".join(ROOMS) + r")[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def prose_of(path: Path) -> str:
    """A document, or the docstrings and comments of a Python file."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        return text
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = [ast.get_docstring(n) or "" for n in ast.walk(ast.parse(text)) if isinstance(n, owners)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join([*docstrings, *(t.string for t in tokens if t.type == tokenize.COMMENT)])


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of ours, or an attribute (of an attribute) of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            fields = getattr(value, "__dataclass_fields__", {})
            if not hasattr(value, part) and part not in fields:
                return False
            value = getattr(value, part, None)
        return True
    return False


def there(path: str) -> bool:
    path = path.rstrip(".")
    return any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()


def entry_points() -> set[str]:
    """Groups of entry points that pyproject.toml, or that of an example package, names."""
    files = (ROOT / "pyproject.toml", *sorted((ROOT / "examples" / "plugins").glob("*/pyproject.toml")))
    groups = re.compile(r'^\[project\.entry-points\."([\w.]+)"\]', re.MULTILINE)
    return {group for file in files for group in groups.findall(file.read_text("utf-8"))}


def stale_names(text: str) -> Iterator[str]:
    yield from (n for n in set(DOTTED.findall(text)) - FORMATS - entry_points() if not resolves(n))
    yield from (p for p in set(PATH.findall(text)) if "__pycache__" not in p and not there(p))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_in_a_document_are_there_today(path: Path) -> None:
    text = prose_of(path)
    known = {p.name for p in SOURCES} | INVENTED
    bare = [n for n in BARE_FILE.findall(text) if n not in known]
    wrong = [f"{m}.{n.strip()}" for m, names in IMPORT.findall(text) for n in names.split(",")]
    assert sorted([*stale_names(text), *bare, *(n for n in wrong if not resolves(n))]) == []


@pytest.mark.parametrize("folder", [*ROOMS, "benchmarks", "examples", "tests"])
def test_names_in_docstrings_and_comments_are_there_today(folder: str) -> None:
    paths = [p for p in SOURCES if p.relative_to(ROOT).parts[0] == folder]
    found = {str(p.relative_to(ROOT)): sorted(stale_names(prose_of(p))) for p in paths}
    assert {path: names for path, names in found.items() if names} == {}
