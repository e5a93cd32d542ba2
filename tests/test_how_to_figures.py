"""Figures of the how-tos: each page has one, and docs/how_to_figures.py draws it."""

from __future__ import annotations

import os
import re
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from .scripts import loaded

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted((DOCS / "how-to").glob("*.md"))
FIGURES = loaded(DOCS / "how_to_figures.py")


def test_the_script_draws_a_figure_for_every_how_to_and_for_nothing_else() -> None:
    assert sorted(FIGURES.FIGURES) == [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_shows_its_figure_and_names_the_command_that_draws_it(page: Path) -> None:
    text = page.read_text("utf-8")
    shown = re.search(rf"!\[(.+)\]\(\.\./images/how-to/{page.stem}\.svg\)", text)
    assert shown, f"{page.name} shows no figure of its name"
    assert len(shown[1]) > 15, "a figure is described for those who do not see it"
    assert f"python docs/how_to_figures.py {page.stem}" in " ".join(text.split())
    drawn = DOCS / "images" / "how-to" / f"{page.stem}.svg"
    assert "<svg" in drawn.read_text("utf-8")
    assert drawn.stat().st_size < 120_000


@pytest.mark.parametrize(
    "name", ["calibrate", "fine-tune", "interrupted-runs", "peers", "search", "tasks", "techniques"]
)
def test_a_figure_is_drawn_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by commands of its page, the others of what is kept."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    axes = Figure().add_subplot()
    with chdir(tmp_path):
        FIGURES.FIGURES[name](axes)
    assert axes.get_ylabel() or axes.get_xlabel()
    assert axes.lines or axes.patches or axes.collections
