"""Answers on a terminal, by rich: summaries, tables and facts, at any width from 60 columns.

Nothing breaks inside a number, and a command that is too long goes on behind a backslash, so that it can be copied
as it stands. Colours are rich's matter: none in a pipe, none with NO_COLOR. A stream that lacks a character gets its
spelling (``hil.report.terminal.lines``) before widths are counted.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Literal, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from hil.pages.account import Account
from hil.pages.summary import Bars, Fact, NextStep, Scale, Summary, Tone
from hil.pages.tables import Table
from hil.report.terminal.lines import SPELLING, held_together, printable

NARROWEST, USUAL, WIDEST = 40, 80, 100  # columns: fewer are not heeded; in a pipe; of a summary
LEAST_SCALE, MOST_SCALE, LEAST_BAR = 16, 30, 4
KEPT = "\ue000"  # a blank that nothing breaks at
COLOURS = {Tone.GOOD: "bold green", Tone.BAD: "bold red", Tone.OPEN: "bold yellow"}
SIGNS = {Tone.GOOD: "✔", Tone.BAD: "✘", Tone.OPEN: "?"}
INDENT = 2
_NUMBER = re.compile(r"^[−+\-]?[\d.,]+(?:e[−+\-]?\d+)?(?: ?[^\W\d]{0,3}/?[^\W\d]{0,3}| ?%)$|^[—–]?$")

Answer = Account | Summary | Table | Fact | Scale | Bars | str


def show_answer(*parts: Answer, stream: TextIO | None = None) -> None:
    """Put answers on ``stream``, standard output by default."""
    stream = stream or sys.stdout
    for part in parts:
        stream.write(shown(part, stream))


def shown(part: Answer, stream: TextIO, width: int | None = None) -> str:
    """An answer as the text that ``show_answer`` writes; ``width``: columns, default those of the stream.

    An account shows its answer, then every table below its title.
    """
    if isinstance(part, Account):
        tables = (one for table in part.tables for one in ("", table.title, table))
        return "".join(shown(one, stream, width) for one in (part.first, *tables))
    wide = width or columns(stream, unbroken=isinstance(part, Table))
    page = _Page(stream, min(wide, WIDEST) if isinstance(part, Summary) else wide)
    if isinstance(part, Summary):
        page.summary(part)
    elif isinstance(part, str):
        page.text(part)
    else:
        page.part(part, 0)
    return page.written()


def columns(stream: TextIO, *, unbroken: bool = False) -> int:
    """Columns to fill: COLUMNS, the terminal's, or in a pipe the usual ones; a table is not broken in a pipe."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return max(int(asked), NARROWEST)
    if stream.isatty():
        return max(shutil.get_terminal_size().columns, NARROWEST)
    return 10_000 if unbroken else USUAL


