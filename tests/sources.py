"""The checkout as tests read it: a Python file of ours is parsed once, the command tree is walked in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from hil.cli import app

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "search", "mapping", "firmware_protocols", "cim")
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
Defined = ast.Module | ast.ClassDef | ast.FunctionDef


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def module(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(module(path)))


@cache
def prose(path: Path) -> tuple[str, ...]:
    """Docstrings and comments of a Python file; what follows a # within a text counts too."""
    text = path.read_text("utf-8")
    found = nodes(path) if path in FILES else ast.walk(ast.parse(text))
    docstrings = [ast.get_docstring(n) or "" for n in found if isinstance(n, Defined)]
    return (*docstrings, *re.findall(r"#.*", text))


def strings(path: Path) -> Iterator[ast.Constant]:
    """Every text of a Python file, those within f-strings too, but no docstring."""
    told = {id(n.value) for n in nodes(path) if isinstance(n, ast.Expr)}
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node


def commands(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below one by its words, the program itself as "" first."""
    command = typer.main.get_command(app) if command is None else command
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}".strip())
