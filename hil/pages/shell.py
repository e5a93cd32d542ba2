"""Every page: the summary of a result, then sections; self-contained, escaped, nothing else is loaded."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hil.pages.figures import Figure
from hil.pages.glossary import EXPLAINED, glossary
from hil.pages.scripts import has, packed, script
from hil.pages.summary import Summary
from hil.pages.tables import Table


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


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Figures side by side where the screen is wide enough."""

    plots: tuple[Plot, ...]


@dataclass(frozen=True, slots=True)
class Marked:
    """A table; rows that begin with one of ``rows`` are set off, and with a ``title`` a click or a key opens it."""

    table: Table
    title: str = ""
    rows: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bullets:
    """Lines of a list; with a ``title`` a click or a key opens it."""

    lines: Sequence[str]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Small images, each an address that holds its pixels and a caption, below a heading and a note."""

    title: str
    note: str
    shown: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A table that is sorted by its header and filtered by words; two rows with a tick stand side by side.

    Args:
        rows: of each, where its first cell leads, and cells as words and what sorts them.
        facts: of every row by its name, ``hil.pages.beside.Compared``.
        what: the rows, as "networks".
    """

    table: Table
    rows: Sequence[tuple[str, Sequence[tuple[str, float | str]]]]
    facts: Mapping[str, Any]
    what: str


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a page.

    Parts are a sentence, a ``Plot``, ``SideBySide``, a ``Table``, ``Marked``, ``Bullets``, ``Pictures`` or ``Choice``,
    each drawn by the macro of its class's name in parts.html. None is left out, and so is an empty section.
    """

    title: str
    parts: tuple[Any, ...]

    @property
    def tagged(self) -> list[tuple[str, Any]]:
        """Every part with the name of its macro."""
        return [(type(part).__name__.lower(), part) for part in self.parts if part is not None]


class Outline:
    """The sections of a page and the words that it explains, noted while its template runs.

    Args:
        explained: words as they stand on the page -> words of the list.
    """

    def __init__(self, explained: Mapping[str, str] = EXPLAINED) -> None:
        self.sections: list[tuple[str, str]] = []  # anchor and title
        self.sorts = False  # whether a table of the page is sorted and filtered
        self.words: dict[str, tuple[str, str]] = {}  # word of the list -> its anchor and meaning
        self._explained = explained
        self._here: set[str] = set()  # explained in this section already
        longest_first = sorted(explained, key=len, reverse=True)
        names = "|".join(re.escape(word) for word in longest_first)
        self._pattern = re.compile(rf"(?<![\w.])(?:{names})(?![\w])") if names else None

    def add(self, title: str) -> str:
        """Note a section; returns its address within the page: "Link and time" -> "link-and-time"."""
        self.sections.append((_anchor(title), title))
        self._here.clear()
        return self.sections[-1][0]

    def sorting(self) -> str:
        """Note that a table of the page is sorted and filtered."""
        self.sorts = has("tables")
        return ""

    def explain(self, text: str) -> Markup:
        """Text, escaped, in which the first of each word in a section leads to its meaning, by pointer and keys."""
        return Markup("").join(self._parts(text))

    def _parts(self, text: str) -> Iterator[Markup]:
        place = 0
        for found in self._pattern.finditer(text) if self._pattern else ():
            word = self._explained[found[0]]
            if word in self._here:
                continue
            self._here.add(word)
            anchor = f"word-{_anchor(word)}"
            self.words[word] = (anchor, glossary()[word])
            yield escape(text[place : found.start()])
            yield Markup('<span class="explained" tabindex="0" aria-describedby="{}">{}</span>').format(
                anchor, found[0]
            )
            place = found.end()
        yield escape(text[place:])


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def page(
    summary: Summary,
    sections: Iterable[Section],
    *,
    title: str = "",
    subtitle: str = "",
    banners: Sequence[tuple[str, str]] | None = None,
    again_s: float = 0.0,
) -> str:
    """A whole page as text, nearly all of it plotly.js.

    Args:
        title: of the window; "": that of the summary.
        banners: reservations above the answer, each a word and a sentence; None: the mark of the summary.
        again_s: seconds after which a browser reads the page again; 0: never.
    """
    shown = [section for section in sections if section.tagged]
    parts = [part for section in shown for _, part in section.tagged]
    plots = [one for part in parts for one in (part.plots if isinstance(part, SideBySide) else (part,))]
    drawn = {
        one.name: {k: v for k, v in one.drawing.items() if k not in ("wide", "reduced")}
        for one in plots
        if isinstance(one, Plot)
    }
    if banners is None:
        mark, _, words = summary.mark.partition(" · ")
        banners = [(mark, _sentence(words) if words else "")] if mark else []
    return (
        _environment()
        .get_template("page.html")
        .render(
            summary=summary,
            sections=shown,
            title=title or summary.title,
            subtitle=subtitle,
            banners=banners,
            again_s=again_s,
            outline=Outline(),
            style=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
            library=script,
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
    environment.filters |= {
        "sentence": _sentence,
        "capitalised": _capitalised,
        "in_script": _in_script,
        "packed": packed,
    }
    return environment


def _in_script(value: Any) -> Markup:
    """JSON of plain values and dataclasses, with nothing in it that a script element would take for markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=asdict)
    return Markup(text.replace("<", "\\u003c"))


def _sentence(text: str) -> str:
    return f"{_capitalised(text)}."


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _asset(name: str) -> str:
    return resources.files("hil.pages").joinpath(name).read_text("utf-8")
