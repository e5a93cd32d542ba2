"""Templates of pages: nothing in them gets round the escaping."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import hil.pages
from hil.pages.account import Account, Bullets, Marked, Plot, Section
from hil.pages.shell import page
from hil.pages.summary import Bar, Bars, Fact, Headline, NextStep, Scale, ScaleRow, Summary, Tone
from hil.pages.tables import Table

TEMPLATES = sorted((Path(hil.pages.__file__).parent / "templates").glob("*.html"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_no_template_marks_content_as_safe_or_switches_escaping_off(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\|\s*safe|autoescape|\bMarkup\b|style=|\son\w+=", text)


def test_every_value_that_a_template_shows_is_escaped() -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    table = Table(hostile, (hostile, "other"), ((hostile, hostile),), hostile)
    summary = Summary(
        hostile,
        hostile,
        Headline(Tone.GOOD, hostile, hostile),
        (
            Fact(hostile, hostile, hostile),
            Scale(hostile, hostile, (ScaleRow(hostile, hostile, 1.0),), hostile),
            Bars(hostile, (Bar(hostile, hostile, 1.0, hostile),), hostile),
            table,
        ),
        (NextStep(hostile, hostile),),
    )
    parts = (hostile, table, Marked(table, hostile, (hostile,)), Bullets((hostile,), hostile), Plot("a", hostile, {}))
    text = page(Account(summary, (Section(hostile, parts),), title=hostile, subtitle=hostile))
    assert "<img" not in text.split("<script", 1)[0]
    assert text.count("&#34;&gt;&lt;img src=x onerror=alert(1)&gt;") > 30


def test_a_part_that_no_template_draws_says_so() -> None:
    with pytest.raises(UndefinedError, match="object"):
        page(Account(Summary("runs"), (Section("Runs", (object(),)),)))
