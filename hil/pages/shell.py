"""Self-contained pages from templates: everything is escaped, Plotly is inlined once, nothing else is loaded."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hil.pages.figures import Figure
from hil.pages.plotly_script import plotly_script


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its caption, which is its text for screen readers too; ``name`` is its place in the template.

    A figure with ``wide`` keeps the width that its words need on a narrow screen, and scrolls in its own box;
    one with ``reduced`` says how many cells a point stands for.
    """

    name: str
    words: str
    drawing: Figure

    @property
    def caption(self) -> str:
        reduced = self.drawing.get("reduced", 1)
        return f"{self.words} One point stands for {reduced} × {reduced} cells." if reduced > 1 else self.words

    @property
    def wide(self) -> bool:
        return bool(self.drawing.get("wide", False))


class Outline:
    """The sections of a page, noted while its template runs."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, str]] = []  # anchor and title

    def add(self, title: str) -> str:
        """Note a section; returns its address within the page: "Link and time" -> "link-and-time"."""
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        self.sections.append((anchor, title))
        return anchor


def render(template: str, *, title: str, plots: Iterable[Plot] = (), **content: Any) -> str:
    """A whole page as text, nearly all of it Plotly.

    Args:
        template: name of a file of ``hil/pages/templates`` that extends ``page.html``.
        plots: figures, which the template puts into their places by name.
        content: what the template asks for; all of it is escaped.
    """
    named = {one.name: one for one in plots}
    drawn = {
        name: {k: v for k, v in one.drawing.items() if k not in ("wide", "reduced")} for name, one in named.items()
    }
    return (
        _environment()
        .get_template(template)
        .render(
            **content,
            title=title,
            plots=named,
            outline=Outline(),
            style=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
            plotly=Markup(plotly_script()),
            figures=drawn,
        )
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hil.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"sentence": _sentence, "in_script": _in_script}
    return environment


def _in_script(value: Any) -> Markup:
    """JSON of plain values and dataclasses, with nothing in it that a script element would take for markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=asdict)
    return Markup(text.replace("<", "\\u003c"))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _asset(name: str) -> str:
    return resources.files("hil.pages").joinpath(name).read_text("utf-8")
