"""Templates of pages: nothing in them gets round the escaping."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import hil.pages
from hil.pages.shell import render
from hil.pages.tables import Table

TEMPLATES = sorted((Path(hil.pages.__file__).parent / "templates").glob("*.html"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_no_template_marks_content_as_safe_or_switches_escaping_off(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\|\s*safe|autoescape|\bMarkup\b|style=|\son\w+=", text)


def test_every_value_that_a_template_shows_is_escaped() -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    runs = Table(hostile, (hostile, "other"), (), hostile)
    row = (hostile, ((hostile, hostile), (hostile, 1.0)))
    text = render("runs.html", title=hostile, runs=runs, rows=(row,))
    assert "<img" not in text.split("<script", 1)[0]
    assert text.count("&#34;&gt;&lt;img src=x onerror=alert(1)&gt;") > 5


def test_a_template_that_lacks_a_value_says_so() -> None:
    with pytest.raises(UndefinedError, match="runs"):
        render("runs.html", title="runs", rows=())
