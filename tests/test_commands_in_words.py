"""Commands and options in hints, help, notes and documents: each is one of the command tree of today.

Changelogs are history and are not read.
"""

from __future__ import annotations

import ast
import functools
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hil.cli import app

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "mapping", "cim", "search", "firmware_protocols")
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
SIMULATION = ROOT / "tests" / "line_simulation" / "__main__.py"  # python -m, with options of its own
SOURCES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
OTHERS = sorted([*(ROOT / "hil" / "pages" / "templates").glob("*.html"), *(ROOT / "cim" / "chips").glob("*.toml")])
PLACE = "VALUE"  # of an expression within a text
ENDS = r"[`;,()\"'|\n]|\. |: |\bhil\b|(?<= )(?:and|or|then) "  # what a command is followed by in a sentence
OPTION = re.compile(r"(?<![\w\-./])--[a-z][a-z\-]*[a-z]")
SCRIPT = re.compile(r"python (benchmarks/[\w/]+\.py)([^(\n]*)")
COMMAND = re.compile(r"(?<![\w./\-])hil ([a-z][a-z\-]+)")


def tree(command: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command by its words -> its options."""
    yield name, {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    for word, below in getattr(command, "commands", {}).items():
        yield from tree(below, f"{name} {word}".strip())


TREE = dict(tree(get_command(app)))
ANYWHERE = {option for options in TREE.values() for option in options}
# Files outside of hil/cli whose texts name options without a command -> the commands that print those texts.
SCORES = ("deploy", "simulate", "improve")
PRINTED_BY = {
    "hil/calibration": ("calibrate",),
    "hil/datasets/input_values.py": (*SCORES, "finetune"),
    "hil/datasets/image_set.py": (*SCORES, "import", "compile", "campaign"),
    "hil/deployment/import_weights.py": ("import", "compile", "deploy", "simulate"),
    "hil/deployment/interim_looks.py": ("deploy",),
    "hil/deployment/dry_run.py": ("deploy",),
    "hil/deployment/options.py": SCORES,
    "hil/deployment/resumable.py": ("deploy",),
    "hil/deployment/scoring.py": SCORES,
    "hil/device_fit": ("fit",),
    "hil/driver": ("deploy", "calibrate", "info", "mvm", "cells", "tune", "selftest"),
    "hil/improvement/finetuning": ("finetune",),
    "hil/improvement/improve.py": ("improve",),
    "hil/improvement/context.py": ("improve",),
    "hil/improvement/trials.py": ("improve",),
    "hil/improvement/begin.py": ("improve",),
    "hil/payload/budget.py": ("mission check",),
    "hil/payload/radiation/space.py": ("campaign",),
    "hil/payload/subject.py": ("campaign", "mission check", "mission passes", "mission flight"),
    "hil/report/next_steps.py": ("deploy",),
    "hil/report/step_words.py": ("deploy",),
    "hil/prediction/predict.py": (*SCORES[1:], "campaign", "mission check"),
    "hil/report/work_folder.py": ("deploy", "calibrate", "improve", "finetune", "search run", "campaign"),
    "hil/searching/folder.py": ("search run",),
    "hil/searching/pruned": ("search run",),
    "hil/searching/pruning.py": ("search prune",),
    "hil/searching/run.py": ("search run",),
    "hil/searching/settings.py": ("search run",),
    "hil/server/firmware_build.py": ("emulate",),
    "hil/simulation/torch_device.py": ("deploy", "simulate"),
    "hil/verdict/baseline.py": ("deploy",),
    "hil/verdict/tasks": SCORES,
    "mapping/layout/lay_out.py": ("compile", "deploy", "simulate"),
    "mapping/tune/residual.py": ("compile", "deploy", "simulate"),
    "mapping/network/tflite/importing.py": ("import", "compile", "deploy", "simulate"),
    "search/space/file.py": ("search run",),
    "search/space/target.py": ("estimate",),
    "search/errors.py": ("search run",),
}
# of Dask, pip, apt, a linker, mypy
ELSE = {"--tls", "--force-reinstall", "--no-install-recommends", "--gc-sections", "--index-url", "--strict", "--draft"}
PROSE = {"reads"}  # hil as the program: "hil reads 1.0"


def texts(path: Path) -> Iterator[str]:
    """Every text of a Python file but its docstrings; an expression within one is VALUE."""
    root = ast.parse(path.read_text("utf-8"))
    said_elsewhere: set[int] = set()
    for node in ast.walk(root):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            assert isinstance(node.body[0], ast.Expr)
            said_elsewhere.add(id(node.body[0].value))
        if isinstance(node, ast.JoinedStr):
            said_elsewhere |= {id(part) for part in node.values}
    for node in ast.walk(root):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else PLACE for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said_elsewhere:
            yield "" if OPTION.fullmatch(node.value) else node.value  # one alone is a word of a command line


def comments(path: Path) -> Iterator[str]:
    """Docstrings and comments of a Python file."""
    text = path.read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
    yield from (t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT)


def named(text: str) -> Iterator[tuple[str, str, str]]:
    """Every command that a text names, as (its words, what follows within its clause, what follows to the next)."""
    found = list(COMMAND.finditer(text))
    for number, one in enumerate(found):
        until = found[number + 1].start() if number + 1 < len(found) else len(text)
        name, rest = one[1], text[one.end() : until]
        below = re.match(r" ([a-z]+)", rest)
        if below and f"{name} {below[1]}" in TREE:
            name, rest = f"{name} {below[1]}", rest[below.end() :]
        yield name, re.split(ENDS, rest, maxsplit=1)[0], rest


@functools.cache
def scripted() -> set[str]:
    """Options of the scripts of the repository."""
    folders = ("benchmarks", "examples", "docs", "tests/hostile")
    scripts = [SIMULATION, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    return {option for path in scripts for option in OPTION.findall(path.read_text("utf-8"))}


def options_of(name: str) -> set[str]:
    return TREE[name] | (TREE["search run"] if name == "search" else set())


def wrong_commands(text: str) -> Iterator[str]:
    """Commands that are none, and options that a command has not."""
    for name, clause, _ in named(text):
        if name not in TREE:
            yield from () if name in PROSE else (f"hil {name}",)
            continue
        yield from (f"hil {name} {option}" for option in OPTION.findall(clause) if option not in options_of(name))


def wrong_scripts(text: str) -> Iterator[str]:
    """Scripts of the repository that are not there, and options that a script has not."""
    for file, rest in SCRIPT.findall(text):
        path = ROOT / file
        known = set(OPTION.findall(path.read_text("utf-8"))) if path.exists() else set()
        yield from () if path.exists() else (file,)
        yield from (f"{file} {option}" for option in OPTION.findall(rest) if option not in known)


def bare_options(text: str) -> set[str]:
    """Options before the first command of a text, and those after one that are not its own; none of a script's."""
    text = SCRIPT.sub("", text)
    first = COMMAND.search(text)
    found = set(OPTION.findall(text[: first.start()] if first else text))
    for name, _, rest in named(text):
        found |= {o for o in OPTION.findall(rest) if name in TREE and o not in options_of(name)}
    return found - ELSE - TREE[""]


def callbacks(command: Any, name: str = "") -> Iterator[tuple[str, Path]]:
    """Commands and the files that they stand in."""
    for word, below in getattr(command, "commands", {}).items():
        yield from callbacks(below, f"{name} {word}".strip())
    if not hasattr(command, "commands"):
        yield name, Path(inspect.unwrap(command.callback).__code__.co_filename)


def takers(path: Path) -> list[set[str]]:
    """Options of each command that may print a text of the file; of one alone in hil/cli, as others share texts."""
    place = str(path.relative_to(ROOT))
    if place.startswith("hil/cli/"):
        own = [name for name, file in callbacks(get_command(app)) if file == path]
        return [set().union(*(TREE[name] for name in own))] if own else [ANYWHERE]
    return [TREE[name] for begin, names in PRINTED_BY.items() if place.startswith(begin) for name in names]


@pytest.mark.parametrize("room", ROOMS)
def test_hints_and_notes_name_commands_that_are_there_with_options_that_they_have(room: str) -> None:
    wrong = {}
    for path in (p for p in SOURCES if p.relative_to(ROOT).parts[0] == room):
        found = {error for text in texts(path) for error in (*wrong_commands(text), *wrong_scripts(text))}
        known = takers(path)
        for option in {o for text in texts(path) for o in bare_options(text)} - {"--help"}:
            if not known or not all(option in options for options in known):
                found.add(f"{option}, without a command")
        if found:
            wrong[str(path.relative_to(ROOT))] = sorted(found)
    assert wrong == {}


def test_comments_and_docstrings_name_commands_and_options_that_are_there() -> None:
    wrong = {str(p.relative_to(ROOT)): sorted({e for t in comments(p) for e in wrong_commands(t)}) for p in SOURCES}
    assert {path: errors for path, errors in wrong.items() if errors} == {}


@pytest.mark.parametrize("path", [*DOCUMENTS, *OTHERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_name_commands_and_options_that_are_there(path: Path) -> None:
    """An option by itself is one of some command, or of a script of the repository."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    found = set(wrong_commands(text))
    if path.suffix == ".md":
        found |= set(OPTION.findall(text)) - ANYWHERE - ELSE - scripted()
    assert sorted(found) == []


def test_the_help_names_options_that_are_there() -> None:
    def helps(command: Any) -> Iterator[str]:
        yield command.help or ""
        yield from (getattr(p, "help", None) or "" for p in command.params)
        for below in getattr(command, "commands", {}).values():
            yield from helps(below)

    said = list(helps(get_command(app)))
    assert [error for text in said for error in wrong_commands(text)] == []
    assert {option for text in said for option in OPTION.findall(text)} - ANYWHERE == set()
