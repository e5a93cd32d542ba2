"""Texts drawn by seed, to be read without the code: the sample that a second reader judges.

    python docs/docstring_sample.py --seed 46 [--count 40] [--all]

Every module, class and function of the packages that has a docstring may be drawn, public or private; with --all
also messages of errors, help of options, and paragraphs of README and pages. A text that a reader does not understand
from itself, its name and its arguments is rewritten, and its siblings with it.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import random
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "search", "mapping", "firmware_protocols", "cim")
Defined = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings() -> Iterator[tuple[str, str, str]]:
    """Dotted name, arguments and docstring of all that has one, by name."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield from _of(ast.parse(path.read_text("utf-8")), module)


def _of(node: Defined, name: str) -> Iterator[tuple[str, str, str]]:
    if text := ast.get_docstring(node):
        given = "" if isinstance(node, ast.Module | ast.ClassDef) else f"({ast.unparse(node.args)})"
        yield name, given, inspect.cleandoc(text)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _of(child, f"{name}.{child.name}")


def other_texts() -> Iterator[tuple[str, str, str]]:
    """Errors, help of options and paragraphs, each with its file and line."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                raised = node.exc if isinstance(node, ast.Raise) else None
                helped = next((k.value for k in getattr(node, "keywords", ()) if k.arg == "help"), None)
                if isinstance(raised, ast.Call) and any(isinstance(a, ast.JoinedStr) for a in raised.args):
                    yield f"{path.relative_to(ROOT)}:{raised.lineno}", "", ast.unparse(raised)
                if isinstance(helped, ast.Constant) and isinstance(helped.value, str):
                    yield f"{path.relative_to(ROOT)}:{helped.lineno}", "", helped.value
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for n, part in enumerate(page.read_text("utf-8").split("\n\n")):
            if len(part.split()) > 7 and part[0] not in "`|#!<:":
                yield f"{page.relative_to(ROOT)}, part {n}", "", part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=46, help="of the draw")
    parser.add_argument("--count", type=int, default=40, help="of docstrings")
    parser.add_argument("--all", action="store_true", help="errors, help and pages as often as docstrings")
    given = parser.parse_args()
    found = sorted(docstrings())
    if given.all:
        others = sorted(other_texts())
        found = found + others * max(len(found) // len(others), 1)
    for name, arguments, text in sorted(random.Random(given.seed).sample(found, given.count)):
        print(f"{name}{arguments}\n    {text.replace(chr(10), chr(10) + '    ')}\n")


if __name__ == "__main__":
    main()
