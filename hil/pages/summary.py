"""Summary of what a command found, as data: headline, numbers, causes, cost, next commands.

Terminal (``hil.cli.terminal.told``), pages (``parts.html``) and notebooks show the same object.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from hil.pages.tables import Table


class Tone(enum.StrEnum):
    """How an answer reads before its words are read."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer: one word and the numbers that carry it."""

    tone: Tone
    word: str  # AGREE
    text: str


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """One row of a ``Scale``: a value with its interval, in the scale's unit."""

    name: str
    shown: str  # "92.5 %"
    at: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values of one quantity below a common axis."""

    title: str
    unit: str
    rows: tuple[ScaleRow, ...]
    note: str = ""  # what the intervals are


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: a name, what is known of it, and a remark that may stand aside. ``soft``: only for completeness."""

    name: str
    text: str
    aside: str = ""
    tone: Tone | None = None
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A size with its interval, both in words, and as a length."""

    name: str
    shown: str
    size: float
    span: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Sizes beside each other, largest first; ``rest``: those that cannot be told from 0, in one line."""

    title: str
    rows: tuple[Bar, ...]
    rest: str = ""


@dataclass(frozen=True, slots=True)
class NextStep:
    """A complete command, and what it is for."""

    command: str
    why: str = ""


Part = Scale | Fact | Bars | Table


@dataclass(frozen=True, slots=True)
class Summary:
    """What a command found. ``mark``: reservation beside the title, as that no silicon answered."""

    title: str
    mark: str = ""
    headline: Headline | None = None
    parts: tuple[Part, ...] = ()
    steps: tuple[NextStep, ...] = field(default=())

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(part for part in self.parts if isinstance(part, Fact))

    def html(self) -> str:
        """A short table for notebooks; everything from outside is escaped."""
        rows = []
        for part in self.parts:
            if isinstance(part, Scale):
                rows += [(one.name, one.shown, one.note) for one in part.rows]
            elif isinstance(part, Bars):
                rows += [(f"– {one.name}", one.shown, one.span) for one in part.rows]
            elif isinstance(part, Fact):
                rows.append((part.name, part.text, part.aside))
        body = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td><td>{escape(more)}</td></tr>"
            for name, text, more in rows
        )
        head = "" if self.headline is None else f"{self.headline.word}: {self.headline.text}"
        title = " · ".join(filter(None, (self.title, self.mark)))
        return f"<table><caption>{escape(title)}<br>{escape(head)}</caption>{body}</table>"


def largest_first(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    return tuple(sorted(bars, key=lambda bar: -abs(bar.size)))
