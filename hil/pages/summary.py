"""Summary of a result as data: headline, numbers, causes, cost, next commands.

Terminal (``hil.report.terminal.answers``), pages (``parts.html``) and notebooks show the same object.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from html import escape

from hil.pages.tables import Table, as_markdown, markdown


class Tone(enum.StrEnum):
    """Colour of an answer: good, bad or open."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer: one word and the numbers that carry it."""

    tone: Tone | None  # None: nothing was asked that could fail
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

    def place(self, value: float) -> float:
        """Position of a value on the scale, percent of its length."""
        ends = [v for row in self.rows for v in (row.at, row.low, row.high) if v is not None]
        low, high = min(ends), max(ends)
        return round(4 + 92 * (value - low) / ((high - low) or 1.0), 2)


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a summary: label, value, and a remark that may be set apart. ``soft``: minor detail."""

    name: str
    text: str
    aside: str = ""
    tone: Tone | None = None
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart: its label, its value and interval as text, and its length."""

    name: str
    shown: str
    size: float
    span: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one quantity, largest first; ``rest``: names of those indistinguishable from 0, in one line."""

    title: str
    rows: tuple[Bar, ...]
    rest: str = ""

    def length(self, bar: Bar) -> float:
        """Length of a bar, percent of the longest."""
        return round(100 * abs(bar.size) / (max(abs(one.size) for one in self.rows) or 1.0), 2)


@dataclass(frozen=True, slots=True)
class NextStep:
    """A complete command to run next, and its purpose."""

    command: str
    why: str = ""


SummaryItem = Scale | Fact | Bars | Table


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a command. ``mark``: a caveat beside the title, such as that no silicon was measured."""

    title: str
    mark: str = ""
    headline: Headline | None = None
    parts: tuple[SummaryItem, ...] = ()
    steps: tuple[NextStep, ...] = field(default=())

    @property
    def tagged(self) -> tuple[tuple[str, SummaryItem], ...]:
        """Every part with its kind, for templates: scale, fact, bars or table."""
        return tuple((type(part).__name__.lower(), part) for part in self.parts)

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(part for part in self.parts if isinstance(part, Fact))

    def lines(self) -> list[str]:
        """The summary as plain lines, for logs, JUnit and text of pages."""
        found = [" · ".join(filter(None, (self.title, self.mark)))]
        if self.headline is not None:
            found.append(f"{self.headline.word}: {self.headline.text}")
        for part in self.parts:
            found += _plain_lines(part)
        return [*found, *(f"next: {step.command}   {step.why}".rstrip() for step in self.steps)]

    def markdown(self) -> list[str]:
        """The summary in Markdown; text from a chip or a file is escaped."""
        found = [f"# {as_markdown(self.title)}", ""]
        found += [f"*{as_markdown(self.mark)}*", ""] if self.mark else []
        found += [f"**{self.headline.word}**: {as_markdown(self.headline.text)}.", ""] if self.headline else []
        for part in self.parts:
            if isinstance(part, Fact):
                found.append(f"* **{part.name}**{as_markdown(_plain_lines(part)[0].removeprefix(part.name))}")
            elif not isinstance(part, Table):
                found += [f"* {as_markdown(line)}" for line in _plain_lines(part)]
        found += [f"* `{step.command}` {as_markdown(step.why)}" for step in self.steps]
        return [*found, "", *(markdown(part) for part in self.parts if isinstance(part, Table))]

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


def _plain_lines(part: SummaryItem) -> list[str]:
    if isinstance(part, Fact):
        return [f"{part.name}: {part.text}{f' ({part.aside})' if part.aside else ''}"]
    if isinstance(part, Scale):
        return [f"{row.name}: {row.shown} {row.note}".rstrip() for row in part.rows] + (
            [part.note] if part.note else []
        )
    if isinstance(part, Bars):
        return [f"{bar.name}: {bar.shown} {bar.span}".rstrip() for bar in part.rows] + (
            [part.rest] if part.rest else []
        )
    rows = [row for row in (part.header, *part.rows) if any(row)]
    return ["  ".join(cell for cell in row if cell) for row in rows] + ([part.note] if part.note else [])