class _Page:
    """Lines of one answer, drawn by rich and held back until they are whole."""

    def __init__(self, stream: TextIO, width: int) -> None:
        self.width = width
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.console = Console(
            file=stream, width=width, highlight=False, markup=False, emoji=False, legacy_windows=False
        )
        self._capture = self.console.capture()
        self._capture.__enter__()

    def written(self) -> str:
        self._capture.__exit__(None, None, None)
        lines = self._capture.get().replace(KEPT, " ").split("\n")
        return "\n".join(line.rstrip() for line in lines)

    def said(self, text: str, style: str = "") -> Text:
        """Text that this stream can show and that breaks between words only."""
        return Text(self.spelled(held_together(printable(text), KEPT)), style=style)

    def spelled(self, text: str) -> str:
        kept = text.replace(KEPT, "\x00")
        return kept.encode(self.encoding, SPELLING).decode(self.encoding).replace("\x00", KEPT)

    # --- parts --------------------------------------------------------------------------

    def summary(self, summary: Summary) -> None:
        title, mark = self.said(summary.title, "bold"), self.said(summary.mark, "yellow")
        room = self.width - 2 * INDENT
        if summary.mark and title.cell_len + 3 + mark.cell_len <= room:
            head = Grid.grid(expand=True, padding=(0, 1))
            head.add_column(no_wrap=True)
            head.add_column(no_wrap=True, justify="right")
            head.add_row(title, mark)
            self._print(Padding(head, (0, INDENT)))
        else:
            for text in (title, mark) if summary.mark else (title,):
                self._print(Padding(text, (0, INDENT)))
        if summary.headline is not None:
            self.console.print()
            tone = summary.headline.tone
            sign, colour = ("", "bold") if tone is None else (f"{SIGNS[tone]} ", COLOURS[tone])
            word = self.said(f"{sign}{summary.headline.word}", colour)
            self._pair(word, self.said(summary.headline.text), word.cell_len)
        names = max((self.said(f.name).cell_len for f in summary.facts), default=0)
        for part in summary.parts:
            self.part(part, names)
        self.steps(summary.steps, names)

    def part(self, part: Scale | Bars | Table | Fact, names: int) -> None:
        if isinstance(part, Scale):
            self.scale(part)
        elif isinstance(part, Bars):
            self.bars(part)
        elif isinstance(part, Table):
            self.table(part)
        else:
            self.fact(part, names)

    def text(self, text: str) -> None:
        for line in text.split("\n"):
            self._print(self.said(line))

    def _print(self, what: object) -> None:
        self.console.print(what)

    def _pair(self, name: Text, text: Text, width: int, style: str = "") -> None:
        """A name and its text behind it; below it where the names leave no room."""
        width = max(width, name.cell_len)
        longest = _longest(text)
        if INDENT + width + 3 + longest > self.width or 2 * width > self.width:
            self._print(Padding(name, (0, INDENT)))
            if 2 * INDENT + longest > self.width:  # a path: left to the terminal, so that it can be copied
                self.console.print(Text.assemble(" " * (2 * INDENT), text), soft_wrap=True)
            else:
                self._print(Padding(text, (0, 0, 0, 2 * INDENT)))
            return
        grid = Grid.grid(padding=(0, 3, 0, 0))
        grid.add_column(width=width, no_wrap=True)
        grid.add_column()
        grid.add_row(name, text)
        self._print(Padding(grid, (0, 0, 0, INDENT), style=style))

    def fact(self, fact: Fact, names: int) -> None:
        style = COLOURS[fact.tone] if fact.tone else "dim" if fact.soft else ""
        text = self.said(fact.text, style)
        if fact.aside:
            aside = self.said(fact.aside, "dim")
            gap = self.width - INDENT - max(names, len(fact.name)) - 3 - text.cell_len - aside.cell_len - INDENT
            text = Text.assemble(text, " " * min(max(gap, 3), 12) if gap >= 3 else "  ", aside)
        self._pair(self.said(fact.name, "bold" if fact.tone else ""), text, names)

    def steps(self, steps: Sequence[NextStep], names: int) -> None:
        """Commands behind ``next``, or below it where one of them has no room there; each with what it is for."""
        said = [(self.spelled(step.command), self.said(step.why, "dim")) for step in steps]
        begin = INDENT + max(names, 6) + 3
        beside = all(begin + len(command) <= self.width for command, _ in said)
        begin = begin if beside else 2 * INDENT
        for number, (command, why) in enumerate(said):
            label = self.said("next" if number == 0 else "", "bold")
            if number == 0 and not beside:
                self.console.print(Text.assemble(" " * INDENT, label))
            head = (
                Text.assemble(" " * INDENT, label, " " * (begin - INDENT - label.cell_len)) if beside else " " * begin
            )
            fits = begin + len(command) + 3 + why.cell_len <= self.width
            lines = [command] if fits else broken_command(command, self.width - begin)
            for place, line in enumerate(lines):
                text = Text.assemble(head if place == 0 else " " * begin, (line, "cyan"))
                self.console.print(text.append("   ").append_text(why) if fits and why.plain else text, soft_wrap=True)
            if why.plain and not fits:
                self._print(Padding(why, (0, 0, 0, begin + 2 * INDENT)))

    def table(self, table: Table) -> None:
        """Columns beside each other; where not even their words have room, one row after the other."""
        cells = [[self.said(cell) for cell in column] for column in zip(table.header, *table.rows, strict=True)]
        words = [max(map(_longest, column)) for column in cells]
        room = self.width - INDENT - 2 * (len(words) - 1)
        if sum(words) > room:
            self._records(table)
            return
        widths = _widths(words, [max(text.cell_len for text in column) for column in cells], room)
        grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(table.header), header_style="dim")
        for k, head in enumerate(table.header):
            numeric = k > 0 and all(_NUMBER.match(row[k]) for row in table.rows)
            justify: Literal["left", "right"] = "right" if numeric else "left"
            grid.add_column(self.said(head), justify=justify, overflow="fold", width=widths[k])
        for row in table.rows:
            grid.add_row(*(self.said(cell) for cell in row))
        self._print(Padding(grid, (0, 0, 0, INDENT)))
        if table.note:
            self._print(Padding(self.said(table.note, "dim"), (0, 0, 0, INDENT)))

    def _records(self, table: Table) -> None:
        names = max(self.said(head).cell_len for head in table.header)
        for row in table.rows:
            self._print(Padding(self.said(row[0], "bold"), (0, 0, 0, INDENT)))
            for head, cell in zip(table.header[1:], row[1:], strict=True):
                if cell:
                    self._pair(self.said(f"  {head}"), self.said(cell), names + 2)
        if table.note:
            self._print(Padding(self.said(table.note, "dim"), (0, 0, 0, INDENT)))

    def bars(self, bars: Bars) -> None:
        names = max((self.said(bar.name).cell_len for bar in bars.rows), default=0)
        values = max((self.said(bar.shown).cell_len for bar in bars.rows), default=0)
        spans = max((self.said(bar.span).cell_len for bar in bars.rows), default=0)
        room = self.width - 2 * INDENT - names - values - spans - 6
        if room < LEAST_BAR:  # words alone, what does not fit goes on below
            for bar in bars.rows:
                self._pair(self.said(f"  {bar.name}"), self.said(f"{bar.shown}  {bar.span}".rstrip()), names + 2)
        else:
            self._drawn(bars, min(room, MOST_SCALE))
        if bars.rest:
            self._print(Padding(self.said(bars.rest, "dim"), (0, 0, 0, 2 * INDENT)))

    def _drawn(self, bars: Bars, length: int) -> None:
        most = max((abs(bar.size) for bar in bars.rows), default=0.0) or 1.0
        grid = Grid.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "right", "left", "left"):
            grid.add_column(justify=justify, no_wrap=True)
        for bar in bars.rows:
            drawn = self.spelled("█" * max(1, round(length * abs(bar.size) / most)))
            grid.add_row(self.said(bar.name), self.said(bar.shown), Text(drawn, "red"), self.said(bar.span, "dim"))
        if bars.rows:
            self._print(Padding(grid, (0, 0, 0, 2 * INDENT)))

    def scale(self, scale: Scale) -> None:
        names = max(self.said(name).cell_len for name in (scale.title, *(row.name for row in scale.rows)))
        values = max(self.said(row.shown).cell_len for row in scale.rows)
        notes = max(self.said(row.note).cell_len for row in scale.rows)
        left = 2 * INDENT + names + values + 4
        room = self.width - left - notes - 3
        beside = room >= LEAST_SCALE
        length = min(room if beside else self.width - left - 1, MOST_SCALE)
        if length < LEAST_SCALE:
            length = 0
        axis = Axis.around(scale.rows, length) if length else None
        grid = Grid.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "right", "left", "left"):
            grid.add_column(justify=justify, no_wrap=True)
        if axis:
            grid.add_row(self.said(scale.title, "dim"), Text(""), self.said(axis.ticks(scale.unit), "dim"), Text(""))
        for row in scale.rows:
            drawn = Text("") if axis is None else Text(self.spelled(axis.drawn(row.at, row.low, row.high)), "cyan")
            value = self.said(row.shown, "bold")
            grid.add_row(self.said(row.name), value, drawn, self.said(row.note if beside else "", "dim"))
        self._print(Padding(grid, (0, 0, 0, 2 * INDENT)))
        if not beside:
            said = "; ".join(f"{row.name}: {row.note}" for row in scale.rows if row.note)
            if said:
                self._print(Padding(self.said(said, "dim"), (0, 0, 0, 2 * INDENT)))
        if scale.note:
            self._print(Padding(self.said(scale.note, "dim"), (0, 0, 0, 2 * INDENT)))


