"""One word list for documents and help: it knows what screens and pages say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import hil as hil_room
from hil.cli import run as hil
from hil.pages.glossary import find_terms, glossary
from hil.pages.summary import Bars, Scale
from hil.report.account import causes_table, summary_of
from hil.report.tables import accuracies, cells, layers
from hil.searching.summary import COLUMNS

from ..cli.test_summaries import REPORTS


def test_the_list_holds_every_word_of_the_document_with_its_meaning() -> None:
    words = glossary()
    assert words["read noise"] == "per cell and read; new at every read"
    assert words["HRS"] == words["LRS"] == "high- and low-resistance state"
    assert "hil.emulator" in words["emulated"]
    assert "word" not in words
    assert all(words.values())


def test_the_command_prints_the_meaning_of_a_word(capsys) -> None:
    assert hil(["help", "glossary", "shapley"]) == 0
    assert "marginal loss" in capsys.readouterr().out
    assert hil(["help", "glossary", "no such word"]) == 2
    assert "hil help glossary" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["agree", "loss", "disagree", "inconclusive"])
def test_the_glossary_knows_every_word_that_the_summary_of_a_run_prints(kind: str) -> None:
    summary = summary_of(REPORTS[kind])
    words = [*(fact.name for fact in summary.facts if fact.name not in ("report", "WARNING"))]
    assert summary.headline is not None
    words.append(summary.headline.word)
    for part in summary.parts:
        if isinstance(part, Scale | Bars):
            words += [row.name for row in part.rows]
    assert {word: find_terms(word) for word in words if not find_terms(word)} == {}


def test_the_glossary_knows_every_row_and_column_of_the_tables_of_a_run(run) -> None:
    unknown = []
    for table in (accuracies(run[0]), causes_table(run[0].causes), layers(run[0]), cells(run[0])):
        named = [*table.header[1:]] if table.title == "Layers" else [row[0] for row in table.rows]
        unknown += [word for word in named if word and word != "sum" and not find_terms(word)]
    assert unknown == []


LABELLED = ("Fact", "Scale", "Bars", "ScaleRow", "Bar")
UNIT = re.compile(r"(, .*| (nJ|us|µS))$|^µS ")


def printed_words() -> set[str]:
    """Labels of every line, scale and bar, and headers of every table, that the sources write out."""
    found = set[str]()
    for path in Path(hil_room.__path__[0]).rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        told = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)]
        named = {target.id: node.value for node in told for target in node.targets if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            words: list[ast.expr] = node.args[:1] if node.func.id in LABELLED else []
            if node.func.id == "Table" and len(node.args) > 1:
                head = node.args[1]
                head = named.get(head.id, head) if isinstance(head, ast.Name) else head
                words = head.elts if isinstance(head, ast.Tuple) else []
            found |= {w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str) and w.value}
    return found


def test_the_glossary_knows_every_label_and_header_that_the_sources_write_out() -> None:
    words = printed_words() | {name for name, _ in COLUMNS}
    assert {"Lost on the chip", "EDP, mJ·ms", "images × repeats", "Injected"} <= words
    assert {word for word in words if not find_terms(UNIT.sub("", word))} == set()


def test_a_word_is_found_in_a_line_of_a_screen_and_a_misspelled_one_is_answered_with_its_neighbours(capsys) -> None:
    assert {"read noise", "relaxation"} <= find_terms("not distinguishable from 0: read noise, relaxation").keys()
    assert "virtual chip" in find_terms("20 virtual chips")
    assert "IR drop" in find_terms("ir drop")
    assert hil(["help", "glossary", "relaxatoin"]) == 2
    assert "meant was relaxation" in capsys.readouterr().err
