"""The account of a result, the same object for every kind: the answer, then sections of tables and figures.

The module of a result makes its account; screen, page and Markdown render it without knowing about chips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hil.pages.summary import Summary
from hil.pages.tables import Table, as_markdown, markdown

if TYPE_CHECKING:  # figures bring in numpy, and every command imports this
    from hil.pages.figures import Figure


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its caption, which is its text for screen readers too; ``name``: its id in the page.

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
class Section:
    """A titled part of a page.

    Parts are a sentence, a ``Plot``, a ``Table``, ``Marked``, ``Bullets`` or ``Pictures``,
    each drawn by the macro of its class's name in parts.html. None is left out, and so is an empty section.
    A section with a ``line``, which sums it up, shows its parts when a reader opens it.
    """

    title: str
    parts: tuple[Any, ...]
    line: str = ""

    @property
    def tagged(self) -> list[tuple[str, Any]]:
        """Every part with the name of its macro."""
        return [(type(part).__name__.lower(), part) for part in self.parts if part is not None]


@dataclass(frozen=True, slots=True)
class Account:
    """The content of a result, for every surface.

    Args:
        first: headline, rows, notes and next commands, as a screen shows them.
        sections: all further detail, in reading order.
        title: of the page's window; "": that of ``first``.
        subtitle: of the page.
        banners: reservations above the answer, each a word and a sentence; None: the mark of ``first``.
        basis: conditions that must agree for a comparison: label, value, and the consequence if they differ.
    """

    first: Summary
    sections: tuple[Section, ...] = ()
    title: str = ""
    subtitle: str = ""
    banners: tuple[tuple[str, str], ...] | None = None
    basis: tuple[tuple[str, str, str], ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table of the sections, in reading order."""
        parts = (part.table if isinstance(part, Marked) else part for one in self.sections for part in one.parts)
        return tuple(part for part in parts if isinstance(part, Table))

    def markdown(self) -> str:
        """The answer as on the screen, and every table."""
        marks = [f"> **{word}**: {as_markdown(text)}" for word, text in self.banners or ()]
        return "\n".join(
            [*self.first.markdown(), *(line for one in marks for line in (one, "")), *map(markdown, self.tables)]
        )
