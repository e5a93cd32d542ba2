"""One word list for documents, help and pages; pages explain words by pointer, by keys and to screen readers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import hil as hil_room
from hil.cli import run as hil
from hil.pages.glossary import EXPLAINED, find_terms, glossary
from hil.pages.shell import Outline
from hil.pages.summary import Bars, Scale
from hil.report.account import account_of, summary_of
from hil.report.causes import causes_table
from hil.report.tables import accuracies, cells, layers

from ..browser import BROWSER, look
from ..cli.test_summaries import REPORTS


def test_the_list_holds_every_word_of_the_document_with_its_meaning() -> None:
    words = glossary()
    assert words["read noise"] == "per cell and read; new at every read"
    assert words["HRS"] == words["LRS"] == "high- and low-resistance state"
    assert "hil.emulator" in words["emulated"]
    assert "word" not in words
    assert all(words.values())


def test_every_word_that_pages_explain_is_in_the_list() -> None:
    assert set(EXPLAINED.values()) <= glossary().keys()


def test_a_word_is_explained_once_a_section_and_never_inside_another() -> None:
    outline = Outline({"gap": "gap", "read noise": "read noise"})
    outline.add("One")
    text = str(outline.explain("gap <b> read noise, gap; gaps"))
    assert text.count("aria-describedby") == 2
    assert "&lt;b&gt;" in text
    assert text.endswith("gap; gaps")
    outline.add("Two")
    assert "word-gap" in outline.explain("gap")
    assert set(outline.words) == {"gap", "read noise"}


def test_a_report_explains_its_words_and_says_their_meanings_at_the_end(run) -> None:
    text = account_of(*run).page().split("<script", 1)[0]
    used = set(re.findall(r'aria-describedby="([\w-]+)"', text))
    assert used
    assert used == set(re.findall(r'<dd id="([\w-]+)">', text))
    assert {"word-tolerance", "word-read-noise", "word-residual"} <= used


def test_the_command_prints_the_meaning_of_a_word(capsys) -> None:
    assert hil(["glossary", "shapley"]) == 0
    assert "marginal loss" in capsys.readouterr().out
    assert hil(["glossary", "no such word"]) == 2
    assert "hil glossary" in capsys.readouterr().err


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
    words = printed_words()
    assert {"Lost on the chip", "EDP, mJ·ms", "images × repeats", "Injected"} <= words
    assert {word for word in words if not find_terms(UNIT.sub("", word))} == set()


def test_a_word_is_found_in_a_line_of_a_screen_and_a_misspelled_one_is_answered_with_its_neighbours(capsys) -> None:
    assert {"read noise", "relaxation"} <= find_terms("not distinguishable from 0: read noise, relaxation").keys()
    assert "virtual chip" in find_terms("20 virtual chips")
    assert "IR drop" in find_terms("ir drop")
    assert hil(["glossary", "relaxatoin"]) == 2
    assert "meant was relaxation" in capsys.readouterr().err


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
def test_focus_shows_a_meaning_inside_the_window_and_escape_hides_it(run, tmp_path: Path) -> None:
    ask = """
      const meaning = document.getElementById("meaning"), found = [];
      for (const word of document.querySelectorAll(".explained")) {
        if (word.closest("details")) continue;
        word.focus();
        const box = meaning.getBoundingClientRect();
        const inside = box.left >= 0 && box.right <= window.innerWidth;
        found.push(!meaning.hidden && meaning.textContent.length > 5 && inside);
      }
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
      window.asked = [found.length > 5, found.every(Boolean), meaning.hidden];
    """
    for one in look(account_of(*run).page(), tmp_path, dark=False, widths=(400, 1400), also=ask):
        assert one["asked"] == [True, True, True]
        assert one["errors"] == []
