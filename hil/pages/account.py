"""The account of a result, the same object for every kind: the answer, then sections of tables and figures.

A result's own module makes its account; screen, page, Markdown and comparison take it and know nothing of chips.
"""

from __future__ import annotations

from dataclasses import dataclass

from hil.pages.shell import Marked, Section, page
from hil.pages.summary import Summary
from hil.pages.tables import Table, as_markdown, markdown


@dataclass(frozen=True, slots=True)
class Account:
    """What a result says.

    Args:
        first: headline, rows, notes and next commands, as a screen shows them.
        sections: all that one may want besides, in reading order.
        title: of the page's window; "": that of ``first``.
        subtitle: of the page.
        banners: reservations above the answer, each a word and a sentence; None: the mark of ``first``.
    """

    first: Summary
    sections: tuple[Section, ...] = ()
    title: str = ""
    subtitle: str = ""
    banners: tuple[tuple[str, str], ...] | None = None

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

    def page(self) -> str:
        """The whole page as text, nearly all of it plotly.js."""
        return page(self.first, self.sections, title=self.title, subtitle=self.subtitle, banners=self.banners)
