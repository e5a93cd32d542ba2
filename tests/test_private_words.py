"""Words of this project's own, and where none of them may stand: options, messages, pages, headings of documents.

The terms to use are in docs/nomenclature.md; code inside may say more than one word for a thing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hil.cli import app

ROOT = Path(__file__).parent.parent
ROOMS = ("hil", "mapping", "cim", "search", "firmware_protocols")
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
TERMS = {
    r"such chips": "other chips of this kind",
    r"believ\w*": "record, nominal",
    r"ladders?|rungs?|levers?": "techniques tried, trial, technique",
    r"(lever|fault|ready)bench": "context, rig",
    r"drawn chips?|chips? drawn": "virtual chips, sampled devices",
    r"(un)?told|tells?": "reports, shows, separates",
    r"asked( for| of)?": "requested, required; fingerprint",
    r"hot( cells)?": "second temperature",
    r"idle ?cores": "background pool",
    r"undisturbed": "deferred interrupts",
    r"anew|go(es|ing)? on": "again, resumes, restarted, continues",
    r"patience": "reconnect timeout",
    r"rehears\w+": "dry run",
    r"behind": "after, downstream",
    r"heirs?": "truncated teacher, pruned network",
    r"whole[ _-]weights?": "integer rounding",
    r"vopr": "link simulation",
    r"own[ _-]metric": "custom metric",
    r"mend(s|ed|ing)?|courses?": "corrected; mitigation scenario",
    r"of (every|no) set": "required, excluded",
    r"strangers?": "untrusted",
    r"nobody's": "of no other",
    r"as (it|they) c[ao]me": "unchanged, one by one",
    r"engine (exact|fast)|(exact|fast) engine": "mode",
}
PRIVATE = {words: re.compile(rf"(?<![\w-])({words})(?![\w-])", re.IGNORECASE) for words in TERMS}
# The field's own; and the name of random numbers of a calibration, which would be others under another name.
FIELD = re.compile(r"one-hot|resistor ladder|^hot transfer$", re.IGNORECASE)


def private(text: str) -> list[str]:
    """The private words in a text, each with the term to use."""
    plain = FIELD.sub("", text)
    return [f"{found[0]} -> {TERMS[w]}" for w, pattern in PRIVATE.items() if (found := pattern.search(plain))]


def options(command: Any, name: str = "hil") -> Iterator[tuple[str, str]]:
    """Names, help and metavars of all commands and options below one."""
    yield name, f"{name.split()[-1]} {command.help or ''}"
    for parameter in command.params:
        words = " ".join((*parameter.opts, *parameter.secondary_opts)).replace("-", " ")
        yield f"{name} {parameter.name}", f"{words} {getattr(parameter, 'help', None) or ''}"
    for word, below in getattr(command, "commands", {}).items():
        yield from options(below, f"{name} {word}")


def messages() -> Iterator[tuple[str, str]]:
    """Texts of all files of ours that are sentences or labels: of several words, no docstring."""
    for path in sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        strings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in strings:
                continue
            if " " in node.value.strip() or node.value.startswith("--"):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def pages() -> Iterator[tuple[str, str]]:
    """What templates of pages show, and the words that pages and screens are explained by."""
    for path in sorted((ROOT / "hil" / "pages" / "templates").glob("*.html")):
        shown = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", path.read_text("utf-8"), flags=re.DOTALL)
        yield str(path.relative_to(ROOT)), shown
    for line in (ROOT / "docs" / "nomenclature.md").read_text("utf-8").splitlines():
        if line.startswith("| "):
            yield "docs/nomenclature.md", line.split("|")[1]


def headings() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        code = False
        for line in path.read_text("utf-8").splitlines():
            code ^= line.startswith("```")
            if line.startswith("#") and not code:
                yield str(path.relative_to(ROOT)), line


@pytest.mark.parametrize("where", [messages, pages, headings])
def test_no_private_word_stands_in_a_message_a_page_or_a_heading(where: Any) -> None:
    assert [(place, private(text), text) for place, text in where() if private(text)] == []


def test_no_private_word_stands_in_an_option_or_its_help() -> None:
    assert [(place, private(text)) for place, text in options(get_command(app)) if private(text)] == []


def test_private_words_are_found_where_they_stand_alone_and_not_within_others() -> None:
    assert all(map(private, ("hil search heir", "patience 30s", "nothing mended", "how cells came behind")))
    assert not private("their recommended one-hot inputs, foretold")