def _longest(text: Text) -> int:
    """Columns of the longest word, which nothing breaks."""
    return max(map(len, text.plain.split(" ")))


def _widths(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Columns of a table, the widest narrowed until ``room`` holds them all, none below its longest word."""
    widths = [max(pair) for pair in zip(least, most, strict=True)]
    while sum(widths) > room:
        widest = max((k for k in range(len(widths)) if widths[k] > least[k]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


class Axis:
    """A line of ``length`` characters from ``low`` to ``high``, with round ticks."""

    def __init__(self, low: float, high: float, length: int) -> None:
        self.low, self.high, self.length = low, high, length

    @classmethod
    def around(cls, rows: Sequence[object], length: int) -> Axis:
        ends = [v for row in rows for v in (row.at, row.low, row.high) if v is not None]  # type: ignore[attr-defined]
        low, high = min(ends), max(ends)
        more = 0.04 * (high - low) or max(abs(high), 1.0) * 0.01
        return cls(low - more, high + more, length)

    def place(self, value: float) -> int:
        return round((self.length - 1) * (value - self.low) / (self.high - self.low))

    def drawn(self, at: float, low: float | None, high: float | None) -> str:
        line = [" "] * self.length
        if low is None or high is None:
            line[self.place(at)] = "◆"
            return "".join(line)
        first, last = self.place(low), self.place(high)
        for k in range(first, last + 1):
            line[k] = "─"
        if last > first:
            line[first], line[last] = "├", "┤"
        line[self.place(at)] = "●"
        return "".join(line)

    def ticks(self, unit: str) -> str:
        """Numbers at their places, the unit behind the last: ``90      92     94  %``."""
        step = _round_step((self.high - self.low) / max(2, self.length // 6))
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        line = [" "] * self.length
        first = math.ceil(self.low / step - 1e-9)
        for k in itertools.count(first):
            value = k * step
            if value > self.high:
                break
            text = f"{value:.{digits}f}".replace("-", "−")
            begin = min(max(self.place(value) - len(text) // 2, 0), self.length - len(text))
            if "".join(line[max(begin - 1, 0) : begin + len(text) + 1]).strip():
                continue
            line[begin : begin + len(text)] = text
        words = "".join(line).rstrip()
        return f"{words} {unit}" if len(words) + 1 + len(unit) <= self.length else words


def _round_step(least: float) -> float:
    size = 10.0 ** math.floor(math.log10(least))
    return next(step * size for step in (1, 2, 5, 10) if step * size >= least * (1 - 1e-9))


def broken_command(command: str, width: int) -> list[str]:
    """A command in lines of at most ``width`` columns that a shell still takes as one."""
    lines: list[str] = []
    for word in _words(command, width - 4):
        if lines and len(lines[-1]) + 1 + len(word) + 2 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word if not lines else f"  {word}")
    return [f"{line} \\" if number < len(lines) - 1 else line for number, line in enumerate(lines)]


def _words(command: str, width: int) -> Iterator[str]:
    """Words of a command; an option stays with its value where ``width`` columns hold both."""
    for part in re.split(r" (?=--?[a-zA-Z])", command):
        if part.startswith("-"):
            yield from [part] if len(part) <= width else part.split(" ", 1)
        else:
            yield from part.split(" ") if len(part) > 40 else [part]
